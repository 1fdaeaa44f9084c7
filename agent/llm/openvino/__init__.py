"""The accelerator engine: OpenVINO in this process, on the same GGUF file as the embedded engine."""
