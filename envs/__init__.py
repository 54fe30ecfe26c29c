"""Tasks as Gymnasium environments, what guards them and what films them.

``import gymnasium`` followed by ``import cadenza.envs`` makes our ids known to ``gymnasium.make``, and so does
importing an agent; ``gymnasium.make("cadenza.envs:cadenza/Humanoid-v0")`` needs no import at all. (Gymnasium 1 no
longer looks for entry points.) Where Gymnasium is not loaded yet this is a light import, as the command line needs.
"""

import sys

from cadenza.envs.registration import register_environments

__all__ = ["register_environments"]

if "gymnasium" in sys.modules:
    register_environments()
