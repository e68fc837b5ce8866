"""The module classes, one file a family."""

from graphc.nn.modules.activation import *  # noqa: F403
from graphc.nn.modules.adaptive import *  # noqa: F403
from graphc.nn.modules.attention import *  # noqa: F403
from graphc.nn.modules.batchnorm import *  # noqa: F403
from graphc.nn.modules.container import *  # noqa: F403
from graphc.nn.modules.conv import *  # noqa: F403
from graphc.nn.modules.distance import *  # noqa: F403
from graphc.nn.modules.dropout import *  # noqa: F403
from graphc.nn.modules.lazy_layers import *  # noqa: F403
from graphc.nn.modules.linear import *  # noqa: F403
from graphc.nn.modules.loss import *  # noqa: F403
from graphc.nn.modules.module import Module
from graphc.nn.modules.normalization import *  # noqa: F403
from graphc.nn.modules.padding import *  # noqa: F403
from graphc.nn.modules.parameter_container import *  # noqa: F403
from graphc.nn.modules.pooling import *  # noqa: F403
from graphc.nn.modules.rnn import *  # noqa: F403
from graphc.nn.modules.shape import *  # noqa: F403
from graphc.nn.modules.sparse import *  # noqa: F403
from graphc.nn.modules.transformer import *  # noqa: F403

__all__ = [name for name in dir() if name[0].isupper()]
