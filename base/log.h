/* base/log.h - one-line log on stderr: time, level, room, text. Thread-safe; never on stdout, which
 * belongs to the command's answer. Where stderr is systemd's journal, which keeps the time, a line is
 * priority, room, text: "<6>coordinator: ...". */
#ifndef CINCH_BASE_LOG_H
#define CINCH_BASE_LOG_H

enum cn_level { CN_DEBUG, CN_INFO, CN_WARN, CN_ERROR, CN_SILENT };

void cn_log_level(
    enum cn_level least); /* default CN_INFO; CINCH_LOG=debug|info|warn|error sets it at start */

/* A program or an embedded worker may take the lines instead (NULL restores stderr). `line` has no
 * newline. */
typedef void (*cn_log_sink_f)(void *arg, enum cn_level level, const char *line);
void cn_log_sink(cn_log_sink_f sink, void *arg);

void cn_log(enum cn_level level, const char *room, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define cn_debug(room, ...) cn_log(CN_DEBUG, room, __VA_ARGS__)
#define cn_info(room, ...) cn_log(CN_INFO, room, __VA_ARGS__)
#define cn_warn(room, ...) cn_log(CN_WARN, room, __VA_ARGS__)
#define cn_err(room, ...) cn_log(CN_ERROR, room, __VA_ARGS__)

#endif
