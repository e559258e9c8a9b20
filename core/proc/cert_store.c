/* The files are read each time: a store is asked when a binding changes, and holds few. */
#include "proc/cert_store.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proc/watched_file.h"
#include "tls/tls_describe.h"

#define ENDING     ".pem"
#define KEY_ENDING ".key" /* as long */

static bool is_named(const struct tls_description *one, const char *hash)
{
    return strcasecmp(hash, one->fingerprint) == 0 || strcasecmp(hash, one->thumbprint) == 0;
}

/* The first certificate of a file is the server's, the others vouch for it. */
static bool look_into(const char *path, const char *hash, bool *has_key)
{
    struct watched_file file = {.path = path};
    struct tls_description *all = NULL;
    struct buf text = {0};
    struct err_text why;
    size_t count = 0;
    bool found = false;

    if (watched_file_read(&file, &text, &why) == 0 &&
        tls_describe(buf_span(&text), &all, &count, &why) == 0) {
        found = count > 0 && is_named(&all[0], hash);
        *has_key = memmem(buf_span(&text).at, buf_len(&text), "PRIVATE KEY", 11) != NULL;
        tls_descriptions_free(all, count);
    }
    buf_wipe(&text);
    return found;
}

static bool fits(const char *dir, const char *name, const char *hash,
                 struct cert_store_entry *entry)
{
    size_t length = strlen(name);
    bool has_key;

    if (length <= strlen(ENDING) || strcmp(name + length - strlen(ENDING), ENDING) != 0 ||
        snprintf(entry->certificate, sizeof(entry->certificate), "%s/%s", dir, name) >= PATH_MAX ||
        !look_into(entry->certificate, hash, &has_key))
        return false;
    memcpy(entry->key, entry->certificate, sizeof(entry->key));
    if (!has_key)
        memcpy(entry->key + strlen(entry->key) - strlen(ENDING), KEY_ENDING, strlen(KEY_ENDING));
    return true;
}

int cert_store_find(const char *dir, const char *hash, struct cert_store_entry *entry,
                    struct err_text *text)
{
    DIR *list = opendir(dir);
    const struct dirent *file;
    bool found = false;

    for (unsigned i = 0; list && !found && i < CERT_STORE_FILES && (file = readdir(list)); i++)
        found = fits(dir, file->d_name, hash, entry);
    if (list)
        closedir(list);
    if (found)
        return 0;
    return err_set(text, EXIT_OPTION, ERR_NOT_FOUND,
                   "certhash=%.64s: no certificate in %.500s has it (files *.pem)", hash, dir);
}
