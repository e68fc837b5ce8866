"""micro"""
from ..workload import Workload, normal
WORKLOADS = [Workload("micro/softmax", normal((64,64)), lambda torch: lambda x: x.softmax(-1), lambda jax: lambda x: jax.nn.softmax(x, -1))]
