"""MLC-LLM's own server beside this process: supervised, restarted, and trusted only as far as it was checked."""
