# The one list of commands. Everything builds with the dev profile and the default features, so that no step builds again what
# another has built; only `bench` needs the release profile.

SHELL := /bin/bash
CARGO ?= cargo
BINARY := target/debug/pillarbox

.PHONY: help run build test unit check fmt clippy deny tidy tested bench e2e interop fuzz-smoke docs tools deb

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: build ## start a relay with the built-in defaults, data in ./data
	$(BINARY) serve

# The dev profile: it is there after half the time, and `make test` uses it too. Hashing and SQLite are optimised in it as well.
build: ## build the binary
	$(CARGO) build --locked -p pillarbox

# Builds what `unit` builds, the binary among it: other flags would build half of the tree again with other features.
tested:
	$(CARGO) test --locked --workspace --no-run
	@test -x $(BINARY) || $(CARGO) build --locked -p pillarbox

test: tools unit interop e2e ## everything: unit and story tests, then real clients and servers, then end to end

# Stories that are told once more with PostgreSQL below; the store's own promises, and what several nodes do, are tested on it anyway.
ON_POSTGRES := stories access audit batches dkim_signs http_to_capture idempotency incidents live_events operations \
  operator_hold_release patterns requires_tls restart_keeps_queue returned_mail route_care route_forecast search sendmail \
  smtp_tests smtp_to_sink streams support_bundle suppressions tlsrpt webhooks

# Many of them wait for something: more at once than there are processors.
unit: export RUST_TEST_THREADS ?= 4
unit: ## all tests of the workspace, and stories on the other engine
	$(CARGO) test --locked --workspace
	CARGO="$(CARGO)" crates/testkit/on-postgres $(ON_POSTGRES)

check: fmt clippy deny tidy unit ## what a change has to pass before it is proposed

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# Advisories need the RustSec database from the network and are looked at when dependencies change.
deny:
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check licenses bans sources; \
	else printf '\n%s\n%s\n\n' '*** licences, bans and sources were NOT checked: cargo-deny is missing ***' \
	  '*** install it with: cargo install --locked cargo-deny ***' >&2; fi

tidy: ## import table, file sizes, RFC list, clocks, ports
	$(CARGO) test --locked -p pillarbox-testkit --test tidy

bench: tools ## beside Postfix, in one run (needs root); FULL=1 queues a million, PAGES=1 times pages and searches with a million stored
	$(CARGO) build --locked --release -p pillarbox
	bench/run.py $(BENCH_ARGS)
	if [ -n "$(PAGES)" ]; then bench/pages.py; fi

e2e: tested tools ## the tour of the README; then kill -9, SIGTERM, power cuts, full disks (root)
	interop/run test_readme
	interop/run test_loss

interop: tested tools ## real clients and servers (needs root)
	interop/run

deb: ## a Debian package of the release build, in target/debian (needs cargo-deb)
	@command -v cargo-deb >/dev/null || { echo 'cargo-deb is missing: cargo install --locked cargo-deb' >&2; exit 1; }
	$(CARGO) build --locked --release -p pillarbox
	rm -rf target/deb && mkdir -p target/deb/man
	target/release/pillarbox man target/deb/man
	target/release/pillarbox completions bash > target/deb/pillarbox.bash
	target/release/pillarbox completions zsh > target/deb/_pillarbox
	target/release/pillarbox completions fish > target/deb/pillarbox.fish
	$(CARGO) deb --locked --no-build -p pillarbox

fuzz-smoke: ## each fuzz target for some seconds
	fuzz/smoke.sh

docs: build ## the reference pages that the binary writes, and the API documentation
	@mkdir -p docs/manual
	$(BINARY) config reference > docs/manual/configuration.md
	$(BINARY) man --markdown > docs/manual/cli.md
	$(CARGO) doc --locked --workspace --no-deps

tools:
	interop/install
