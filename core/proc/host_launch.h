/*
 * The process of an app that the host starts: moonquay serve --share under its user, in the app's
 * directory and a session of its own, with /dev/null as its input, our standard output and error,
 * and an environment that is said by the row, but for the words that are about the machine.
 */
#ifndef PROC_HOST_LAUNCH_H
#define PROC_HOST_LAUNCH_H

#include <pwd.h>
#include <sys/types.h>

#include "server/hosted_app.h"

/* socket: of the host. Its process id, or -1 and errno. */
pid_t host_launch(const struct hosted_app *app, const struct passwd *user, const char *socket);

#endif
