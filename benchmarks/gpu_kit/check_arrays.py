"""Step arrays: arrays on the GPU, a stream of the caller's and several threads give what arrays on the CPU give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from gpu_kit.models import MAX_BATCH, session_of
from gpu_kit.records import Log
from gpu_kit.steps import Settings
from vimdeploy.errors import MissingPackageError
from vimdeploy.inputs import random_inputs
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session

RUNTIMES = ("ONNX Runtime CUDA", "TensorRT", "TensorRT-RTX")
BATCHES = (1, 3, MAX_BATCH, MAX_BATCH + 3)
"""The last runs in two parts."""
RUNS = 4
"""Runs of each batch: engines capture a graph in the second."""
THREADS = 4
BOUND = 1e-3
"""The relative error may be so large: the same network in the same precision, whose sums may be in another order."""

Way = Callable[[FloatArray], FloatArray]
"""Images to logits."""


def arrays(settings: Settings, log: Log) -> None:
    """The relative error of the logits of each way against those of arrays on the CPU, in FP16."""
    for name in settings.models[:1]:
        for runtime in RUNTIMES:
            subject = f"{name} fp16 {runtime}"
            try:
                with session_of(runtime, name, "fp16", settings) as session:
                    images = next(iter(random_inputs(session.info, max(BATCHES), settings.seed).batches(max(BATCHES))))
                    compare(subject, session, images["images"], _ways(session), log)
            except MissingPackageError as missing:
                log.skipped(subject, str(missing))
            except Exception as error:  # one runtime's failure is not the next one's
                log.failed(subject, f"{type(error).__name__}: {error}")


def compare(subject: str, session: Session, images: FloatArray, ways: dict[str, Way], log: Log) -> None:
    """Run each way again and again, and in threads, and tell its largest error."""
    batches = [images[:batch] for batch in BATCHES if batch <= len(images)] * RUNS
    wanted = [session.run(batch)["logits"] for batch in batches]
    for name, way in ways.items():
        log.within(f"{subject}, {name}", "relative error", _error(map(way, batches), wanted), BOUND)
        with ThreadPoolExecutor(THREADS) as threads:
            found = threads.map(way, batches)
            log.within(f"{subject}, {name}, {THREADS} threads", "relative error", _error(found, wanted), BOUND)


def _ways(session: Session) -> dict[str, Way]:
    def on_gpu(images: FloatArray) -> FloatArray:
        logits: torch.Tensor = session.run(torch.from_numpy(images).cuda())["logits"]
        return logits.cpu().numpy()

    def on_a_stream(images: FloatArray) -> FloatArray:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            tensor = torch.from_numpy(images).cuda(non_blocking=True)
            logits = session.run(tensor, stream=stream)["logits"]
            session.run(tensor + 1, outputs=torch.empty_like(logits), stream=stream)  # in the same buffers
            found = logits.cpu()
        return found.numpy()

    return {
        "on the CPU": lambda images: session.run(images)["logits"],
        "on the GPU": on_gpu,
        "on a stream": on_a_stream,
    }


def _error(found: Iterable[FloatArray], wanted: Iterable[FloatArray]) -> float:
    """The largest relative error; infinite if something is not a number."""
    errors = [
        float(np.linalg.norm(ours.astype(np.float64) - theirs) / np.linalg.norm(theirs.astype(np.float64)))
        for ours, theirs in zip(found, wanted, strict=True)
    ]
    return max(errors) if np.isfinite(errors).all() else float("inf")
