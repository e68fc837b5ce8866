"""The control word of floating point, one a thread: whether denormals are flushed to zero.

Denormals are kept by default. `set_flush_denormal` changes the calling thread; the workers of
the pool take over the caller's word with each job, so that a result does not depend on threads.
"""

import ctypes
from functools import cache

from graphc.backends.llvm import jit
from graphc.backends.llvm.target import host_target

# get_control() -> i32 and set_control(i32), internal to a module; the x86 word without its
# six sticky flags of exceptions.
TEXT = {
    "x86_64": """
declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define internal i32 @get_control() nounwind {
  %word = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %word)
  %value = load i32, ptr %word, align 4
  %control = and i32 %value, -64
  ret i32 %control
}
define internal void @set_control(i32 %control) nounwind {
  %word = alloca i32, align 4
  store i32 %control, ptr %word, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret void
}
""",
    "aarch64": """
declare void @llvm.aarch64.isb(i32)
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
define internal i32 @get_control() nounwind {
  %value = call i64 @llvm.aarch64.get.fpcr()
  %control = trunc i64 %value to i32
  ret i32 %control
}
define internal void @set_control(i32 %control) nounwind {
  %value = zext i32 %control to i64
  call void @llvm.aarch64.set.fpcr(i64 %value)
  ret void
}
""",
}

# What a thread that polls should execute between two looks.
PAUSE = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.isb(i32 15)",
}

# The bits of that word that flush denormals, as operands and as results.
FLUSH_BITS = {"x86_64": 0x8040, "aarch64": 1 << 24 | 1 << 19}

_ACCESS = """
define i32 @read() nounwind {
  %control = call i32 @get_control()
  ret i32 %control
}
define void @write(i32 %control) nounwind {
  call void @set_control(i32 %control)
  ret void
}
"""


@cache
def _code() -> jit.Code:
    host = host_target()
    code = jit.load(TEXT[_arch()] + _ACCESS, ("read", "write"), target=host)
    code.keep()
    return code


def _arch() -> str:
    arch = host_target().arch
    return "aarch64" if arch == "arm64" else arch


def _read() -> int:
    return ctypes.CFUNCTYPE(ctypes.c_uint32)(_code()["read"])()


def get_flush_denormal() -> bool:
    """Whether the calling thread flushes denormals to zero."""
    return _read() & FLUSH_BITS[_arch()] == FLUSH_BITS[_arch()]


def set_flush_denormal(mode: bool) -> None:
    """Make the calling thread, and the jobs that it starts, flush denormals or keep them."""
    bits = FLUSH_BITS[_arch()]
    word = _read() | bits if mode else _read() & ~bits
    ctypes.CFUNCTYPE(None, ctypes.c_uint32)(_code()["write"])(word)
