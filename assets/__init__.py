"""Our own scenes and trained policies, read through ``importlib.resources``."""
