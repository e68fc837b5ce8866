"""Checks a ModelProto and writes it, with its weights beside it where one file cannot hold them."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from onnx import ModelProto

from graphc.ir.errors import FormatError

# A protobuf message holds at most 2 GiB; the rest is room for the graph around the weights.
LARGEST_MESSAGE = 2**31 - 2**24
_INLINE_BYTES = 1024  # smaller tensors stay in the model's own file: shapes, scalars


def weight_bytes(model: ModelProto) -> int:
    return sum(len(t.raw_data) for t in model.graph.initializer)


def check_model(model: ModelProto) -> None:
    """The onnx package's checker, with strict shape inference; FormatError for what it finds."""
    if weight_bytes(model) > LARGEST_MESSAGE:
        return  # checked by path, once written
    _run_checker(model)


def _run_checker(model: ModelProto | str) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise FormatError(f"the exported ONNX model is not valid: {error}") from error


def write_model(
    model: ModelProto, path: str | os.PathLike, external_data: bool | None = None
) -> None:
    """Writes the model to `path`.

    external_data: True puts weights into the file `<path>.data`, False keeps them in the model's
    file, None moves them where that file would exceed protobuf's 2 GB.
    """
    target = Path(path)
    large = weight_bytes(model) > LARGEST_MESSAGE
    if external_data is False and large:
        raise FormatError(
            f"the weights have {weight_bytes(model)} bytes, one ONNX file holds at most 2 GB",
            hint="Leave out external_data=False: the weights then go into a file of their own.",
        )
    if not (external_data or large):
        target.write_bytes(model.SerializeToString())
        return
    data = target.with_name(target.name + ".data")
    data.unlink(missing_ok=True)  # onnx would append to it
    copy = ModelProto()
    copy.CopyFrom(model)  # saving moves the weights out of the model that it is given
    onnx.save_model(
        copy,
        str(target),
        save_as_external_data=True,
        location=data.name,
        size_threshold=_INLINE_BYTES,
    )
    if large:
        _run_checker(str(target))
