"""What each library does with a workload: the ways of running it that are timed.

A contender is started in a process of its own (`worker.py`), which imports its library only there.
All compute in float32: the peers that would choose a narrower type by themselves are told not to.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .workload import Arrays, NotThere, Training, Workload

#: The losses of so many steps are compared for training.
CHECKED_STEPS = 3
INPUT = "input_{}"


@dataclass(frozen=True)
class Prepared:
    """A workload that is ready: `call()` does it once, to the end; `result` is what is compared."""

    call: Callable[[], object]
    result: Arrays


@dataclass(frozen=True)
class Contender:
    """A way of running workloads.

    package      what has to be installed
    program      a program that has to be there too, "" for none
    environment  variables of its process, from the number of threads
    start        start(threads) imports the library and sets its threads; gives the module
    prepare      prepare(module, workload, threads, folder) gives a `Prepared`
    """

    package: str
    start: Callable[[int], Any]
    prepare: Callable[[Any, Workload, int, Path], Prepared]
    environment: Callable[[int], dict[str, str]] = lambda threads: {}
    program: str = ""

    @property
    def missing(self) -> str:
        """What of it is not installed, "" where all is there."""
        if importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed; the extra brings it: pip install '.[bench]'"
        if self.program and shutil.which(self.program) is None:
            return f"it needs the program {self.program}: apt-get install {self.program}"
        return ""

    @property
    def is_installed(self) -> bool:
        return not self.missing


def arrays_of(value: Any) -> Arrays:
    """The tensors in a result, in order, as arrays."""
    if isinstance(value, (tuple, list)):
        return tuple([array for part in value for array in arrays_of(part)])
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    return (np.array(value),)


# graphc and torch: the same program, run by either module.

Compiler = Callable[[Any, Callable[..., Any], Sequence[Any]], Callable[..., Any]]


def start_graphc(threads: int) -> Any:
    torch = importlib.import_module("graphc")
    torch.set_num_threads(threads)
    return torch


def start_reference(threads: int) -> Any:
    torch = start_graphc(threads)
    torch.config.backend = "reference"
    return torch


def start_torch(threads: int) -> Any:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    return torch


def finish_graphc() -> Callable[[], None]:
    """Computes what was recorded: what a look at the result would do."""
    from graphc.frontends.record import recorder

    return recorder().flush


def nothing() -> Callable[[], None]:
    """What torch has to finish."""
    return lambda: None


def as_it_is(torch: Any, function: Callable[..., Any], examples: Sequence[Any]) -> Any:
    return function


def by_compile(torch: Any, function: Callable[..., Any], examples: Sequence[Any]) -> Any:
    return torch.compile(function)


def by_inexact_compile(torch: Any, function: Callable[..., Any], examples: Sequence[Any]) -> Any:
    """Roundings other than those of eager mode are permitted, as in traces and in all peers."""
    return torch.compile(function, exact=False)


def by_jit(torch: Any, function: Callable[..., Any], examples: Sequence[Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on numbers that a trace keeps: results are compared
        traced = torch.jit.trace(function, tuple(examples), check_trace=False)
        is_frozen = torch.__name__ == "torch" and isinstance(function, torch.nn.Module)
        return torch.jit.freeze(traced) if is_frozen else traced


def torch_like(compiler: Compiler, finisher: Callable[[], Callable[[], None]]) -> Any:
    """`prepare` for a module with torch's names; finisher() gives what ends a call."""

    def prepare(torch: Any, workload: Workload, threads: int, folder: Path) -> Prepared:
        finish = finisher()
        tensors = [torch.tensor(array) for array in workload.inputs()]
        examples = [torch.tensor(array) for array in workload.examples()]
        torch.set_grad_enabled(workload.kind in ("gradient", "training"))
        if compiler is by_inexact_compile and not torch.is_grad_enabled():
            raise NotThere("where there are no gradients a trace is what may round otherwise")
        if workload.kind == "training":
            if compiler is by_jit:
                raise NotThere("a trace does not train")
            whole = torch.__name__ == "graphc"
            function = training_step(torch, workload.make(torch), compiler, whole)
        elif workload.kind == "onnx":
            function = compiler(torch, loaded_onnx(torch, workload), examples)
        else:
            if workload.kind == "gradient":
                if compiler is by_jit:
                    raise NotThere("a trace has no backward of its own")
                for tensor in tensors:
                    tensor.requires_grad_(tensor.is_floating_point())
            function = compiler(torch, workload.make(torch), examples)

        def call() -> object:
            value = function(*tensors)
            finish()
            return value

        if workload.kind != "training":
            return Prepared(call, arrays_of(call()))
        losses = [arrays_of(call())[0] for _ in range(CHECKED_STEPS)]
        return Prepared(call, (np.stack(losses),))

    return prepare


