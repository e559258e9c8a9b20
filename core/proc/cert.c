/*
 * The words of moonquay cert and what its subcommands share. One table has the options of all
 * three; a subcommand takes those that bear its mark.
 */
#include "proc/cert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proc/cert_priv.h"
#include "proc/terminal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DAYS_DEFAULT 365
#define DAY          86400

enum { CREATE = 1, SHOW = 2, CHECK = 4 };

static const struct subcommand {
    const char *word;
    unsigned mark;
    size_t least, most; /* files */
    const char *files;
    int (*run)(struct cert *cert);
} subcommands[] = {
    {"create", CREATE, 0, 0, "", cert_create},
    {"show", SHOW, 1, 1, " FILE", cert_show},
    {"check", CHECK, 1, 2, " CERT [KEY]", cert_check},
};

static int usage(struct cert *cert, const char *what, const char *word)
{
    return err_set(&cert->text, EXIT_USAGE_ERROR, ERR_INVALID,
                   "%s%.200s; moonquay cert --help shows how", what, word);
}

/* ---- the values */

static int set_dir(struct cert *cert, const char *value)
{
    cert->dir = value;
    return 0;
}

static int set_authority(struct cert *cert, const char *value)
{
    cert->authority = value;
    return 0;
}

/* The files would be the authority's own, or outside of the directory. */
static int set_client(struct cert *cert, const char *value)
{
    if (!tls_issue_client(value) || strcmp(value, "ca") == 0)
        return err_set(&cert->text, EXIT_USAGE_ERROR, ERR_INVALID,
                       "--client %.100s: must be at most %d letters, digits, blanks and ._@+- "
                       "beginning with a letter or digit, and not \"ca\"",
                       value, TLS_ISSUE_CLIENT_MOST);
    cert->client = value;
    return 0;
}

static int add_name(struct cert *cert, const char *value)
{
    char canonical[TLS_ISSUE_NAME_ROOM];

    if (!tls_issue_name(value, canonical))
        return err_set(&cert->text, EXIT_USAGE_ERROR, ERR_INVALID,
                       "--name %.100s: must be a host name, *.domain or an IP address", value);
    for (size_t i = 0; i < cert->name_count; i++)
        if (strcmp(cert->names[i], canonical) == 0)
            return 0;
    if (cert->name_count == CERT_NAMES_MOST)
        return err_set(&cert->text, EXIT_USAGE_ERROR, ERR_LIMIT,
                       "--name %.100s: a certificate has at most %d names", value, CERT_NAMES_MOST);
    memcpy(cert->room[cert->name_count], canonical, sizeof(canonical));
    cert->names[cert->name_count] = cert->room[cert->name_count];
    cert->name_count++;
    return 0;
}

static int set_days(struct cert *cert, const char *value)
{
    size_t digits = strspn(value, "0123456789");

    if (value[digits] != '\0' || digits == 0 || digits > 6 || atoi(value) < 1 ||
        atoi(value) > TLS_ISSUE_DAYS_MOST)
        return err_set(&cert->text, EXIT_USAGE_ERROR, ERR_INVALID,
                       "--days %.100s: must be between 1 and %d", value, TLS_ISSUE_DAYS_MOST);
    cert->days = (unsigned)atoi(value);
    return 0;
}

static int set_rsa(struct cert *cert, const char *value)
{
    (void)value;
    cert->is_rsa = true;
    return 0;
}

static int set_force(struct cert *cert, const char *value)
{
    (void)value;
    cert->force = true;
    return 0;
}

static int set_json(struct cert *cert, const char *value)
{
    (void)value;
    cert->json = true;
    return 0;
}

static int set_help(struct cert *cert, const char *value)
{
    (void)value;
    cert->help = true;
    return 0;
}

static const struct option {
    const char *word;
    unsigned marks;
    bool has_value;
    int (*set)(struct cert *cert, const char *value);
} options[] = {
    {"--dir", CREATE, true, set_dir},
    {"--name", CREATE | CHECK, true, add_name},
    {"--days", CREATE, true, set_days},
    {"--client", CREATE, true, set_client},
    {"--rsa", CREATE, false, set_rsa},
    {"--force", CREATE, false, set_force},
    {"--authority", CHECK, true, set_authority},
    {"--json", SHOW | CHECK, false, set_json},
    {"--help", CREATE | SHOW | CHECK, false, set_help},
    {"-h", CREATE | SHOW | CHECK, false, set_help},
};

/* ---- the words */

static const struct option *find_option(const struct subcommand *subcommand, const char *word)
{
    struct span name = span_of(word, strcspn(word, "="));

    for (size_t i = 0; i < COUNT(options); i++)
        if (options[i].marks & subcommand->mark && span_eq(name, span_str(options[i].word)))
            return &options[i];
    return NULL;
}

/* One option at *word, which is moved to the last word that belongs to it. */
static int read_option(struct cert *cert, const struct subcommand *subcommand, char ***word)
{
    const struct option *option = find_option(subcommand, **word);
    const char *value = strchr(**word, '=');

    if (option == NULL)
        return usage(cert, "no such option: ", **word);
    if (!option->has_value)
        return value ? usage(cert, "takes no value: ", **word) : option->set(cert, NULL);
    value = value ? value + 1 : (*word)[1] ? *++*word : NULL;
    if (value == NULL || value[0] == '\0')
        return usage(cert, "wants a value: ", option->word);
    return option->set(cert, value);
}

