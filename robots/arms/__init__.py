"""One file per arm, each with ``ROBOT``. ``cadenza.robots.arm_names()`` finds them by their file names."""
