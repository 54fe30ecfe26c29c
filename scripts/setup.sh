#!/usr/bin/env bash
# Make .venv as constraints.txt and pyproject.toml say. Called by `make setup` and by every target that needs Python.
#
#   nothing changed           -> returns at once
#   pyproject.toml changed    -> installs into the same .venv
#   constraints.txt changed, another Python, a moved checkout, an interrupted or damaged .venv -> builds .venv anew
#     (never an upgrade in place: MuJoCo 3.x -> 4 leaves a package that does not import)
#
# Settings (environment): PYTHON=/path/to/python3.x   TORCH_INDEX_URL=address of an index with CPU builds of torch
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
readonly venv=.venv stamp=.venv/.cadenza-setup log_dir=.make log=.make/setup.log
readonly oldest_minor=11 # Python 3.11

bold='' red='' plain=''
[ ! -t 2 ] || bold=$'\033[1m' red=$'\033[1;31m' plain=$'\033[0m'

say() { printf '%s\n' "$bold$*$plain"; }

fail() { # fail TITLE ADVICE-LINE...
    printf '\n%s\n' "${red}error: $1$plain" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

# True where $1 is a Python that runs and is new enough (a pyenv shim may exist and yet not run).
new_enough() {
    "$1" -c "import sys; sys.exit(sys.version_info < (3, $oldest_minor))" >/dev/null 2>&1
}

# The interpreter behind $1: in an activated .venv `python3` is the very one that is about to be replaced.
base_of() {
    "$1" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'
}

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.$oldest_minor or newer that runs."
        base_of "$PYTHON"
        return
    fi
    for candidate in python3 python3.12 python3.13 python3.11 python3.14 python; do
        if new_enough "$candidate"; then
            base_of "$candidate"
            return
        fi
    done
    fail "Cadenza needs Python 3.$oldest_minor or newer; python3 here: $(python3 --version 2>/dev/null || echo none)." \
        "Debian 12+, Ubuntu 24.04+:  sudo apt-get install python3 python3-venv" \
        "Ubuntu 22.04:               sudo apt-get install python3.11 python3.11-venv" \
        "or name one:                PYTHON=/path/to/python3.12 make setup"
}

require_venv_module() { # require_venv_module PYTHON
    local version
    "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 && return
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$1 cannot make virtual environments: its venv module is missing." \
        "Debian, Ubuntu:  sudo apt-get install python3-venv" \
        "if that is not enough:  sudo apt-get install python${version}-venv" \
        "then again:  make setup"
}

# What a finished .venv was made from: the pins and the place (a venv does not survive a move), then the project file.
fingerprint() {
    echo "place $root"
    echo "pins $(cksum <constraints.txt)"
    echo "project $(cksum <pyproject.toml)"
}

# Runs in well under .1 s: the interpreter starts, and the packages that are needed first can be found.
venv_works() {
    "$venv/bin/python" - >/dev/null 2>&1 <<'PYTHON'
import sys
from importlib.util import find_spec

names = "pip torch mujoco gymnasium stable_baselines3 cv2 tyro rich onnxruntime pytest ruff mypy cadenza.scripts"
sys.exit(not all(find_spec(name) for name in names.split()))
PYTHON
}

pip_install() { # pip_install ARGUMENT...
    : >"$log"
    # --progress-bar off, not -q: the lines that say what is being fetched are the only sign of life on a slow network.
    if env -u PIP_USER -u PIP_TARGET -u PYTHONPATH "$venv/bin/python" -m pip install --disable-pip-version-check \
        --progress-bar off --retries 2 "$@" 2>&1 | tee -a "$log" | show_progress; then
        return
    fi
    explain_pip_failure
}

show_progress() {
    grep --line-buffered -E '^(Collecting|  Downloading|Downloading|Installing|Successfully|ERROR|WARNING: Retrying)' |
        cut -c1-150 || true
}

explain_pip_failure() {
    local advice=("the whole output: $log" "then again:  make setup")
    if grep -qE 'No space left on device' "$log"; then
        fail "the disk is full; .venv takes about 2 GB, and pip's temporary files as much (TMPDIR moves them)." "${advice[@]}"
    fi
    if grep -qE 'NewConnectionError|NameResolution|Temporary failure in name|ConnectTimeout|ReadTimeout|Network is unreachable|ProxyError|SSLError|Connection (refused|reset|broken)' "$log"; then
        fail "pip cannot reach its package index." \
            "Is this machine on the network? Behind a proxy set HTTPS_PROXY, with a mirror PIP_INDEX_URL," \
            "with a folder of wheels PIP_FIND_LINKS (and PIP_NO_INDEX=1)." "${advice[@]}"
    fi
    if grep -qE 'No matching distribution found|ResolutionImpossible' "$log"; then
        grep -E 'No matching distribution|ResolutionImpossible|conflict' "$log" | head -3 >&2
        fail "pip found no package that fits constraints.txt on this machine ($("$venv/bin/python" --version))." \
            "A Python with ready wheels of everything: PYTHON=python3.11 make setup" "${advice[@]}"
    fi
    tail -n 5 "$log" >&2
    fail "pip failed." "${advice[@]}"
}

build_venv() {
    local python=$1
    say "Building .venv with $("$python" --version) ($python); this takes minutes once."
    rm -rf "$venv"
    "$python" -m venv "$venv" >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "could not make $venv with $python." "the whole output: $log"
    }
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        say "Installing torch from $TORCH_INDEX_URL"
        pip_install -c constraints.txt --index-url "$TORCH_INDEX_URL" torch
    fi
}

install_project() {
    say "Installing Cadenza and its dependencies"
    pip_install -c constraints.txt -e '.[dev]'
    venv_works || fail "the packages are installed, but .venv does not work." "the whole output: $log"
    if compgen -G "$venv/lib/python*/site-packages/nvidia*" >/dev/null; then
        say "Note: this is torch's CUDA build (gigabytes). On a machine without a GPU the CPU build is enough:"
        echo "  rm -rf .venv && TORCH_INDEX_URL=<PyTorch's index of CPU wheels> make setup"
    fi
}

# Videos need a GL library, training does not: tell, and go on.
report_graphics() {
    "$venv/bin/python" - <<'PYTHON' || true
from cadenza.envs.rendering.gl import NoGraphicsLibraryError, ensure_gl_backend

try:
    ensure_gl_backend()
except NoGraphicsLibraryError as error:
    print(f"No videos yet: {error}")
    if advice := getattr(error, "advice", ""):
        print(f"  {advice}")
    print("  Training, evaluation and export work without it.")
PYTHON
}

main() {
    local python wanted
    wanted=$(fingerprint)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && venv_works; then
        return
    fi
    mkdir -p "$log_dir"
    if command -v flock >/dev/null; then # two makes at once: the second waits, then finds the work done
        exec 9>"$log_dir/lock"
        flock 9
        if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && venv_works; then
            return
        fi
    fi
    if [ -f "$stamp" ] && [ "$(head -n 2 "$stamp")" = "$(head -n 2 <<<"$wanted")" ] && venv_works; then
        say "pyproject.toml changed"
        rm -f "$stamp"
    else
        [ ! -d "$venv" ] || say "The present .venv was made from other pins, elsewhere, or not to its end: it is replaced."
        python=$(find_python)
        require_venv_module "$python"
        build_venv "$python"
    fi
    install_project
    printf '%s\n' "$wanted" >"$stamp" # last: without it the next call starts over
    report_graphics
    say "Ready: source .venv/bin/activate, or .venv/bin/cadenza --help"
}

main "$@"
