/* Opens the table of administrative commands to the specs. */
#include "bind/probe.h"

#include <lauxlib.h>

#include "base/pairs.h"
#include "share/admin.h"

#define WORDS_MOST 64

static int push_outcome(lua_State *L, int code, const struct admin_request *request,
                        const struct err_text *why)
{
    if (code < 0) {
        lua_pushnil(L);
        lua_pushstring(L, why->text);
        lua_pushinteger(L, why->exit_code);
        return 3;
    }

    struct buf pairs = {0};

    admin_write_pairs(request, &pairs);
    struct span rest = buf_span(&pairs);
    const char *key, *value;

    lua_newtable(L);
    while (pairs_next(&rest, &key, &value)) {
        lua_pushstring(L, value);
        lua_setfield(L, -2, key);
    }
    buf_fini(&pairs);
    return 1;
}

static size_t take_words(lua_State *L, const char *words[WORDS_MOST])
{
    size_t count = (size_t)lua_gettop(L);

    luaL_argcheck(L, count <= WORDS_MOST, 1, "too many words");
    for (size_t i = 0; i < count; i++)
        words[i] = luaL_checkstring(L, (int)i + 1);
    return count;
}

/* admin.words(word, …) -> { verb =, noun =, argument = value … } | nil, why, exit status */
static int l_words(lua_State *L)
{
    const char *words[WORDS_MOST];
    size_t count = take_words(L, words);
    struct admin_request request;
    struct err_text why;
    int code = admin_read_words(&request, words, count, &why);

    return push_outcome(L, code, &request, &why);
}

/* admin.pairs("key\0value\0…") -> likewise */
static int l_pairs(lua_State *L)
{
    struct span pairs;
    struct admin_request request;
    struct err_text why;

    pairs.at = luaL_checklstring(L, 1, &pairs.len);
    return push_outcome(L, admin_read_pairs(&request, pairs, &why), &request, &why);
}

static int push_text(lua_State *L, struct buf *text)
{
    lua_pushlstring(L, buf_span(text).at ? buf_span(text).at : "", buf_len(text));
    buf_fini(text);
    return 1;
}

/* admin.complete(word, …) -> text */
static int l_complete(lua_State *L)
{
    const char *words[WORDS_MOST];
    size_t count = take_words(L, words);
    struct buf out = {0};

    admin_complete(words, count, &out);
    return push_text(L, &out);
}

/* admin.help(word, …) -> text */
static int l_help(lua_State *L)
{
    const char *words[WORDS_MOST];
    size_t count = take_words(L, words);
    struct buf out = {0};

    admin_help(words, count, &out);
    return push_text(L, &out);
}

static void push_argument(lua_State *L, const struct admin_argument *argument, unsigned verb)
{
    lua_newtable(L);
    lua_pushstring(L, argument->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, argument->form);
    lua_setfield(L, -2, "form");
    lua_pushboolean(L, (argument->must & verb) != 0);
    lua_setfield(L, -2, "must");
}

static void push_command(lua_State *L, const struct admin_command *command)
{
    static const char *const who[] = {"everybody", "owners", "delegates"};
    unsigned verb = ADMIN_BIT(command->verb);
    lua_Integer length = 0;
    size_t count;
    const struct admin_argument *at = admin_arguments_of(command->noun, &count);

    lua_newtable(L);
    lua_pushstring(L, admin_verb_word(command->verb));
    lua_setfield(L, -2, "verb");
    lua_pushstring(L, admin_noun_word(command->noun));
    lua_setfield(L, -2, "noun");
    lua_pushstring(L, who[command->who]);
    lua_setfield(L, -2, "who");
    for (size_t i = 0; i < count; i++) {
        if (!(at[i].may & verb) || at[i].form == NULL)
            continue;
        push_argument(L, &at[i], verb);
        lua_seti(L, -2, ++length);
    }
}

/* admin.commands() -> list of { verb =, noun =, who =, { name =, form =, must = } … } */
static int l_commands(lua_State *L)
{
    lua_newtable(L);
    for (size_t i = 0; i < admin_command_count; i++) {
        push_command(L, &admin_commands[i]);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

int probe_admin_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"words", l_words}, {"pairs", l_pairs},       {"complete", l_complete},
        {"help", l_help},   {"commands", l_commands}, {NULL, NULL},
    };

    luaL_newlib(L, functions);
    return 1;
}
