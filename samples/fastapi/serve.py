"""A model behind HTTP: python samples/fastapi/serve.py MODEL.onnx

POST /predict       a picture file as the body -> its answer as JSON
GET  /health/live   200 as long as the process can answer
GET  /health/ready  200 as long as there is room for another picture, else 503
GET  /metrics       counts and times in Prometheus' text format
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import click
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

import vimdeploy

LOG = logging.getLogger("uvicorn.error")

BODY_SECONDS = 20
"""A client that has not sent its picture by then loses its place."""
STOP_SECONDS = 30
"""After SIGTERM, what was taken is answered for so long."""
CONNECTIONS = 512
"""At most so many at once; uvicorn may hold a third of a megabyte of each before somebody asks for it."""

REQUESTS = Counter("vimdeploy_requests", "Requests to /predict, by HTTP status.", ["status"])
TAKEN = Gauge("vimdeploy_pictures_taken", "Pictures that are being received, wait, or are in a session.")
SECONDS = Histogram("vimdeploy_answer_seconds", "Seconds from a request to its answer.")
BATCHES = Histogram("vimdeploy_batch_pictures", "Pictures in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64))


@dataclass(frozen=True, eq=False)
class Waiting:
    """A picture that waits for its answer."""

    request: Request
    picture: bytes
    answer: asyncio.Future[Any]

    def give(self, answer: Any) -> None:
        """Give it the answer, or the error that it met."""
        if not self.answer.done():  # the server was told to stop, and could not wait any longer
            self.answer.set_result(answer)


class Batcher:
    """Pictures that wait, and the sessions that take them, several at a time."""

    def __init__(self, sessions: Sequence[vimdeploy.Session], batch: int, window: float) -> None:
        """Each session answers at most ``batch`` pictures at once; one that is alone waits ``window`` seconds."""
        self._sessions, self._batch, self._window = sessions, batch, window
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(len(sessions))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer pictures until the end of the block."""
        tasks = [asyncio.create_task(self._work(session)) for session in self._sessions]
        yield
        for task in tasks:
            task.cancel()
        self._threads.shutdown()

    async def answer(self, request: Request, picture: bytes) -> Any:
        """The answer to the picture file of a request, or the error that it met."""
        one = Waiting(request, picture, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(one)
        return await one.answer

    async def _work(self, session: vimdeploy.Session) -> None:
        """Answer batch after batch."""
        while True:
            taken = [await self._queue.get()]
            if self._queue.empty():
                await asyncio.sleep(self._window)
            share = -(-(1 + self._queue.qsize()) // len(self._sessions))  # other sessions want some of them too
            taken += [self._queue.get_nowait() for _ in range(min(share, self._batch) - 1)]
            for one in list(taken):
                if await one.request.is_disconnected():
                    one.give(ClientDisconnect())
                    taken.remove(one)
            if taken:
                BATCHES.observe(len(taken))
                pictures = [one.picture for one in taken]
                answers = await asyncio.get_running_loop().run_in_executor(self._threads, _answers, session, pictures)
                for one, answer in zip(taken, answers, strict=True):
                    one.give(answer)


def _answers(session: vimdeploy.Session, pictures: Sequence[bytes]) -> Sequence[Any]:
    """The answer to each picture, or the error that it met."""
    try:
        return list(session.predict_each(pictures, batch=len(pictures)))
    except Exception as error:  # memory ran out, for example: the next batch may be luckier
        return [error] * len(pictures)


async def picture_of(request: Request, most: int) -> bytes:
    """The body of a request; reading ends as soon as there are more than ``most`` bytes.

    Raises:
        HTTPException: if it is no picture by its type, or too large.
    """
    kind = request.headers.get("content-type", "image/*").partition(";")[0].strip().lower()
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise HTTPException(
            415,
            f"Wanted a picture file as the body, with the Content-Type of a picture; found {kind[:100]}. With curl: "
            "--data-binary @cat.jpg -H 'Content-Type: image/jpeg'.",
        )
    too_large = HTTPException(413, f"A picture file may have {most} bytes, this one has more; make it smaller.")
    if int(request.headers.get("content-length", 0)) > most:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > most:
            raise too_large
    return b"".join(parts)


def refusal(error: BaseException) -> HTTPException:
    """How a client is told of an error."""
    while isinstance(error.__cause__, vimdeploy.ImageError):  # which does not speak of a place in a batch
        error = error.__cause__
    if isinstance(error, HTTPException):
        return error
    if isinstance(error, asyncio.TimeoutError):
        return HTTPException(408, f"The picture was not here after {BODY_SECONDS} seconds.")
    if isinstance(error, ClientDisconnect):
        return HTTPException(499)  # as nginx has it; nobody is there to read it
    if isinstance(error, vimdeploy.InputError):
        is_large = isinstance(error.__cause__, Image.DecompressionBombError)
        return HTTPException(413 if is_large else 422, str(error))
    LOG.error("A picture was not answered.", exc_info=error)
    return HTTPException(500, "The picture was not answered; the server's log says why.")


def application(
    sessions: Sequence[vimdeploy.Session], batch: int, window: float, places: int, most_bytes: int, most_pixels: int
) -> FastAPI:
    """The endpoints around some sessions of one model.

    Args:
        sessions: each answers one batch at a time.
        batch: most pictures of a batch.
        window: seconds that a picture waits for others if it is alone.
        places: most pictures that are taken at once; further ones are refused with 503.
        most_bytes: of a picture file.
        most_pixels: of a picture.
    """
    Image.MAX_IMAGE_PIXELS = most_pixels // 2  # Pillow warns from here on, and decodes none of twice as many
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    batcher = Batcher(sessions, batch, window)
    taken = 0

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with batcher.running():
            yield

    app = FastAPI(title=f"{sessions[0].info.name}, by vimdeploy", docs_url=None, redoc_url=None, lifespan=lifespan)

    def check_room() -> None:
        if taken >= places:
            raise HTTPException(503, f"{taken} pictures are waiting; try again in a second.", {"Retry-After": "1"})

    @contextmanager
    def place() -> Iterator[None]:
        """A place, taken before the body is read, so that the places bound the memory."""
        nonlocal taken
        check_room()
        taken += 1
        TAKEN.set(taken)
        try:
            yield
        finally:
            taken -= 1
            TAKEN.set(taken)

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        start, status = time.perf_counter(), 200
        try:
            with place():
                picture = await asyncio.wait_for(picture_of(request, most_bytes), BODY_SECONDS)
                answer = await batcher.answer(request, picture)
            if isinstance(answer, Exception):
                raise answer
            document: dict[str, Any] = answer.document()
            SECONDS.observe(time.perf_counter() - start)
            return document
        except Exception as error:
            refused = refusal(error)
            status = refused.status_code
            raise refused from None
        finally:
            REQUESTS.labels(status).inc()

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        check_room()
        return {"status": "ready", "model": sessions[0].info.name, "runs_on": sessions[0].description}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


def open_sessions(model: str, count: int | None) -> list[vimdeploy.Session]:
    """Sessions of a model, warm: ``count`` of one thread each, None for one a core; on a GPU, or for 0, a whole one."""
    whole = vimdeploy.load(model)
    if count is None:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sessions = [session for _ in range(count) if (session := whole.on_one_thread())] or [whole]  # a GPU has none
    for session in sessions:
        session.predict(Image.new("RGB", (64, 64)))
    return sessions


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: any.")
@click.option(
    "--sessions",
    type=click.IntRange(0, 256),
    help="Sessions of one thread each, on a CPU; 0: one session of all threads. Default: one for each core.",
)
@click.option("--batch", default=8, show_default=True, type=click.IntRange(1, 256), help="Most pictures of a batch.")
@click.option(
    "--window",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0, 1000),
    help="Milliseconds that a picture waits for others if it is alone.",
)
@click.option(
    "--places",
    default=64,
    show_default=True,
    type=click.IntRange(1),
    help="Most pictures taken at once; further ones are refused with 503, so that memory is bounded.",
)
@click.option("--megabytes", default=8.0, show_default=True, type=click.FloatRange(0.001), help="Most of a file.")
@click.option("--megapixels", default=24.0, show_default=True, type=click.FloatRange(0.001), help="Most of a picture.")
def main(
    model: str,
    host: str,
    port: int,
    sessions: int | None,
    batch: int,
    window: float,
    places: int,
    megabytes: float,
    megapixels: float,
) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C; pictures that were taken are answered first."""
    try:
        opened = open_sessions(model, sessions)
    except vimdeploy.VimdeployError as error:
        raise click.UsageError(str(error)) from error
    app = application(opened, batch, window / 1000, places, int(megabytes * 1e6), int(megapixels * 1e6))
    uvicorn.run(app, host=host, port=port, limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=STOP_SECONDS)


if __name__ == "__main__":
    main()
