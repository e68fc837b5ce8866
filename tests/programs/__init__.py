"""Programs as PyTorch's users write them. Each is a function of the module `torch`."""
