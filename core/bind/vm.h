/*
 * One Lua state with one app in it: the consumer of requests that is Lua. Every task of it runs on
 * the loop's own thread.
 */
#ifndef BIND_VM_H
#define BIND_VM_H

#include "base/err.h"
#include "net/loop.h"
#include "server/handler.h"
#include "server/server.h"
#include "server/settings.h"

struct vm;

/*
 * A fresh state with the standard libraries, the core modules and lua_dir at the front of
 * package.path. Borrows all but column, the app's in the tally slot; app-scope settings that the
 * app sets itself are written to settings.
 */
struct vm_parts {
    struct loop *loop;
    struct settings *settings;
    struct tally *tally;
    unsigned slot, column;
    const char *lua_dir;
};
struct vm *vm_new(const struct vm_parts *parts);

/*
 * Loads the app file in a task (it may wait). loaded is called once, from the loop or from inside
 * this call: 0, or ERR_NOT_FOUND / ERR_INVALID with the text for the operator (file:line: message)
 * and the exit code.
 */
void vm_load(struct vm *vm, const char *path,
             void (*loaded)(void *owner, int code, const struct err_text *text), void *owner);

/* The handler to give to the server; valid until vm_free. */
const struct handler *vm_handler(struct vm *vm);

/* Behind the name of a setting: the pair that says where the app sets it, "app.lua:3". */
#define VM_SETTING_PLACE "@"

/* What the app set while it was loaded (moonquay.app { urls = … }), as "key\0value\0…" text, each
 * pair followed by its place; borrowed. */
struct span vm_asked_settings(struct vm *vm);

/*
 * What running Lua code asks of the server: op is "set" (key, value), "listen" or "unlisten"
 * (value: a URL prefix). The answer comes, once for each number, by vm_answer: what is wrong, or
 * NULL and a result, which may be NULL. Without it settings are the state's own affair.
 */
struct vm_question {
    const char *op, *key, *value, *place;
};
void vm_on_ask(struct vm *vm,
               void (*ask)(void *owner, unsigned number, const struct vm_question *question),
               void *owner);
void vm_answer(struct vm *vm, unsigned number, const char *wrong, const char *result);

/* The URL prefixes that lead to the app now, each ended by a NUL: app.addresses. Borrows the text
 * until the next call. */
void vm_set_addresses(struct vm *vm, struct span addresses);

/* What an app's os.exit calls; without it, or while the app loads, os.exit raises. */
void vm_on_shutdown(struct vm *vm, void (*shutdown)(void *owner), void *owner);

/* Starts the CPU timer that ends handlers which spin; for a worker, whose thread is the loop's. */
void vm_watch_cpu(struct vm *vm);

/*
 * The app's own tasks (timers, what it started while it was loaded) are told to end; requests and
 * background tasks go on until they are done. idle is called once, when no task is left.
 */
void vm_stop(struct vm *vm, void (*idle)(void *owner), void *owner);
void vm_free(struct vm *vm);

#endif
