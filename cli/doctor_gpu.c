/* cli/doctor_gpu.c - `cinch doctor --gpu`: what a card, its driver and the libraries are, and what is
 * missing. Without a card or a driver there is one sentence and exit code 3. */
#include <stdio.h>
#include <string.h>

#include "cli/doctor.h"
#include "gpu/gpu.h"
#include "workers/device.h"

#define LINKED "https://developer.nvidia.com/cuda-downloads"

/* 13010 is 13.1. */
static void check_versions(struct doctor *d, const struct cinch_gpu_info *i)
{
    bool old = i->driver < i->runtime / 1000 * 1000;
    doctor_note(d, "driver", old ? DOCTOR_WARN : DOCTOR_OK,
                old ? "install a driver of the runtime's CUDA version, from " LINKED : NULL,
                "for CUDA %d.%d; the runtime is %d.%d", i->driver / 1000, i->driver % 1000 / 10,
                i->runtime / 1000, i->runtime % 1000 / 10);
}

static void check_library(struct doctor *d, const char *name, int version, const char *how,
                          const char *loss)
{
    if (version)
        doctor_note(d, name, DOCTOR_OK, NULL, "version %d", version);
    else
        doctor_note(d, name, DOCTOR_WARN, how, "not found: %s", loss);
}

static void check_libraries(struct doctor *d, const struct cinch_gpu_info *i)
{
    check_library(d, "cuBLAS", i->cublas,
                  "install CUDA's libcublas 13 and put it into LD_LIBRARY_PATH",
                  "the native engine does all");
    check_library(d, "cuDNN", i->cudnn, "install cuDNN 9 for CUDA 13 (libcudnn9-cuda-13)",
                  "the native engine does all; no tf32, no bf16");
    check_library(d, "NCCL", i->nccl, "install NCCL 2 for CUDA 13 (libnccl2)",
                  "no job can have several GPUs");
    if (*i->missing) doctor_note(d, "loader", DOCTOR_WARN, NULL, "%s", i->missing);
}

static void check_card(struct doctor *d, int gpu, const struct cinch_gpu_info *i)
{
    char name[16];
    bool old = i->major < 8, full = i->memory_free < i->memory / 2;
    snprintf(name, sizeof name, "gpu %d", gpu);
    doctor_note(d, name, old ? DOCTOR_MISSING : DOCTOR_OK,
                old ? "cinch is built for compute capability 8.0 and above" : NULL,
                "%s, compute capability %d.%d, %d SMs, PCI %s", i->name, i->major, i->minor, i->sms,
                *i->pci ? i->pci : "unknown");
    doctor_note(d, "memory", full ? DOCTOR_WARN : DOCTOR_OK,
                full ? "another process holds the rest: nvidia-smi shows it" : NULL,
                "%.1f of %.1f GB free, ECC %s", (double)i->memory_free / 1e9,
                (double)i->memory / 1e9, i->ecc ? "on" : "off");
    doctor_note(d, "speed", DOCTOR_OK, NULL, "%.1f TFLOP/s in fp32 and %.0f GB/s, by its clocks",
                i->fp32_tflops, i->memory_gbs);
    if (i->peers)
        doctor_note(d, "links", DOCTOR_OK, NULL, "reaches %d other GPU%s directly%s", i->peers,
                    i->peers == 1 ? "" : "s",
                    i->best_link == 0 ? ", over the fastest kind of link here" : "");
}

static json_t *card_json(int gpu, const struct cinch_gpu_info *i)
{
    return json_pack("{s:i, s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:b, s:s, s:i, s:i, s:i, s:i, s:s}",
                     "gpu", gpu, "name", i->name, "capability", 10 * i->major + i->minor, "sms",
                     i->sms, "runtime", i->runtime, "driver", i->driver, "memory",
                     (json_int_t)i->memory, "memory_free", (json_int_t)i->memory_free, "ecc",
                     i->ecc, "pci", i->pci, "peers", i->peers, "cublas", i->cublas, "cudnn",
                     i->cudnn, "nccl", i->nccl, "missing", i->missing);
}

int doctor_gpus(struct doctor *d, json_t **cards)
{
    struct cinch_gpu_info info;
    int n = 1;
    *cards = json_array();
    for (int gpu = 0; gpu < n; gpu++) {
        int rc = device_gpu_info(gpu, &n, &info, &d->c->err);
        if (rc) return rc;
        check_card(d, gpu, &info);
        if (gpu == 0) {
            check_versions(d, &info);
            check_libraries(d, &info);
        }
        json_array_append_new(*cards, card_json(gpu, &info));
    }
    return 0;
}
