"""The review site: what was decided, why, and what came of it, as pages on this machine. Reads only."""
