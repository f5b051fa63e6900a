"""A stream of pictures to a stream of answers, however many: read beside, run side by side, told in their order.

    pictures -> read and prepared by threads -> a few at a time -> sessions in threads -> rows

Every arrow holds a few pictures and then waits for the one behind it, so that memory does not grow with their number.

On a CPU, one session whose operators share all cores leaves cores idle between the operators. So a run that is long
enough for it goes over to one-thread sessions: it is really one session with one thread, called by several threads at
once (``Session.is_shared``), so that the weights are held once; such threads are as fast as processes of their own. The
rule: the first seconds run on all cores. If something is left for each then, as many workers as there are cores take
over, or as half of the free memory holds if each takes what the run has taken so far. They are tried for some seconds,
then half of them, and so on as long as that is faster; what was fastest goes on. Compared is how long pictures take in
a worker, so that it does not matter how fast the rows are taken.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

from vimdeploy.errors import ConfigError, ExecutionError, ImageError, VimdeployError
from vimdeploy.inputs import Arrays, picture_windows
from vimdeploy.machine import memory_left, status_bytes, usable_cores
from vimdeploy.picture_files import Found
from vimdeploy.preprocess import Picture, Placement
from vimdeploy.progress import Progress, silent, tracked
from vimdeploy.runtimes.base import BATCH, Session
from vimdeploy.tasks.base import Answer, Limits

T = TypeVar("T")
R = TypeVar("R")

_TRIAL = 2.0
"""Seconds on all cores, and then of each number of workers that is tried."""
_BETTER = 1.05
"""So many times as fast is better; less may be chance."""


@dataclass(frozen=True)
class Row:
    """What was found for a picture."""

    image: str
    """Its path or its address as it was found; ``picture 3`` for one that has none."""
    answer: Answer | None
    """None if there is none."""
    error: VimdeployError | None
    """Why there is none: an ``ImageError`` if the picture cannot be read, an ``ExecutionError`` if the run gave up."""
    picture: Picture
    """What was opened: its path, or what was downloaded; None if it could not be."""
    is_named: bool
    """Whether it was named itself, not found in a folder, by a pattern or in a list."""


@dataclass(frozen=True)
class _Prepared:
    """A picture, ready to run."""

    found: Found
    picture: Picture = None
    placement: Placement | None = None
    windows: Iterator[tuple[Arrays, Placement]] = iter(())
    """The first is made, the others are made when they are wanted."""
    values: int = 0
    """How many values all windows have together."""
    error: ImageError | None = None
    """Why there is nothing to run."""


def answers_of(
    session: Session,
    pictures: Iterable[Found],
    *,
    image_size: tuple[int, int] | None = None,
    batch: int | None = None,
    score_threshold: float | None = None,
    max_detections: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Iterator[Row]:
    """What a session answers to any number of pictures, in their order; one without an answer is a row as well.

    Args:
        session: opened; it is not closed.
        pictures: as of ``pictures_of``.
        image_size: as ``Session.predict`` takes it, and so the following.
        batch: how many pictures or windows run together.
        score_threshold: of the task detect.
        max_detections: of the task detect.
        workers: how many run side by side on a thread each; 1: the session alone, on its threads; None: what is
            fastest, measured in the first seconds.
        threads: that the session was opened with, if somebody wanted a number of them: it runs alone then.
        progress: is told of the windows of a picture that has several, as long as one picture runs at a time.

    Raises:
        InputError: at once or with the first row, if the model takes no pictures, or none of that size.
        ConfigError: at once if the session cannot have so many workers.
    """
    limits = session.task().limits(score_threshold, max_detections)
    can_share = session.is_shared and session.device == "cpu"
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, found {workers}.")
    if workers is not None and workers > 1 and (threads or not can_share):
        found = f"threads={threads}" if threads else session.description
        raise ConfigError(f"Several workers run on one thread of a CPU each; found {found}.")
    stream = _Stream(session, image_size, batch, limits, progress)
    return stream.rows(pictures, workers if can_share and not threads else 1)


class _Stream:
    """One run: how pictures are prepared and answered, and how long that takes."""

    def __init__(
        self,
        session: Session,
        image_size: tuple[int, int] | None,
        batch: int | None,
        limits: Limits,
        progress: Progress,
    ) -> None:
        self._session, self._image_size, self._batch = session, image_size, batch
        self._limits, self._progress = limits, progress
        self._took: list[tuple[float, int]] = []
        """Seconds and pictures of each call of ``_answered``."""
        self._is_ended = False
        """Whether nobody wants what runs."""

    def rows(self, pictures: Iterable[Found], workers: int | None) -> Iterator[Row]:
        """The rows of all pictures; with None workers as many as pay."""
        cores, size = usable_cores(), self._batch or BATCH
        with ThreadPoolExecutor(cores, "prepare") as readers:
            prepared = _in_order(readers, self._prepared, pictures, 2 * max(cores, size))
            few = self._few_at_once(prepared, size)
            yield from self._as_fast_as_it_goes(few, cores) if workers is None else self._side_by_side(workers, few)

    def _as_fast_as_it_goes(self, few: Iterator[list[_Prepared]], cores: int) -> Iterator[Row]:
        """First on all cores, then by as many workers as were seen to be fastest."""
        before = status_bytes("VmRSS") or 0
        best = 1
        most = yield from self._tried(best, few)
        taken, left = (status_bytes("VmRSS") or 0) - before, memory_left()
        workers = cores if left is None else min(cores, left // 2 // max(taken, 1))
        last = 0.0
        while workers > 1:
            waiting = list(itertools.islice(few, workers))
            few = itertools.chain(waiting, few)
            if len(waiting) < workers:
                break
            found = yield from self._tried(workers, few)
            if found > most:
                best, most = workers, found
            if found < _BETTER * last:
                break
            last, workers = found, workers // 2
        yield from self._side_by_side(best, few)

    def _tried(self, workers: int, few: Iterator[list[_Prepared]]) -> Generator[Row, None, float]:
        """The rows of some seconds; returns how many pictures a second so many workers run."""
        self._took.clear()
        yield from self._side_by_side(workers, _for_seconds(few, _TRIAL))
        seconds, count = (sum(numbers) for numbers in zip((1e-9, 0), *self._took, strict=True))
        return workers * count / seconds

    def _side_by_side(self, workers: int, few: Iterator[list[_Prepared]]) -> Iterator[Row]:
        """The rows of pictures that so many threads run on a session."""
        session, progress = self._session, self._progress
        if workers > 1:
            session, progress = self._on_one_thread, silent
        with ThreadPoolExecutor(workers, "run") as pool:
            try:
                for rows in _in_order(pool, partial(self._answered, session, progress), few, 2 * workers):
                    yield from rows
            except BaseException:
                self._is_ended = True
                raise

    @cached_property
    def _on_one_thread(self) -> Session:
        session = self._session.on_one_thread()
        assert session is not None  # it is on a CPU
        return session

    def _few_at_once(self, prepared: Iterator[_Prepared], size: int) -> Iterator[list[_Prepared]]:
        """As many pictures at once as run together, at most a batch of them."""
        few: list[_Prepared] = []
        values, most = 0, self._session.most_values if self._batch is None else math.inf
        for one in prepared:
            few.append(one)
            values += one.values
            if len(few) == size or values + one.values > most:
                yield few
                few, values = [], 0
        if few:
            yield few

    def _prepared(self, found: Found) -> _Prepared:
        """A picture read, resized, and its first window made."""
        try:
            picture = found.read()
            windows = picture_windows([picture], self._session.info, self._image_size, self._limits)
            arrays, placement = next(windows)
        except ImageError as error:
            named = error if found.name in str(error) else ImageError(f"{found.name}: {error}")
            return _Prepared(found, error=named)
        values = len(placement.windows) * sum(array.size for array in arrays.values())
        return _Prepared(found, picture, placement, itertools.chain([(arrays, placement)], windows), values)

    def _answered(self, session: Session, progress: Progress, few: list[_Prepared]) -> list[Row]:
        """The rows of a few pictures; if they cannot run together, each alone says which one it was."""
        begin = time.perf_counter()
        good = [one for one in few if one.error is None]
        results: list[Answer | VimdeployError]
        try:
            windows = itertools.chain.from_iterable(self._windows(one, progress) for one in good)
            results = [*session.answers(windows, self._batch)]
        except (ExecutionError, ImageError):
            results = [self._alone(session, one) for one in good]
        self._took.append((time.perf_counter() - begin, len(good)))
        left = iter(results)
        return [_row(one, one.error or next(left)) for one in few]

    def _windows(self, one: _Prepared, progress: Progress) -> Iterator[tuple[Arrays, Placement]]:
        """The windows of a picture; if it has several, progress is told of them."""
        count = len(one.placement.windows) if one.placement else 0
        for window in tracked(one.windows, "Windows", count, progress if count > 1 else silent):
            if self._is_ended:
                raise ExecutionError("The run was ended.")
            yield window

    def _alone(self, session: Session, one: _Prepared) -> Answer | VimdeployError:
        """The answer to a picture, or why there is none."""
        if self._is_ended:
            return ExecutionError("The run was ended.")
        windows = picture_windows([one.picture], session.info, self._image_size, self._limits)
        try:
            (answer,) = session.answers(windows, self._batch)
        except (ExecutionError, ImageError) as error:
            return type(error)(f"{one.found.name}: {error}")
        return answer


def _row(one: _Prepared, result: Answer | VimdeployError) -> Row:
    """What was found for a picture; an answer that is not finite is none."""
    name = one.found.name
    if not isinstance(result, VimdeployError) and result.not_finite:
        result = ExecutionError(
            f"{name} has no answer: {result.not_finite}. vimdeploy verify finds the first stage of the model that is "
            "wrong."
        )
    answer, error = (None, result) if isinstance(result, VimdeployError) else (result, None)
    return Row(name, answer, error, one.picture, one.found.is_named)


def _in_order(pool: Executor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """What a function makes of each item, in a pool, at most so many ahead of whoever takes the results in order."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _for_seconds(items: Iterator[T], seconds: float) -> Iterator[T]:
    """The items that are taken within some seconds, one at least."""
    end = time.monotonic() + seconds
    for item in items:
        yield item
        if time.monotonic() > end:
            return
