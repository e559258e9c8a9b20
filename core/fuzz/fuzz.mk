# The fuzz targets: libFuzzer with the address and undefined-behaviour sanitizers, which only clang has.
#   make fuzz                      builds build/fuzz/bin/NAME
#   make fuzz-run SECONDS=20       runs each over a copy of its corpus; what it finds goes to core/fuzz/found
#   make fuzz-run-NAME             one target; make -j2 fuzz-run runs two at once

FUZZ_TARGETS := head chunked target cookies multipart query prefix proxy forwarded h2 h2_client pem control
FUZZ_BUILD   ?= build/fuzz
FUZZ_CC      ?= clang
FUZZ_SRC     ?= $(wildcard core/base/*.c) $(wildcard core/http/*.c) $(wildcard core/route/*.c) \
                $(wildcard core/net/*.c) core/tls/tls_cert.c \
                core/tls/tls_describe.c core/tls/tls_issue.c core/tls/tls_verify.c \
                $(wildcard core/share/registrar*.c core/share/admin*.c) core/share/control.c \
                core/share/principal.c core/share/reservation.c core/share/sslcert.c \
                core/share/state.c $(wildcard core/server/setting*.c) core/server/tls_binding.c \
                core/server/word_row.c core/server/hosted_app.c
FUZZ_LIBS    := -lcrypto -lnghttp2 -lev -ljansson
SECONDS      ?= 20

FUZZ_SAN   := address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_FLAGS := -std=gnu11 $(WARN) $(WERROR) -O1 -g -D_GNU_SOURCE -Icore -fsanitize=fuzzer-no-link,$(FUZZ_SAN)
FUZZ_OBJ   := $(FUZZ_SRC:core/%.c=$(FUZZ_BUILD)/obj/%.o) $(FUZZ_BUILD)/obj/fuzz/fuzz.o
FUZZ_BIN   := $(FUZZ_TARGETS:%=$(FUZZ_BUILD)/bin/%)

.PHONY: fuzz fuzz-run $(FUZZ_TARGETS:%=fuzz-run-%)
.SECONDARY: $(FUZZ_OBJ) $(FUZZ_TARGETS:%=$(FUZZ_BUILD)/obj/fuzz/%.o)

fuzz: $(FUZZ_BIN)
fuzz-run: $(FUZZ_TARGETS:%=fuzz-run-%)

$(FUZZ_BIN): $(FUZZ_BUILD)/bin/%: $(FUZZ_BUILD)/obj/fuzz/%.o $(FUZZ_OBJ)
	@mkdir -p $(@D)
	$(FUZZ_CC) -fsanitize=fuzzer,$(FUZZ_SAN) -o $@ $^ $(FUZZ_LIBS)

$(FUZZ_BUILD)/obj/%.o: core/%.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<

# The corpus is copied, because libFuzzer adds to it; found inputs are tried first. What is found is
# printed too: the folder may be on a machine that is gone by the time somebody reads it.
$(FUZZ_TARGETS:%=fuzz-run-%): fuzz-run-%: $(FUZZ_BUILD)/bin/%
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && mkdir -p "$$work/corpus" core/fuzz/found && \
	cp core/fuzz/corpus/$*/* "$$work/corpus" && \
	find core/fuzz/found -name '$*-*' -exec cp {} "$$work/corpus" \; && \
	if $(FUZZ_BUILD)/bin/$* -max_total_time=$(SECONDS) -rss_limit_mb=2048 -timeout=5 -print_final_stats=1 \
	    -artifact_prefix=core/fuzz/found/$*- "$$work/corpus" >"$$work/log" 2>&1; then \
	    echo "fuzz $*: $$(sed -n 's/^Done \([0-9]*\) runs in \([0-9]*\).*/\1 inputs in \2 s/p' "$$work/log"), nothing found"; \
	else \
	    tail -n 100 "$$work/log"; \
	    for input in $$(sed -n 's/.*Test unit written to //p' "$$work/log"); do echo "$$input, in base64:"; base64 "$$input"; done; \
	    echo "fuzz $*: FAILED, see above and core/fuzz/found"; exit 1; \
	fi

-include $(shell find $(FUZZ_BUILD)/obj -name '*.d' 2>/dev/null)
