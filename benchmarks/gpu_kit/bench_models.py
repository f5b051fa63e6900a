"""Step latency: whole models at batch 1 and 8, from an array on the host to logits on the host."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from gpu_kit.bench_kernels import times
from gpu_kit.models import PRECISIONS, RUNTIMES, TorchSession, eager_session, exact_float32, session_of
from gpu_kit.records import Log
from gpu_kit.steps import Settings
from gpu_kit.timing import time_calls, time_on_host
from vimdeploy.errors import MissingPackageError
from vimdeploy.runtimes.base import Session

BATCHES = (1, 8)


def latency(settings: Settings, log: Log) -> None:
    """PyTorch in float32 with plain loops, then every runtime that is here, in float32 and float16."""
    with exact_float32():
        for name in settings.models:
            _bench(f"{name} fp32 PyTorch eager", eager_session(name), settings, log)
            for runtime in RUNTIMES:
                for precision in PRECISIONS:
                    _bench_runtime(f"{name} {precision} {runtime}", runtime, name, precision, settings, log)
                    torch.cuda.empty_cache()


def _bench_runtime(subject: str, runtime: str, name: str, precision: str, settings: Settings, log: Log) -> None:
    try:
        session = session_of(runtime, name, precision, settings)
        _bench(subject, session, settings, log)
        if isinstance(session, TorchSession):
            _bench_on_device(f"{subject}, CUDA graph, device alone", session, settings, log)
    except MissingPackageError as missing:
        log.skipped(subject, str(missing))
    except Exception as error:  # one runtime's failure is not the next one's
        log.failed(subject, f"{type(error).__name__}: {error}")


def _bench(subject: str, session: Session, settings: Settings, log: Log) -> None:
    height, width = session.info.fixed_image_size()
    for batch in BATCHES:
        images = np.random.default_rng(settings.seed).standard_normal((batch, 3, height, width), dtype=np.float32)
        timing = time_on_host(partial(session.run, images), settings.seconds)
        log.measured(f"{subject}, batch {batch}", **times(timing))


def _bench_on_device(subject: str, session: TorchSession, settings: Settings, log: Log) -> None:
    """What is left when launches and copies cost nothing: a replayed graph, its input on the device."""
    height, width = session.info.fixed_image_size()
    for batch in BATCHES:
        images = torch.randn(batch, 3, height, width, device="cuda")
        with torch.inference_mode():
            timing = time_calls([partial(session.model, images)], settings.seconds)
        log.measured(f"{subject}, batch {batch}", **times(timing))
