# The thin front of the CMake build. `make help` lists the targets.
BUILD ?= build
JOBS  ?= $(shell nproc)
CMAKE_FLAGS ?=

.PHONY: all help deps configure install uninstall deb demo test test-long asan ubsan tsan chaos fuzz cross format tidy clean

all: configure  ## build everything into build/bin
	@cmake --build $(BUILD) -j $(JOBS)

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/'

deps:  ## install the Debian packages that cinch needs
	@tools/deps.sh

configure: deps
	@[ -f $(BUILD)/CMakeCache.txt ] || cmake -S . -B $(BUILD) $(CMAKE_FLAGS)

# Installs what `make` built and builds nothing itself; `sudo make install` leaves no file of root's in the tree.
install:  ## put programs, pages, manuals and samples under prefix= (/usr/local), DESTDIR= before it
	@[ -x $(BUILD)/bin/cinch ] || { echo "install: nothing is built in $(BUILD) yet; run: make"; exit 1; }
	@DESTDIR="$(DESTDIR)" cmake --install $(BUILD) $(if $(prefix),--prefix "$(prefix)") >/dev/null
	@rm -f $(BUILD)/install_manifest*.txt

uninstall:  ## remove what install put there; give it the same prefix= and DESTDIR=
	@DESTDIR="$(DESTDIR)" packaging/uninstall.sh $(BUILD) $(if $(prefix),"$(prefix)")

deb: all  ## Debian packages of the build in dist/
	@packaging/deb.sh $(BUILD) dist

demo: all  ## the real sample through separate processes to int8 artifacts, then the report
	@tools/demo.sh $(BUILD)

test: all  ## every test; the last line counts them
	@tools/test.sh $(BUILD)

test-long: test chaos fuzz  ## what takes too long for every day: the tests, 20 minutes of faults, every fuzzer for 10 minutes

asan:  ## build and test under AddressSanitizer
	@$(MAKE) --no-print-directory test BUILD=$(BUILD)-asan CMAKE_FLAGS="-DCINCH_SANITIZE=address -DCINCH_GPU=off"
ubsan:  ## ... UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory test BUILD=$(BUILD)-ubsan CMAKE_FLAGS="-DCINCH_SANITIZE=undefined -DCINCH_GPU=off"
tsan:  ## ... ThreadSanitizer
	@TSAN_OPTIONS="suppressions=$(CURDIR)/tools/tsan.supp $$TSAN_OPTIONS" \
		$(MAKE) --no-print-directory test BUILD=$(BUILD)-tsan CMAKE_FLAGS="-DCINCH_SANITIZE=thread -DCINCH_GPU=off"

chaos: all  ## 20 minutes of faults, a coordinator away for 10, 10,000 reconnects (SECONDS=, AWAY=, RECONNECTS=)
	@SECONDS_OF_FAULTS=$(or $(SECONDS),1200) AWAY=$(or $(AWAY),600) RECONNECTS=$(or $(RECONNECTS),10000) tools/chaos.sh $(BUILD)

fuzz:  ## every fuzzer under clang and AddressSanitizer for 600 s (SECONDS=, ONLY="yaml keys")
	@tools/deps.sh tools/deps-fuzz.txt
	@[ -f $(BUILD)-fuzz/CMakeCache.txt ] || cmake -S . -B $(BUILD)-fuzz -DCMAKE_C_COMPILER=clang -DCINCH_FUZZ=ON \
		-DCINCH_GPU=off -DCINCH_TESTS=off -DCINCH_BENCH=off
	@cmake --build $(BUILD)-fuzz -j $(JOBS) --target fuzzers
	@tools/fuzz.sh $(BUILD)-fuzz $(or $(SECONDS),600) $(ONLY)

ARCH ?= aarch64
CROSS = $(BUILD)-$(ARCH)
cross: deps  ## everything for AArch64 into build-aarch64/bin, and its unit tests under qemu-user (ARCH=aarch64)
	@[ "$(ARCH)" = aarch64 ] || { echo "make cross: ARCH=$(ARCH) is unknown; there is aarch64"; exit 2; }
	@tools/deps.sh tools/deps-cross.txt
	@tools/sysroot.sh arm64 $(ARCH)-linux-gnu $(CROSS)/sysroot
	@cmake -S . -B $(CROSS) --toolchain $(CURDIR)/cmake/cross-$(ARCH).cmake -DCINCH_GPU=off \
		-DCINCH_SYSROOT=$(abspath $(CROSS))/sysroot/root $(CMAKE_FLAGS)
	@cmake --build $(CROSS) -j $(JOBS)
	@tools/test.sh $(CROSS) -L unit

format:  ## clang-format the tree in place
	@git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

tidy: configure  ## clang-tidy over the C files
	@git ls-files '*.c' | grep -v '^tests/' | xargs clang-tidy -p $(BUILD) --quiet

clean:  ## remove the build folders
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-ubsan $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-aarch64
