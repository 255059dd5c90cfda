# Sluice. `make` tells what there is.

.DEFAULT_GOAL := help
.PHONY: help setup bpf build demo test fair check bench fuzz install uninstall clean

# What keeps a daemon from panicking: in a test a panic is a red test.
IN_TESTS := expect_used indexing_slicing panic string_slice unwrap_used

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

# Where `make install` puts what is not a program. The shells of Debian look there: bash, zsh, fish.
DOC := /usr/share/doc/sluice
DOCUMENTS := $(wildcard *.md docs/*.md benches/*.md config/node/*.json examples/*/*.* examples/laptop/policies/*)
MAN1 := /usr/share/man/man1
MAN8 := /usr/share/man/man8
COMPLETIONS := /usr/share/bash-completion/completions/sluice /usr/share/zsh/vendor-completions/_sluice \
	/usr/share/fish/vendor_completions.d/sluice.fish

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

fair: build ## One pod takes all it can get: what that costs another one, as a table (root)
	@. .ci/env && cargo build --release --quiet -p e2e --bin fair
	@target/release/fair $(ATTACK)

check: setup ## Formatting and lints, warnings are errors
	@. .ci/env && cargo fmt --all --check
	@. .ci/env && cargo fmt --check --manifest-path redirect-bpf/prog/Cargo.toml
	@. .ci/env && cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	@. .ci/env && cargo clippy --workspace -- -D warnings
	@. .ci/env && cargo clippy --workspace --tests --benches -- -D warnings $(addprefix -A clippy::,$(IN_TESTS))
	@. .ci/env && cargo check --manifest-path tests/fuzz/Cargo.toml
	@. .ci/env && cargo clippy --manifest-path redirect-bpf/prog/Cargo.toml -- -D warnings
	@. .ci/env && cargo clippy --manifest-path redirect-bpf/prog/Cargo.toml --all-targets --features model -- -D warnings $(addprefix -A clippy::,$(IN_TESTS))

bench: setup ## Criterion benches (see benches/README.md)
	@. .ci/env && cargo bench -p bench-suite

fuzz: setup ## A minute of fuzzing for each target, from the committed seeds
	@. .ci/env && tests/fuzz/run

install: build ## Installs to /usr: the programs, the kernel's, man pages, completions, a systemd unit, documentation (DESTDIR)
	install -D -m 755 -t $(DESTDIR)/usr/bin target/release/sluiced target/release/sluice
	install -D -m 644 -t $(DESTDIR)/usr/lib/sluice target/bpf/redirect.o
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/system examples/node/sluiced.service
	install -d -m 755 $(DESTDIR)/etc/sluice/policies $(addprefix $(DESTDIR),$(MAN1) $(MAN8) $(dir $(COMPLETIONS)))
	target/release/sluice man --dir $(DESTDIR)$(MAN1)
	target/release/sluiced --man >$(DESTDIR)$(MAN8)/sluiced.8
	target/release/sluice completions bash >$(DESTDIR)$(word 1,$(COMPLETIONS))
	target/release/sluice completions zsh >$(DESTDIR)$(word 2,$(COMPLETIONS))
	target/release/sluice completions fish >$(DESTDIR)$(word 3,$(COMPLETIONS))
	for file in $(DOCUMENTS); do install -D -m 644 $$file $(DESTDIR)$(DOC)/$$file; done

uninstall: ## Removes what `make install` put there; /etc/sluice and /var/lib/sluice stay
	@test -n "$(DESTDIR)" -o ! -e /sys/fs/bpf/sluice || { echo "make uninstall: the kernel still enforces; end sluiced and run \`sluice uninstall\` first" >&2; exit 1; }
	rm -f $(addprefix $(DESTDIR)/usr/,bin/sluiced bin/sluice lib/systemd/system/sluiced.service)
	rm -f $(DESTDIR)$(MAN1)/sluice.1 $(DESTDIR)$(MAN1)/sluice-*.1 $(DESTDIR)$(MAN8)/sluiced.8 $(addprefix $(DESTDIR),$(COMPLETIONS))
	rm -rf $(DESTDIR)/usr/lib/sluice $(DESTDIR)$(DOC)

clean: ## Removes what was built
	rm -rf target redirect-bpf/prog/target tests/fuzz/target
