"""graphc: a graph compiler for Python with PyTorch's API."""

__version__ = "0.1.0"
