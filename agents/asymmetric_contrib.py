"""sb3-contrib's policies with an actor that reads the measured part of the observation; critics read all of it."""

from __future__ import annotations

from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.tqc.policies import TQCPolicy

from cadenza.agents.asymmetric_policies import MeasuredActor


class AsymmetricTQCPolicy(MeasuredActor, TQCPolicy):
    """TQC's."""


class AsymmetricCrossQPolicy(MeasuredActor, CrossQPolicy):
    """CrossQ's; batch normalisation of the actor's input runs over the measured part too."""
