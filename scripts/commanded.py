"""``--command VX VY YAW`` of the commands that play a policy."""

from __future__ import annotations

from typing import Any

from cadenza.envs.legged.commands import CommandError

Command = tuple[float, float, float]


def commanded(env_id: str, env_kwargs: dict[str, Any], command: Command | None) -> dict[str, Any]:
    """Settings of an environment with one velocity command for ever; as they are where there is none.

    Args:
        env_id: of a legged robot's Walk or Run.
        env_kwargs: its settings; their ranges count.
        command: forward and left, m/s, and turning to the left, rad/s.

    Raises:
        CommandError: the environment takes none, or not this one.
    """
    if command is None:
        return env_kwargs
    from cadenza.envs.registration import legged_ids, make_env

    if env_id not in legged_ids():
        raise CommandError(f"{env_id} takes no velocity command.", "Walk and Run of legged robots do.")
    env = make_env(env_id, pictures=False, **env_kwargs)
    try:
        env.unwrapped.task.checked_command(command)  # type: ignore[attr-defined]
    finally:
        env.close()
    return {**env_kwargs, "command": command}
