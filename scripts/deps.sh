#!/usr/bin/env bash
# Makes sure that what the build (`deps.sh build`) or the tests (`deps.sh test`) need is on this machine.
#
# On Debian and Ubuntu what is missing is installed with apt-get, after saying what and why. Elsewhere, or
# without the right to install, a message lists what to install, and the exit status is 1. Nothing is installed
# when nothing is missing. A redis-server that this script installs is neither started nor enabled: the tests
# start their own on free ports, and port 6379 belongs to Terrace.
set -euo pipefail

purpose=${1:-build}
PATH=$PATH:${HOME:-/root}/.cargo/bin

missing=()
need() { # need <package> <why>
    missing+=("$1")
    echo "missing: $1 ($2)"
}

# bindgen needs the library and the compiler's own headers, such as stddef.h, that belong to it.
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    compgen -G '/usr/lib*/*/libclang[-.][0-9s]*' >/dev/null || compgen -G '/usr/lib*/llvm*/lib/libclang[-.][0-9s]*' >/dev/null || return 1
    compgen -G '/usr/lib*/llvm*/lib/clang/*/include/stddef.h' >/dev/null || compgen -G '/usr/lib*/clang/*/include/stddef.h' >/dev/null
}

command -v c++ >/dev/null || need g++ "compiles RocksDB and jemalloc, which are C++ and C"
command -v make >/dev/null || need make "builds jemalloc"
have_libclang || need libclang-dev "bindgen reads RocksDB's headers with it, in the build"
command -v ccache >/dev/null || need ccache "keeps RocksDB's object files, so that a rebuild takes a minute and not half an hour"
if [ "$purpose" = test ]; then
    command -v redis-server >/dev/null || need redis-server "the differential tests and the comparison run beside it; it will not be started as a service"
    { command -v redis-cli && command -v redis-benchmark; } >/dev/null || need redis-tools "redis-cli and redis-benchmark"
    command -v openssl >/dev/null || need openssl "makes the certificates of the TLS tests"
    command -v python3 >/dev/null || need python3 "runs the redis-py client tests"
    python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv "keeps redis-py apart from the system's Python"
fi

# The packages' own scripts start services; a policy that says 101 ("not allowed") holds them back.
install_quietly() {
    local policy=/usr/sbin/policy-rc.d ours=no status=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        ours=yes
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y --no-install-recommends "$@" </dev/null || status=$?
    [ "$ours" = yes ] && "${as_root[@]}" rm -f "$policy"
    case " $* " in *" redis-server "*)
        if [ -d /run/systemd/system ]; then
            "${as_root[@]}" systemctl disable --now redis-server >/dev/null 2>&1 || true
        elif command -v update-rc.d >/dev/null; then
            "${as_root[@]}" update-rc.d redis-server disable >/dev/null 2>&1 || true
        fi ;;
    esac
    return "$status"
}

cannot_install() {
    echo
    echo "$1 Please install these yourself, then try again:"
    echo "    ${missing[*]}"
    echo "(names of Debian 12 packages; on other systems: a C++ compiler, make, libclang 14 or newer with its"
    echo "headers, ccache if you like, and for the tests redis-server 7.0, its tools, and python3 with venv)"
    exit 1
}

if [ ${#missing[@]} -gt 0 ]; then
    if [ ! -e /etc/debian_version ] || ! command -v apt-get >/dev/null; then
        cannot_install "This is not a Debian or Ubuntu system."
    fi
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || cannot_install "Installing takes root, and there is no sudo here."
        if [ -t 0 ]; then as_root=(sudo); else as_root=(sudo -n); fi
        "${as_root[@]}" true || cannot_install "Installing takes root, and sudo refused."
    fi
    echo "installing with apt-get: ${missing[*]}"
    "${as_root[@]}" apt-get update -q </dev/null || echo "apt-get update failed; trying with the package lists at hand"
    install_quietly "${missing[@]}" || cannot_install "apt-get could not install them."
fi

if ! command -v cargo >/dev/null; then
    cat <<'MESSAGE'
There is no Rust toolchain (cargo) here. Install one, 1.92 or newer, with rustup (https://rustup.rs):
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh
Debian 12's own rustc package (1.63) is too old.
MESSAGE
    exit 1
fi
version=$(rustc --version | sed 's/^rustc \([0-9]*\)\.\([0-9]*\).*/\1 \2/')
read -r major minor <<<"$version"
if [ "$major" -eq 1 ] && [ "$minor" -lt 92 ]; then
    echo "This Rust toolchain is $(rustc --version); Terrace needs 1.92 or newer: rustup update stable"
    exit 1
fi
