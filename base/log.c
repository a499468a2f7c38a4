/* base/log.c - see log.h. A line is formatted whole and written with one call, so lines of threads
 * never mix. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

static const char *const level_name[] = {"debug", "info", "warn", "error", "silent"};
static const int journal_priority[] = {7, 6, 4, 3}; /* of syslog, per level */
static atomic_int least_level = -1;
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static cn_log_sink_f sink_fn;
static void *sink_arg;

static int level_from_env(void)
{
    const char *v = getenv("CINCH_LOG");
    for (int i = 0; v && i <= CN_SILENT; i++)
        if (!strcmp(v, level_name[i])) return i;
    return CN_INFO;
}

void cn_log_level(enum cn_level least)
{
    atomic_store(&least_level, (int)least);
}

void cn_log_sink(cn_log_sink_f sink, void *arg)
{
    pthread_mutex_lock(&sink_lock);
    sink_fn = sink;
    sink_arg = arg;
    pthread_mutex_unlock(&sink_lock);
}

/* Whether standard error is the systemd journal's, which keeps time and priority itself: the
 * variable names its device and inode (systemd.exec(5)). */
static bool under_journal(void)
{
    static atomic_int known = -1;
    int is = atomic_load(&known);
    if (is >= 0) return is;
    unsigned long long dev, ino;
    const char *v = getenv("JOURNAL_STREAM");
    struct stat st;
    is = v && sscanf(v, "%llu:%llu", &dev, &ino) == 2 && !fstat(STDERR_FILENO, &st) &&
         st.st_dev == dev && st.st_ino == ino;
    atomic_store(&known, is);
    return is;
}

/* What stands before a line's text. Returns its bytes. */
static size_t write_head(char *line, size_t cap, enum cn_level level, const char *room)
{
    if (under_journal())
        return (size_t)snprintf(line, cap, "<%d>%s: ", journal_priority[level], room);
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    localtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, cap, "%H:%M:%S", &tm);
    return n + (size_t)snprintf(line + n, cap - n, ".%03ld %-5s %s: ", ts.tv_nsec / 1000000,
                                level_name[level], room);
}

void cn_log(enum cn_level level, const char *room, const char *fmt, ...)
{
    int least = atomic_load(&least_level);
    if (least < 0) {
        least = level_from_env();
        atomic_store(&least_level, least);
    }
    if ((int)level < least || level >= CN_SILENT) return;

    char line[1024];
    size_t n = write_head(line, sizeof line, level, room);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    va_end(ap);
    if (m < 0) line[n] = 0;
    cn_text_show_in_place(line, sizeof line - 1);
    n = strlen(line);

    pthread_mutex_lock(&sink_lock);
    if (sink_fn) {
        line[n] = 0;
        sink_fn(sink_arg, level, line);
    } else {
        line[n++] = '\n';
        if (write(STDERR_FILENO, line, n) < 0) { /* nobody listens: nothing better to do */
        }
    }
    pthread_mutex_unlock(&sink_lock);
}
