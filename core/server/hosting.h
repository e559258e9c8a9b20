/*
 * Which list of addresses an app serves: its url_prefixes, or the urls that whoever starts the
 * server gives (reference section 2.6). A decision about texts alone: the list that is not chosen
 * is never parsed, so that it may even be malformed.
 */
#ifndef SERVER_HOSTING_H
#define SERVER_HOSTING_H

#include <stdbool.h>
#include <stddef.h>

#define HOSTING_DEFAULT "http://localhost:5000/"

struct hosting {
    const char *url_prefixes; /* setting of the app; no item or NULL: none */
    const char *urls; /* as given; no item or NULL: nobody gave any, the default is not one */
    const char
        *default_urls; /* serve these when there are neither; no item or NULL: HOSTING_DEFAULT */
    const char *urls_from; /* who gave them: "--urls", "MOONQUAY_URLS", "app.lua:3" */
    bool prefer_urls;
    bool attached; /* to a queue that was there: nothing is served by default */
};

enum hosting_note {
    HOSTING_QUIET,
    HOSTING_URLS_DROPPED,     /* url_prefixes beat them */
    HOSTING_PREFIXES_CLEARED, /* prefer_urls says so */
};

struct hosting_choice {
    const char *list; /* borrowed from hosting, or HOSTING_DEFAULT, or "" for nothing */
    bool is_urls;     /* the list is urls, and so not the app's own */
    enum hosting_note note;
};

struct hosting_choice hosting_choose(const struct hosting *hosting);

/* Writes the warning that the note asks for and returns its length; 0 for HOSTING_QUIET. */
size_t hosting_warning(const struct hosting *hosting, enum hosting_note note, char *out,
                       size_t room);

#endif
