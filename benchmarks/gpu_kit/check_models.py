"""Step models: whole models with random weights against PyTorch in float32, on 64 random images."""

from __future__ import annotations

import numpy as np
import torch

from gpu_kit.models import MAX_BATCH, PRECISIONS, RUNTIMES, eager_session, exact_float32, session_of
from gpu_kit.records import Log
from gpu_kit.steps import Settings
from vimdeploy.errors import MissingPackageError
from vimdeploy.inputs import random_inputs
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Arrays, Session

IMAGES = 64
FP32_BOUND = 1e-5
FP16_MARGIN = 16 * 2.0**-11
"""Two classes whose logits are nearer than this, in standard deviations of the logits, may change places in FP16: an
error is about 1e-3 of one, the first two of 1000 random logits are 0.27 apart on average, and so one image in 700 has
its other class first, some image of 64 in one run of ten."""


def models(settings: Settings, log: Log) -> None:
    """FP32: the relative error of all logits; FP16: the same class first for every image, or one as good."""
    with exact_float32():
        for name in settings.models:
            reference = eager_session(name)
            batches = list(random_inputs(reference.info, IMAGES, settings.seed).batches(MAX_BATCH))
            wanted = _logits(reference, batches)
            del reference
            for runtime in RUNTIMES:
                for precision in PRECISIONS:
                    _check(f"{name} {precision} {runtime}", runtime, name, precision, batches, wanted, settings, log)
                    torch.cuda.empty_cache()


def _check(
    subject: str,
    runtime: str,
    name: str,
    precision: str,
    batches: list[Arrays],
    wanted: FloatArray,
    settings: Settings,
    log: Log,
) -> None:
    try:
        found = _logits(session_of(runtime, name, precision, settings), batches)
    except MissingPackageError as missing:
        return log.skipped(subject, str(missing))
    except Exception as error:  # one runtime's failure is not the next one's
        return log.failed(subject, f"{type(error).__name__}: {error}")
    return judge(subject, precision, found, wanted, log)


def judge(subject: str, precision: str, found: FloatArray, wanted: FloatArray, log: Log) -> None:
    """Whether a runtime's logits (images, classes) are those of the reference."""
    error = float(np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted.astype(np.float64)))
    differing = found.argmax(1) != wanted.argmax(1)
    agreement = {"top-1 agreement": float(1 - differing.mean())}
    if precision == "fp32":
        return log.within(subject, "relative error", error, FP32_BOUND, **agreement)
    rows = np.flatnonzero(differing)
    margins = (wanted[rows].max(1) - wanted[rows, found[rows].argmax(1)]) / wanted.std()
    values = {"relative error": error, **agreement, "largest margin": float(margins.max(initial=0))}
    if np.isnan(found).any():
        return log.failed(subject, "NaN among the logits", **values)
    if values["largest margin"] > FP16_MARGIN:
        reason = (
            f"another class first, by {values['largest margin']:.1e} of the logits' standard deviation, "
            f"above {FP16_MARGIN:.1e}"
        )
        return log.failed(subject, reason, **values)
    return log.passed(subject, **values)


def _logits(session: Session, batches: list[Arrays]) -> FloatArray:
    return np.concatenate([session.run(batch)["logits"] for batch in batches])
