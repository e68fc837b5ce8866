"""The command line: `graphc demo | run | show | compile | export | explain | doctor`.

    graphc --help            starts without importing anything of graphc but this package
    graphc COMMAND --help    imports the command's module, which stays light until it runs

What lives here: arguments, messages, progress. What must not: anything that a Python program could
want to call; that is in `debug`, `jit` and `onnx`. Exit codes: 0 done, 1 failed, 2 misuse.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

#: Each command is a module of this package with `configure(parser)` and `run(options)`.
COMMANDS = {
    "demo": "train, compile, draw and export a network on real data, in under a minute",
    "run": "run a script with graphc as torch, or a model (.onnx, .gcx) on inputs",
    "show": "a graph at any stage, from the traced ops to machine code: text, listing, SVG, HTML",
    "compile": "compile a function or a model for a CPU and save it (.gcx)",
    "export": "write a function or a model as .onnx or .gcx",
    "explain": "what was fused and why the rest was not; bytes and FLOPs against the machine",
    "doctor": "what this machine offers; the table of all ops",
}

EXAMPLE = """\
examples:
  graphc demo                                          see everything once
  graphc show net.py:Net --input f32[1,3,224,224]      the traced graph of a module
  graphc show net.py:Net --input f32[1,3,224,224] --stage fused -o net.html
  graphc explain model.onnx                            where the time goes
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are two lines, and whose help keeps the lines of its examples."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        message = message.splitlines()[0]
        self.exit(2, f"{self.prog}: {message}\n  See: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (that of the process by default); returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in given if not word.startswith("-")), None)
    try:
        options = build_parser(chosen).parse_args(given)
    except SystemExit as ended:  # --help, --version and misuse have printed what they had to say
        return int(ended.code or 0)
    if options.command is None:
        build_parser(None).print_help(sys.stderr)
        return 2
    return call(options)


def build_parser(chosen: str | None) -> Parser:
    """The parser, in full for the chosen command only, so that no other module is imported."""
    parser = Parser(
        prog="graphc",
        description="A graph compiler for Python with PyTorch's API.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", parser_class=Parser
    )
    for name, says in COMMANDS.items():
        if name == chosen:
            module = command_module(name)
            described = says[0].upper() + says[1:] + "."
            sub = commands.add_parser(name, help=says, description=described, epilog=module.EXAMPLE)
            module.configure(sub)
        else:
            commands.add_parser(name, help=says)
    return parser


def command_module(name: str) -> Any:
    import importlib

    file = {"compile": "compile_command", "demo": "demo.command"}.get(name, name)
    return importlib.import_module(f"graphc.cli.{file}")


def version() -> str:
    from graphc import __version__

    return f"graphc {__version__}"


def call(options: argparse.Namespace) -> int:
    """Runs a parsed command; errors are told in a few lines."""
    from . import errors

    try:
        return command_module(options.command).run(options) or 0
    except BrokenPipeError:  # `graphc show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    except SystemExit:
        raise
    except BaseException as error:
        return errors.tell(error, f"graphc {options.command}")
