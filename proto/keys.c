/* proto/keys.c - see keys.h. */
#include "proto/keys.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/file.h"
#include "base/guard.h"
#include "proto/check.h"

int pr_z85_valid(const char *key)
{
    uint8_t raw[32];
    static const char set[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    return strlen(key) == PR_Z85 - 1 && strspn(key, set) == PR_Z85 - 1 &&
           zmq_z85_decode(raw, key) != NULL;
}

int pr_key_make(struct pr_key *k, const char *name, const char *role, struct cn_error *err)
{
    memset(k, 0, sizeof *k);
    if (!pr_name_valid(name))
        return cn_fail(err, CN_EINVALID, "'%s' cannot be a key's name: use letters, digits, . _ -",
                       name);
    if (strcmp(role, "server") && !pr_role_parse(role))
        return cn_fail(err, CN_EINVALID, "no role '%s'; the roles are read, submit, worker, admin",
                       role);
    snprintf(k->name, sizeof k->name, "%s", name);
    snprintf(k->role, sizeof k->role, "%s", role);
    cn_guard_secrets();
    if (zmq_curve_keypair(k->public_key, k->secret))
        return cn_fail(err, CN_EUNSUPPORTED, "this libzmq has no CURVE: %s",
                       zmq_strerror(zmq_errno()));
    return 0;
}

/* Copies the value of "field: value" into out; 1 when the line was that field's and fits. */
static int field(const char *line, const char *name, char *out, size_t cap)
{
    size_t n = strlen(name);
    if (strncmp(line, name, n) || line[n] != ':') return 0;
    const char *v = line + n + 1;
    v += strspn(v, " \t");
    size_t len = strcspn(v, " \t\r\n");
    if (len >= cap) return 0;
    memcpy(out, v, len);
    out[len] = 0;
    return 1;
}

int pr_key_parse(struct pr_key *k, const char *path, char *text, struct cn_error *err)
{
    memset(k, 0, sizeof *k);
    char version[8] = "", *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (field(line, "cinch-key", version, sizeof version) ||
            field(line, "name", k->name, sizeof k->name) ||
            field(line, "role", k->role, sizeof k->role) ||
            field(line, "public", k->public_key, sizeof k->public_key) ||
            field(line, "secret", k->secret, sizeof k->secret) ||
            field(line, "server", k->server, sizeof k->server))
            continue;
    }
    if (strcmp(version, "1")) return cn_fail(err, CN_ECORRUPT, "%s: not a cinch key file", path);
    if (!pr_name_valid(k->name) || (strcmp(k->role, "server") && !pr_role_parse(k->role)))
        return cn_fail(err, CN_ECORRUPT, "%s: '%s' is no name or '%s' no role", path, k->name,
                       k->role);
    if (!pr_z85_valid(k->public_key) || !pr_z85_valid(k->secret) ||
        (*k->server && !pr_z85_valid(k->server)))
        return cn_fail(err, CN_ECORRUPT, "%s: a key in it is not 40 characters of Z85", path);
    return 0;
}

int pr_key_load(struct pr_key *k, const char *path, struct cn_error *err)
{
    memset(k, 0, sizeof *k);
    struct stat st;
    if (stat(path, &st)) return cn_fail_errno(err, "key file %s", path);
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        return cn_fail(err, CN_EREFUSED, "key file %s can be read by others; run: chmod 600 %s",
                       path, path);
    char *text;
    size_t n;
    cn_guard_secrets();
    int rc = cn_file_read(path, 4096, &text, &n, err);
    if (rc) return rc;
    rc = pr_key_parse(k, path, text, err);
    sodium_memzero(text, n);
    free(text);
    if (rc) pr_key_wipe(k);
    return rc;
}

/* Not through cn_file_write: the secret must never lie in a file with the umask's mode, not even
 * for a moment. */
int pr_key_save(const struct pr_key *k, const char *path, struct cn_error *err)
{
    char text[1024];
    int n =
        snprintf(text, sizeof text, "cinch-key: 1\nname: %s\nrole: %s\npublic: %s\nsecret: %s\n",
                 k->name, k->role, k->public_key, k->secret);
    if (*k->server) n += snprintf(text + n, sizeof text - (size_t)n, "server: %s\n", k->server);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return cn_fail_errno(err, "key file %s", path);
    int rc = 0;
    if (write(fd, text, (size_t)n) != n || fsync(fd)) rc = cn_fail_errno(err, "key file %s", path);
    if (close(fd) && !rc) rc = cn_fail_errno(err, "key file %s", path);
    if (rc) unlink(path);
    sodium_memzero(text, sizeof text);
    return rc;
}

void pr_key_wipe(struct pr_key *k)
{
    sodium_memzero(k, sizeof *k);
}
