"""The embedded engine: llama.cpp in this process, without a socket."""
