"""What only a GPU can show, and the same on a CPU. Needs torch, numpy, safetensors, pydantic and pytest alone."""
