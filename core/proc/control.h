/*
 * The control socket: how somebody on this machine asks a running server for something. A Unix
 * stream socket; a client sends one line and gets one answer, then the connection ends. Only our
 * own user and root are heard.
 */
#ifndef PROC_CONTROL_H
#define PROC_CONTROL_H

#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"

#define CONTROL_CLIENTS      8   /* at a time; more are closed at once */
#define CONTROL_LINE_BYTES   256 /* of a request, with its line end */
#define CONTROL_ANSWER_BYTES (16 << 20)

struct control;

/*
 * Writes the answer to command (a line without its end, borrowed) to out. Nothing written: it is no
 * command, and the client is closed. Called in the loop; must not wait, nor close the control.
 */
typedef void control_answer_fn(void *owner, struct span command, struct buf *out);

/*
 * Listens at path; "" is PID.sock in the first of the runtime directories that can be used, and
 * sockets that dead servers left there are removed. NULL when there is none: with
 * text->exit_code 0 for "off" and for "" without a usable directory, which the log tells
 * (control_off), as the server can do without; else with EXIT_OPTION and why path cannot be used.
 */
struct control *control_open(struct loop *loop, const char *path, control_answer_fn *answer,
                             void *owner, struct err_text *text);

/* Closes the clients and removes the socket. NULL is allowed. */
void control_close(struct control *control);

/*
 * Connects to the server behind path: a non-blocking descriptor, or -1 with errno. ECONNREFUSED:
 * the one that made the socket is dead. EAGAIN: it lives, and too many wait for it.
 */
int control_connect(const char *path);

#endif
