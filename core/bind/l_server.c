/*
 * Questions of an app to the server: a change that has to hold in every worker. The task waits
 * until the answer has come.
 */
#include "bind/l_server.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "bind/aux.h"
#include "bind/l_local.h"
#include "bind/l_option.h"
#include "bind/vm_priv.h"
#include "route/url_prefix.h"

#define QUESTION_TYPE  "moonquay.question"
#define NUMBERS        (1u << 24)  /* leaves room for the app's index in the same word */
#define QUESTIONS_MOST 1024        /* without an answer */
#define VALUE_MOST     (32 * 1024) /* bytes; no value that can be changed is as long */

/* Lies on the stack of the task that waits, so it ends with it. */
struct l_question {
    struct list node; /* in the state's list until the answer has come */
    unsigned number;
    struct task *waiter;
    char *wrong, *result;
};

/* Nobody waits for the answer any more, or it is there. */
static void close_question(struct vm *vm, struct l_question *self)
{
    if (!list_empty(&self->node))
        vm->question_count--;
    list_remove(&self->node);
}

static int question_gc(lua_State *L)
{
    struct l_question *self = luaL_checkudata(L, 1, QUESTION_TYPE);

    close_question(vm_of(L), self);
    mem_free(self->wrong);
    mem_free(self->result);
    self->wrong = self->result = NULL;
    return 0;
}

static struct l_question *push_question(lua_State *L, struct vm *vm)
{
    struct l_question *self = lua_newuserdatauv(L, sizeof(*self), 0);

