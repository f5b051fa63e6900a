"""``vimdeploy.verify``."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vimdeploy.array_file import write_arrays
from vimdeploy.artifact import Artifact, check_same_interface, open_artifact
from vimdeploy.checkpoint import Checkpoint, load_checkpoint
from vimdeploy.errors import ConfigError, VimdeployWarning
from vimdeploy.files import check_outputs, write_whole
from vimdeploy.inputs import Inputs, some_inputs, stacked_inputs, stored_inputs
from vimdeploy.model_file import given_network
from vimdeploy.model_info import FromCheckpoint, FromSeed, ModelInfo
from vimdeploy.networks import Network, network_of_info, stages_of
from vimdeploy.progress import Progress, silent
from vimdeploy.runtimes.from_bytes import as_other
from vimdeploy.runtimes.load import load
from vimdeploy.runtimes.recorded import RecordedSession

if TYPE_CHECKING:
    import numpy.typing as npt

    from vimdeploy.model_file import GivenModel
    from vimdeploy.parity.results import Side, Verification, WeightCheck
    from vimdeploy.runtimes.base import Session
    from vimdeploy.runtimes.eager import EagerSession


def verify(
    artifact: str | Path | Artifact,
    *,
    checkpoint: str | Path | Checkpoint | None = None,
    model: GivenModel | None = None,
    against: str | Path | Artifact | None = None,
    images: str | Path | None = None,
    classes: str | Path | None = None,
    count: int = 8,
    seed: int = 0,
    image_size: tuple[int, int] | None = None,
    inputs: str | Path | None = None,
    report: str | Path | None = None,
    device: str = "auto",
    providers: Sequence[str] | None = None,
    cuda_graphs: bool = False,
    threads: int | None = None,
    allow_engine_code: bool = False,
    runtime: str = "auto",
    precision: str | None = None,
    progress: Progress = silent,
) -> list[Verification]:
    """Prove that a file answers as PyTorch does, or find the first stage that does not.

    The same inputs go through PyTorch and through the file: an engine as it is, an ONNX file once with the operator
    library, if it is installed, and once with the function bodies alone; or as another runtime computes it. Outputs
    that another program has computed are compared in place of the file's, if ``against`` is a file of them.

    Args:
        artifact: the ONNX file or the engine.
        checkpoint: that it was exported from; without one, and if the weights did not come from a seed, the library is
            compared with the function bodies, with a warning.
        model: the PyTorch module that the file was exported from, if it is none of ours: the module, (module, example
            inputs), or ``FILE.py:FUNCTION``, which gives both.
        against: an ONNX file or an engine to compare with, instead of PyTorch; or the outputs of another program for
            the same inputs, a file of ``numpy.savez`` (.npz) with an array for each output, by name, and a row for each
            input.
        images: a folder of pictures to compare on, with a sub-folder per class if accuracy is to be known; None: random
            inputs.
        classes: a CSV file with the columns file (in ``images``) and class, instead of sub-folders.
        count: how many random inputs.
        seed: of the random inputs.
        image_size: height and width in pixels of the inputs, if the file leaves them open.
        inputs: to compare on, as ``save_inputs`` wrote them, instead of random ones.
        report: an HTML page to write, too.
        device: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU.
        providers: of ONNX Runtime, that an ONNX file is to run on instead of the device's.
        cuda_graphs: of ONNX Runtime on CUDA: capture runs of an ONNX file, and repeat them in one call.
        threads: that one operator may use on a CPU; None takes all cores.
        allow_engine_code: run the code that an engine carries, if you trust its builder.
        runtime: that runs an ONNX file: ``auto``, ``onnxruntime`` or ``openvino``.
        precision: that OpenVINO computes in: ``fp32``, as None, or ``bf16``.
        progress: is told how far the work is.

    Returns:
        One result per candidate; ``passed`` is the verdict, ``fault`` the first thing that is wrong.

    Raises:
        InputError: if a file cannot be read, or does not fit the others.
        ConfigError: if there is nothing to compare with.
        MissingPackageError: without torch, if PyTorch is the reference; without jinja2, for a report; without
            openvino, if it is wanted.
        ExecutionError: if a runtime gives up.
    """
    recorded = against if isinstance(against, (str, Path)) and Path(against).suffix == ".npz" else None
    against = None if recorded is not None else against
    if sum(each is not None for each in (checkpoint, model, against)) > 1:
        raise ConfigError("Wanted one thing to compare with: either --checkpoint, --model or --against, not several.")
    opened = open_artifact(artifact)
    other = None if against is None else open_artifact(against)
    if report is not None:
        from vimdeploy.report.page import check_report

        check_report(Path(report))
        read = (opened.path, other.path if other else None, checkpoint, classes, inputs, recorded)
        check_outputs([report], [path for path in read if isinstance(path, (str, Path))])
    with given_network(model, opened.info) as (network, examples):
        weights: WeightCheck | None = None
        candidates: Sequence[Session] = []
        if recorded is None:
            candidates = _sessions(
                opened, device, providers, cuda_graphs, threads, allow_engine_code, runtime, precision
            )
        source = str(other or opened)
        sha256 = other.sha256 if other is not None else opened.sha256
        loaded = _checkpoint(opened, checkpoint)
        eager = None if other is not None else _eager_session(opened, loaded, network)
        reference: Session
        what = ""
        if other is not None:
            check_same_interface(opened, other)
            reference = load(other, device, threads, allow_engine_code=allow_engine_code and other.engine is not None)
        elif eager is not None:
            reference = eager
            weights = _weights(opened, eager)
            source, sha256 = (str(loaded.path), loaded.sha256) if loaded else (_origin(opened, model), "")
        elif recorded is not None or runtime == "openvino" or providers or cuda_graphs:
            reference = load(opened, device, threads)
            what = f"{recorded or candidates[0].description} is compared with {reference.description}"
        else:
            reference, candidates = _two_of_one_file(candidates)
            what = "the library is compared with the function bodies"
        reference = as_other(reference, opened.info)
        candidates = [as_other(candidate, reference.info) for candidate in candidates]
        if what:
            warnings.warn(f"Without --checkpoint or --model {what}, not with PyTorch.", VimdeployWarning, stacklevel=2)
        compared = _inputs(reference.info, inputs, images, count, seed, classes, image_size, examples)
        if recorded is not None:
            candidates = [RecordedSession(recorded, opened.info, len(compared))]
        if opened.changes:
            warnings.warn(f"In {opened}, {', and '.join(opened.changes)}.", VimdeployWarning, stacklevel=2)

        from vimdeploy.parity.verify import verify_outputs, verify_sessions

        if recorded is not None:
            found = [verify_outputs(reference, candidates[0], compared, weights, progress)]
        else:
            found = verify_sessions(reference, candidates, compared, weights, progress)
        results = [
            dataclasses.replace(
                result,
                reference=_side(result.reference, source, sha256),
                candidate=_side(result.candidate, str(opened), opened.sha256),
            )
            for result in found
        ]
    if report is not None:
        from vimdeploy.machine import describe_machine
        from vimdeploy.report.page import page_of

        page = page_of(results, describe_machine(), datetime.now().astimezone())
        write_whole(report, page.encode())
    return results


def save_inputs(
    artifact: str | Path | Artifact,
    path: str | Path,
    *,
    model: GivenModel | None = None,
    images: str | Path | None = None,
    count: int = 8,
    seed: int = 0,
    image_size: tuple[int, int] | None = None,
) -> Inputs:
    """Write the inputs that ``verify`` compares on, to have another program run the model on them.

    Args:
        artifact: the ONNX file or the engine.
        path: of the file to write, for ``numpy.load``: an array for each input, by name, a row for each of them.
        model: the PyTorch module that the file was exported from, as of ``verify``: its examples come first.
        images: a folder of pictures; None: random inputs.
        count: how many random inputs.
        seed: of the random inputs.
        image_size: height and width in pixels of the inputs, if the file leaves them open.

    Returns:
        The inputs.

    Raises:
        InputError: if a file cannot be read.
        ConfigError: if the inputs are of several sizes.
        OutputError: if the file cannot be written.
    """
    opened = open_artifact(artifact)
    check_outputs([path], [opened.path] if opened.path is not None else [])
    with given_network(model, opened.info) as (_, examples):
        inputs = some_inputs(opened.info, images, count, seed, None, image_size, examples)
        write_arrays(path, stacked_inputs(inputs))
    return inputs


def _sessions(
    artifact: Artifact,
    device: str,
    providers: Sequence[str] | None,
    cuda_graphs: bool,
    threads: int | None,
    allow_engine_code: bool,
    runtime: str,
    precision: str | None,
) -> Sequence[Session]:
    """A session for each way in which a file can compute our operators here."""
    in_onnxruntime = artifact.engine is None and runtime in ("auto", "onnxruntime")
    if not in_onnxruntime or allow_engine_code or providers or cuda_graphs or precision:
        return [
            load(
                artifact,
                device,
                threads,
                providers=providers,
                allow_engine_code=allow_engine_code,
                runtime=runtime,
                precision=precision,
                cuda_graphs=cuda_graphs,
            )
        ]
    from vimdeploy.runtimes.onnxruntime import sessions_of_all_operators

    return sessions_of_all_operators(artifact, threads, device)


def _checkpoint(artifact: Artifact, checkpoint: str | Path | Checkpoint | None) -> Checkpoint | None:
    """The checkpoint, read."""
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return checkpoint
    origin = artifact.info.origin
    loaded = load_checkpoint(checkpoint, ema=isinstance(origin, FromCheckpoint) and origin.ema)
    exported_from = origin.sha256 if isinstance(origin, FromCheckpoint) else ""
    if exported_from not in ("", loaded.sha256):
        warnings.warn(
            f"{checkpoint} is not the file that {artifact} was exported from (their SHA-256 differ).",
            VimdeployWarning,
            stacklevel=3,
        )
    return loaded


def _origin(artifact: Artifact, model: GivenModel | None) -> str:
    """Where the PyTorch model comes from that needs no checkpoint."""
    if model is None:
        return str(artifact.info.origin)
    return str(model) if isinstance(model, (str, Path)) else artifact.info.name


def _eager_session(artifact: Artifact, checkpoint: Checkpoint | None, network: Network | None) -> EagerSession | None:
    """The PyTorch model that a file came from; None if its weights are not at hand."""
    if network is None:
        if checkpoint is None and not isinstance(artifact.info.origin, FromSeed):
            return None
        network = network_of_info(artifact.info, checkpoint)

    from vimdeploy.runtimes.eager import EagerSession

    return EagerSession(network)


def _weights(artifact: Artifact, eager: EagerSession) -> WeightCheck | None:
    """The weights in an ONNX file against the model's; None for engines, which do not show theirs."""
    from vimdeploy.parity.weights import check_weights

    if artifact.engine is not None or not artifact.info.architecture:
        return None
    try:
        stages = stages_of(artifact.info)
    except ConfigError:  # an architecture whose nodes nobody has listed
        return None
    return check_weights(artifact.model, stages, eager.stored_tensors())


def _two_of_one_file(sessions: Sequence[Session]) -> tuple[Session, Sequence[Session]]:
    """The function bodies as the reference, the library as the candidate."""
    *library, body = sessions
    if not library:
        raise ConfigError(
            "Nothing to compare with. Give --checkpoint FILE, --model FILE.py:FUNCTION or --against FILE; comparing "
            "with the function bodies is not possible here, because the file can be computed in one way alone, or the "
            "operator library is missing."
        )
    return body, library


def _inputs(
    info: ModelInfo,
    stored: str | Path | None,
    images: str | Path | None,
    count: int,
    seed: int,
    classes: str | Path | None,
    image_size: tuple[int, int] | None,
    examples: Mapping[str, npt.NDArray[Any]],
) -> Inputs:
    """What to compare on.

    Raises:
        ConfigError: if there are two answers to that.
    """
    if stored is None:
        return some_inputs(info, images, count, seed, classes, image_size, examples)
    if images is not None or classes is not None:
        raise ConfigError("Wanted one thing to compare on: either --inputs or --images, not both.")
    return stored_inputs(stored, info)


def _side(side: Side, source: str, sha256: str) -> Side:
    """A side with the file it runs."""
    return dataclasses.replace(side, source=source, sha256=sha256)
