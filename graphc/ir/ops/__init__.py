"""The primitives, one file a family. `from graphc.ir import ops; ops.add(x, y)` builds a node.

What lives here: declarations of primitives and the few functions that compose them by definition
(`broadcast_to`, `take_along`). What must not: composites with a meaning of their own
(`graphc.ir.composite`), anything that knows of tensors, passes or backends.
"""

from ..graph import Value
from ..op import OPS
from .binary import (
    add,
    and_,
    atan2,
    cast,
    complex_,
    div,
    eq,
    fma,
    graft,
    le,
    lt,
    max_,
    min_,
    mul,
    nextafter,
    or_,
    pow_,
    quo,
    rem,
    select,
    shl,
    shr,
    sub,
    xor,
)
from .constant import const, dim_value, full, full_like, iota
from .contract import conv, conv_grad_input, conv_grad_weight, conv_size, dot
from .control import cond, scan, while_loop
from .effect import assert_op, copy_to, print_op
from .index import (
    compact,
    dynamic_slice,
    dynamic_update,
    gather,
    put_along,
    scatter,
    searchsorted,
    sort,
    take_along,
    topk,
)
from .movement import (
    broadcast_shapes,
    broadcast_to,
    concat,
    dilate,
    expand,
    flip,
    inverse,
    pad,
    permute,
    reshape,
    slice_,
    window,
)
from .reduce import (
    arg_reduce,
    cumulative,
    reduce_max,
    reduce_min,
    reduce_prod,
    reduce_sum,
)
from .unary import *  # noqa: F403

for _symbol, _op in {"add": add, "sub": sub, "mul": mul, "truediv": div, "pow": pow_}.items():
    setattr(Value, f"__{_symbol}__", lambda x, y, op=_op: op(x, y))
    setattr(Value, f"__r{_symbol}__", lambda x, y, op=_op: op(y, x))
Value.__neg__ = lambda x: OPS["neg"](x)  # type: ignore[attr-defined]
