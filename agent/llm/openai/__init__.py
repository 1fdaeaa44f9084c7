"""The `Engine` port over servers that speak the OpenAI REST dialect: llama-server, vLLM, MLC-LLM and their like."""
