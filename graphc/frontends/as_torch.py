"""`import torch` means graphc: one set of module objects under both names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _SameModule(Loader):
    """Gives graphc's own module, whose spec importing under another name must not replace."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Finder(MetaPathFinder):
    """torch.nn.functional is graphc.nn.functional."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, rest = fullname.partition(".")
        if root != "torch" or not rest:
            return None
        mine = f"graphc.{rest}"
        if mine not in sys.modules and importlib.util.find_spec(mine) is None:
            return None
        return ModuleSpec(fullname, _SameModule(importlib.import_module(mine)))


def install() -> None:
    """Makes every later `import torch` give graphc. Once is enough; it is not undone.

    Raises RuntimeError where torch itself is imported already: two libraries cannot both be it.
    """
    graphc = sys.modules["graphc"]
    found = sys.modules.get("torch")
    if found is graphc:
        return
    if found is not None:
        raise RuntimeError(
            "torch itself is imported already in this process; "
            "call graphc.as_torch() before anything imports it"
        )
    sys.modules["torch"] = graphc
    sys.meta_path.insert(0, _Finder())
