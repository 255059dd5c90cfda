# Sluice. `make` tells what there is.

.DEFAULT_GOAL := help
.PHONY: help setup bpf build demo test check bench fuzz install clean

# What keeps a daemon from panicking: in a test a panic is a red test.
IN_TESTS := expect_used indexing_slicing panic string_slice unwrap_used

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: ## Installs what is missing: Rust, the BPF toolchain, packages that tests use (Debian, root)
	@.ci/setup

bpf: setup ## Builds the kernel programs: target/bpf/redirect.o
	@redirect-bpf/build

build: bpf ## Builds the daemon and the command line: target/release/sluiced, target/release/sluice
	@. .ci/env && cargo build --release -p sluiced -p sluice

demo: build ## Plays the Star Wars walk on real eBPF (root; KEEP=1 leaves the pods up)
	@. .ci/env && cargo build --release --quiet -p e2e --bin demo
	@target/release/demo $(if $(KEEP),--keep)

test: bpf ## Every test, those that need root included
	@test "$$(id -u)" = 0 || { echo "make test: needs root for the tests in network namespaces (cargo test alone does not)" >&2; exit 1; }
	@. .ci/env && cargo test --workspace --no-fail-fast -- --include-ignored
	@. .ci/env && cargo test --manifest-path redirect-bpf/prog/Cargo.toml --lib

check: setup ## Formatting and lints, warnings are errors
	@. .ci/env && cargo fmt --all --check
	@. .ci/env && cargo clippy --workspace -- -D warnings
	@. .ci/env && cargo clippy --workspace --tests --benches -- -D warnings $(addprefix -A clippy::,$(IN_TESTS))

bench: setup ## Criterion benches (see benches/README.md)
	@. .ci/env && cargo bench -p bench-suite

fuzz: setup ## A minute of fuzzing for each target, from the committed seeds
	@. .ci/env && tests/fuzz/run

install: build ## Installs to /usr: sluiced, sluice, the kernel programs, the man page, completions
	install -D -m 755 -t $(DESTDIR)/usr/bin target/release/sluiced target/release/sluice
	install -D -m 644 target/bpf/redirect.o $(DESTDIR)/usr/lib/sluice/redirect.o

clean: ## Removes what was built
	rm -rf target redirect-bpf/prog/target tests/fuzz/target
