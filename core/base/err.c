/*
 * The table of error codes and the two ways in which the core reports what cannot be handled where
 * it happened: a text for the operator, and an abort for our own mistakes.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name, *message;
} rows[] = {
    [-ERR_AGAIN] = {"again", "not yet"},
    [-ERR_CLOSED] = {"closed", "the connection is closed"},
    [-ERR_RESET] = {"reset", "the peer reset the connection"},
    [-ERR_TIMEOUT] = {"timeout", "the time limit passed"},
    [-ERR_CANCELLED] = {"cancelled", "the task was cancelled"},
    [-ERR_INVALID] = {"invalid", "malformed"},
    [-ERR_TOO_LARGE] = {"too_large", "larger than the limit"},
    [-ERR_NO_MEMORY] = {"no_memory", "not enough memory"},
    [-ERR_IO] = {"io", "input or output failed"},
    [-ERR_PERMISSION] = {"permission", "permission denied"},
    [-ERR_EXISTS] = {"exists", "exists already"},
    [-ERR_NOT_FOUND] = {"not_found", "not found"},
    [-ERR_IN_USE] = {"in_use", "address in use"},
    [-ERR_LIMIT] = {"limit", "a system limit is reached"},
    [-ERR_UNSUPPORTED] = {"unsupported", "not supported"},
    [-ERR_STATE] = {"state", "not possible at this point"},
};

#define ROWS ((int)(sizeof(rows) / sizeof(rows[0])))

int err_set(struct err_text *text, int exit_code, int code, const char *format, ...)
{
    va_list args;

    if (text == NULL)
        return code;
    text->exit_code = exit_code;
    va_start(args, format);
    vsnprintf(text->text, sizeof(text->text), format, args);
    va_end(args);
    return code;
}

const char *err_name(int code)
{
    return code < 0 && -code < ROWS ? rows[-code].name : "unknown";
}

const char *err_message(int code)
{
    return code < 0 && -code < ROWS ? rows[-code].message : "unknown error";
}

int err_from_errno(int number)
{
    switch (number) {
    case EAGAIN:
    case EINTR:
        return ERR_AGAIN;
    case ECONNRESET:
    case EPIPE:
        return ERR_RESET;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case EACCES:
    case EPERM:
        return ERR_PERMISSION;
    case EEXIST:
        return ERR_EXISTS;
    case ENOENT:
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case EADDRINUSE:
        return ERR_IN_USE;
    case EMFILE:
    case ENFILE:
        return ERR_LIMIT;
    case ENOMEM:
    case ENOBUFS:
        return ERR_NO_MEMORY;
    default:
        return ERR_IO;
    }
}

void err_check_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "moonquay: internal error at %s:%d: %s\n", file, line, condition);
    abort();
}
