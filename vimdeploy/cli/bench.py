"""``vimdeploy bench``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vimdeploy.cli.console import phases, print_json, print_table, say
from vimdeploy.cli.options import (
    PATH,
    ImageSizes,
    Numbers,
    cuda_graphs_option,
    device_option,
    engine_code_option,
    json_option,
    operators_option,
    precision_option,
    providers_option,
    runtime_option,
    threads_option,
)
from vimdeploy.cli.signals import signals_kept

if TYPE_CHECKING:
    from vimdeploy.benchmark.results import Result
    from vimdeploy.benchmark.sources import Settings


def _check_against(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if values:
        from vimdeploy.benchmark.sources import Source, sources_against
        from vimdeploy.errors import ConfigError

        for value in values:
            try:
                sources_against(value, Source(""))
            except ConfigError as error:
                raise click.BadParameter(str(error), ctx, param) from error
    return values


@click.command()
@click.argument("artifacts", metavar="ARTIFACT...", nargs=-1, required=True)
@click.option(
    "--batch",
    "batches",
    type=Numbers(),
    default="1",
    help="Put this many pictures into a call; 1,8 measures both, because larger batches may give more images per "
    "second (default 1).",
)
@click.option(
    "--image-size",
    "image_sizes",
    type=ImageSizes(),
    metavar=ImageSizes.name,
    default=(),
    help="Measure at these image sizes in pixels, 224,384x512 for example, because time grows with them (default: each "
    "artifact's own). A file with a dynamic size takes them as it is, a variant is exported at each.",
)
@click.option(
    "--against",
    multiple=True,
    metavar="NAME|FILE|FILE.py:FUNCTION",
    callback=_check_against,
    help="Compare with this too, in the same run: deit_tiny, deit_small or deit_base, as torch exports it and with its "
    "attention fused; openvino or openvino-bf16, the first artifact in OpenVINO; eager, its model in PyTorch with "
    "random weights; FILE.py:FUNCTION, somebody's model in PyTorch; or a file. Repeat for more.",
)
@click.option(
    "--task",
    default="classification",
    metavar="TASK",
    help="Export variants and DeiT for this task, and run checkpoints for it, because the head takes time too (default "
    "classification).",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=10,
    help="Give each artifact this many turns, because a machine is not equally fast all the time (default 10).",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=0.5,
    help="Let a turn take this many seconds; a call that has begun is finished (default 0.5).",
)
@click.option(
    "--warm-up",
    type=click.IntRange(min=1),
    default=3,
    help="Run this many untimed calls before measuring starts, so that caches and thread pools are warm (default 3).",
)
@click.option(
    "--variant", default="", help="Read checkpoints as this variant (default: the released one that each fits)."
)
@click.option(
    "--figure",
    type=PATH,
    metavar="FILE.svg|FILE.png",
    help="Draw time and memory over the image size, to see how they grow.",
)
@click.option(
    "--profile", is_flag=True, help="Also print how long each type of node takes in ONNX files, to see where time goes."
)
@device_option
@providers_option
@cuda_graphs_option
@operators_option
@threads_option
@runtime_option
@precision_option
@engine_code_option
@json_option
def bench(
    artifacts: tuple[str, ...],
    batches: tuple[int, ...],
    image_sizes: tuple[tuple[int, int], ...],
    against: tuple[str, ...],
    task: str,
    rounds: int,
    seconds: float,
    warm_up: int,
    variant: str,
    figure: Path | None,
    profile: bool,
    device: str,
    providers: tuple[str, ...] | None,
    cuda_graphs: bool,
    operators: str,
    threads: int | None,
    runtime: str,
    precision: str | None,
    allow_engine_code: bool,
    as_json: bool,
) -> None:
    """Measure time and memory of artifacts side by side.

    ARTIFACT is a file of vimdeploy export or vimdeploy build, an ONNX file of another program, a checkpoint, which
    eager PyTorch runs, or a VARIANT as vimdeploy export takes it, which is exported for the run with random weights:
    they change no time. The first artifact is the one that the others' times are divided by.

    \b
    vimdeploy bench vim_tiny.onnx vim_tiny.engine other.onnx --batch 1,8
    vimdeploy bench vim_tiny --against deit_tiny --image-size 224,1248
    vimdeploy bench vim_tiny --against deit_tiny --task pyramid --image-size 512,1248 --figure figure.svg
    vimdeploy bench vim_tiny.onnx vim_t_midclstok_76p1acc.pth --against eager
    vimdeploy bench vim_tiny.onnx --against openvino --against openvino-bf16
    vimdeploy bench theirs.onnx --against their_model.py:make

    Artifacts run in turn, A B A B, each in its own subprocess; while one works, the others wait. If one fails, its row
    says why; the others run all the same, and the exit code is 1.

    Ctrl-C ends the run: what was measured so far is printed, and the exit code is 130.

    --threads is for ONNX files, and for PyTorch, which takes one thread without it (FILE.py:FUNCTION as many as torch
    chooses); --operators is for ONNX files,
    --allow-engine-code for engines.
    """
    from vimdeploy.benchmark.figure import check_figure, figure_of
    from vimdeploy.benchmark.run import measure_all
    from vimdeploy.benchmark.sources import Settings
    from vimdeploy.files import check_outputs, write_whole
    from vimdeploy.machine import describe_machine

    if figure is not None:
        check_outputs([figure], (*artifacts, *against))
        check_figure(figure)
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
    interrupted = False
    try:
        with signals_kept(), phases("Measuring", quiet=True) as progress:
            measure_all(artifacts, against, batches, image_sizes, settings, progress, results)
    except KeyboardInterrupt:
        interrupted = True
    machine = describe_machine()
    (_print_json if as_json else _print)(results, machine, settings, interrupted)
    if figure is not None and any(not result.error for result in results):
        write_whole(figure, figure_of(results, _machine_line(machine, settings), figure.suffix))
        say(f"Figure: {figure}", err=True)
    if interrupted or any(result.error for result in results):
        click.get_current_context().exit(130 if interrupted else 1)


def _print_json(results: list[Result], machine: dict[str, Any], settings: Settings, interrupted: bool) -> None:
    from vimdeploy.benchmark.results import explanations

    print_json(
        {
            "machine": machine,
            "settings": dataclasses.asdict(settings),
            "explanations": explanations(results),
            "interrupted": interrupted,
            "results": [dataclasses.asdict(result) for result in results],
        }
    )


def _print(results: list[Result], machine: dict[str, Any], settings: Settings, interrupted: bool) -> None:
    from vimdeploy.benchmark.results import explanations

    if not results:
        say("Stopped before anything was measured.")
        return
    headers = ("artifact", "size", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s", "ratio", "load s", "memory MB")
    print_table((*headers, "calls", "computed by"), [_cells(result) for result in results])
    for result in results:
        if result.profile or result.profile_error:
            _print_profile(result)
    say()
    if interrupted:
        say("Stopped before the end: the table holds what was measured until then.")
    for sentence in explanations(results):
        say(sentence)
    say(_machine_line(machine, settings))


def _print_profile(result: Result) -> None:
    say()
    say(f"{result.artifact}, {_size(result)}, batch {result.batch}, by ONNX Runtime's profiler:")
    if result.profile_error:
        say(f"No profile: {result.profile_error}")
        return
    rows = [(p.operator, f"{p.share:6.1%}", f"{p.milliseconds:.3f}", f"{p.nodes:g}") for p in result.profile]
    print_table(("nodes of type", "share", "ms in a call", "nodes"), rows)


def _size(result: Result) -> str:
    return "x".join(map(str, result.image_size)) if result.image_size else "-"


def _cells(result: Result) -> tuple[str, ...]:
    left = (result.artifact, _size(result), str(result.batch))
    if result.error:
        return (*left, "failed", *[""] * 7, result.error)
    operators = "PyTorch" if result.operators == "eager" else result.operators
    return (
        *left,
        *(_number(value) for value in (result.p50_ms, result.p90_ms, result.p99_ms, result.images_per_second)),
        "-" if result.ratio is None else f"{result.ratio:.2f}",
        _number(result.load_seconds),
        "-" if result.peak_bytes is None else f"{result.peak_bytes / 1e6:.0f}",
        str(result.calls),
        ", ".join(part for part in (operators, result.device, result.precision) if part),
    )


def _number(value: float | None) -> str:
    """With at least three significant digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _machine_line(machine: dict[str, Any], settings: Settings) -> str:
    threads = f"--threads {settings.threads}" if settings.threads else "threads as ONNX Runtime chooses"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    vectors = f"operators for {machine['instruction_set']}" if machine["instruction_set"] else "no operator library"
    parts = [f"{machine['processor']}, {machine['cores']} cores", *machine["gpus"], threads, vectors]
    return f"Machine: {'; '.join([*parts, machine['system'], versions])}."
