/* base/hash.c - see hash.h. */
#include "base/hash.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

struct cn_hasher {
    crypto_generichash_state state;
};

struct cn_hasher *cn_hasher_create(void)
{
    void *h = NULL;
    if (sodium_init() < 0) return NULL; /* picks the code for this processor; at once when done */
    /* libsodium's state wants 64-byte alignment */
    if (posix_memalign(&h, 64, (sizeof(struct cn_hasher) + 63) & ~(size_t)63)) return NULL;
    crypto_generichash_init(&((struct cn_hasher *)h)->state, NULL, 0, CN_HASH_BYTES);
    return h;
}

void cn_hasher_add(struct cn_hasher *h, const void *data, size_t n)
{
    crypto_generichash_update(&h->state, data, n);
}

void cn_hasher_finish(struct cn_hasher *h, struct cn_hash *out)
{
    crypto_generichash_final(&h->state, out->b, CN_HASH_BYTES);
}

void cn_hasher_destroy(struct cn_hasher *h)
{
    free(h);
}

void cn_hash_bytes(const void *data, size_t n, struct cn_hash *out)
{
    crypto_generichash(out->b, CN_HASH_BYTES, data, n, NULL, 0);
}

int cn_hash_file(const char *path, struct cn_hash *out, struct cn_error *err)
{
    int fd = cn_file_open(path, NULL, err), rc = 0;
    if (fd < 0) return fd;
    char *buf = malloc(1 << 20);
    struct cn_hasher *h = cn_hasher_create();
    if (!buf || !h) rc = cn_fail(err, CN_ENOMEM, "%s: out of memory while hashing", path);
    while (!rc) {
        ssize_t n = read(fd, buf, 1 << 20);
        if (n < 0) rc = cn_fail_errno(err, "%s", path);
        if (n <= 0) break;
        cn_hasher_add(h, buf, (size_t)n);
    }
    if (!rc) cn_hasher_finish(h, out);
    cn_hasher_destroy(h);
    free(buf);
    close(fd);
    return rc;
}

void cn_hash_hex(const struct cn_hash *h, char out[CN_HASH_HEX])
{
    sodium_bin2hex(out, CN_HASH_HEX, h->b, CN_HASH_BYTES);
}

int cn_hash_parse(const char *hex, struct cn_hash *out)
{
    size_t n = 0;
    if (strlen(hex) != CN_HASH_HEX - 1) return CN_EINVALID;
    if (sodium_hex2bin(out->b, CN_HASH_BYTES, hex, CN_HASH_HEX - 1, NULL, &n, NULL))
        return CN_EINVALID;
    return n == CN_HASH_BYTES ? 0 : CN_EINVALID;
}
