#!/usr/bin/env bash
# Every test of the project, in order: cargo's, the Python client's, short fuzz runs. Goes on after a failure,
# ends with a summary, and fails if any step failed.
set -uo pipefail
cd "$(dirname "$0")/.."

names=() results=() times=() failed=0
step() { # step <name> <command...>; a command that exits with 77 was skipped
    local name=$1 start=$SECONDS status=0
    shift
    echo "== $name"
    "$@" </dev/null || status=$?
    names+=("$name") times+=($((SECONDS - start)))
    case $status in
    0) results+=("ok") ;;
    77) results+=("SKIPPED") ;;
    *) results+=("FAILED") failed=1 ;;
    esac
}

# redis-py lives in a folder of its own; a machine that cannot fetch it skips these tests and says so.
python_clients() {
    local venv=${XDG_CACHE_HOME:-$HOME/.cache}/terrace/venv
    if ! "$venv/bin/python" -c 'import redis' 2>/dev/null; then
        python3 -m venv "$venv" || { echo "skipped: python3 cannot make a venv here"; return 77; }
        "$venv/bin/pip" install --quiet 'redis>=5,<8' || { echo "skipped: pip cannot fetch redis-py here"; return 77; }
    fi
    PYTHONDONTWRITEBYTECODE=1 TERRACE_BIN=${CARGO_TARGET_DIR:-target}/release/terrace "$venv/bin/python" -m unittest -v tests/clients/test_redis_py.py
}

# ioredis likewise.
node_clients() {
    command -v node >/dev/null || { echo "skipped: node is not installed"; return 77; }
    local dir=${XDG_CACHE_HOME:-$HOME/.cache}/terrace/node
    if ! [ -d "$dir/node_modules/ioredis" ]; then
        npm install --silent --no-fund --prefix "$dir" ioredis@5 || { echo "skipped: npm cannot fetch ioredis here"; return 77; }
    fi
    NODE_PATH=$dir/node_modules TERRACE_BIN=${CARGO_TARGET_DIR:-target}/release/terrace node tests/clients/test_ioredis.js
}

fuzz() {
    [ -f scripts/fuzz.sh ] || { echo "skipped: no fuzz targets yet"; return 77; }
    bash scripts/fuzz.sh
}

step "build" cargo build --release
step "cargo test" cargo test --release --no-fail-fast
step "redis-py" python_clients
step "ioredis" node_clients
step "fuzz, short runs" fuzz

echo "== summary"
for i in "${!names[@]}"; do
    printf '%-20s %-8s %5d s\n' "${names[$i]}" "${results[$i]}" "${times[$i]}"
done
exit "$failed"
