# One makefile, by hand, not recursive but where a target needs another compiler or build.
# V picks the build: release, debug, asan (address + undefined behaviour, no recovery), fuzz.
V       ?= release
BUILD   ?= build/$(V)
PREFIX  ?= /usr/local
SPECS   ?= spec
CERTS   ?= certs
LUA     := lua5.4
BUSTED  := $(LUA) /usr/bin/busted
ifeq ($(origin CC),default)
CC      := gcc
endif

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
        -Wcast-qual -Wwrite-strings -Wvla -Wformat=2 -Wundef
OPT_release := -O2 -g -DNDEBUG
OPT_debug   := -O0 -g
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_fuzz    := $(OPT_asan)
LNK_asan    := -fsanitize=address,undefined
LNK_fuzz    := $(LNK_asan)

ifeq ($(OPT_$(V)),)
$(error V=$(V): no such build, choose release, debug, asan or fuzz)
endif

CFLAGS  := -std=gnu11 $(WARN) $(WERROR) $(OPT_$(V)) -fPIC -fvisibility=hidden -D_GNU_SOURCE \
           -Icore -isystem /usr/include/lua5.4
# Where the executable looks for its Lua library when it does not run in its tree.
PLACES  := -DMOONQUAY_LUA_DIR='"$(PREFIX)/share/lua/5.4"'
LDFLAGS := $(LNK_$(V))
LIBS    := -lev -lnghttp2 -lssl -lcrypto -ljansson -lm

