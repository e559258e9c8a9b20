/*
 * The apps of a host's configuration (setting apps): processes that the master starts as moonquay
 * serve --share under their user, when the host serves or when the first request for them comes,
 * and starts again or stops when they have nothing to do.
 */
#ifndef PROC_HOST_APPS_H
#define PROC_HOST_APPS_H

#include <stdbool.h>

#include "base/err.h"

struct master;
struct host_apps;

/* Takes their rows from the settings and finds their users; registers the prefixes of those that
 * wait for a request, so before the workers begin. 0, or one line that names the app. */
int host_apps_open(struct master *master, struct err_text *text);
void host_apps_close(struct master *master);

/* The host serves: those that are always there are started. */
void host_apps_start(struct master *master);

/* A request waits for the app with this place, which nobody serves. */
void host_apps_demand(struct master *master, unsigned app);

/* The host ends: so do they. host_apps_are_gone: no process is left. */
void host_apps_stop(struct master *master);
bool host_apps_are_gone(const struct master *master);
void host_apps_kill(struct master *master);

/* Notices which of them have ended; wait: all of them. */
void host_apps_reap(struct master *master, bool wait);

#endif
