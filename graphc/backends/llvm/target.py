"""Targets: the instruction sets that kernels are written for, and what each can do natively.

A kernel's text depends on its target only through the fields of `Target`: the width of a
vector, and which operations the code generator turns into instructions. What a target lacks
is expanded by the lowering, so that no call of a C library's maths appears by surprise.
"""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphc.backends.llvm.settings import settings
from graphc.ir.errors import SettingError

_ALL_WIDTHS = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Target:
    """One instruction set.

    name          "host", or the name of a fixed level
    triple        LLVM's name for architecture and system
    cpu           the processor whose timings the code generator assumes
    features      LLVM's feature string, in full ("" for what `cpu` implies)
    vector_bytes  bytes of the widest vector register that kernels should use
    registers     how many vector registers there are
    masked_bits   element widths whose masked load and store are instructions
    has_fma       multiply-add with one rounding
    has_f16c      conversion between f16 and f32
    has_bf16      products of pairs of bf16, added up in f32, faster than those of f32 (AVX512_BF16)
    has_rounding  floor, ceil, trunc and round to even
    has_gather    loads of a vector from a vector of addresses
    has_amx       the same for tiles (AMX); has_bf16 too
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    masked_bits: tuple[int, ...] = ()
    has_fma: bool = False
    has_f16c: bool = False
    has_bf16: bool = False
    has_rounding: bool = False
    has_gather: bool = False
    has_amx: bool = False

    @property
    def has_masked(self) -> bool:
        """Whether elements of every width can be loaded and stored under a mask."""
        return self.masked_bits == _ALL_WIDTHS

    @property
    def bf16_unit(self) -> tuple[str, int]:
        """What multiplies matrices of bf16, and at how many times the rate of f32."""
        if self.has_amx:
            return "amx", 16
        return ("bf16 pairs", 2) if self.has_bf16 else ("", 1)

    @property
    def arch(self) -> str:
        """The architecture: "x86_64" or "aarch64"."""
        return self.triple.partition("-")[0]

    @property
    def fingerprint(self) -> str:
        """All that decides the bytes of an object, besides its text."""
        return f"{self.triple} {self.cpu} {self.features}"

    def lanes(self, bits: int) -> int:
        """Elements of `bits` bits in one vector register."""
        return self.vector_bytes * 8 // bits


_LINUX_X86 = "x86_64-unknown-linux-gnu"
_WIDE: dict[str, Any] = {
    "triple": _LINUX_X86,
    "cpu": "x86-64-v4",
    "vector_bytes": 64,
    "registers": 32,
    "masked_bits": _ALL_WIDTHS,
    "has_fma": True,
    "has_f16c": True,
    "has_rounding": True,
    "has_gather": True,
}
# The levels of the x86-64 ABI prefer vectors of 256 bits by tuning; kernels write theirs out.
TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("x86-64", _LINUX_X86, "x86-64", "", vector_bytes=16, registers=16),
        Target(
            "avx2",
            _LINUX_X86,
            "x86-64-v3",
            "",
            vector_bytes=32,
            registers=16,
            masked_bits=(32, 64),
            has_fma=True,
            has_f16c=True,
            has_rounding=True,
            has_gather=True,
        ),
        Target("avx512", features="-prefer-256-bit", **_WIDE),
        Target("avx512bf16", features="-prefer-256-bit,+avx512bf16", has_bf16=True, **_WIDE),
        Target(
            "amx",
            features="-prefer-256-bit,+avx512bf16,+amx-tile,+amx-bf16",
            has_bf16=True,
            has_amx=True,
            **_WIDE,
        ),
        Target(
            "aarch64",
            "aarch64-unknown-linux-gnu",
            "generic",
            "+neon",
            vector_bytes=16,
            registers=32,
            has_fma=True,
            has_f16c=True,
            has_rounding=True,
        ),
    )
}

_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_AVX2 = ("avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe")
_BF16 = (*_AVX2, *_AVX512, "avx512bf16")
_AMX = ("amx-tile", "amx-bf16")
_LEVEL_FEATURES = {
    "x86-64": (),
    "avx2": _AVX2,
    "avx512": _AVX2 + _AVX512,
    "avx512bf16": _BF16,
    "amx": _BF16 + _AMX,
}
# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), as a system call of x86-64
_ASK_FOR_TILES = (158, 0x1023, 18)


@cache
def host_features() -> Mapping[str, bool]:
    """The features of this machine's processor that this process may use, by LLVM's names."""
    from llvmlite import binding

    features = dict(binding.get_host_cpu_features())
    if features.get("amx-tile") and not _may_use_tiles():
        features |= {name: False for name in features if name.startswith("amx-")}
    return features


def _may_use_tiles() -> bool:
    """Whether Linux lets this process and its threads use AMX, which it does on request only.

    A child that is forked may too.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    return ctypes.CDLL(None).syscall(*map(ctypes.c_long, _ASK_FOR_TILES)) == 0


@cache
def host_target() -> Target:
    """The target of this machine, by the features that its processor reports."""
    from llvmlite import binding

    features = host_features()
    triple = binding.get_process_triple()
    flags = ",".join(("+" if on else "-") + name for name, on in sorted(features.items()))
    cpu = binding.get_host_cpu_name()
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return Target(
            "host",
            triple,
            cpu,
            f"+neon,{flags}" if flags else "+neon",
            vector_bytes=16,
            registers=32,
            has_fma=True,
            has_f16c=True,
            has_rounding=True,
        )
    if machine not in ("x86_64", "amd64"):
        raise RuntimeError(f"no code generation for the processor {machine!r}")
    if features.get("amx-bf16") and not features.get("amx-fp16"):
        cpu = "sapphirerapids"  # virtual machines report an older model
    avx512 = all(features.get(name) for name in _AVX512)
    bf16 = all(features.get(name) for name in _BF16)
    # Intel's take two cycles for a vector of pairs, so f32 are faster (seen on Sapphire Rapids).
    amx = bf16 and all(features.get(name) for name in _AMX)
    avx2 = all(features.get(name) for name in _AVX2)
    return Target(
        "host",
        triple,
        cpu,
        f"{flags},-prefer-256-bit" if avx512 else flags,
        vector_bytes=64 if avx512 else 32 if avx2 else 16,
        registers=32 if avx512 else 16,
        masked_bits=_ALL_WIDTHS if avx512 else (32, 64) if avx2 else (),
        has_fma=bool(features.get("fma")),
        has_f16c=bool(features.get("f16c")),
        has_bf16=amx or (bf16 and cpu.startswith("znver")),
        has_rounding=bool(features.get("sse4.1")),
        has_gather=avx2,
        has_amx=amx,
    )


def get_target(name: str | None = None) -> Target:
    """The target of that name; without a name, the one that the settings choose.

    Raises ValueError for a name that is neither "host" nor in `TARGETS`.
    """
    name = settings.target if name is None else name
    if name == "host":
        return host_target()
    if name not in TARGETS:
        raise SettingError(f"no target {name!r}; there are host, {', '.join(TARGETS)}")
    return TARGETS[name]


def _system(triple: str) -> str:
    return "linux" if "linux" in triple else triple.partition("-")[2]


def runs_here(target: Target) -> bool:
    """Whether this machine can run code for `target`."""
    host = host_target()
    if target is host:
        return True
    if target.arch != host.arch or _system(target.triple) != _system(host.triple):
        return False
    return all(host_features().get(name) for name in _LEVEL_FEATURES.get(target.name, ()))
