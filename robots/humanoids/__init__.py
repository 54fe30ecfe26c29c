"""One file per humanoid, each with ``ROBOT``. ``cadenza.robots.humanoid_names()`` finds them by their file names."""
