"""Runs: train in a folder that survives anything, then measure, plot and reopen what was trained.

Reading order: :mod:`settings` (what a run is) -> :mod:`catalogue` (which algorithms) -> :mod:`training` (the loop)
-> :mod:`checkpoint` (what is stored, and how a kill cannot damage it) -> :mod:`evaluation` -> :mod:`policies`.
"""
