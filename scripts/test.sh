#!/usr/bin/env bash
# Every test of the project, in order: cargo's, clients' and frameworks' in Python and Node, short fuzz runs. Goes on after a failure,
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

# The packages of the Python tests live in a folder of their own, and those of the Node tests in another; a machine that
# cannot fetch them skips these tests and says so. What is there is fetched again when the list has changed.
python_packages() { # python_packages <modules that are needed>; leaves their folder in $venv
    venv=${XDG_CACHE_HOME:-$HOME/.cache}/terrace/venv
    local list=tests/clients/requirements.txt
    if ! cmp -s "$list" "$venv/requirements.txt"; then
        python3 -m venv "$venv" || { echo "skipped: python3 cannot make a venv here"; return 77; }
        "$venv/bin/pip" install --quiet -r "$list" && cp "$list" "$venv/requirements.txt"
    fi
    "$venv/bin/python" -c "import $1" || { echo "skipped: pip cannot fetch the packages of $list here"; return 77; }
}

python_run() { # python_run <argument...>
    PYTHONDONTWRITEBYTECODE=1 TERRACE_BIN=${CARGO_TARGET_DIR:-target}/release/terrace "$venv/bin/python" "$@"
}

python_test() { # python_test <file> <modules that it needs>
    python_packages "$2" || return
    python_run -m unittest -v "$1"
}

# redis-py's tests come with its source, of the version that is installed.
redis_py_suite() {
    python_packages "redis, pytest, pytest_asyncio, pytest_timeout" || return
    local version archive
    version=$("$venv/bin/python" -c 'import redis; print(redis.__version__)')
    archive=$venv/redis-$version.tar.gz
    if ! [ -f "$archive" ]; then
        "$venv/bin/pip" download --quiet --no-deps --no-binary redis --dest "$venv" "redis==$version" \
            || { echo "skipped: pip cannot fetch the source of redis-py here"; return 77; }
    fi
    python_run tests/clients/redis_py_suite.py "$archive"
}

node_test() { # node_test <file>
    command -v node >/dev/null || { echo "skipped: node is not installed"; return 77; }
    local dir=${XDG_CACHE_HOME:-$HOME/.cache}/terrace/node list=tests/clients/package.json
    if ! cmp -s "$list" "$dir/package.json" || ! [ -f "$dir/complete" ]; then
        command -v npm >/dev/null || { echo "skipped: npm is not installed"; return 77; }
        rm -rf "$dir" && mkdir -p "$dir" && cp "$list" "$dir/"
        npm install --silent --no-fund --no-audit --prefix "$dir" || { echo "skipped: npm cannot fetch the packages of $list here"; return 77; }
        touch "$dir/complete"
    fi
    NODE_PATH=$dir/node_modules TERRACE_BIN=${CARGO_TARGET_DIR:-target}/release/terrace node "$1"
}

fuzz() {
    [ -f scripts/fuzz.sh ] || { echo "skipped: no fuzz targets yet"; return 77; }
    bash scripts/fuzz.sh
}

step "build" cargo build --release
step "cargo test" cargo test --release --no-fail-fast
step "redis-py" python_test tests/clients/test_redis_py.py redis
step "redis-py's own suite" redis_py_suite
step "Python frameworks" python_test tests/clients/test_frameworks.py "rq, celery, dramatiq, dogpile.cache, django, flask_session, pottery"
step "ioredis" node_test tests/clients/test_ioredis.js
step "Node frameworks" node_test tests/clients/test_frameworks.js
step "fuzz, short runs" fuzz

echo "== summary"
for i in "${!names[@]}"; do
    printf '%-20s %-8s %5d s\n' "${names[$i]}" "${results[$i]}" "${times[$i]}"
done
exit "$failed"
