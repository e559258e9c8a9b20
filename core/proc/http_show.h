/* Answers of a host to moonquay http, for people. */
#ifndef PROC_HTTP_SHOW_H
#define PROC_HTTP_SHOW_H

#include <stdbool.h>

#include "base/err.h"
#include "base/span.h"

/* Prints a document on standard output, for people or as it is; of_firewall: as commands that open
 * the ports in it. ERR_INVALID when it is none. */
int http_show(struct span document, bool as_json, bool of_firewall, struct err_text *text);

#endif