ROOMS     := base net tls http route server share bind
LIB_SRC   := $(filter-out core/bind/probe%,$(foreach room,$(ROOMS),$(wildcard core/$(room)/*.c)))
LIB_OBJ   := $(LIB_SRC:core/%.c=$(BUILD)/%.o)
PROC_OBJ  := $(patsubst core/%.c,$(BUILD)/%.o,$(wildcard core/proc/*.c))
PROBE_OBJ := $(patsubst core/%.c,$(BUILD)/%.o,$(wildcard core/bind/probe*.c))
C_FILES    = $(shell find core scripts -name '*.[ch]' | sort)
LUA_FILES  = $(shell find lua spec scripts/examples -name '*.lua' | sort) scripts/check-layers
SH_FILES   = $(shell grep -lsE '^\#!/bin/(ba)?sh' scripts/* .ci/run) scripts/completion/moonquay.bash

.PHONY: all probe test test-load test-fresh bench bench-load bench-prefixes bench-share count lint \
        lint-format lint-gcc lint-clang \
        lint-lua lint-shell check-layers tidy format gen certs install uninstall clean help force
.DELETE_ON_ERROR:

all: $(BUILD)/bin/moonquay $(BUILD)/lib/moonquay/core.so

# The specs' way into the rooms below Lua.
probe: $(BUILD)/lib/moonquay/probe.so

# Lua is linked into the executable: no call through a table for each of the API's many small
# functions (0.2 us a request). Whole and exported (-E), so that C modules of an app find all of it.
LUA_LIB := -Wl,--whole-archive -l:liblua5.4.a -Wl,--no-whole-archive -ldl

$(BUILD)/bin/moonquay: $(LIB_OBJ) $(PROC_OBJ)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -Wl,-E -o $@ $^ $(LUA_LIB) $(LIBS)

# Loaded by a Lua interpreter that brings its own Lua symbols: not linked with liblua.
$(BUILD)/lib/moonquay/core.so: $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) -shared $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/lib/moonquay/probe.so: $(LIB_OBJ) $(PROBE_OBJ)
	@mkdir -p $(@D)
	$(CC) -shared $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: core/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# The load of scripts/bench: a program of its own.
bench-load: $(BUILD)/bench-load
$(BUILD)/bench-load: scripts/bench-load.c $(BUILD)/flags
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $<

# One object knows PREFIX, so that an installation compiles no more than that one again.
$(BUILD)/proc/options.o: CFLAGS += $(PLACES)
$(BUILD)/proc/options.o: $(BUILD)/places

# Rewritten only when the command line of the compiler changes, so that such a change rebuilds.
$(BUILD)/flags: LINE := $(CC) $(CFLAGS)
$(BUILD)/places: LINE := $(PLACES)
$(BUILD)/flags $(BUILD)/places: force
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(LINE))' | cmp -s - $@ || \
		printf '%s\n' '$(subst ','\'',$(LINE))' >$@

# ---- generated texts

# The settings' table in lua/README.md and lua/moonquay/settings.lua, from the table in the server.
gen: $(BUILD)/bin/moonquay
	scripts/gen-options $<

# ---- certificates

# For https://localhost: a development authority and what it signs, kept while they are good.
certs: $(BUILD)/bin/moonquay
	$< cert create --dir $(CERTS)

# ---- specs

# Everything that must hold: lint, all specs on the release and the sanitized build, fuzzing.
test:
	scripts/test

# What names a time: spec files *_load.lua, on the release build, at ten times the figure of the issue.
test-load: all probe
	$(BUSTED) --pattern=_load $(SPECS)

# scripts/serve and scripts/test inside a new Debian root; root only.
test-fresh:
	scripts/test-fresh

bench: all
	scripts/bench $(BENCH_ARGS)

# 10 and 10,000 URL prefixes, 1 and 32 apps, 10 and 5,000 idle connections, side by side.
bench-prefixes: all
	scripts/bench-prefixes

# A host and an attached app beside a proxy in front of a server.
bench-share: all
	scripts/bench-share

# Instructions a request, by callgrind; COUNT_ARGS is another build to compare with.
count: all
	scripts/count-instructions $(COUNT_ARGS)

# ---- lint

lint: lint-format lint-lua lint-shell check-layers lint-gcc lint-clang

lint-format:
	clang-format --dry-run -Werror $(C_FILES)

lint-gcc:
	$(MAKE) V=release CC=gcc BUILD=build/lint-gcc WERROR=-Werror all probe bench-load

lint-clang:
	$(MAKE) V=release CC=clang BUILD=build/lint-clang WERROR=-Werror all probe bench-load

lint-lua:
	luacheck -q $(LUA_FILES)

# SC2317: functions that a trap calls, or one that takes a command, look unreachable to it.
lint-shell:
	shellcheck -e SC2317 $(SH_FILES)

check-layers:
	scripts/check-layers

# Slow and full of opinions: for a reader's judgement, not a gate.
tidy:
	clang-tidy --quiet $(filter core/%.c,$(C_FILES)) -- $(CFLAGS) $(PLACES)

format:
	clang-format -i $(C_FILES)

# ---- install

BIN_DIR := $(DESTDIR)$(PREFIX)/bin
SO_DIR  := $(DESTDIR)$(PREFIX)/lib/lua/5.4/moonquay
LUA_DIR := $(DESTDIR)$(PREFIX)/share/lua/5.4
MAN_DIR := $(DESTDIR)$(PREFIX)/share/man/man8
# Where bash looks for it beside an executable in PREFIX/bin.
COMPLETION_DIR := $(DESTDIR)$(PREFIX)/share/bash-completion/completions

install: all
	install -D -m 755 $(BUILD)/bin/moonquay $(BIN_DIR)/moonquay
	install -D -m 644 $(BUILD)/lib/moonquay/core.so $(SO_DIR)/core.so
	install -D -m 644 man/moonquay-http.8 $(MAN_DIR)/moonquay-http.8
	install -D -m 644 scripts/completion/moonquay.bash $(COMPLETION_DIR)/moonquay
	cd lua && find moonquay -name '*.lua' -exec install -D -m 644 {} $(LUA_DIR)/{} \;

uninstall:
	rm -f $(BIN_DIR)/moonquay $(MAN_DIR)/moonquay-http.8 $(COMPLETION_DIR)/moonquay
	rm -rf $(SO_DIR) $(LUA_DIR)/moonquay

clean:
	rm -rf build

help:
	@echo 'make [V=release|debug|asan] [CC=clang] [BUILD=DIR] [WERROR=-Werror] [PREFIX=DIR] TARGET'
	@echo '  all           the server build/V/bin/moonquay and the library build/V/lib/moonquay/core.so'
	@echo '  probe         the module that opens the C rooms to the specs'
	@echo '  test          lint, all specs on two builds, fuzzing; a few specs: scripts/test FILE...'
	@echo '  test-load     the specs that assert times'
	@echo '  test-fresh    scripts/serve and scripts/test in a new Debian root (root only)'
	@echo '  lint          clang-format, luacheck, shellcheck, check-layers, -Werror with gcc and clang'
	@echo '  format tidy   clang-format in place; clang-tidy'
	@echo '  certs         certificates for https://localhost, in CERTS=certs'
	@echo '  gen           the tables of settings in lua/, from the server'
	@echo '  fuzz fuzz-run the fuzz targets; SECONDS=20 each'
	@echo '  bench         beside other servers; BENCH_ARGS="..." goes to scripts/bench'
	@echo '  bench-prefixes  10 and 10,000 URL prefixes, 1 and 32 apps, 10 and 5,000 idle connections'
	@echo '  count         instructions a request (valgrind), beside another build: COUNT_ARGS=DIR'
	@echo '  install uninstall clean'

-include core/fuzz/fuzz.mk
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
