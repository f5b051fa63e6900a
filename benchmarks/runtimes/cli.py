"""``tools/runtimes``: every runtime in an environment of its own, on the same files, beside ONNX Runtime."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

import vimdeploy
from runtimes.browser import run_in_browser
from runtimes.environments import Runtime, TrialError, environment_of, python_of, run
from vimdeploy.inputs import random_inputs, stacked_inputs
from vimdeploy.libraries import library_path
from vimdeploy.machine import describe_machine
from vimdeploy.networks import network_of_info
from vimdeploy.tolerance import tolerance_for

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = Path(__file__).with_name("adapters.py")
BEGIN, END = "<!-- by tools/runtimes -->", "<!-- end -->"

FORMS = {"exported": "as exported", "portable": "--portable", "unrolled": "--no-loops"}
"""The forms of a file, and their names in the table."""
LIBRARY = Runtime("ONNX Runtime, our library", "onnxruntime", ("onnxruntime",), forms=("exported",))
BASELINE = Runtime("ONNX Runtime", "onnxruntime", ("onnxruntime",))
RUNTIMES = (
    LIBRARY,
    BASELINE,
    Runtime("ONNX Runtime 1.21", "onnxruntime", ("onnxruntime==1.21.1",)),
    Runtime("ONNX Runtime 1.18", "onnxruntime", ("onnxruntime==1.18.1", "numpy<2")),
    Runtime("onnxruntime-web in node", "node", ("onnxruntime-web",)),
    Runtime("onnxruntime-web in Chromium", "browser", ("onnxruntime-web",)),
    Runtime("OpenVINO", "openvino", ("openvino",)),
    Runtime("onnxruntime-openvino", "onnxruntime-openvino", ("onnxruntime-openvino",)),
    Runtime("tract", "tract", ("tract",)),
    Runtime("MNN", "mnn", ("MNN", "onnx")),
    Runtime("TVM", "tvm", ("apache-tvm", "onnx")),
    Runtime("IREE", "iree", ("iree-base-compiler[onnx]", "iree-base-runtime")),
    Runtime("ncnn", "ncnn", ("ncnn", "onnx"), alone=("pnnx",)),
    Runtime("onnx.reference", "onnx-reference", ("onnx",)),
    Runtime("TensorRT-RTX", "tensorrt-rtx", ("tensorrt-rtx",)),
)
_INPUTS = 3


@dataclass
class Trial:
    """A file in a runtime."""

    model: str
    form: str
    error: str = ""
    """Why it gave no outputs, in a line."""
    load_seconds: float | None = None
    largest_error: float | None = None
    """In standard deviations of PyTorch's outputs; None if it was loaded and not run."""
    milliseconds: float | None = None
    baseline_milliseconds: float | None = None
    """ONNX Runtime's with the function bodies, just before."""

    @property
    def is_right(self) -> bool:
        """Whether the outputs are PyTorch's."""
        return not self.error and self.largest_error is not None and self.largest_error <= tolerance_for("fp32").limit

    @property
    def word(self) -> str:
        """The outcome in the table."""
        if self.error:
            return "no"
        if self.largest_error is None:
            return "builds"
        return "yes" if self.is_right else "wrong"


@dataclass
class Row:
    """A runtime and how it fared."""

    name: str
    version: str = ""
    error: str = ""
    """Why it could not be installed."""
    trials: list[Trial] = field(default_factory=list)

    def of(self, model: str, form: str) -> Trial | None:
        """The trial of a file."""
        return next((trial for trial in self.trials if (trial.model, trial.form) == (model, form)), None)