    *self = (struct l_question){.number = ++vm->last_question % NUMBERS};
    list_init(&self->node);
    if (luaL_newmetatable(L, QUESTION_TYPE)) {
        lua_pushcfunction(L, question_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    list_append(&vm->questions, &self->node);
    vm->question_count++;
    return self;
}

void vm_on_ask(struct vm *vm,
               void (*ask)(void *owner, unsigned number, const struct vm_question *question),
               void *owner)
{
    vm->ask = ask;
    vm->ask_owner = owner;
}

void vm_answer(struct vm *vm, unsigned number, const char *wrong, const char *result)
{
    for (struct list *node = vm->questions.next; node != &vm->questions; node = node->next) {
        struct l_question *question = LIST_OWNER(node, struct l_question, node);

        if (question->number != number)
            continue;
        close_question(vm, question);
        question->wrong = wrong ? mem_strdup(wrong) : NULL;
        question->result = result ? mem_strdup(result) : NULL;
        if (question->waiter)
            task_wake(question->waiter, WAIT_EVENT, 0);
        return;
    }
}

void vm_set_addresses(struct vm *vm, struct span addresses)
{
    vm->addresses = addresses.at ? addresses : SPAN(""); /* none is not unknown */
}

/* ---- ask ---- */

static int answered_k(lua_State *L, int status, lua_KContext context)
{
    struct l_question *question = luaL_checkudata(L, 5, QUESTION_TYPE);
    int code = task_waiter(L)->woken;

    (void)status;
    (void)context;
    close_question(vm_of(L), question);
    if (code < 0)
        return l_fail(L, code, NULL);
    if (question->wrong)
        return l_fail(L, ERR_INVALID, question->wrong);
    if (question->result)
        lua_pushstring(L, question->result);
    else
        lua_pushboolean(L, 1);
    return 1;
}

/* The place of a level as settings_set shows it: "app.lua:3", or "". */
static const char *push_place(lua_State *L, int level)
{
    size_t length;

    luaL_where(L, level);
    const char *text = lua_tolstring(L, -1, &length);

    return lua_pushlstring(L, text, length > 2 ? length - 2 : 0);
}

/* From op, key, value, level [, is_list]; leaves the texts on the stack. False: no such value. */
static bool take_question(lua_State *L, struct vm_question *question, struct err_text *wrong)
{
    int level = (int)luaL_optinteger(L, 4, 1);
    bool is_list = lua_toboolean(L, 5);

    question->op = luaL_checkstring(L, 1);
    question->key = luaL_checkstring(L, 2);
    lua_settop(L, 3);
    question->place = push_place(L, level);
    lua_remove(L, 4); /* what it was made of */
    if (!option_push_text(L, 3, question->key, is_list)) {
        settings_refuse(question->key, lua_tostring(L, -1), question->place, wrong);
        return false;
    }
    lua_replace(L, 3);
    question->value = lua_tostring(L, 3);
    return true;
}

/*
 * What nobody could answer well stays here: the way to the server has room for so much and no more,
 * and a worker for which there is none ends.
 */
static const char *too_much(lua_State *L, const struct vm *vm)
{
    if (vm->ask == NULL)
        return NULL;
    if (lua_rawlen(L, 2) + lua_rawlen(L, 3) > VALUE_MOST)
        return "what is longer than 32 KiB cannot be changed while the server runs";
    return vm->question_count < QUESTIONS_MOST ? NULL : "too many changes at once";
}

/* Without a server around it the state's own settings are changed. */
static int set_here(lua_State *L, struct vm *vm, const struct vm_question *question)
{
    struct err_text text;

    if (strcmp(question->op, "set") != 0)
        return l_fail(L, ERR_STATE, "there is no server here whose addresses could change");
    if (settings_check_change(question->key, question->value, question->place, &text) < 0)
        return l_fail(L, ERR_INVALID, text.text);
    settings_set(vm->settings, question->key, question->value, question->place, &text);
    local_servers_apply(vm);
    lua_pushboolean(L, 1);
    return 1;
}

/* judge("set", key, value, level [, is_list]) -> nil, or what is wrong with it, as ask would say */
static int l_judge(lua_State *L)
{
    struct vm_question question;
    struct err_text wrong;

    if (take_question(L, &question, &wrong) &&
        settings_check_change(question.key, question.value, question.place, &wrong) == 0)
        return 0;
    lua_pushstring(L, wrong.text);
    return 1;
}

/*
 * ask(op, key, value, level [, is_list]) -> true or a text | nil, err. op is "set", "listen" or
 * "unlisten". It returns when what was asked for holds in every worker.
 */
static int l_ask(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct vm_question question;
    struct err_text wrong;

    if (!take_question(L, &question, &wrong))
        return l_fail(L, ERR_INVALID, wrong.text);
    if (too_much(L, vm))
        return l_fail(L, ERR_LIMIT, too_much(L, vm));
    if (vm->ask == NULL)
        return set_here(L, vm, &question);
    struct task *task = task_waiter(L);

    if (task->cancel)
        return task_fail_cancelled(L);
    if (!task_can_wait(L))
        return task_refuse_wait(L);
    struct l_question *asked = push_question(L, vm);

    task_wait_at(task, &asked->waiter);
    vm->ask(vm->ask_owner, asked->number, &question);
    return task_park(L, WAIT_EVENT, answered_k, 0);
}

/* option(key) -> the value in force, as it would be given; nil when none is */
static int l_get_option(lua_State *L)
{
    const struct vm *vm = vm_of(L);
    const char *key = luaL_checkstring(L, 1), *text = settings_text(vm->settings, key);
    char value[64];

    if (text == NULL) {
        if (settings_get(vm->settings, key, value, sizeof(value)) < 0)
            return luaL_error(L, "there is no option %s", key);
        text = value;
    }
    if (strcmp(text, "none") == 0 && settings_takes(key, SETTING_FROM_NUMBER))
        return 0;
    if (settings_takes(key, SETTING_FROM_TRUE))
        lua_pushboolean(L, text[0] == 't');
    else if (text[0] == '\0' && settings_takes(key, SETTING_FROM_FALSE))
        lua_pushboolean(L, 0);
    else if (!settings_takes(key, SETTING_FROM_NUMBER) || lua_stringtonumber(L, text) == 0)
        lua_pushstring(L, text);
    return 1;
}

/* addresses() -> the URL prefixes that lead to the app now; nil before the start */
static int l_addresses(lua_State *L)
{
    struct span rest = vm_of(L)->addresses;
    lua_Integer count = 0;

    if (rest.at == NULL)
        return 0;
    lua_newtable(L);
    while (rest.len > 0) {
        size_t length = strlen(rest.at) + 1;

        lua_pushlstring(L, rest.at, length - 1);
        lua_rawseti(L, -2, ++count);
        rest = span_of(rest.at + length, rest.len - length);
    }
    return 1;
}

/* loading() -> whether the app's file is being read, before the start */
static int l_loading(lua_State *L)
{
    lua_pushboolean(L, vm_of(L)->loading);
    return 1;
}

/* check_prefix(text) -> the URL prefix in canonical form | nil, message */
static int l_check_prefix(lua_State *L)
{
    struct url_prefix prefix;
    struct err_text text;

    if (url_prefix_parse(&prefix, l_check_span(L, 1), &text) < 0) {
        lua_pushnil(L);
        lua_pushstring(L, text.text);
        return 2;
    }
    char canonical[URL_PREFIX_MAX_HOST + URL_PREFIX_MAX_PATH + 32]; /* pushing may raise */

    snprintf(canonical, sizeof(canonical), "%s", prefix.text);
    url_prefix_fini(&prefix);
    lua_pushstring(L, canonical);
    return 1;
}

static const luaL_Reg functions[] = {
    {"ask", l_ask},
    {"judge", l_judge},
    {"option", l_get_option},
    {"addresses", l_addresses},
    {"loading", l_loading},
    {"check_prefix", l_check_prefix},
    {NULL, NULL},
};

void l_server_open(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
