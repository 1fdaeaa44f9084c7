"""One decision: inputs, gate, analogs, claim search, belief, and the record of it. Independent of venue and trading
loop."""
