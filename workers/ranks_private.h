/* workers/ranks_private.h - what both sides of a rank's process agree on (ranks.c, cinch_rank.c). */
#ifndef CINCH_WORKERS_RANKS_PRIVATE_H
#define CINCH_WORKERS_RANKS_PRIVATE_H

#define RANK_MODEL "model.safetensors"
#define RANK_TEACHER "teacher.safetensors"
#define RANK_RECIPE "recipe.json"
#define RANK_RESUME "resume"
#define RANK_MASK "mask"
#define RANK_ID_BYTES 128

#define RANK_LOST 5 /* exit status: the rank's card has failed */

#endif
