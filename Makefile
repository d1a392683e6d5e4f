# neap: make, make run, make test; make help lists the rest.
#
# A variant is an output directory and flags of its own:
#   make BUILD=build/asan SANITIZE=address,undefined
# The plain variant puts its host at ./neap, any other at $(BUILD)/neap.

MAKEFLAGS += --no-print-directory
BUILD    = build
SANITIZE =
WERROR   =
EXAMPLE  = http_live
HOST     = $(if $(filter build,$(BUILD)),.,$(BUILD))/neap
RPATH    = $$ORIGIN$(if $(filter build,$(BUILD)),/build)
PREFIX   = /usr/local
DESTDIR  =
# Programs are linked with the 0.1 of 0.1.0: until there is a 1.0, 0.2 may differ.
SONAME  := libneap.so.$(basename $(shell sed -n 's/.*return "\(.*\)";.*/\1/p' src/base/version.c))

CFLAGS   = -O2 -g
WARN     = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
FLAGS    = -std=gnu11 -fvisibility=hidden -fPIC $(WARN) $(if $(WERROR),-Werror) $(CFLAGS) $(SAN)
SAN      = $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
HEADER   = src/neap.h
COMPILE  = $(CC) $(FLAGS) $(CPPFLAGS) -I$(patsubst %/,%,$(dir $(HEADER))) -Isrc -MMD -MP
# A sanitizer's own symbols may stay open in a library.
LIBFLAGS = -shared -Wl,-soname,$(SONAME) -Wl,-z,nodelete $(if $(SANITIZE),,-Wl,-z,defs)
# Packages: run and test install what is missing, the rest name it (tools/setup).
NEED     = $(if $(filter test test-interpreted tests asan tsan valgrind soak,$(MAKECMDGOALS)),test,run)
INSTALL  = $(if $(filter run test test-interpreted asan tsan valgrind soak,$(MAKECMDGOALS)),,--check)
# Asked for when a recipe runs, which is after the packages are there.
LUAJIT_CFLAGS = $(shell pkg-config --cflags luajit)
LUAJIT_LIBS   = $(shell pkg-config --libs luajit)
LIBEDIT_CFLAGS = $(shell pkg-config --cflags libedit)
LIBEDIT_LIBS   = $(shell pkg-config --libs libedit)
CMOCKA        = $(shell pkg-config --cflags --libs cmocka)

