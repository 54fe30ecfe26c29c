"""From joint commands to motors: buses, the joint map, safety. Importing this loads no vendor library."""
