"""The steps of the demo. Each prints what it does, what came out, and the time that it took."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..console import Console, size
from ..errors import CommandError, Misuse

EXAMPLE = """\
examples:
  graphc demo                       writes to graphc-demo/
  graphc demo --out /tmp/demo --seed 3
"""
EPOCHS = 12
EXPECTED = 0.98  # of the held-back digits, after EPOCHS
TOLERANCE = 1e-5


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", default="graphc-demo", help="default: graphc-demo")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and the order")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")


@dataclass(slots=True)
class Demo:
    """What the steps hand on."""

    console: Console
    out: Path
    recipe: ModuleType
    training: tuple[Any, Any] = ()  # type: ignore[assignment]
    held_back: tuple[Any, Any] = ()  # type: ignore[assignment]
    network: Any = None
    traced: Any = None
    compiled: Any = None
    program: Any = None
    logits: Any = None
    written: list[tuple[str, str]] = field(default_factory=list)

    def write(self, name: str, text: str, what: str) -> None:
        (self.out / name).write_text(text, encoding="utf-8")
        self.written.append((name, what))


def run(options: argparse.Namespace) -> int:
    import time

    if options.epochs < 1:
        raise Misuse("--epochs must be at least 1")
    began = time.perf_counter()
    console = Console()
    out = Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CommandError(f"{out} is a file; the demo needs a folder") from None
    demo = Demo(console, out, copy_recipe(out))
    say_what_computes(console)
    read(demo)
    train(demo, options.epochs, options.seed)
    reached = test(demo)
    trace(demo)
    compile_(demo)
    draw(demo)
    agreed = export(demo)
    tell_files(demo, time.perf_counter() - began)
    if reached < EXPECTED and options.epochs >= EPOCHS:
        raise CommandError(f"{reached:.2%} of the held-back digits are right, not {EXPECTED:.0%}")
    return 0 if agreed else 1


def copy_recipe(out: Path) -> ModuleType:
    """The network and its training, as a file of the user's, imported from there."""
    path = out / "digits.py"
    shutil.copyfile(Path(__file__).with_name("digits.py"), path)
    spec = importlib.util.spec_from_file_location("digits", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["digits"] = module
    spec.loader.exec_module(module)
    return module


def say_what_computes(console: Console) -> None:
    from graphc.backends import base

    if base.settings.backend == "reference":
        console.line(
            "Everything below is computed by the reference interpreter (GRAPHC_BACKEND=reference), "
            "not by compiled code."
        )


def read(demo: Demo) -> None:
    with demo.console.step("Digits") as said:
        demo.training, demo.held_back = demo.recipe.read_digits()
        count, kept = len(demo.training[1]), len(demo.held_back[1])
        said.append(f"{count:,} images of 8×8 to train on, {kept} held back (UCI, CC BY 4.0)")


def train(demo: Demo, epochs: int, seed: int) -> None:
    from graphc.debug.curve import curve_svg

    console = demo.console
    progress = console.progress("Training", epochs)
    with console.step("Training") as said:
        progress.at(0)
        demo.network, losses = demo.recipe.train(
            *demo.training,
            epochs=epochs,
            seed=seed,
            report=lambda epoch, loss: progress.at(epoch + 1, f"loss {loss:.4f}"),
        )
        progress.clear()
        said.append(f"{len(losses)} steps of Adam, 16-32-64 channels, seed {seed}")
        said.append(f"loss {losses[0]:.3f} {console.sparkline(losses)} {losses[-1]:.3f}")
    note = f"{epochs} epochs, seed {seed}, last {losses[-1]:.3f}"
    demo.write("loss.svg", curve_svg(losses, "Training loss", "step", note), "the loss curve")


def test(demo: Demo) -> float:
    with demo.console.step("Accuracy") as said:
        share = demo.recipe.accuracy(demo.network, *demo.held_back)
        said.append(f"{share:.2%} of the {len(demo.held_back[1])} held-back digits")
    return share


def trace(demo: Demo) -> None:
    import graphc

    from ..program import of_traced

    with demo.console.step("Trace") as said:
        images = demo.held_back[0]
        demo.traced = graphc.jit.trace(demo.network, (images,))
        with graphc.no_grad():
            demo.logits = demo.network(images).numpy()
        demo.program = of_traced(demo.traced, "digits")
        graphc.jit.save(demo.traced, str(demo.out / "digits.gcx"))
        demo.written.append(("digits.gcx", "the traced network with its weights"))
        graph = demo.program.graph
        said.append(f"{len(graph.nodes)} nodes, {len(demo.program.weights)} weights")


def compile_(demo: Demo) -> None:
    import numpy as np

    from graphc.debug.compiled import compile_for_view
    from graphc.debug.explain import measure, time_text

    with demo.console.step("Compile") as said:
        demo.compiled = compiled = compile_for_view(demo.program.graph, name="digits")
        arrays = arguments(demo)
        found = compiled.executable(*arrays)[0]
        took = measure(compiled, arrays)
        nodes, kernels = len(demo.program.graph.nodes), compiled.count
        said.append(
            f"{nodes} nodes became {kernels} kernels in {time_text(compiled.wall_s)}, "
            f"{compiled.stats.lines:,} lines of LLVM IR"
        )
        difference = float(np.abs(found - demo.logits).max())
        said.append(
            f"{len(demo.held_back[1])} images in {time_text(took)}; "
            f"greatest difference from eager {difference:.1e}"
        )


def arguments(demo: Demo) -> list[Any]:
    """The graph's arguments: images, then weights by name."""
    weights = demo.program.weights
    images = demo.held_back[0].numpy()
    return [weights.get(param.name, images) for param in demo.program.graph.params]


def draw(demo: Demo) -> None:
    from graphc.debug.compiled import kernels_picture
    from graphc.debug.draw import draw as svg
    from graphc.debug.draw import draw_side_by_side
    from graphc.debug.explain import kernel_table
    from graphc.debug.html import View, page
    from graphc.debug.picture import graph_picture

    with demo.console.step("Draw") as said:
        program, compiled = demo.program, demo.compiled
        before = graph_picture(program.graph, "As traced", program.weight_names)
        after = kernels_picture(compiled, "After fusion", program.weight_names)
        nodes = f"{len(program.graph.nodes)} nodes"
        kernels = f"{compiled.count} kernels"
        demo.write("before.svg", svg(before, nodes), "the graph as traced")
        demo.write("after.svg", svg(after, kernels), "the kernels after fusion")
        both = draw_side_by_side([(before, nodes), (after, kernels)])
        demo.write("fusion.svg", both, "both, side by side")
        views = [View("as traced", before, nodes), View("after fusion", after, kernels)]
        table = kernel_table(compiled)
        html = page("digits", views, program.sources, table)
        demo.write("digits.html", html, "the same to explore, with kernels and source lines")
        said.append(f"{nodes} before, {kernels} after fusion")


def export(demo: Demo) -> bool:
    """Writes and checks the ONNX model and runs it elsewhere; whether the results agree."""
    import numpy as np

    from ..export import write_onnx

    path = demo.out / "digits.onnx"
    with demo.console.step("ONNX") as said:
        what = write_onnx(demo.program, path)
        demo.written.append((path.name, "the network for any ONNX runtime"))
        runtime, logits = run_elsewhere(path, demo.held_back[0].numpy())
        difference = float(np.abs(logits - demo.logits).max())
        scale = max(float(np.abs(demo.logits).max()), 1.0)
        agreed = difference <= TOLERANCE * scale
        said.append(f"{what} by onnx.checker")
        verdict = "agrees" if agreed else "DISAGREES"
        said.append(
            f"{runtime} {verdict}: greatest difference {difference:.1e} in logits up to {scale:.3g}"
        )
    return agreed


def run_elsewhere(path: Path, images: Any) -> tuple[str, Any]:
    """The model's outputs by onnxruntime where it is installed, else by onnx's own evaluator."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        import onnx
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(path))
        runtime = f"onnx {onnx.__version__}'s ReferenceEvaluator (onnxruntime is not installed)"
        return runtime, session.run(None, {session.input_names[0]: images})[0]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return f"onnxruntime {onnxruntime.__version__}", session.run(None, {name: images})[0]


def tell_files(demo: Demo, took: float) -> None:
    console = demo.console
    console.line()
    console.line(f"{console.bold('Done')} in {took:.1f} s. In {demo.out}/:")
    files = [("digits.py", "the network and its training, to change and run"), *demo.written]
    for name, what in files:
        console.line(f"  {name:14}{size((demo.out / name).stat().st_size):>8}  {what}")
    console.line(
        f"Next: open {demo.out / 'digits.html'}, or graphc explain {demo.out / 'digits.gcx'}"
    )
