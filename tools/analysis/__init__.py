"""Tables from the user's files: loading, profiling, and a fixed catalogue of operations. Needs the extra `analysis`."""
