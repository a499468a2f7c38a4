/* base/hash.h - content addresses: BLAKE2b-256 (libsodium), shown as 64 hexadecimal digits. */
#ifndef CINCH_BASE_HASH_H
#define CINCH_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CN_HASH_BYTES 32
#define CN_HASH_HEX 65 /* with the terminating 0 */

struct cn_hash {
    uint8_t b[CN_HASH_BYTES];
};

struct cn_hasher;                         /* streaming */
struct cn_hasher *cn_hasher_create(void); /* NULL when out of memory */
void cn_hasher_add(struct cn_hasher *h, const void *data, size_t n);
void cn_hasher_finish(struct cn_hasher *h, struct cn_hash *out); /* once */
void cn_hasher_destroy(struct cn_hasher *h);                     /* accepts NULL */

void cn_hash_bytes(const void *data, size_t n, struct cn_hash *out);
int cn_hash_file(const char *path, struct cn_hash *out, struct cn_error *err);
void cn_hash_hex(const struct cn_hash *h, char out[CN_HASH_HEX]);
int cn_hash_parse(const char *hex,
                  struct cn_hash *out); /* 0, or CN_EINVALID: not 64 hexadecimal digits */

#endif
