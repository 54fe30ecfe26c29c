"""Arms at a table: Reach, Push, PickPlace and Play, single and many at once (docs/tabletop.md)."""
