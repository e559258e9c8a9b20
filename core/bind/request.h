/*
 * A request as Lua sees it: the exchange, the task that runs its handler, and who waits for what.
 * Userdata reach it through a box, which knows by the request's number whether it is still the same
 * one.
 */
#ifndef BIND_REQUEST_H
#define BIND_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/list.h"
#include "bind/task.h"
#include "server/exchange.h"
#include "server/handler.h"

/* A Lua function that serves requests, and what the server calls to reach it. */
struct lua_app {
    struct vm *vm;
    int handler_ref; /* registry: function(req, res) */
    int routes_ref;  /* registry: path to method to function, looked at first; or LUA_NOREF */
    int few_ref;     /* registry: functions that take fewer than two arguments, and how many */
    struct handler handler;
};

/* Fills app->handler; the functions come by lua_app_take. */
void lua_app_init(struct lua_app *app, struct vm *vm);

/* Takes the handler and the table of exact routes, or nil, that lie on top of L. */
void lua_app_take(struct lua_app *app, lua_State *L);
void lua_app_fini(struct lua_app *app);

/* How far the on_starting functions are. Once they have run or failed there are no others. */
enum starting { STARTING_LATER, STARTING_NOW, STARTING_DONE };

struct request {
    struct list node; /* among the free ones */
    struct vm *vm;
    struct lua_app *app;
    struct exchange *exchange; /* NULL when the request has ended */
    uint64_t number;           /* of the exchange; boxes compare it */
    struct task *task;
    struct task *content_waiter, *room_waiter, *certificate_waiter;
    int cancel_ref, after_ref; /* registry: lists of functions */
    int start_ref, end_ref;    /* likewise, of callbacks.c */
    int cache_ref;             /* registry: what Lua keeps with req, the same in each stage */
    int after_next;            /* index of the last after-function that was started */
    int cancel;                /* why the client is gone, 0 while it is there */
    int64_t blocked_ms;        /* that the worker has waited for this request */
    size_t header_bytes;       /* set by the handler so far */
    uint8_t stage;
    uint8_t starting; /* enum starting */
    bool ending;      /* functions behind the answer run */
    bool overridden;  /* the cache of req holds values that come before the getters */
    bool allow_synchronous_io, throw_write_errors;
    const char *started_at, *reading_at; /* file:line, in the exchange's arena */
};

/* What a box stands for. The numbers tell our userdata from foreign ones of the same size. */
enum box_type {
    BOX_REQUEST = 0x6d71,
    BOX_RESPONSE,
    BOX_FIELDS,
    BOX_BODY,
    BOX_LIMITS,
    BOX_TLS,
    BOX_END
};
#define BOX_TYPES (BOX_END - BOX_REQUEST)

enum fields_which { FIELDS_REQUEST, FIELDS_RESPONSE, FIELDS_TRAILERS };

struct request_box {
    uint16_t type;  /* enum box_type */
    uint16_t which; /* of a fields box: enum fields_which; of a limits box: whether its timeouts */
    struct request *request;
    uint64_t number;
};

/* The live request behind the box at index; raises when it is of another type or the request has
 * ended. */
struct request *check_request(lua_State *L, int index, enum box_type type);

/* The same for a box whose request may have ended. */
struct request_box *check_box(lua_State *L, int index, enum box_type type);

/* Pushes a box with so many user values. */
struct request_box *push_box(lua_State *L, struct request *request, enum box_type type, int values);

/* Pushes the new metatable of a type of box, named for messages, and remembers it. */
void new_box_metatable(lua_State *L, enum box_type type, const char *name);

/* Remembers where the running Lua function is, for messages; in the arena. */
const char *request_here(lua_State *L, struct request *request);

/* Raises where a read or write could only block the worker and that is not allowed; also when it
 * would find what it needs, or an app would fail by chance. */
void request_check_io(lua_State *L, const struct request *request);

/*
 * exchange_content and exchange_write; where Lua cannot wait they block, for at most cpu_limit in a
 * request. ERR_AGAIN: the task can wait, by the functions below.
 */
int request_content(lua_State *L, struct request *request, struct span *run);
ssize_t request_write(lua_State *L, struct request *request, struct span data);

/* exchange_finish; tasks that wait for content or room learn that none will come. */
int request_finish(struct request *request, struct span data);

/* Parks the running task until content or room is there. */
int request_wait_content(lua_State *L, struct request *request, lua_KFunction k,
                         lua_KContext context);
int request_wait_room(lua_State *L, struct request *request, lua_KFunction k, lua_KContext context);

/* Parks it until the client has answered exchange_ask_certificate. */
int request_wait_certificate(lua_State *L, struct request *request, lua_KFunction k,
                             lua_KContext context);

/* nil and the error for what exchange_content or exchange_write returned; 413 carries its status.
 */
int request_fail(lua_State *L, struct request *request, int code);

/* Adds a function (on top of the stack, popped) to the list that ref holds. */
void request_add_function(lua_State *L, int *ref);

/* Runs the function on top of L (popped) as a task of its own: who asks to be told that the client
 * has left, and it has. */
void request_tell_cancel(lua_State *L, struct request *request);

/* Breaks the answer off, whoever reads or writes included; the request is cancelled by that. No
 * more than that once: afterwards, or when the answer has ended, it does nothing. */
void request_abort(struct request *request);

/* The same with this error code for an HTTP/2 stream; behind the answer it tells the client to send
 * no more of the request. */
void request_reset(struct request *request, uint32_t code);

/* The request needs neither its exchange nor its task any more. */
void request_over(struct request *request);

/* The modules' tables. Each pushes nothing and needs the core table on top of the stack. */
void l_request_open(lua_State *L);
void l_response_open(lua_State *L);
void l_fields_open(lua_State *L);
void l_body_open(lua_State *L);
void l_limits_open(lua_State *L);
void l_tls_open(lua_State *L);

/* Pushes req.tls: nil for http, and when the connection is gone. */
int l_tls_push(lua_State *L, struct request *request);

/* Fields boxes are made by req.headers, res.headers and res.trailers. */
int l_fields_push(lua_State *L, struct request *request, enum fields_which which);

/* Sets fields from the table at index (name = value or list); raises on bad ones. */
void l_fields_from_table(lua_State *L, int index, struct request *request, struct fields *fields);

#endif
