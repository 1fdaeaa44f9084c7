"""MLC-LLM's own server beside this process: watched, restarted, and believed only as far as it has been checked."""