object    = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB_OBJS  = $(call object,$(wildcard src/base/*.c src/iobuf/*.c src/scan/*.c src/net/*.c)) \
            $(BUILD)/obj/abi_check.o
HOST_OBJS = $(call object,$(wildcard src/host/*.c)) $(BUILD)/obj/host_check.o
installed = $(subst /obj/,/obj/installed/,$(1))
# spec/c/x_test.c is a program; any other file there is linked into each of them.
TEST_C    = $(wildcard spec/c/*_test.c)
TEST_OBJS = $(call object,$(filter-out $(TEST_C),$(wildcard spec/c/*.c)))
TESTS     = $(patsubst spec/c/%.c,$(BUILD)/spec/%,$(TEST_C))
# What libFuzzer runs, and with it model_test.
MODEL     = $(call object,$(wildcard spec/fuzz/model*.c))
BENCHES   = $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))
C_FILES   = $(wildcard src/*.h src/*/*.[ch] spec/c/*.[ch] spec/fuzz/*.[ch] spec/shim/*.c bench/*.[ch] bench/preload/*.c examples/c/*.c tools/*.c)
LUA_DIRS  = $(wildcard lua examples spec tools bench)

# `make V=1` shows the commands.
say = $(if $(V),,@echo "  $(1)"; )

.PHONY: all setup run test test-interpreted tests asan tsan valgrind soak fuzz fuzz-http fuzzers modes coverage mutants lint style format layers abi bench bench-peers bench-check bench-check-micro bench-check-messages benches experiment prove install uninstall clean help force
.DELETE_ON_ERROR:
.SECONDARY:

all: $(HOST) $(BUILD)/libneap.so $(BUILD)/install/neap ## build ./neap and build/libneap.so (the default)

setup: ## install the packages that building and testing need
	@tools/setup test

run: $(HOST) ## run examples/$(EXAMPLE).lua: a page with what the runtime does (EXAMPLE=http_live)
	@$(HOST) examples/$(EXAMPLE).lua

test: all tests ## run the C tests, the specs and the check of the exports
	@BUILD=$(BUILD) NEAP=$(HOST) tools/test

test-interpreted: all ## the specs with the JIT compiler off
	@BUILD=$(BUILD) NEAP=$(HOST) BUSTED=--helper=spec/nojit.lua tools/test --lua

tests: $(TESTS) $(BUILD)/shim.so $(BUILD)/bad_link

asan: ## the same tests under AddressSanitizer and UBSan
	@$(MAKE) BUILD=build/asan SANITIZE=address,undefined CFLAGS='-O1 -g' test

# Without address randomisation, which it cannot stand on every kernel.
tsan: ## the tests of threads under ThreadSanitizer
	@$(MAKE) BUILD=build/tsan SANITIZE=thread CFLAGS='-O1 -g' build/tsan/spec/threads_test
	@setarch -R build/tsan/spec/threads_test

valgrind: ## the C tests under valgrind
	@$(MAKE) BUILD=build/valgrind CPPFLAGS=-DNEAP_VALGRIND tests
	@BUILD=build/valgrind WRAP='valgrind -q --leak-check=full --error-exitcode=99' tools/test --c

soak: all ## 1,000 connections to echo for 20 s, twice; five loads of HTTP (SOAK_S, SOAK_CONNECTIONS, SOAK_SEED)
	@ulimit -n "$$(ulimit -H -n)"; \
	  SOAK_S=$${SOAK_S:-20} SOAK_CONNECTIONS=$${SOAK_CONNECTIONS:-1000} \
	  NEAP=$(HOST) tools/test --lua spec/soak_spec.lua spec/http_soak_spec.lua

fuzz: fuzzers ## random operations of the buffers beside a model, by libFuzzer for FUZZ_S=60 seconds
	@tools/fuzz build/fuzz/fuzz/buffers spec/fuzz/corpus

fuzz-http: fuzzers ## random heads of HTTP, by libFuzzer for FUZZ_S=60 seconds
	@tools/fuzz build/fuzz/fuzz/http spec/fuzz/http -max_len=2048 -dict=spec/fuzz/http.dict

fuzzers: # in one go: both have objects that the other one has, too
	@$(MAKE) BUILD=build/fuzz CC=clang SANITIZE=address,undefined \
	  CFLAGS='-O1 -g -fsanitize=fuzzer-no-link' build/fuzz/fuzz/buffers build/fuzz/fuzz/http

# Each is a build of its own (src/base/mode.h). What it cannot pass by its nature is left out, and
# listed at the end.
modes: mode-poison mode-guard mode-collect mode-malloc test-interpreted mode-tiny ## the tests in builds harsher than a program needs

mode_flags        = BUILD=build/$* CPPFLAGS=-DNEAP_MODE_$(shell echo $* | tr a-z A-Z) $(mode_$*_flags)
mode_malloc_flags = SANITIZE=address,undefined CFLAGS='-O1 -g'
mode_tiny_flags   = HEADER=build/tiny/tiny/neap.h
mode-malloc: export LEAVE_OUT = neighbours
mode-tiny: export LEAVE_OUT = sizes
mode-collect: export LEAVE_OUT = pace
mode-collect: export DEADLINE_S = 300
mode-%:
	@$(MAKE) $(mode_flags) all tests
	@LIMIT=$${LIMIT:-1200} $(MAKE) $(mode_flags) test

# In about a minute: the C tests, and the specs of the buffers.
BUFFER_SPECS = allocator buffer bytes pool reader slice source_reader view walk
modes-quick: ## the buffers' tests alone, in the modes malloc and tiny
	@for mode in malloc tiny; do $(MAKE) quick-$$mode || exit; done
quick-malloc: export LEAVE_OUT = neighbours
quick-tiny: export LEAVE_OUT = sizes
quick-%:
	@$(MAKE) $(mode_flags) all tests
	@BUILD=build/$* tools/test --c
	@BUILD=build/$* NEAP=build/$*/neap tools/test --lua $(BUFFER_SPECS:%=spec/%_spec.lua)

coverage: ## which lines the tests run, and what is left
	@tools/coverage

mutants: ## break each rule of the buffers, and see that a test notices
	@luajit tools/mutants.lua

lint: style ## clang-format, luacheck, mandoc, and both compilers with warnings as errors
	@$(MAKE) BUILD=build/gcc CC=gcc WERROR=1 all tests benches
	@$(MAKE) BUILD=build/clang CC=clang WERROR=1 all tests benches

style: ## … without the compilers
	@tools/setup --check ci
	@clang-format --dry-run -Werror $(C_FILES)
	@luacheck -q $(LUA_DIRS)
	@mandoc -Tlint -Wwarning docs/neap.1

format: ## clang-format, in place
	@clang-format -i $(C_FILES)

layers: ## check who uses whom, and draw docs/layers.svg
	@luajit tools/layers.lua

abi: $(BUILD)/libneap.so ## check src/neap.h against the compiler and against the exports
	@luajit tools/exports.lua $(BUILD)/libneap.so

bench: all benches ## measure echo against plain C
	@bench/table echo

bench-peers: all benches ## and beside other servers, which it gets from Debian's packages
	@bench/peers/setup
	@bench/table echo --peers --syscalls --turns 40 --loads '64x64x1 64x16384x1 512x64x1 5000x64x1'
	@bench/table relay --peers --syscalls --turns 40
	@bench/table http --peers --syscalls --turns 40
	@bench/table files --peers --syscalls

bench-check: bench-check-micro bench-check-messages ## fail where an operation or a message takes 5 % more instructions

bench-check-micro: all benches
	@bench/micro --check

bench-check-messages: all benches
	@bench/instructions --check

benches: $(BENCHES) $(BUILD)/bench/seed.so

experiment: all ## forgotten and released buffers, bursts, slivers; draws docs/experiment-*.svg (45 s)
	@$(HOST) bench/experiment.lua --plots docs

prove: ## make test and make run in a fresh Debian 12 (as root)
	@tools/prove-in-chroot

install: $(BUILD)/libneap.so $(BUILD)/install/neap ## install to PREFIX=/usr/local, below DESTDIR if given
	@BUILD='$(BUILD)' SONAME='$(SONAME)' PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' tools/install

uninstall: ## remove what was installed there
	@SONAME='$(SONAME)' PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' tools/install --uninstall

clean: ## remove what was built
	rm -rf build neap

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 18

# --- files ---

# The second one is for bin/, beside lib/, and looks nowhere else.
$(BUILD)/install/neap: private RPATH = $$ORIGIN/../lib
$(HOST): $(HOST_OBJS)
$(BUILD)/install/neap: $(filter-out %/host_check.o,$(call installed,$(HOST_OBJS)))
$(HOST) $(BUILD)/install/neap: $(BUILD)/libneap.so
	@mkdir -p $(@D)
	$(call say,LD $@)$(CC) $(FLAGS) -o $@ $(filter %.o,$^) -Wl,-E -Wl,-rpath,'$(RPATH)' \
	  -L$(BUILD) -lneap $(LUAJIT_LIBS) $(LIBEDIT_LIBS) $(LDFLAGS)

$(BUILD)/libneap.so: $(LIB_OBJS)
	$(call say,LD $@)$(CC) $(FLAGS) $(LIBFLAGS) -o $@ $(LIB_OBJS) -lev -lm $(LDFLAGS)
	@ln -sf libneap.so $(BUILD)/$(SONAME)

$(BUILD)/spec/%: $(BUILD)/obj/spec/c/%.o $(TEST_OBJS) $(LIB_OBJS)
	@mkdir -p $(@D)
	$(call say,LD $@)$(CC) $(FLAGS) -o $@ $^ $(CMOCKA) -lev -lm -pthread $(LDFLAGS)

$(BUILD)/spec/model_test: $(MODEL)
$(BUILD)/fuzz/%: $(BUILD)/obj/spec/fuzz/%.o $(MODEL) $(LIB_OBJS)
	@mkdir -p $(@D)
	$(call say,LD $@)$(CC) $(FLAGS) -fsanitize=fuzzer -o $@ $^ -lev -lm $(LDFLAGS)

$(BUILD)/shim.so: spec/shim/shim.c $(BUILD)/flags
	$(call say,LD $@)$(CC) -std=gnu11 -O1 -g -fPIC -shared -w -o $@ $< -ldl

$(BUILD)/bad_link: spec/shim/bad_link.c $(BUILD)/flags
	$(call say,LD $@)$(CC) -std=gnu11 -O1 -g $(WARN) $(if $(WERROR),-Werror) -o $@ $<

$(BUILD)/overrun: $(BUILD)/obj/spec/shim/overrun.o $(LIB_OBJS)
	$(call say,LD $@)$(CC) $(FLAGS) -o $@ $^ -lev -lm $(LDFLAGS)

$(BUILD)/bench/%: $(BUILD)/obj/bench/%.o
	@mkdir -p $(@D)
	$(call say,LD $@)$(CC) $(FLAGS) -o $@ $^ -lev -lm -pthread $(LDFLAGS)

$(BUILD)/bench/seed.so: $(BUILD)/obj/bench/preload/seed.o
	@mkdir -p $(@D)
	$(call say,LD $@)$(CC) $(FLAGS) -shared -o $@ $^ -ldl $(LDFLAGS)

$(BUILD)/bench/micro_c: $(LIB_OBJS) # what it measures is partly hidden
$(BUILD)/bench/threads: $(LIB_OBJS)
$(BUILD)/bench/echo_uring: $(LIB_OBJS)

$(BUILD)/obj/src/host/%.o: private INCLUDES = $(LUAJIT_CFLAGS) $(LIBEDIT_CFLAGS)
$(BUILD)/obj/installed/%.o: private INCLUDES = $(LUAJIT_CFLAGS) $(LIBEDIT_CFLAGS) -DNEAP_INSTALLED
$(BUILD)/obj/installed/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC $<)$(COMPILE) $(INCLUDES) -c -o $@ $<
$(BUILD)/obj/src/base/header.o: $(HEADER) # embeds it
$(BUILD)/obj/src/base/header.o: private INCLUDES = -DNEAP_HEADER='"$(HEADER)"'
$(BUILD)/obj/src/host/header.o $(BUILD)/obj/installed/src/host/header.o: src/host/host.h
$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC $<)$(COMPILE) $(INCLUDES) -c -o $@ $<

