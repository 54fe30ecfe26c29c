"""Sequencing of primitives: a high level that watches, retries and chooses among skills that make up for each other."""
