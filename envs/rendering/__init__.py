"""Pictures and films of environments, without a display."""
