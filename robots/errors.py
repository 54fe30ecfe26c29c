"""The base of every error that Cadenza raises for the person at the keyboard. Imports nothing of ours."""

from __future__ import annotations


class CadenzaError(Exception):
    """Something the user can put right. The command prints it without a traceback.

    Args:
        message: what is wrong, in one sentence, with the names or values at fault.
        advice: what to do next, one or more lines; may be empty.
    """

    def __init__(self, message: str, advice: str = ""):
        super().__init__(message)
        self.advice = advice
