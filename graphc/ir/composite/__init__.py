"""Composites: ops with a meaning of their own that are defined by an expansion into other ops.

They stay one node until no backend and no ONNX opset claims them. What lives here: one file a
family, each declaration complete. What must not: primitives, tensors, passes.
"""
