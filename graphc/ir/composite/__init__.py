"""Composites: ops with a meaning of their own that are defined by an expansion into other ops.

They stay one node until no backend and no ONNX opset claims them. What lives here: one file a
family, each declaration complete. What must not: primitives, tensors, passes.
"""

from .activation import gelu, log_sigmoid, mish, relu, sigmoid, silu, softplus, tanhshrink
from .attention import attention, attention_grad, attention_scores, attention_weights
from .layout import (
    conv_depthwise_last,
    conv_grad_input_last,
    conv_groups_last,
    conv_last,
    dot_pairs,
    turned,
)
from .normalize import (
    batch_norm,
    layer_norm,
    log_softmax,
    max_first,
    min_first,
    moments,
    norm2,
    pick,
    softmax,
)
from .winograd import conv_winograd, winograd_weight
