/* proto/limits.h - every bound of the protocol. A size is checked against these before memory is
 * taken. */
#ifndef CINCH_PROTO_LIMITS_H
#define CINCH_PROTO_LIMITS_H

#define PR_VERSION 1 /* of the messages: grows when an old peer would misunderstand */
#define PR_ENGINE 2  /* of training and quantising: grows when a worker must do something else, or cannot do it */
#define PR_BITS 3    /* grows when equal specs give other bits: part of every job's key */

#define PR_CHUNK (1u << 20)              /* bytes of a blob in one message */
#define PR_MAX_BODY (4u << 20)           /* packed body that the coordinator accepts */
#define PR_MAX_REPLY (64u << 20)         /* frame that a client accepts from its coordinator */
#define PR_MAX_UNPACKED (64u << 20)      /* memory that one decoded body may take */
#define PR_MAX_BLOB ((uint64_t)64 << 30) /* one blob */

#define PR_MAX_NAME 128    /* names of runs, users, workers, datasets, nets, roles of blobs */
#define PR_MAX_TEXT 4096   /* reasons, sentences */
#define PR_MAX_JSON 262144 /* recipes, metrics, a grid's text */

#define PR_MAX_JOBS 1000000u /* of one run */
#define PR_MAX_BASES 16384   /* of one run: nets x recipes x ways of pruning x splits */
#define PR_MAX_NETS 256
#define PR_MAX_SEEDS 1000000
#define PR_MAX_WIDTHS 64
#define PR_MAX_AXIS 64 /* values of rounds, keep, norms, distill */
#define PR_MAX_ROUNDS 100
#define PR_MAX_HELD 4096
#define PR_MAX_SLOTS 256
#define PR_MAX_CAPACITY 4096
#define PR_MAX_OUTPUTS 8
#define PR_MAX_DATASETS 256
#define PR_MAX_GPUS 8 /* of one job */

#define PR_INSTANCE_BYTES 16

#endif
