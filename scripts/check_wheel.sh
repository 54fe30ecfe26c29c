#!/usr/bin/env bash
# Checks on the built wheel, the thing a user installs, rather than on the checkout.
#
#   check_wheel.sh types   mypy over the installed copy: type checkers cannot follow an editable install's import hooks
#   check_wheel.sh smoke   install into a fresh environment and use it from another directory
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
readonly python=$root/.venv/bin/python rooms="agents assets controllers envs robots scripts"
wheel_dir=$(mktemp -d)
trap 'rm -rf "$wheel_dir"' EXIT

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Through the source distribution, so that a file missing there is noticed and nothing stale in build/lib gets in.
build_wheel() {
    "$python" -m build --no-isolation --outdir "$wheel_dir" . >"$wheel_dir/log" 2>&1 || {
        tail -n 30 "$wheel_dir/log" >&2
        fail "the wheel does not build."
    }
}

count_sources() { # count_sources FOLDER...
    find "$@" -name '*.py' -not -path '*/__pycache__/*' | wc -l
}

check_types() {
    local wanted copied output checked
    rm -rf build/check
    "$python" -m pip install -q --no-deps --target build/check "$wheel_dir"/*.whl
    # shellcheck disable=SC2086 # the rooms are words
    wanted=$(count_sources $rooms)
    copied=$(count_sources build/check/cadenza)
    [ "$copied" -eq "$wanted" ] || fail "the wheel has $copied Python files, the folders have $wanted: see 'packages' in pyproject.toml."
    # Name the files as they are called in the checkout.
    output=$(MYPYPATH=build/check "$python" -m mypy --package cadenza 2>&1 | sed 's|^build/check/cadenza/||') || {
        printf '%s\n' "$output"
        exit 1
    }
    printf '%s\n' "$output"
    # The floor: a mypy that silently looks at too little must not pass.
    checked=$(sed -n 's/.* in \([0-9]*\) source files*$/\1/p' <<<"$output")
    [ "${checked:-0}" -ge "$wanted" ] || fail "mypy checked ${checked:-0} files of $wanted."
}

check_smoke() {
    local env=$wheel_dir/env elsewhere=$wheel_dir/elsewhere libraries policy
    "$python" -m venv --without-pip "$env"
    # Borrow the dependencies of .venv. A folder named in a .pth is searched, its own .pth files (and with them the
    # editable install of this checkout) are not read.
    libraries=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$libraries" >"$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
    "$python" -m pip --python "$env/bin/python" install -q --no-deps --ignore-installed "$wheel_dir"/*.whl
    mkdir "$elsewhere"
    cd "$elsewhere"
    "$env/bin/cadenza" --help >help.txt || fail "cadenza --help failed."
    grep -q train help.txt || fail "cadenza --help does not name the train command."
    "$env/bin/cadenza" list >list.txt || fail "cadenza list failed."
    grep -q 'cadenza/Humanoid-v0' list.txt || fail "cadenza list does not name cadenza/Humanoid-v0."
    for policy in "$root"/assets/policies/*/manifest.json; do
        [ -e "$policy" ] || continue # none ships
        policy=$(basename "$(dirname "$policy")")
        grep -q "^  $policy " list.txt || fail "the wheel does not carry the policy $policy of assets/policies."
    done
    "$env/bin/python" - "$env" <<'PYTHON'
import sys
from importlib.metadata import version

import gymnasium as gym

import cadenza.envs.registration

env = gym.make("cadenza/Humanoid-v0")
from cadenza.agents import Symphony

if not cadenza.envs.registration.__file__.startswith(sys.argv[1]):
    sys.exit(f"error: cadenza came from {cadenza.envs.registration.__file__}, not from the wheel")
model = Symphony("MlpPolicy", env, preset="cpu", seed=0, buffer_size=1000, learning_starts=100)
observation, _ = env.reset(seed=0)
action, _ = model.predict(observation, deterministic=True)
if not env.action_space.contains(action):
    sys.exit("error: the policy's action is not in the action space")
env.step(action)
print(f"wheel {version('cadenza')}: installs, lists, builds an environment and an agent away from the checkout")
PYTHON
}

build_wheel
case "${1:-}" in
types) check_types ;;
smoke) check_smoke ;;
*) fail "usage: check_wheel.sh types|smoke" ;;
esac
