"""A whole run: every row at every image size and batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vimdeploy.artifact import Artifact, open_artifact
from vimdeploy.benchmark.measure import Series, measure
from vimdeploy.benchmark.results import Result, results_of
from vimdeploy.benchmark.sources import Settings, Source, Subject, sources_of
from vimdeploy.checkpoint import local_path
from vimdeploy.errors import ConfigError, VimdeployError, require
from vimdeploy.files import scratch_folder, write_whole
from vimdeploy.models import variant_by_name
from vimdeploy.networks import network_of_variant
from vimdeploy.progress import Progress, silent, tracked
from vimdeploy.tasks import task_by_name


def measure_all(
    artifacts: Sequence[str | Path | Artifact],
    against: Sequence[str | Path | Artifact] = (),
    batches: Sequence[int] = (1,),
    image_sizes: Sequence[tuple[int, int]] = (),
    settings: Settings = Settings(),  # noqa: B008  # frozen
    progress: Progress = silent,
    results: list[Result] | None = None,
) -> list[Result]:
    """Measure artifacts side by side; those of the same image size and batch take turns.

    Args:
        artifacts: as of ``sources_of``; times are told as ratios to the first.
        against: what else to measure, as of ``sources_of``.
        batches: pictures in a call.
        image_sizes: heights and widths in pixels; none at all stands for each artifact's own.
        settings: how to open and run them.
        progress: is told how far each phase is.
        results: a list to add the rows to; after an interrupt it holds what was measured until then.

    Returns:
        The rows: image size by image size, batch by batch, in the order of the artifacts. One that failed says why.

    Raises:
        ConfigError: for no artifacts, a batch below 1, or a task or an ``against`` that does not exist.
    """
    sources = sources_of(artifacts, against)
    if settings.runtime == "openvino":
        precision = settings.precision or "fp32"
        sources = [dataclasses.replace(source, openvino=source.openvino or precision) for source in sources]
    task_by_name(settings.task)
    wrong = [batch for batch in batches if batch < 1]
    if wrong:
        raise ConfigError(f"Batches must be at least 1, found {wrong[0]}.")
    results = [] if results is None else results
    for image_size in image_sizes or (None,):
        place = "x".join(map(str, image_size)) if image_size else "own size"
        with scratch_folder() as folder:
            prepared: list[Series] = []
            for number, source in enumerate(tracked(sources, f"Preparing, {place}", len(sources), progress)):
                prepared.append(_prepared(source, image_size, settings.task, folder / str(number), prepared))
            for batch in batches:
                group = [
                    Series(dataclasses.replace(series.subject, batch=batch), error=series.error) for series in prepared
                ]
                try:
                    measure(group, settings, progress, f"Measuring, {place}, batch {batch}")
                finally:
                    results += results_of(group)
    return results


def _prepared(
    source: Source, image_size: tuple[int, int] | None, task: str, stem: Path, before: Sequence[Series]
) -> Series:
    """The series of a row whose file is there, or an error that says why it is not.

    Args:
        source: the row.
        image_size: height and width in pixels; None stands for the row's own.
        task: what a variant is exported for.
        stem: of the file's path, if it is made.
        before: the rows before this one.
    """
    subject = Subject(source.name, stem, image_size=image_size, openvino=source.openvino)
    try:
        if source.kind == "eager":
            return Series(_in_pytorch(before[0], subject), error=before[0].error)
        if source.kind == "module":
            return Series(dataclasses.replace(subject, module=str(source.given)))
        return Series(dataclasses.replace(subject, path=_file_of(source, image_size, task, stem)))
    except VimdeployError as error:
        return Series(subject, error=str(error))


def _in_pytorch(first: Series, subject: Subject) -> Subject:
    """A subject that is the first row's model in PyTorch."""
    if first.error:
        return subject
    if first.subject.runtime == "eager":
        raise ConfigError("The first artifact is a checkpoint: it is measured in PyTorch already.")
    info = open_artifact(first.subject.path, foreign=True).info
    if not info.architecture:
        raise ConfigError(
            f"{first.subject.path} cannot run in PyTorch, because its model is none of vimdeploy's own; give its "
            "module: --against FILE.py:FUNCTION."
        )
    return dataclasses.replace(subject, path=first.subject.path, model=info)


def _file_of(source: Source, image_size: tuple[int, int] | None, task: str, stem: Path) -> Path:
    """The file of a row, made if there is none."""
    if source.kind == "variant":
        data = exported(source, image_size, task)
    elif isinstance(source.given, Artifact):
        if source.given.path is not None:
            return source.given.path
        data = source.given.data
    else:
        return local_path(source.given)
    path = stem.with_suffix(".onnx")
    write_whole(path, data)
    return path


def exported(source: Source, image_size: tuple[int, int] | None = None, task: str = "classification") -> bytes:
    """A variant as ``vimdeploy export`` would write it, with random weights, which change no time.

    Args:
        source: a row of the kind ``variant``.
        image_size: height and width in pixels; None stands for the variant's own.
        task: one of ``TASKS``.

    Raises:
        ConfigError: for a variant that does not exist, or a size or task that it cannot have.
        MissingPackageError: without torch or onnxscript.
    """
    require("torch", "export")
    from vimdeploy.exporters.onnx_graph import onnx_from_model

    variant = variant_by_name(str(source.given))
    if source.fused_attention:
        variant = dataclasses.replace(variant, config=variant.config.replace(fused_attention=True))
    network = network_of_variant(variant, 0, task, image_size)
    return onnx_from_model(network.module, network.info).SerializeToString()