@dataclass(frozen=True)
class Model:
    """A model in all forms, inputs, and PyTorch's outputs."""

    name: str
    files: dict[str, Path]
    inputs: npt.NDArray[np.float32]
    outputs: npt.NDArray[np.float32]


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="Try this runtime alone; repeat for more (default: all).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write runtimes.json and runtimes.md to this folder (default: benchmarks/results; with --only, none).",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Put the table into this page too, between its two marks.",
)
@click.option(
    "--environments",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / "build" / "runtimes",
    help="Keep the runtimes' environments in this folder, so that the next run is quick (default: build/runtimes).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60.0,
    help="Give a runtime this many seconds to load, run and measure one file (default 60), installing it ten times as "
    "many.",
)
@click.option("--seconds", type=click.FloatRange(min=0), default=1.0, help="Measure for this many seconds (default 1).")
def main(
    only: tuple[str, ...], output: Path | None, page: Path | None, environments: Path, timeout: float, seconds: float
) -> None:
    """Try our files in other people's runtimes.

    Each runtime is installed from its registry into an environment of its own, and runs two models, the trained digits
    and Vim-Ti at 224 with random weights: as exported, in portable form, and without loops. Its answers are compared
    with PyTorch's, its time with that of ONNX Runtime, which runs just before.
    """
    unknown = set(only) - {runtime.name for runtime in RUNTIMES}
    if unknown:
        raise click.UsageError(
            f"There is no runtime {', '.join(sorted(unknown))}; there are: {', '.join(r.name for r in RUNTIMES)}."
        )
    chosen = [runtime for runtime in RUNTIMES if not only or runtime.name in only]
    with tempfile.TemporaryDirectory() as scratch:
        models = [_digits(Path(scratch)), _vim(Path(scratch))]
        rows = []
        for runtime in chosen:
            click.echo(f"{runtime.name} ...", err=True)
            rows.append(_row(runtime, models, Path(environments), Path(scratch), timeout, seconds))
    text = table_of(rows)
    click.echo(text)
    if output is None and not only:
        output = ROOT / "benchmarks" / "results"
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        document = {"machine": describe_machine(), "rows": [dataclasses.asdict(row) for row in rows]}
        (output / "runtimes.json").write_text(json.dumps(document, indent=1) + "\n")
        (output / "runtimes.md").write_text(text)
    if page is not None:
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n{text}{END}{rest.partition(END)[2]}")


def _digits(folder: Path) -> Model:
    samples = ROOT / "samples" / "digits"
    return _model("digits", folder, str(samples / "digits.json"), checkpoint=samples / "digits.safetensors")


def _vim(folder: Path) -> Model:
    return _model("Vim-Ti", folder, "vim_tiny", random_weights=0)


def _model(name: str, folder: Path, variant: str, **weights: Any) -> Model:
    """A model's files, and PyTorch's outputs for random inputs."""
    from vimdeploy.checkpoint import load_checkpoint
    from vimdeploy.runtimes.eager import EagerSession

    files = {form: folder / f"{name}-{form}.onnx" for form in FORMS}
    vimdeploy.export(variant, files["exported"], **weights)
    for form in ("portable", "unrolled"):
        vimdeploy.convert(files["exported"], files[form], portable=True, loops=form == "portable")
    info = vimdeploy.load(files["exported"], device="cpu").info
    checkpoint = load_checkpoint(weights["checkpoint"]) if "checkpoint" in weights else None
    inputs = stacked_inputs(random_inputs(info, _INPUTS, seed=0))[info.inputs[0].name]
    outputs = EagerSession(network_of_info(info, checkpoint)).run(inputs)[info.outputs[0].name]
    return Model(name, files, inputs, outputs)


def _row(
    runtime: Runtime, models: Sequence[Model], environments: Path, scratch: Path, timeout: float, seconds: float
) -> Row:
    row = Row(runtime.name)
    try:
        place = environment_of(runtime, environments, 10 * timeout)
        beside = environment_of(BASELINE, environments, 10 * timeout)
    except TrialError as error:
        row.error = str(error)
        return row
    for model in models:
        for form in _worth_trying(runtime, row, model.name):
            trial = Trial(model.name, form)
            row.trials.append(trial)
            try:
                baseline = _answer(BASELINE, beside, model, "exported", scratch, timeout, seconds)
                answer = _answer(runtime, place, model, form, scratch, timeout, seconds)
            except TrialError as error:
                trial.error = str(error).replace(f"{scratch}/", "")
                continue
            row.version = answer["version"]
            trial.load_seconds = answer["load_seconds"]
            if "milliseconds" in answer:
                trial.milliseconds, trial.baseline_milliseconds = answer["milliseconds"], baseline["milliseconds"]
                trial.largest_error = _largest_error(scratch / "outputs", model.outputs)
    return row