# LuaJIT's answers about src/neap.h, compiled into the library as assertions; and about
# src/host/host.h, into the command.
$(BUILD)/abi_check.c: $(HEADER) tools/abi_check.lua $(BUILD)/flags
	$(call say,ABI $<)luajit tools/abi_check.lua $(HEADER) > $@
# What the contract says in the tiny mode.
$(BUILD)/tiny/neap.h: src/neap.h tools/tiny
	@mkdir -p $(@D)
	$(call say,TINY $<)tools/tiny $< > $@
$(BUILD)/obj/abi_check.o: $(BUILD)/abi_check.c
	@mkdir -p $(@D)
	$(call say,CC $<)$(COMPILE) -c -o $@ $<
$(BUILD)/host_check.c: src/host/host.h tools/abi_check.lua $(BUILD)/flags
	$(call say,ABI $<)luajit tools/abi_check.lua src/host/host.h > $@
$(BUILD)/obj/host_check.o: $(BUILD)/host_check.c
	@mkdir -p $(@D)
	$(call say,CC $<)$(COMPILE) -Isrc/host -c -o $@ $<

# Other flags than the last time: all is compiled again.
$(BUILD)/flags: force | $(BUILD)/packages.$(NEED) $(HEADER)
	@echo '$(COMPILE) $(LIBFLAGS) $(LDFLAGS)' | cmp -s - $@ || echo '$(COMPILE) $(LIBFLAGS) $(LDFLAGS)' > $@

# Before anything is compiled.
$(BUILD)/packages.$(NEED):
	@tools/setup $(INSTALL) $(NEED)
	@mkdir -p $(@D) && touch $@

-include $(shell find $(BUILD)/obj -name "*.d" 2>/dev/null)
