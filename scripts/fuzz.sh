#!/bin/sh
# Runs every fuzz target for a while: scripts/fuzz.sh [seconds each, default 20] [target ...]
# Fails if one crashes; the input that did it is then in fuzz/artifacts/. What earlier runs found is used again.
set -eu

cd "$(dirname "$0")/.."
seconds=${1:-20}
[ $# -eq 0 ] || shift

cache=$HOME/.cache/terrace
# Sanitizers are for the compiler's nightly builds only, unless it is told that one knows.
export RUSTC_BOOTSTRAP=1
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

if ! command -v cargo-fuzz >/dev/null; then
    echo "fuzz: cargo-fuzz is missing, installing it"
    cargo install --locked cargo-fuzz
fi

targets=${*:-$(cargo fuzz list)}
failed=
for target in $targets; do
    corpus=$cache/fuzz-corpus/$target
    mkdir -p "$corpus"
    echo "fuzz: $target for $seconds s"
    # The Lua state of a thread lives as long as the thread, and is no leak.
    leaks=1
    [ "$target" != lua_values ] || leaks=0
    cargo fuzz run --sanitizer address --target-dir "$cache/fuzz-target" "$target" "$corpus" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -verbosity=0 -detect_leaks=$leaks ||
        failed="$failed $target"
done

if [ -n "$failed" ]; then
    echo "fuzz: crashed:$failed" >&2
    exit 1
fi
echo "fuzz: no crashes"