def _worth_trying(runtime: Runtime, row: Row, model: str) -> Iterator[str]:
    """All forms of the small model; of the large one those that ran there, the first alone if it did."""
    for form in runtime.forms:
        before = row.of("digits", form)
        if model == "digits" or (before is not None and before.word != "no"):
            yield form
            if model != "digits" and form == "exported":
                return


def _answer(
    runtime: Runtime, place: Path, model: Model, form: str, scratch: Path, timeout: float, seconds: float
) -> dict[str, Any]:
    """What a runtime says of a file.

    Raises:
        TrialError: if it does not run it.
    """
    request: dict[str, Any] = {
        "model": str(model.files[form]),
        "inputs": str(scratch / "inputs"),
        "shape": model.inputs.shape,
        "outputs": str(scratch / "outputs"),
        "seconds": seconds,
    }
    if runtime is LIBRARY:
        request["options"] = {"library": str(library_path() or "")}
    model.inputs.tofile(scratch / "inputs")
    (scratch / "outputs").unlink(missing_ok=True)
    (scratch / "request.json").write_text(json.dumps(request))
    if runtime.adapter == "browser":
        return run_in_browser(request, place, timeout)
    command: list[str | Path] = [python_of(place), ADAPTERS, runtime.adapter]
    if runtime.adapter == "node":
        command = ["node", ADAPTERS.with_name("web.mjs")]
    quiet = {"ORT_DISABLE_TELEMETRY": "1", "PYTHONNOUSERSITE": "1", "PYTHONPATH": ""}
    printed = run([*command, scratch / "request.json"], timeout, cwd=place, environment=quiet)
    answer: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return answer


def _largest_error(outputs: Path, wanted: npt.NDArray[np.float32]) -> float:
    found = np.fromfile(outputs, np.float32)
    if found.size != wanted.size or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found.reshape(wanted.shape) - wanted).max() / wanted.std())


def table_of(rows: Sequence[Row]) -> str:
    """The table in Markdown, what was refused and why, and the machine."""
    lines = [
        f"| runtime | version | {' | '.join(FORMS.values())} | largest error | Vim-Ti by | its time | load s |",
        f"|{'---|' * (6 + len(FORMS))}",
    ]
    reasons = []
    for row in rows:
        if row.error:
            lines.append(f"| {row.name} | not installed {'| ' * (5 + len(FORMS))}|")
            reasons.append(f"- {row.name} could not be installed: {_escaped(row.error)}")
            continue
        words = [trial.word if (trial := row.of("digits", form)) else "" for form in FORMS]
        best = min(
            (trial for trial in row.trials if trial.model != "digits" and trial.is_right),
            key=lambda trial: (trial.milliseconds or 0) / (trial.baseline_milliseconds or 1),
            default=None,
        )
        errors = [trial.largest_error for trial in row.trials if trial.is_right and trial.largest_error is not None]
        cells = [f"{max(errors):.1e}" if errors else "", "", "", ""]
        if best is not None and best.milliseconds and best.baseline_milliseconds:
            ratio = best.milliseconds / best.baseline_milliseconds
            cells[1:] = [FORMS[best.form], f"{ratio:.2f}", f"{best.load_seconds:.1f}"]
        lines.append(f"| {' | '.join([row.name, row.version, *words, *cells])} |")
        reasons += [f"- {row.name}, {_outcome(trial)}" for trial in row.trials if trial.word not in ("yes", "builds")]
    machine = describe_machine()
    note = (
        "Errors are in standard deviations of PyTorch's outputs. Times are medians of calls with one picture, as parts "
        "of ONNX Runtime's time with the function bodies, which ran just before each. "
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['system']}."
    )
    return "\n".join([*lines, "", note, *(["", *dict.fromkeys(reasons)] if reasons else []), ""])


def _outcome(trial: Trial) -> str:
    what = f"{trial.model} {FORMS[trial.form]}"
    if trial.error:
        return f"{what}: `{_escaped(trial.error)}`"
    return f"{what}: runs, and its answers are off by {trial.largest_error:.2g} standard deviations"


def _escaped(text: str) -> str:
    return text.replace("`", "'").replace("|", "/")


if __name__ == "__main__":
    main()
