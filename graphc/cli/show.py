"""`graphc show`: a program at one stage, as text, listing, SVG or HTML."""

from __future__ import annotations

import argparse
from pathlib import Path

from .errors import CommandError, Misuse
from .program import add_target, load
from .stages import DRAWN, STAGES

FORMATS = ("text", "listing", "svg", "html")
_BY_ENDING = {".svg": "svg", ".html": "html", ".htm": "html"}

EXAMPLE = """\
examples:
  graphc show net.py:Net --input f32[1,3,224,224]
  graphc show net.py:Net --input f32[1,3,224,224] --stage fused -o net.html
  graphc show model.onnx --format listing
  graphc show step.gir --stage asm
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument(
        "--stage", choices=STAGES, default="tensor", help="how far it is compiled (default: tensor)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="default: by FILE's ending, else text (the IR)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it")
    parser.add_argument("--target", dest="cpu", metavar="CPU", help="host, x86-64, avx2, ...")
    parser.add_argument(
        "--all", action="store_true", help="draw weights and constants as boxes of their own"
    )


def run(options: argparse.Namespace) -> int:
    from .console import Console
    from .stages import Stages

    ending = Path(options.output).suffix if options.output else ""
    form = options.format or _BY_ENDING.get(ending, "text")
    if form != "text" and options.stage not in DRAWN:
        raise Misuse(
            f"the stage {options.stage} is text; it cannot be drawn",
            hint=f"Stages that can be drawn: {', '.join(DRAWN)}.",
        )
    stages = Stages(load(options.target, options.inputs, options.graph), options.cpu)
    console = Console()
    text = render(stages, options.stage, form, not options.all, console, bool(options.output))
    if options.output is None:
        console.stream.write(text if text.endswith("\n") else text + "\n")
    else:
        write(Path(options.output), text)
        console.line(f"{options.output}: {options.stage} of {stages.program.name} as {form}")
    return 0


def render(stages, stage: str, form: str, fold: bool, console, to_file: bool) -> str:
    """A stage in one of the formats."""
    if form == "text":
        return stages.text(stage)
    picture, note = stages.picture(stage, fold)
    if form == "listing":
        from graphc.debug.listing import listing, plain

        paint = plain if to_file else console.paint
        width = None if to_file else console.width
        return listing(picture, paint, console.unicode or to_file, width)
    if form == "svg":
        from graphc.debug.draw import draw

        return drawn(draw, picture, note)
    from graphc.debug.html import View

    return whole_page(stages, [View(stage, picture, note)])


def whole_page(stages, views) -> str:
    """A page of some views, with the kernels where the graph has been compiled."""
    from graphc.debug.explain import kernel_table
    from graphc.debug.html import page

    program = stages.program
    table = kernel_table(stages.compiled) if views[-1].name == "fused" else None
    return drawn(page, program.name, views, program.sources, table)


def drawn(function, *arguments):
    from graphc.debug.draw import TooLarge

    try:
        return function(*arguments)
    except TooLarge as error:
        raise CommandError(
            str(error), hint="--format listing or text shows a graph of any size."
        ) from None


def write(path: Path, text: str | bytes) -> None:
    """Writes a file, whose folder must exist."""
    if not path.resolve().parent.is_dir():
        raise CommandError(f"{path}: there is no folder {path.parent}")
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
