"""Vim-Ti and DeiT-Ti on the CPU, side by side in one run: medians and ratios.

    python benchmarks/compare_cpu.py --threads 1 --rounds 10

Sides take turns (A B C A B C ...) in one process; timed is one answer to one picture, from array to logits. All sides
use the same number of threads. Weights are random: they do not change the time.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from vimdeploy.artifact import ModelInfo
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models import layers
from vimdeploy.models.config import VARIANTS, VimConfig
from vimdeploy.models.deit import DEIT_VARIANTS, DeiT
from vimdeploy.models.vim import vim_with_random_weights
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession
from vimdeploy.runtimes.operator_library import library_info

VIM_TI = VARIANTS["vim_tiny_patch16_224"].config
LARGE = (1248, 1248)


def vim_session(config: VimConfig, operators: str, threads: int) -> OnnxRuntimeSession:
    """Vim-Ti in ONNX Runtime."""
    info = ModelInfo("vim_tiny_patch16_224", config)
    model = onnx_from_model(vim_with_random_weights(config, 0), info)
    return OnnxRuntimeSession(model.SerializeToString(), info, threads=threads, operators=operators)


def deit_run(image_size: tuple[int, int], threads: int) -> Callable[[FloatArray], object]:
    """DeiT-Ti in ONNX Runtime, exported by the same function."""
    model = DeiT(dataclasses.replace(DEIT_VARIANTS["deit_tiny_patch16_224"], image_size=image_size)).eval()
    data = onnx_from_model(model, ModelInfo("deit_tiny_patch16_224", VIM_TI.replace(image_size=image_size)))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(data.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def run_in_two_loops(eager: EagerSession, images: FloatArray) -> FloatArray:
    """The eager model with one scan after the other, as upstream's own fallback computes the two directions."""

    def two_scans(*operands: Tensor | Sequence[int] | float) -> Tensor:
        u, xz, *rest, reverse, scale = operands
        one = [[t[k : k + 1] for t in (u, *rest)] for k in range(2)]
        return sum(one_scan(o[0], xz, *o[1:], reverse[k : k + 1], scale) for k, o in enumerate(one))

    one_scan, layers.bidirectional_selective_scan = layers.bidirectional_selective_scan, two_scans
    try:
        return eager.run(images)
    finally:
        layers.bidirectional_selective_scan = one_scan


def milliseconds(run: Callable[[FloatArray], object], images: FloatArray) -> float:
    """One timed answer."""
    start = time.perf_counter()
    run(images)
    return (time.perf_counter() - start) * 1e3


@click.command()
@click.option("--threads", default=1, show_default=True)
@click.option("--rounds", default=10, show_default=True)
def main(threads: int, rounds: int) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    large = VIM_TI.replace(image_size=LARGE)
    eager = EagerSession(vim_with_random_weights(VIM_TI, 0), ModelInfo("vim_tiny_patch16_224", VIM_TI))
    sides: dict[str, tuple[Callable[[FloatArray], object], tuple[int, int]]] = {
        "Vim-Ti 224, eager, two loops": (lambda images: run_in_two_loops(eager, images), VIM_TI.image_size),
        "Vim-Ti 224, eager, one loop": (eager.run, VIM_TI.image_size),
        "Vim-Ti 224, function body": (vim_session(VIM_TI, "function body", threads).run, VIM_TI.image_size),
        "Vim-Ti 1248, function body": (vim_session(large, "function body", threads).run, LARGE),
        "Vim-Ti 224, library": (vim_session(VIM_TI, "library", threads).run, VIM_TI.image_size),
        "Vim-Ti 1248, library": (vim_session(large, "library", threads).run, LARGE),
        "DeiT-Ti 224": (deit_run(VIM_TI.image_size, threads), VIM_TI.image_size),
    }
    generator = np.random.default_rng(0)
    inputs = {size: generator.standard_normal((1, 3, *size), dtype=np.float32) for size in (VIM_TI.image_size, LARGE)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(rounds + 1):
        for name, (run, size) in sides.items():
            duration = milliseconds(run, inputs[size])
            if round_ > 0:  # the first round warms up
                times[name].append(duration)
    medians = {name: statistics.median(durations) for name, durations in times.items()}

    print(f"{_cpu()}; {threads} thread(s); ONNX Runtime {ort.__version__}, torch {torch.__version__}; {library_info()}")
    for name, median in medians.items():
        print(f"{name:28} {median:9.1f} ms  (min {min(times[name]):.1f}, max {max(times[name]):.1f})")
    tokens = {"224": VIM_TI.tokens, "1248": large.tokens}
    for operators in ("function body", "library"):
        small, big = medians[f"Vim-Ti 224, {operators}"], medians[f"Vim-Ti 1248, {operators}"]
        per_token = (big / tokens["1248"]) / (small / tokens["224"])
        print(f"{operators} at 224, in parts of another side's time:")
        for side in ("Vim-Ti 224, eager, two loops", "Vim-Ti 224, eager, one loop", "DeiT-Ti 224"):
            print(f"    {side:28} {small / medians[side]:.2f}")
        print(f"    time per token at 1248: {per_token:.2f} of that at 224")


def _cpu() -> str:
    """The processor's name, where Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown processor")


if __name__ == "__main__":
    main()
