"""Into how many chunks the scan's function body should cut a sequence: four blocks of Vim-Ti, by function bodies.

    python benchmarks/chunks.py --threads 1 --rounds 7

Every number of chunks takes its turn (A B C A B C ...) in one process; printed are medians of ms per block.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from unittest import mock

import click
import numpy as np

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models import VARIANTS
from vimdeploy.networks import network_of_variant
from vimdeploy.ops import function_body
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession

BLOCKS = 4
CHUNKS = (4, 8, 12, 16, 32, 0)
"""0 stands for the square root of the tokens."""


@click.command()
@click.option("--threads", default=1, show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--image-size", "sizes", type=int, multiple=True, default=(224, 512, 1248), show_default=True)
def main(threads: int, rounds: int, sizes: tuple[int, ...]) -> None:
    """Measure and print."""
    click.echo(f"{threads} thread(s); ms per block")
    for size in sizes:
        variant = VARIANTS["vim_tiny_patch16_224"]
        config = variant.config.replace(depth=BLOCKS, image_size=(size, size))
        network = network_of_variant(dataclasses.replace(variant, config=config), 0)
        sessions = {}
        for chunks in CHUNKS:
            with mock.patch.object(function_body, "CHUNKS", chunks or round(math.sqrt(config.tokens))):
                artifact = artifact_from_onnx(onnx_from_model(network.module, network.info))
            sessions[chunks] = OnnxRuntimeSession(artifact, threads=threads, operators="function-body")
        images = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
        times: dict[int, list[float]] = {chunks: [] for chunks in CHUNKS}
        for _ in range(rounds + 1):
            for chunks, session in sessions.items():
                start = time.perf_counter()
                session.run(images)
                times[chunks].append(time.perf_counter() - start)
        medians = {chunks: statistics.median(t[1:]) * 1e3 / BLOCKS for chunks, t in times.items()}  # the first warms up
        row = "  ".join(f"{chunks or 'sqrt(L)'}: {median:.1f}" for chunks, median in medians.items())
        click.echo(f"L = {config.tokens}   {row}")


if __name__ == "__main__":
    main()
