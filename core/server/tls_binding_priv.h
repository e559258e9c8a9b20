/* The keys of a binding, for its reader and for the types for editors. */
#ifndef SERVER_TLS_BINDING_PRIV_H
#define SERVER_TLS_BINDING_PRIV_H

#include <stdbool.h>
#include <stddef.h>

struct tls_binding_key {
    const char *name;
    size_t at, room;                    /* where in struct tls_binding */
    unsigned most;                      /* how often it may be given; the rooms lie in a row */
    const char *choices;                /* separated by '|', else NULL */
    bool (*is_right)(const char *text); /* NULL: any text */
    const char *form;                   /* what it must be, when it has no choices */
    bool required;
    const char *help;
};

extern const struct tls_binding_key tls_binding_keys[];
extern const size_t tls_binding_key_count;

#endif
