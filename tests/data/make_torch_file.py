"""Writes torch_state.pt, a small file of torch.save (torch 2.13), beside this script.

It holds a module's state_dict, an optimizer's, parameters, views that share storages, all element
types and the plain objects that torch.load(weights_only=True) takes.
"""

from collections import Counter
from pathlib import Path

import torch


def contents() -> dict:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(5, 3)).sum().backward()
    optimizer.step()
    base = torch.arange(12.0).reshape(3, 4)
    exact = torch.tensor([0, 1, 2, 100])
    names = (
        "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
    )
    names += " uint16 uint32 uint64 float8_e4m3fn float8_e5m2"
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "parameter": model[0].weight,
        "frozen": torch.nn.Parameter(torch.ones(2), requires_grad=False),
        "leaf": torch.ones(2, requires_grad=True),
        "base": base,
        "view": base.t()[1:],
        "expanded": torch.ones(1).expand(1000),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "types": {name: exact.to(getattr(torch, name)) for name in names.split()},
        "plain": [
            1,
            -(2**40),
            2**100,
            2.5,
            1 + 2j,
            "é",
            b"\x00\xff",
            True,
            None,
            {1, 2},
            (3, (4,)),
        ],
        "bytes": bytearray(b"ab"),
        "counter": Counter("aab"),
        "torch": [torch.float32, torch.device("cpu"), torch.device("cuda", 1), torch.Size([1, 2])],
    }


if __name__ == "__main__":
    torch.save(contents(), Path(__file__).with_name("torch_state.pt"))
