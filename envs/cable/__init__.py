"""Routing a cable through clips with an arm: the world, the task and what is privileged in it."""
