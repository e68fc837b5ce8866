"""What loaders see of an ONNX node: its attributes, checked, and its opset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, helper

from graphc.ir.errors import FormatError, UnsupportedError

from .reading import tensor_array

_FIELDS = {
    AttributeProto.FLOAT: "f", AttributeProto.INT: "i", AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t", AttributeProto.GRAPH: "g", AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints", AttributeProto.STRINGS: "strings",
}  # fmt: skip


class OnnxNode:
    """One node. `opset` is the version of its domain that the model imports."""

    def __init__(
        self, proto: NodeProto, opset: int, folder: Path | None, given: dict[str, Any] | None = None
    ) -> None:
        self.proto, self.opset, self.folder = proto, opset, folder
        self.type, self.domain = proto.op_type, proto.domain
        self.outputs = list(proto.output)
        self._attrs = {attr.name: attr for attr in proto.attribute}
        self._given = given or {}  # what a function's caller gives for its attributes

    @property
    def label(self) -> str:
        """How messages name the node."""
        name = self.proto.name or (self.outputs[0] if self.outputs else "")
        return f"node {name!r} ({self.type})"

    @property
    def loc(self) -> str:
        """The source line that graphc's exporter keeps, else the node's name."""
        for entry in self.proto.metadata_props:
            if entry.key == "graphc.source":
                return entry.value
        return self.proto.name or self.type

    def has(self, name: str) -> bool:
        return self._value(name) is not None

    def _value(self, name: str) -> Any:
        attr = self._attrs.get(name)
        if attr is None:
            return None
        if attr.ref_attr_name:
            return self._given.get(attr.ref_attr_name)
        field = _FIELDS.get(attr.type)
        if field is None:
            raise UnsupportedError(f"the attribute {name} is of a kind that is not supported")
        value = getattr(attr, field)
        return list(value) if field in ("floats", "ints", "strings") else value

    def given(self) -> dict[str, Any]:
        """All attributes by name, for the body of a function."""
        return {name: self._value(name) for name in self._attrs}

    def resolved(self) -> NodeProto:
        """The node with the attributes that its function's caller gives put in."""
        made = NodeProto()
        made.CopyFrom(self.proto)
        del made.attribute[:]
        for name, attr in self._attrs.items():
            value = self._value(name)
            if not attr.ref_attr_name:
                made.attribute.append(attr)
            elif value is not None:
                made.attribute.append(helper.make_attribute(name, value))
        return made

    def _typed(self, name: str, kind: type, default: Any) -> Any:
        value = self._value(name)
        if value is None:
            if default is ...:
                raise FormatError(f"the attribute {name} is missing")
            return default
        if not isinstance(value, kind):
            raise FormatError(f"the attribute {name} is not of type {kind.__name__}")
        return value

    def int(self, name: str, default: Any = ...) -> Any:
        return self._typed(name, int, default)

    def float(self, name: str, default: Any = ...) -> Any:
        return self._typed(name, float, default)

    def text(self, name: str, default: Any = ...) -> Any:
        value = self._typed(name, bytes, None)
        if value is None and default is ...:
            raise FormatError(f"the attribute {name} is missing")
        return default if value is None else value.decode("utf-8", "replace")

    def ints(self, name: str, default: Any = ...) -> Any:
        value = self._typed(name, list, default)
        if isinstance(value, list) and not all(isinstance(v, int) for v in value):
            raise FormatError(f"the attribute {name} holds something else than integers")
        return value

    def floats(self, name: str, default: Any = ...) -> Any:
        return self._typed(name, list, default)

    def texts(self, name: str, default: Any = ...) -> Any:
        value = self._typed(name, list, default)
        if not isinstance(value, list):
            return value
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in value]

    def array(self, name: str) -> np.ndarray | None:
        tensor = self._value(name)
        return None if tensor is None else tensor_array(tensor, self.folder)

    def graph(self, name: str) -> GraphProto:
        return self._typed(name, GraphProto, ...)
