"""VMamba-T and MambaVision-T, as their authors wrote them, beside the ways that there were without vimdeploy.

    python benchmarks/foreign_models.py --vmamba VMamba --published VMamba_onnx --mambavision

VMamba and VMamba_onnx are clones of MzeroMiko/VMamba and HaoKun-Li/VMamba_onnx, mambavision is PyPI's package; they
want timm, einops and fvcore. Weights are random: only times are compared. Two tables, whose rows take turns in one
process (A B C A B C ...), medians:

- VMamba-T (``vmamba_tiny_s2l5``) in ONNX Runtime and in PyTorch, beside the graph that VMamba_onnx publishes: its scan
  is unrolled into chunks of 24 tokens. The graph is made here by its own code.
- Pictures a second in PyTorch: by a loop over the tokens, VMamba's own or ours, and by our kernels.
"""

from __future__ import annotations

import contextlib
import importlib
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from unittest import mock

import click
import onnx
import torch
from torch import Tensor, nn

import vimdeploy
from vimdeploy.machine import describe_machine
from vimdeploy.ops.torch_ops import plain_loops
from vimdeploy.runtimes.base import Session

SIZE = 224
CLONE = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--vmamba", type=CLONE, help="A clone of MzeroMiko/VMamba.")
@click.option("--published", type=CLONE, help="A clone of HaoKun-Li/VMamba_onnx; wants --vmamba too.")
@click.option("--mambavision", is_flag=True, help="Measure mambavision, which must be installed.")
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=9, show_default=True)
@torch.inference_mode()
def main(vmamba: Path | None, published: Path | None, mambavision: bool, threads: int, rounds: int) -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")  # the models' own
    torch.set_num_threads(threads)
    click.echo(f"{describe_machine()['processor']}, {threads} threads, {SIZE} pixels, medians of {rounds}")
    picture = torch.randn(1, 3, SIZE, SIZE)
    models: dict[str, tuple[nn.Module, Callable[[], AbstractContextManager[object]]]] = {}
    with vimdeploy.compat.mamba(), tempfile.TemporaryDirectory() as folder:
        if vmamba is not None:
            code = imported(vmamba, "vmamba")
            files_table(code, published, picture, Path(folder), threads, rounds)
            models["VMamba-T"] = code.vmamba_tiny_s1l8().eval(), lambda: own_loop(code)
        if mambavision:
            created = importlib.import_module("mambavision").create_model("mamba_vision_T")
            models["MambaVision-T"] = created.eval(), plain_loops
        if models:
            eager_table(models, picture, rounds)


def imported(folder: Path, name: str) -> ModuleType:
    """A module of a clone."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def own_loop(code: ModuleType) -> AbstractContextManager[object]:
    """VMamba's scan in PyTorch, which it takes if there is no kernel."""
    return mock.patch.object(code, "WITH_SELECTIVESCAN_MAMBA", False)


def files_table(
    code: ModuleType, published: Path | None, picture: Tensor, folder: Path, threads: int, rounds: int
) -> None:
    """One model as a file of ours, as VMamba_onnx's graph, and in PyTorch."""
    model = code.vmamba_tiny_s2l5().eval()
    path = folder / "vmamba.onnx"
    vimdeploy.export(model, (picture,), path)
    paths = {"vimdeploy, operators": path, "vimdeploy, function bodies": path}
    if published is not None:
        paths["VMamba_onnx"] = published_graph(published, picture, folder / "published.onnx")
    calls: dict[str, Callable[[], object]] = {}
    columns = {}
    for name, of_it in paths.items():
        operators = "function-body" if "bodies" in name else "auto"
        start = time.perf_counter()
        session = vimdeploy.load(of_it, threads=threads, operators=operators)
        load = time.perf_counter() - start
        graph = onnx.load(of_it, load_external_data=False).graph
        columns[name] = f"{len(graph.node)} | {of_it.stat().st_size / 1e6:.0f} | {load * 1e3:.0f}"
        calls[name] = answering(session, picture)

    def looped() -> object:
        with own_loop(code):
            return model(picture)

    calls["PyTorch, our kernels"] = lambda: model(picture)
    calls["PyTorch, VMamba's own loop"] = looped
    click.echo("\n| VMamba-T | nodes | MB | load ms | ms |\n|---|---|---|---|---|")
    for name, seconds in measured(calls, rounds).items():
        click.echo(f"| {name} | {columns.get(name, ' | | ')} | {seconds * 1e3:.0f} |")


def answering(session: Session, picture: Tensor) -> Callable[[], object]:
    """A call of a file with one input."""
    arrays = {session.info.inputs[0].name: picture.numpy()}
    return lambda: session.run(arrays)


def published_graph(clone: Path, picture: Tensor, path: Path) -> Path:
    """The same numbers by VMamba_onnx's code, and its way to ONNX."""
    code = imported(clone / "classification", "models.vmamba")
    model = code.VSSM(
        depths=[2, 2, 5, 2],
        dims=96,
        ssm_d_state=1,
        ssm_ratio=2.0,
        ssm_conv=3,
        ssm_conv_bias=False,
        forward_type="v05_noz",
        norm_layer="ln2d",
        downsample_version="v3",
        patchembed_version="v2",
    )
    torch.onnx.export(model.eval(), (picture,), path, opset_version=17, dynamo=False)
    return path


def eager_table(
    models: Mapping[str, tuple[nn.Module, Callable[[], AbstractContextManager[object]]]], picture: Tensor, rounds: int
) -> None:
    """Pictures a second in PyTorch, without and with our kernels."""

    def looped(model: nn.Module, loops: Callable[[], AbstractContextManager[object]]) -> Callable[[], object]:
        def call() -> object:
            with loops():
                return model(picture)

        return call

    click.echo("\n| pictures a second in PyTorch | loop over the tokens | our kernels |\n|---|---|---|")
    for name, (model, loops) in models.items():
        times = measured({"loop": looped(model, loops), "kernels": looped(model, contextlib.nullcontext)}, rounds)
        click.echo(f"| {name} | {1 / times['loop']:.2f} | {1 / times['kernels']:.2f} |")


def measured(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each call, the first of which warms up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


if __name__ == "__main__":
    main()
