"""One decision: inputs, gate, analogs, claim search, belief, and the record of it. Knows no venue and no loop."""
