/* gpu/libs.cuh - cuBLAS, cuDNN and NCCL, looked for when the plugin starts instead of linked: each may be missing. */
#ifndef CINCH_GPU_LIBS_CUH
#define CINCH_GPU_LIBS_CUH

#if __has_include(<cudnn.h>) && __has_include(<cublas_v2.h>) && !defined(CINCH_NO_CUDNN)
#define CINCH_HAVE_CUDNN 1
#include <cublas_v2.h>
#include <cudnn.h>
#endif
#if __has_include(<nccl.h>) && !defined(CINCH_NO_NCCL)
#define CINCH_HAVE_NCCL 1
#include <nccl.h>
#endif

#include "gpu/gpu.h"

/* clang-format off: one name after the other */
#ifdef CINCH_HAVE_CUDNN
#define CINCH_CUBLAS_LIST(X) \
    X(cublasCreate_v2) X(cublasDestroy_v2) X(cublasSetStream_v2) X(cublasSetMathMode) \
    X(cublasGetMathMode) X(cublasGetVersion_v2) X(cublasSgemmStridedBatched)
#define CINCH_CUDNN_LIST(X) \
    X(cudnnCreate) X(cudnnDestroy) X(cudnnSetStream) X(cudnnGetVersion) X(cudnnGetErrorString) \
    X(cudnnCreateTensorDescriptor) X(cudnnDestroyTensorDescriptor) \
    X(cudnnSetTensor4dDescriptor) X(cudnnSetTensorNdDescriptor) X(cudnnCreateFilterDescriptor) \
    X(cudnnDestroyFilterDescriptor) X(cudnnSetFilter4dDescriptor) \
    X(cudnnCreateConvolutionDescriptor) X(cudnnDestroyConvolutionDescriptor) \
    X(cudnnSetConvolution2dDescriptor) X(cudnnSetConvolutionMathType) \
    X(cudnnGetConvolutionForwardAlgorithm_v7) X(cudnnConvolutionForward) \
    X(cudnnGetConvolutionBackwardDataAlgorithm_v7) X(cudnnConvolutionBackwardData) \
    X(cudnnGetConvolutionBackwardFilterAlgorithm_v7) X(cudnnConvolutionBackwardFilter) \
    X(cudnnBatchNormalizationForwardTraining) X(cudnnBatchNormalizationBackward) \
    X(cudnnCreateDropoutDescriptor) X(cudnnDestroyDropoutDescriptor) \
    X(cudnnSetDropoutDescriptor) X(cudnnCreateRNNDescriptor) X(cudnnDestroyRNNDescriptor) \
    X(cudnnSetRNNDescriptor_v8) X(cudnnCreateRNNDataDescriptor) \
    X(cudnnDestroyRNNDataDescriptor) X(cudnnSetRNNDataDescriptor) \
    X(cudnnGetRNNWeightSpaceSize) X(cudnnGetRNNTempSpaceSizes) X(cudnnGetRNNWeightParams) \
    X(cudnnRNNForward) X(cudnnRNNBackwardData_v8) X(cudnnRNNBackwardWeights_v8) \
    X(cudnnGetConvolutionMathType) X(cudnnGetConvolutionForwardWorkspaceSize) \
    X(cudnnGetConvolutionBackwardDataWorkspaceSize) \
    X(cudnnGetConvolutionBackwardFilterWorkspaceSize) X(cudnnGetRNNDescriptor_v8)
#endif
#ifdef CINCH_HAVE_NCCL
#define CINCH_NCCL_LIST(X) \
    X(ncclGetVersion) X(ncclGetUniqueId) X(ncclCommInitRankConfig) X(ncclCommFinalize) \
    X(ncclCommDestroy) X(ncclCommAbort) X(ncclCommGetAsyncError) X(ncclAllReduce) \
    X(ncclAllGather) X(ncclGetErrorString)
#endif

/* clang-format on */

/* Functions of what was found. A library that is not there has version 0 and NULL entries. */
struct gpu_libs {
    int cublas, cudnn, nccl; /* versions */
    char why[256];           /* what is missing, for people; "" when nothing is */
#define X(f) decltype(&::f) f;
#ifdef CINCH_HAVE_CUDNN
    CINCH_CUBLAS_LIST(X)
    CINCH_CUDNN_LIST(X)
#endif
#ifdef CINCH_HAVE_NCCL
    CINCH_NCCL_LIST(X)
#endif
#undef X
};

/* Loaded once per process; never NULL. */
const struct gpu_libs *gpu_libs_get(void);

#endif
