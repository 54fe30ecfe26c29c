"""The ``cadenza`` command. Each subcommand is a file of this folder; only the one that runs is imported."""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from importlib.metadata import version

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import nearest
from cadenza.scripts.console import err, escape, out, report

COMMANDS = {
    "list": "what there is: environments, agents, presets, robots, shipped policies",
    "robots": "fetch the models of the robots (cadenza robots fetch)",
    "train": "train an agent from scratch, or continue a run",
    "evaluate": "play noise-free episodes; return with interval, length, forward velocity",
    "record": "film a policy as an H.264 video",
    "plot": "learning curves of one or several runs",
    "skills": "skills of slim: evaluate, map, film, and use them",
    "imitate": "learn a policy from demonstrations: cloning, inverse dynamics, DAgger",
    "sequence": "choose among primitives of a long task; compare with baselines",
    "export": "write a policy bundle: ONNX, safetensors, manifest",
    "replay": "look at the last states of a simulation that blew up",
    "deploy": "run a policy on a robot: simulated, emulated or real",
    "demos": "collect, inspect and export demonstrations (cadenza demos collect)",
    "log": "look at what a deployed robot was told and did",
    "motors": "scan, ping and set up the motors of a bus",
    "calibrate": "write a unit's calibration file",
    "sysid": "measure a motor: inertia, friction, gains",
    "emulate": "motors as a program: real ports and protocols, physics and faults",
    "bench": "measure speed on this machine",
    "demo": "train a humanoid for a few minutes and film it before and after",
}
_INTERRUPTED = 130  # 128 + SIGINT, as shells expect


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """The command line without the exit: 0 done, 1 error, 2 wrong usage, 130 interrupted."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _help()
        return 0
    if arguments[0] in ("-V", "--version"):
        out.print(f"cadenza {version('cadenza')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        near = nearest(name, COMMANDS)
        err.print(f"[bold red]error:[/] cadenza has no command {escape(repr(name))}.")
        err.print(f"  Did you mean {', '.join(near)}?" if near else f"  There are: {', '.join(COMMANDS)}.")
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        module = import_module(f"cadenza.scripts.{name.replace('list', 'list_')}")
        return int(module.main(rest) or 0)
    except CadenzaError as error:
        if os.environ.get("CADENZA_DEBUG"):
            raise
        report(error)
        return 1
    except KeyboardInterrupt:
        err.print("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _help() -> None:
    out.print("[bold]cadenza[/]: humanoids that learn on the computer you have\n")
    out.print("usage: cadenza COMMAND [ARGUMENTS]      cadenza COMMAND --help explains one\n")
    for name, summary in COMMANDS.items():
        out.print(f"  [bold]{name:10}[/] {summary}")
    out.print("\nStart here:")
    out.print("  cadenza train symphony cadenza/Humanoid-v0 --steps 100000 --run runs/first")
    out.print("  cadenza evaluate runs/first")
    out.print("  cadenza record runs/first --out first.mp4")
    out.print("  cadenza export runs/first --out bundle")


if __name__ == "__main__":
    main()
