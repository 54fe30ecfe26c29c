"""The wall-clock benchmark: Symphony against the peers, same machine, same training time, one run at a time."""
