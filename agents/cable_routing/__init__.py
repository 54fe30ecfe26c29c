"""Cable routing for agents: scripted primitives that know everything, and the expert that chooses among them."""