def training_step(
    torch: Any, training: Training, compiler: Compiler, whole: bool
) -> Callable[..., Any]:
    """A step; compiled as a whole, or its forward only, which is what a user of torch compiles."""

    def loss(*batch: Any) -> Any:
        return training.loss(training.model, *batch)

    forward = loss if whole else compiler(torch, loss, ())

    def step(*batch: Any) -> Any:
        found = forward(*batch)
        training.optimizer.zero_grad()
        found.backward()
        training.optimizer.step()
        return found.detach()

    return compiler(torch, step, ()) if whole else step


def loaded_onnx(torch: Any, workload: Workload) -> Callable[..., Any]:
    if torch.__name__ != "graphc" or workload.file is None:
        raise NotThere("it reads no ONNX")
    model = torch.onnx.load(workload.file())
    return lambda *tensors: model(*tensors)


# onnxruntime, OpenVINO and tinygrad: a file.


def onnx_file(workload: Workload, folder: Path) -> str:
    """The workload as a file: its own, or exported by graphc, or by torch where that fails."""
    if workload.file is not None:
        return workload.file()
    if workload.kind != "forward":
        raise NotThere("ONNX has no training")
    path, failed = folder / "model.onnx", None
    for name in ("graphc", "torch"):
        if importlib.util.find_spec(name) is None:
            continue
        torch = importlib.import_module(name)
        tensors = tuple([torch.tensor(array) for array in workload.examples()])
        names = [INPUT.format(i) for i in range(len(tensors))]
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function = workload.make(torch)
                options: dict[str, Any] = {} if name == "graphc" else {"dynamo": False}
                if name == "torch" and not isinstance(function, torch.nn.Module):
                    raise NotThere("torch exports modules only")
                torch.onnx.export(function, tensors, str(path), input_names=names, **options)
            return str(path)
        except Exception as error:
            failed = failed or error
    raise failed or NotThere("nothing is installed that exports ONNX")


