"""Measure artifacts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vimdeploy.artifact import Artifact
from vimdeploy.benchmark.results import Result
from vimdeploy.benchmark.run import measure_all
from vimdeploy.benchmark.sources import Settings
from vimdeploy.progress import Progress, silent


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of measurements."""

    def __init__(self, results: list[Result]) -> None:
        super().__init__()
        self.results = results
        """What was measured until then."""


def bench(
    artifacts: Sequence[str | Path | Artifact],
    *,
    against: Sequence[str | Path | Artifact] = (),
    batches: Sequence[int] = (1,),
    image_sizes: Sequence[tuple[int, int]] = (),
    rounds: int = 10,
    seconds: float = 0.5,
    warm_up: int = 3,
    device: str = "auto",
    providers: Sequence[str] | None = None,
    cuda_graphs: bool = False,
    operators: str = "auto",
    threads: int | None = None,
    task: str = "classification",
    variant: str = "",
    profile: bool = False,
    allow_engine_code: bool = False,
    runtime: str = "auto",
    precision: str | None = None,
    progress: Progress = silent,
) -> list[Result]:
    """Measure the time and memory of artifacts side by side.

    Artifacts run in turn, A B A B, each in its own subprocess; while one works, the others wait. A call takes random
    arrays in memory and gives all outputs in memory: pictures (batch, channels, height, width), or whatever the file
    says of its inputs.

    Args:
        artifacts: ONNX files of any program, engines of ``vimdeploy build``, or checkpoints, which eager PyTorch runs:
            their paths, or opened already; or names of variants, which are exported for the run with random weights:
            they change no time. The first is the one that the others' times are divided by.
        against: more of these to compare with; ``"FILE.py:FUNCTION"``: somebody's module in PyTorch, by the compiled
            kernels; ``"openvino"`` or ``"openvino-bf16"``: the first artifact in OpenVINO; ``"eager"``: its model in
            PyTorch with random weights;
            ``"deit_tiny"``, ``"deit_small"``, ``"deit_base"``: as torch exports it, and with its attention fused.
        batches: pictures in a call.
        image_sizes: (height, width) in pixels; none stands for each artifact's own. Variants are exported at each, a
            file with a dynamic size takes it as it is, another file takes its own size alone.
        rounds: turns that each artifact gets.
        seconds: length of a turn; a call that has begun is finished, and each turn has at least one.
        warm_up: calls before the first turn, which are not timed.
        device: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU.
        providers: of ONNX files in ONNX Runtime, instead of the device's.
        cuda_graphs: of ONNX files in ONNX Runtime on CUDA: capture runs, and repeat them in one call.
        operators: of ONNX files: ``auto``, ``library`` or ``function-body``.
        threads: that one operator may use on a CPU; None: all cores for ONNX files, one for PyTorch.
        task: what variants and checkpoints are for, one of ``tasks.TASKS``.
        variant: of checkpoints: the model; empty for the released one that fits.
        profile: also find out how long each type of node takes in ONNX files.
        allow_engine_code: run the code that a version-compatible engine carries, if you trust its builder.
        runtime: of ONNX files: ``auto``, ``onnxruntime`` or ``openvino``.
        precision: that OpenVINO computes in: ``fp32``, as None, or ``bf16``.
        progress: is told how far each phase is.

    Returns:
        A row for each artifact at each image size and batch: times in milliseconds, memory in bytes. An artifact that
        cannot be measured is a row whose ``error`` says why; the others run all the same.

    Raises:
        ConfigError: for no artifacts, a number below its least, or a task or an ``against`` that does not exist.
        Interrupted: after Ctrl-C; a KeyboardInterrupt whose ``results`` are what was measured until then.
    """
    settings = Settings(
        device=device,
        providers=providers,
        cuda_graphs=cuda_graphs,
        operators=operators,
        threads=threads,
        runtime=runtime,
        precision=precision,
        allow_engine_code=allow_engine_code,
        task=task,
        variant=variant,
        rounds=rounds,
        seconds=seconds,
        warm_up=warm_up,
        profile=profile,
    )
    results: list[Result] = []
    try:
        return measure_all(_several(artifacts), _several(against), batches, image_sizes, settings, progress, results)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(results) from interrupt


def _several(given: Sequence[str | Path | Artifact] | str | Path | Artifact) -> Sequence[str | Path | Artifact]:
    """One artifact as a list of one, for a text is a sequence of letters."""
    return [given] if isinstance(given, (str, Path, Artifact)) else given
