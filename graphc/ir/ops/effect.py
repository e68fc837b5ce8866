"""Ops with an effect outside the graph, or that cross devices. They keep their order."""

import numpy as np

from ..errors import AssertError
from ..op import Structural, op
from ..schema import Any_, Bool, Case, Onnx, Text, many
from ..types import TensorType


@op("print")
class print_op(Structural):
    """Prints a text and the operands, in the order of the program."""

    xs: many(Any_)
    text: Text
    pure = False
    no_derivative = "an effect"
    no_onnx = "the standard domain has no effects"

    def result(*xs, text):
        return ()

    def eval(*xs, text):
        print(text, *xs)
        return ()


@op("assert")
class assert_op(Structural):
    """Raises with the text where the condition does not hold."""

    condition: Bool
    text: Text
    pure = False
    no_derivative = "an effect"
    no_onnx = "the standard domain has no effects"

    def result(condition, text):
        return ()

    def eval(condition, text):
        if not np.all(condition):
            raise AssertError(text)
        return ()


@op("copy_to")
class copy_to(Structural):
    """The same tensor on another device."""

    x: Any_
    device: Text

    def result(x, device):
        return TensorType(x.dtype, x.shape, device)

    def eval(x, device):
        return x

    linear = (0,)

    def transpose(ct, node, i):
        return copy_to(ct, device=node.inputs[0].type.device)

    onnx = Onnx("Identity", 13)
    samples = (Case("f32[2, 3]", device="cpu:1"),)
