#!/bin/sh
# Brings .venv to the locked packages: `infra/setup.sh run` for running, `infra/setup.sh dev` for testing too.
# Does nothing when the lock has not changed. Every package is checked against its digest.
set -eu

wanted=$1
cd "$(dirname "$0")/.."
stamp=.venv/.installed

fail() {
    echo "$1" >&2
    exit 1
}

digest() {
    "$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
}

is_311() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3 python; do
        if is_311 "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

make_environment() {
    python=$(find_python) ||
        fail "There is no Python 3.11 on PATH; install it (Debian: apt install python3.11 python3.11-venv), or name one: make up PYTHON=/path/to/python3.11"
    echo "  environment  .venv is made with $(command -v "$python")"
    rm -rf .venv
    "$python" -m venv .venv ||
        fail "This Python cannot make a virtual environment; install its venv part (Debian: apt install python3.11-venv), then try again"
    python=.venv/bin/python
}

# The installer's last word on how far it is, without its list of packages.
stage() {
    grep -v '^ [+~-] ' "$log" | tail -n 1
}

install() {
    began=$(date +%s)
    if ! .venv/bin/uv --version 2>/dev/null | grep -q "^uv $(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements/bootstrap.txt)\b"; then
        echo "  installer    uv, by its digest"
        "$python" -m pip install --quiet --require-hashes -r requirements/bootstrap.txt ||
            fail "The installer could not be fetched (is the package index reachable?); try again"
    fi
    # uv does not read pip's settings: what they say of where packages come from holds here too.
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
    UV_DEFAULT_INDEX=${PIP_INDEX_URL:-$UV_DEFAULT_INDEX}
    if [ -n "$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi
    if [ -n "${PIP_FIND_LINKS:-}" ] && [ -z "${UV_FIND_LINKS:-}" ]; then export UV_FIND_LINKS="$PIP_FIND_LINKS"; fi
    echo "  packages     $(grep -c '^[a-zA-Z0-9].*==' "$lock") by $lock"
    log=.venv/install.log
    .venv/bin/uv pip sync --python .venv/bin/python --require-hashes "$lock" >"$log" 2>&1 &
    installer=$!
    trap 'kill "$installer" 2>/dev/null || true' EXIT
    while kill -0 "$installer" 2>/dev/null; do
        sleep 1
        elapsed=$(($(date +%s) - began))
        if [ $((elapsed % 5)) = 0 ]; then echo "  packages     $elapsed s  $(stage)"; fi
    done
    wait "$installer" || {
        tail -n 5 "$log" >&2
        fail "The packages could not be installed (is the package index reachable?); the whole log is $log; try again"
    }
    trap - EXIT
    echo "  packages     in place after $(($(date +%s) - began)) s"
}

echo "[0/3] Python environment"
if is_311 .venv/bin/python; then python=.venv/bin/python; else make_environment; fi

# An environment for testing holds everything that running needs: it is never taken back to less.
installed=$(cat "$stamp" 2>/dev/null || true)
case $installed in "dev "*) wanted=dev ;; esac
lock=requirements/$wanted.txt
if [ "$installed" = "$wanted $(digest "$lock")" ]; then
    echo "  packages     as locked"
else
    rm -f "$stamp"
    install
    echo "$wanted $(digest "$lock")" >"$stamp"
fi