def feeds(workload: Workload, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays by the names that a model has: an export drops inputs that are not used."""
    arrays = workload.inputs()
    if len(names) == len(arrays):
        return dict(zip(names, arrays))
    return {name: arrays[int(name.rpartition("_")[2])] for name in names}


def prepare_onnxruntime(ort: Any, workload: Workload, threads: int, folder: Path) -> Prepared:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    path = onnx_file(workload, folder)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = feeds(workload, [value.name for value in session.get_inputs()])
    return Prepared(lambda: session.run(None, given), arrays_of(session.run(None, given)))


def prepare_openvino(openvino: Any, workload: Workload, threads: int, folder: Path) -> Prepared:
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(onnx_file(workload, folder), "CPU", options)
    request = compiled.create_infer_request()
    given = list(feeds(workload, [port.any_name for port in compiled.inputs]).values())

    def call() -> Any:
        return request.infer(given, share_inputs=True, share_outputs=True)

    call()
    return Prepared(call, tuple([np.array(call()[port]) for port in compiled.outputs]))


def prepare_tinygrad(tinygrad: Any, workload: Workload, threads: int, folder: Path) -> Prepared:
    """The file through tinygrad's own reader, captured by its TinyJit."""
    runner = importlib.import_module("tinygrad.nn.onnx").OnnxRunner(onnx_file(workload, folder))
    device = tinygrad.Device["CPU"]
    arrays = feeds(workload, list(runner.graph_inputs))
    names = list(arrays)
    given = [tinygrad.Tensor(array, device="CPU").clone().realize() for array in arrays.values()]

    @tinygrad.TinyJit
    def run(*tensors: Any) -> list[Any]:
        found = runner(dict(zip(names, tensors)))
        return [tinygrad.Tensor.realize(value.contiguous()) for value in found.values()]

    def call() -> list[Any]:
        found = run(*given)
        device.synchronize()
        return found

    for _ in range(2):  # it is run, then captured
        call()
    return Prepared(call, tuple([value.numpy() for value in call()]))


def prepare_jax(jax: Any, workload: Workload, threads: int, folder: Path) -> Prepared:
    if workload.jax is None:
        raise NotThere("not written for jax")
    arrays = [jax.device_put(array) for array in workload.inputs()]
    if workload.kind != "training":
        function = jax.jit(workload.jax(jax))

        def call() -> object:
            return jax.block_until_ready(function(*arrays))

        return Prepared(call, arrays_of(call()))
    first, step = workload.jax(jax)
    state, compiled = [first], jax.jit(step)

    def training() -> object:
        state[0], loss = jax.block_until_ready(compiled(state[0], *arrays))
        return loss

    return Prepared(training, (np.stack([np.array(training()) for _ in range(CHECKED_STEPS)]),))


def openmp(threads: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def inductor(threads: int) -> dict[str, str]:
    """Weights become constants for inference; no pool of processes that compile."""
    constant = {"TORCHINDUCTOR_FREEZING": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    return {**openmp(threads), **constant}


def xla(threads: int) -> dict[str, str]:
    several = "true" if threads > 1 else "false"
    flags = f"--xla_cpu_multi_thread_eigen={several} intra_op_parallelism_threads={threads}"
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


def tinygrad_on_cpu(threads: int) -> dict[str, str]:
    """C code by clang, in float32; the search for schedules (BEAM) is off, as it is by default."""
    floats = {"DEFAULT_FLOAT": "float32", "FLOAT16": "0"}
    return {"DEV": "CPU:CLANG", "NUM_CPU_THREADS": str(threads), "BEAM": "0", "JIT": "1", **floats}


def importing(name: str) -> Callable[[int], Any]:
    return lambda threads: importlib.import_module(name)


OURS = ("graphc", "graphc.compile", "graphc.inexact", "graphc.jit")
#: The numpy interpreter: what results are compared with where no peer ran. It is not timed.
REFERENCE = "graphc.reference"
CONTENDERS = {
    "graphc": Contender("graphc", start_graphc, torch_like(as_it_is, finish_graphc)),
    "graphc.compile": Contender("graphc", start_graphc, torch_like(by_compile, finish_graphc)),
    "graphc.inexact": Contender(
        "graphc", start_graphc, torch_like(by_inexact_compile, finish_graphc)
    ),
    "graphc.jit": Contender("graphc", start_graphc, torch_like(by_jit, finish_graphc)),
    "torch": Contender("torch", start_torch, torch_like(as_it_is, nothing), openmp),
    "torch.compile": Contender("torch", start_torch, torch_like(by_compile, nothing), inductor),
    "torch.jit": Contender("torch", start_torch, torch_like(by_jit, nothing), openmp),
    "jax.jit": Contender("jax", importing("jax"), prepare_jax, xla),
    "onnxruntime": Contender("onnxruntime", importing("onnxruntime"), prepare_onnxruntime),
    "openvino": Contender("openvino", importing("openvino"), prepare_openvino),
    "tinygrad": Contender(
        "tinygrad", importing("tinygrad"), prepare_tinygrad, tinygrad_on_cpu, program="clang"
    ),
    REFERENCE: Contender("graphc", start_reference, torch_like(as_it_is, finish_graphc)),
}
