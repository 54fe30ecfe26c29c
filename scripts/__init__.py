"""The ``cadenza`` command, one file a subcommand."""
