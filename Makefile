# One makefile, not recursive. V picks the build: release, debug, asan (address + undefined), fuzz.
V       ?= release
CC      ?= gcc
BUILD   := build/$(V)
PREFIX  ?= /usr/local
LUA_INC := -isystem /usr/include/lua5.4

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
        -Wcast-qual -Wwrite-strings -Wvla -Wformat=2 -Wundef
OPT_release := -O2 -g -DNDEBUG
OPT_debug   := -O0 -g
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LNK_asan    := -fsanitize=address,undefined

CFLAGS  := -std=gnu11 $(WARN) $(WERROR) $(OPT_$(V)) -fPIC -fvisibility=hidden -D_GNU_SOURCE -Icore $(LUA_INC)
LDFLAGS := $(LNK_$(V))
LIBS    := -lev -ljansson -lm

ROOMS    := base net http route server bind
LIB_SRC  := $(filter-out core/bind/probe%,$(foreach room,$(ROOMS),$(wildcard core/$(room)/*.c)))
LIB_OBJ  := $(LIB_SRC:core/%.c=$(BUILD)/%.o)
PROC_OBJ := $(patsubst core/%.c,$(BUILD)/%.o,$(wildcard core/proc/*.c))
PROBE_OBJ:= $(patsubst core/%.c,$(BUILD)/%.o,$(wildcard core/bind/probe*.c))

.PHONY: all probe clean
all: $(BUILD)/bin/moonquay $(BUILD)/lib/moonquay/core.so

probe: $(BUILD)/lib/moonquay/probe.so

$(BUILD)/bin/moonquay: $(LIB_OBJ) $(PROC_OBJ)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -Wl,-E -o $@ $^ -llua5.4 $(LIBS)

# Loaded by a Lua interpreter that brings its own Lua symbols: not linked with liblua.
$(BUILD)/lib/moonquay/core.so: $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) -shared $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/lib/moonquay/probe.so: $(LIB_OBJ) $(PROBE_OBJ)
	@mkdir -p $(@D)
	$(CC) -shared $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: core/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

clean:
	rm -rf build

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
