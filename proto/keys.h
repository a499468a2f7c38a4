/* proto/keys.h - CURVE keys and their files.
 *
 * A key file is text, one "field: value" a line, mode 0600:
 *     cinch-key: 1
 *     name: anna            (also the user's name)
 *     role: submit          (read | submit | worker | admin | server)
 *     public: Z85, 40 characters
 *     secret: Z85, 40 characters
 *     server: Z85 of the coordinator's public key (absent in the coordinator's own file)
 */
#ifndef CINCH_PROTO_KEYS_H
#define CINCH_PROTO_KEYS_H

#include "base/error.h"
#include "proto/limits.h"

#define PR_Z85 41 /* with the terminating 0 */

struct pr_key {
    char name[PR_MAX_NAME + 1];
    char role[16];
    char public_key[PR_Z85];
    char secret[PR_Z85];
    char server[PR_Z85]; /* "" in the coordinator's own */
};

/* A new pair; name and role as given, server "" . */
int pr_key_make(struct pr_key *k, const char *name, const char *role, struct cn_error *err);
/* Refuses a file that others than its owner can read, with the chmod to run. */
int pr_key_load(struct pr_key *k, const char *path, struct cn_error *err);
/* The text of a key file (changed while it is read); `path` stands in messages. CN_ECORRUPT. */
int pr_key_parse(struct pr_key *k, const char *path, char *text, struct cn_error *err);
int pr_key_save(const struct pr_key *k, const char *path, struct cn_error *err); /* mode 0600 */
void pr_key_wipe(struct pr_key *k);
int pr_z85_valid(const char *key); /* 1: 40 characters that decode to 32 bytes */

#endif
