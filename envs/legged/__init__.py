"""Tasks of legged robots, written once over any number of copies."""
