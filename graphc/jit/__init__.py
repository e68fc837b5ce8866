"""torch.jit and torch.compile: whole programs as graphs.

What lives here: tracing, compiled functions, the .gcx artifact. What must not: passes and code
generation, which these call.
"""

from .artifact import load, save
from .compiled import CompiledFunction, compile
from .tracing import TracedModule, TracerWarning, is_tracing, trace, trace_module

__all__ = [
    "CompiledFunction", "TracedModule", "TracerWarning", "compile", "ignore", "is_scripting",
    "is_tracing", "load", "save", "script", "trace", "trace_module", "unused",
]  # fmt: skip


def is_scripting():
    """False: a scripted function is no Python any more when it runs."""
    return False


def ignore(function=None, **options):
    """Marks a function that script leaves alone."""
    return function if function is not None else ignore


def unused(function):
    """Marks a function that script replaces by an error."""
    return function


def script(obj, optimize=None, _frames_up=0, _rcb=None, example_inputs=None):
    """Not offered yet: says so, and what does the same job today."""
    from graphc.ir.errors import UnsupportedError

    raise UnsupportedError(
        "jit.script is not offered yet",
        hint="jit.trace(function, example_inputs) gives a graph without Python control flow; "
        "compile(function) runs any Python.",
    )
