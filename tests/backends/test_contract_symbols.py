"""Contract kernels call nothing outside themselves, on any target."""

import pytest

from graphc.backends.llvm.contract import (
    ConvProblem,
    GemmProblem,
    conv,
    conv_grad_input,
    conv_grad_weight,
    gemm,
)
from graphc.backends.llvm.jit import compile_text
from graphc.backends.llvm.objectfile import undefined_symbols
from graphc.backends.llvm.target import TARGETS

square = ConvProblem.square
every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@every_target
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i8", "i64"])
def test_products(target, dtype):
    problem = GemmProblem(None, 50, 300, dtype=dtype, transpose_b=True)
    assert undefined_symbols(compile_text(gemm(problem, target).module, target)) == frozenset()


@every_target
@pytest.mark.parametrize("emit", [conv, conv_grad_input, conv_grad_weight])
def test_convolutions(target, emit):
    for problem in [
        square(2, 16, 32, 8, 3, padding=1, stride=2, dtype="f16"),
        square(2, 16, 16, 8, 3, padding=1, stride=2, groups=16),
    ]:
        text = emit(problem, target).module
        assert undefined_symbols(compile_text(text, target)) == frozenset()
