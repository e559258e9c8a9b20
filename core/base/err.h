/*
 * Error codes of the core: outcomes of operations, always negative, so that a function can return a
 * count or a code. Each has a short name (what Lua sees as err.code) and a text for people. CHECK
 * is for misuse by our own code only, never for what a peer sent.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stddef.h>

enum err {
    ERR_AGAIN = -1,     /* needs more bytes, or room, or time: no failure */
    ERR_CLOSED = -2,    /* the peer or we closed it in good order */
    ERR_RESET = -3,     /* the peer broke the connection */
    ERR_TIMEOUT = -4,   /* a named time limit passed */
    ERR_CANCELLED = -5, /* the task or request was cancelled */
    ERR_INVALID = -6,   /* malformed input or value */
    ERR_TOO_LARGE = -7, /* above a named limit */
    ERR_NO_MEMORY = -8,
    ERR_IO = -9, /* errno of the operation goes with it */
    ERR_PERMISSION = -10,
    ERR_EXISTS = -11,
    ERR_NOT_FOUND = -12,
    ERR_IN_USE = -13, /* address or port taken */
    ERR_LIMIT = -14,  /* descriptors or another system resource ran out */
    ERR_UNSUPPORTED = -15,
    ERR_STATE = -16, /* not possible at this point, e.g. after the response started */
};

/* Exit codes of the program (DESIGN section 10). */
enum exit_code {
    EXIT_USAGE_ERROR = 64,
    EXIT_APP_BROKEN = 65,
    EXIT_APP_MISSING = 66,
    EXIT_INTERNAL = 70,
    EXIT_PORT_IN_USE = 69,
    EXIT_DESCRIPTORS = 71,
    EXIT_LOG = 73,
    EXIT_PERMISSION = 77,
    EXIT_OPTION = 78,
};

/* A failure for a human: one line, and the exit code the program would end with. */
struct err_text {
    int exit_code;
    char text[1024];
};

/* Fills text from a printf format; returns code, so that a caller can return it. NULL text is
 * allowed. */
int err_set(struct err_text *text, int exit_code, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* "timeout", "closed" …: stable, for programs. "unknown" for a code that is none. */
const char *err_name(int code);

/* "the peer closed the connection" …: for people. */
const char *err_message(int code);

/* The code that stands for an errno value (ERR_IO where none fits better). */
int err_from_errno(int number);

/* Ends the process with file, line and condition on stderr; on in release builds too. */
#define CHECK(condition) ((condition) ? (void)0 : err_check_failed(__FILE__, __LINE__, #condition))
void err_check_failed(const char *file, int line, const char *condition) __attribute__((noreturn));

#endif