static int add_file(struct cert *cert, const struct subcommand *subcommand, const char *word)
{
    if (cert->word_count == subcommand->most)
        return usage(cert, "one word too many: ", word);
    if (word[0] == '\0')
        return usage(cert, "an empty word names no file", "");
    cert->words[cert->word_count++] = word;
    return 0;
}

/* words end with NULL, as argv does. */
static int read_words(struct cert *cert, const struct subcommand *subcommand, char **words)
{
    bool only_files = false;
    int code = 0;

    for (; *words && code == 0; words++)
        if (!only_files && strcmp(*words, "--") == 0)
            only_files = true;
        else if (!only_files && (*words)[0] == '-')
            code = read_option(cert, subcommand, &words);
        else
            code = add_file(cert, subcommand, *words);
    if (code < 0 || cert->help)
        return code;
    if (cert->word_count < subcommand->least)
        return usage(cert, "a file is missing: moonquay cert ", subcommand->word);
    if (cert->client && cert->name_count > 0)
        return usage(cert, "names are a server's: --client or --name, not both", "");
    return 0;
}

static void print_help(void)
{
    printf("moonquay cert create [options]       a certificate for development, and once the\n"
           "                                     authority that signs it; asked again it is\n"
           "                                     kept, or renewed when it ends soon or has\n"
           "                                     other names\n"
           "    --dir DIR                        where the files are; certs\n"
           "    --name NAME                      host, *.domain or IP address; repeatable;\n"
           "                                     the first one names the files. Without it\n"
           "                                     localhost, 127.0.0.1, ::1 and *.localhost.\n"
           "                                     Browsers and curl do not take *.localhost\n"
           "                                     for shop.localhost: name that too.\n"
           "                                     The authority may sign for localhost, what\n"
           "                                     was named when it was made, and what is\n"
           "                                     below these\n"
           "    --days N                         1 to %d; %d\n"
           "    --rsa                            RSA with 2048 bits instead of ECDSA P-256\n"
           "    --client NAME                    a client's certificate instead, NAME.pem\n"
           "    --force                          anew, whatever is there; a new authority\n"
           "                                     too when the old one cannot sign for it\n"
           "moonquay cert show FILE              what the certificates of a file say\n"
           "    --json                           for programs\n"
           "moonquay cert check CERT [KEY]       what a server and its clients would object\n"
           "                                     to: one line each, and exit status 78\n"
           "    --name NAME                      it must be for this name; repeatable\n"
           "    --authority FILE                 clients trust these authorities only\n"
           "    --json                           for programs\n",
           TLS_ISSUE_DAYS_MOST, DAYS_DEFAULT);
}

/* ---- for the subcommands */

void cert_line(const char *format, ...)
{
    char text[8192];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    terminal_print(stdout, text);
    putchar('\n');
}

static int read_failed(const char *shown, struct err_text *text)
{
    int number = errno, code = err_from_errno(number);

    return err_set(text, code == ERR_PERMISSION ? EXIT_PERMISSION : EXIT_OPTION, code, "%.300s: %s",
                   shown, strerror(number));
}

static int read_all(int fd, const char *shown, struct buf *out, struct err_text *text)
{
    ssize_t got;

    do {
        got = read(fd, buf_reserve(out, 16384), 16384);
        if (got > 0)
            buf_added(out, (size_t)got);
    } while ((got > 0 && buf_len(out) <= CERT_FILE_BYTES) || (got < 0 && errno == EINTR));
    if (got < 0)
        return read_failed(shown, text);
    if (buf_len(out) > CERT_FILE_BYTES)
        return err_set(text, EXIT_OPTION, ERR_TOO_LARGE, "%.300s: is longer than %u bytes", shown,
                       CERT_FILE_BYTES);
    return 0;
}

int cert_read(int dir_fd, const char *name, const char *shown, struct buf *out,
              struct err_text *text)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), code;
    struct stat facts;

    if (fd < 0)
        return read_failed(shown, text);
    if (fstat(fd, &facts) < 0)
        code = read_failed(shown, text);
    else if (!S_ISREG(facts.st_mode))
        code = err_set(text, EXIT_OPTION, ERR_UNSUPPORTED, "%.300s: is no regular file", shown);
    else
        code = read_all(fd, shown, out, text);
    close(fd);
    return code;
}

long long cert_days_left(int64_t now, int64_t then)
{
    return then > now ? (long long)((then - now) / DAY) : 0;
}

/* ---- all of it */

static int run(struct cert *cert, int argc, char **argv)
{
    int code;

    if (argc == 0)
        return usage(cert, "what shall it do: create, show or check?", "");
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        print_help();
        return 0;
    }
    for (size_t i = 0; i < COUNT(subcommands); i++) {
        if (strcmp(argv[0], subcommands[i].word) != 0)
            continue;
        code = read_words(cert, &subcommands[i], argv + 1);
        if (code == 0 && cert->help)
            print_help();
        return code < 0 || cert->help ? code : subcommands[i].run(cert);
    }
    return usage(cert, "no such command: cert ", argv[0]);
}

int cert_run(int argc, char **argv)
{
    struct cert cert = {.dir = "certs", .days = DAYS_DEFAULT, .now = (int64_t)time(NULL)};
    int code = run(&cert, argc, argv);

    if (code == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        code = err_set(&cert.text, EXIT_INTERNAL, ERR_IO, "cannot print the answer: %s",
                       strerror(errno));
    if (code == 0)
        return 0;
    if (cert.text.text[0]) {
        fputs("moonquay: ", stderr);
        terminal_print(stderr, cert.text.text);
        putc('\n', stderr);
    }
    return cert.text.exit_code;
}
