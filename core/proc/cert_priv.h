/* One run of moonquay cert, for its subcommands. */
#ifndef PROC_CERT_PRIV_H
#define PROC_CERT_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "tls/tls_issue.h"

#define CERT_FILE_BYTES                                                                            \
    (1u << 20) /* of a file of certificates; a system's authorities are 220 KB */
#define CERT_NAMES_MOST TLS_ISSUE_NAMES_MOST

struct cert {
    const char *words[2]; /* those that are no options: files */
    size_t word_count;
    const char *dir;                    /* certs by default */
    const char *client, *authority;     /* NULL: not given */
    const char *names[CERT_NAMES_MOST]; /* canonical, none twice */
    char room[CERT_NAMES_MOST][TLS_ISSUE_NAME_ROOM];
    size_t name_count;
    unsigned days;
    bool is_rsa, force, json, help;
    int64_t now; /* seconds since 1970 */
    struct err_text text;
};

/* 0, or an error in cert->text. */
int cert_create(struct cert *cert);
int cert_show(struct cert *cert);
int cert_check(struct cert *cert);

/* Prints a line on standard output, controls as '?'. */
void cert_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Reads a regular file of at most CERT_FILE_BYTES, below dir_fd (or AT_FDCWD). Its errors begin
 * with shown, its name for people. */
int cert_read(int dir_fd, const char *name, const char *shown, struct buf *out,
              struct err_text *text);

/* Whole days from now until then, 0 when it is over. */
long long cert_days_left(int64_t now, int64_t then);

#endif
