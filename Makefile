# Everything a developer types. Only the release profile is used, so that RocksDB's C++ is compiled once.

# A folder that does not exist costs nothing in PATH; with ccache installed, RocksDB's object files come from its
# cache. CC and CXX stay unset: cargo's fingerprints depend on them.
export PATH := /usr/lib/ccache:$(PATH):$(HOME)/.cargo/bin
export CARGO_TARGET_DIR ?= target

TERRACE = $(CARGO_TARGET_DIR)/release/terrace
ARGS ?=

.PHONY: run build test soak compare fuzz fmt lint clean

run: build                ## the server on 127.0.0.1:6379, data under ./data; ARGS="--port 7000" adds directives
	@mkdir -p data
	exec $(TERRACE) conf/terrace.conf $(ARGS)

build:                    ## the release binary, after installing what the build needs
	@bash scripts/deps.sh build
	cargo build --release

test:                     ## every test
	@bash scripts/deps.sh test
	@bash scripts/test.sh

soak:                     ## twenty minutes of everything at once, which ends with exact counts and no growth
	@bash scripts/deps.sh test
	TERRACE_SOAK_SECONDS=1200 cargo test --release --test soak -- --nocapture

compare:                  ## the same load on Terrace and redis-server, side by side
	@bash scripts/deps.sh test
	cargo build --release
	cargo bench --bench compare -- $(ARGS)

fuzz:                     ## every fuzz target for 20 s each; ARGS="60 parser" names seconds and targets
	bash scripts/fuzz.sh $(ARGS)

fmt:
	cargo fmt

lint:
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings

clean:                    ## removes the build, not the data
	cargo clean
