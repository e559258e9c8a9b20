/*
 * The error log: one structured line an event, "TIME LEVEL event key=value …", written at once with
 * a single write. Values with blanks, quotes or controls are quoted and escaped, so that a line is
 * always one line.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

/* Takes fd (2 at start, never closed when it is 2); lines below level are dropped. One log a
 * process. */
void log_setup(int fd, enum log_level level, enum log_format format, const char *process);

/* Replaces the descriptor (reopening); takes fd and closes the old one unless it is 2. */
void log_reopen(int fd);
bool log_wants(enum log_level level);
void log_set_level(enum log_level level);

/* "error", "warn", "info", "debug"; -1 for another word. */
int log_level_parse(struct span word);
const char *log_level_name(enum log_level level);

/*
 * A line being built: log_begin, fields, log_end. On the stack; no other line may be built
 * meanwhile in the same function. Event is a short stable name ("worker_died"), message what a
 * person reads (may be NULL).
 */
struct log_line {
    struct buf text;
    bool wanted;
};
void log_begin(struct log_line *line, enum log_level level, const char *event, const char *message);
void log_span(struct log_line *line, const char *key, struct span value);
void log_str(struct log_line *line, const char *key, const char *value);
void log_int(struct log_line *line, const char *key, int64_t value);
/* Appends already encoded JSON text (an object or other value) as a field. */
void log_json(struct log_line *line, const char *key, struct span json);
void log_end(struct log_line *line);

/* The common case: an event with a printf message, or NULL for none. */
void log_event(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends text in double quotes with JSON escapes; invalid UTF-8 becomes U+FFFD. */
void log_quote(struct buf *out, struct span text);

#endif
