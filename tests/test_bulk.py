"""Many pictures: rows in their order, bad ones among them, however many run side by side."""

import dataclasses
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.answers import Answers

from vimdeploy import bulk
from vimdeploy.bulk import answers_of
from vimdeploy.errors import ConfigError, ExecutionError, ImageError, InputError
from vimdeploy.picture_files import Found
from vimdeploy.recipe import Recipe

LOGITS = np.eye(3)[[0, 1, 2] * 100]


class Shared(Answers):
    """Knows which threads have run it, and refuses or spoils some pictures."""

    is_shared = True
    runtime = "stand-in"

    def __init__(self, refused=(), spoiled=()):
        super().__init__(LOGITS)
        recipe = Recipe(mean=(0.0,) * 3, std=(1 / 255,) * 3, crop=1.0)
        self.info = dataclasses.replace(self.info, recipe=recipe)
        self.refused, self.spoiled = set(refused), set(spoiled)
        self.threads = set()
        self.batches = []
        self.other = None

    def _run(self, inputs):
        self.threads.add(threading.current_thread().name)
        numbers = inputs["images"][:, 0, 0, 0].round().astype(int)
        self.batches.append(len(numbers))
        if self.refused & set(numbers):
            raise ExecutionError("The runtime gave up.")
        logits = self.logits[numbers].copy()
        logits[[number in self.spoiled for number in numbers]] = np.nan
        return {"logits": logits}

    def on_one_thread(self):
        self.other = Shared(self.refused, self.spoiled)
        return self.other


def frames(count):
    """Pictures that say their number."""
    return (Found(str(number), np.full((2, 2, 3), number, np.uint8)) for number in range(count))


def classes(rows):
    return [None if row.answer is None else int(row.answer.logits.argmax()) for row in rows]


@pytest.mark.parametrize("workers", [None, 1, 4])
@pytest.mark.parametrize("batch", [None, 1, 7])
def test_rows_come_in_the_order_of_the_pictures(workers, batch):
    rows = list(answers_of(Shared(), frames(100), workers=workers, batch=batch))
    assert [row.image for row in rows] == [str(number) for number in range(100)]
    assert classes(rows) == [number % 3 for number in range(100)]
    assert {row.error for row in rows} == {None}


def test_workers_share_the_session_on_one_thread():
    session = Shared()
    list(answers_of(session, frames(200), workers=4))
    assert (session.threads, len(session.other.threads) > 1) == (set(), True)


def test_pictures_that_run_together_are_a_batch():
    session = Shared()
    list(answers_of(session, frames(20), workers=1, batch=8))
    assert session.batches == [8, 8, 4]


class TestBadPictures:
    def test_are_rows(self):
        bad = [Found("none.png", Path("none.png")), Found("blob", b"none"), Found("gone", ImageError("It went."))]
        rows = list(answers_of(Shared(), itertools.chain(frames(3), bad, frames(2)), workers=2))
        assert classes(rows) == [0, 1, 2, None, None, None, 0, 1]
        assert [str(row.error) for row in rows[3:6]] == [
            "The picture none.png cannot be read: No such file or directory.",
            "blob: The picture of 4 bytes is not a picture that Pillow can read as PNG, JPEG, BMP, WEBP, TIFF, GIF, "
            "PPM, AVIF: it is another file, or its beginning is damaged. Save it as one of these.",
            "gone: It went.",
        ]

    @pytest.mark.parametrize("workers", [1, 3])
    def test_a_run_that_gives_up_costs_the_others_nothing(self, workers):
        rows = list(answers_of(Shared(refused={5, 11}), frames(20), workers=workers, batch=4))
        assert [row.image for row in rows if row.answer is None] == ["5", "11"]
        assert str(rows[5].error) == "5: The runtime gave up."
        assert isinstance(rows[5].error, ExecutionError)

    def test_an_answer_that_is_not_finite_is_none(self):
        rows = list(answers_of(Shared(spoiled={2}), frames(4), workers=1))
        assert classes(rows) == [0, 1, None, 0]
        assert str(rows[2].error).startswith("2 has no answer: 3 of 3 values of logits are NaN or infinite.")

    def test_nothing_but_bad_ones(self):
        rows = list(answers_of(Shared(), (Found(f"{n}.png", Path(f"{n}.png")) for n in range(30)), workers=2))
        assert len(rows) == 30
        assert all(isinstance(row.error, ImageError) for row in rows)

    def test_none(self):
        assert list(answers_of(Shared(), [])) == []


def test_pictures_are_not_listed():
    """However many there are, a few are taken ahead of the rows."""
    taken = []

    def endless():
        for found in itertools.cycle(frames(200)):
            taken.append(found)
            yield found

    rows = answers_of(Shared(), endless(), workers=2)
    for _ in range(300):
        next(rows)
    rows.close()
    assert len(taken) < 300 + 6 * 8 + 4 * bulk.usable_cores()


def test_what_nobody_wants_is_not_run_to_its_end():
    session = Shared()
    rows = answers_of(session, frames(200), workers=1, batch=50)
    session.wanted = lambda: next(rows)
    session.wanted()
    rows.close()
    assert len(session.batches) <= 3


def test_the_end_of_the_rows_ends_the_threads():
    before = threading.active_count()
    rows = answers_of(Shared(), itertools.cycle(frames(200)), workers=2)
    next(rows)
    assert threading.active_count() > before
    rows.close()
    assert threading.active_count() == before


class TestChoice:
    """How many workers are chosen, by rates that are given here."""

    @pytest.fixture
    def chosen(self, monkeypatch):
        def run(rates, cores=8, left=None, taken=0, count=100):
            tried, went_on = [], []

            def trial(stream, workers, few):
                tried.append(workers)
                yield from side_by_side(stream, workers, itertools.islice(few, 1))
                return rates[workers]

            def watched(stream, workers, few):
                went_on.append(workers)
                return side_by_side(stream, workers, few)

            resident = iter((0, taken))
            monkeypatch.setattr(bulk, "usable_cores", lambda: cores)
            monkeypatch.setattr(bulk, "memory_left", lambda: left)
            monkeypatch.setattr(bulk, "status_bytes", lambda field: next(resident))
            side_by_side = bulk._Stream._side_by_side
            monkeypatch.setattr(bulk._Stream, "_tried", trial)
            monkeypatch.setattr(bulk._Stream, "_side_by_side", watched)
            rows = list(answers_of(Shared(), frames(count), batch=1))
            assert [row.image for row in rows] == [str(number) for number in range(count)]
            return tried, went_on

        return run

    def test_as_many_as_there_are_cores(self, chosen):
        assert chosen({1: 10, 8: 20, 4: 15}) == ([1, 8, 4], [8])

    def test_fewer_while_that_is_faster(self, chosen):
        assert chosen({1: 10, 8: 20, 4: 25, 2: 18}) == ([1, 8, 4, 2], [4])

    def test_all_cores_again_if_they_were_best(self, chosen):
        assert chosen({1: 30, 8: 20, 4: 15}) == ([1, 8, 4], [1])

    def test_no_more_than_memory_holds(self, chosen):
        assert chosen({1: 10, 3: 12}, left=6_000, taken=1_000) == ([1, 3], [3])

    def test_no_room_for_two(self, chosen):
        assert chosen({1: 10}, left=1_000, taken=1_000) == ([1], [1])

    @pytest.mark.parametrize("count", [1, 8])
    def test_a_run_without_a_picture_left_for_each(self, chosen, count):
        assert chosen({1: 10}, count=count) == ([1], [1])

    def test_with_one_left_for_each(self, chosen):
        assert chosen({1: 10, 8: 20, 4: 15}, count=9) == ([1, 8, 4], [8])

    def test_one_core(self, chosen):
        assert chosen({1: 10}, cores=1) == ([1], [1])


def test_a_trial_tells_pictures_a_second(monkeypatch):
    stream = bulk._Stream(Shared(), None, 2, None, bulk.silent)

    def side_by_side(workers, few):
        stream._took += [(2.0, 8), (3.0, 2)]  # seconds and pictures
        yield "a row"

    def whole():
        rates.append((yield from stream._tried(4, iter(()))))

    rates = []
    monkeypatch.setattr(stream, "_side_by_side", side_by_side)
    assert (list(whole()), rates) == (["a row"], [pytest.approx(4 * 10 / 5)])


class TestRefused:
    def test_workers_beside_threads(self):
        with pytest.raises(ConfigError, match="Several workers run on one thread of a CPU each; found threads=2"):
            answers_of(Shared(), [], workers=2, threads=2)

    def test_workers_of_a_session_that_runs_alone(self):
        with pytest.raises(ConfigError, match=r"one thread of a CPU each; found Answers \(library, cpu\)"):
            answers_of(Answers(LOGITS), [], workers=2)

    def test_no_worker(self):
        with pytest.raises(ConfigError, match="workers must be at least 1, found 0"):
            answers_of(Shared(), [], workers=0)

    def test_a_size_that_the_model_does_not_take_ends_the_run(self):
        with pytest.raises(InputError, match="Wanted an image height of 4, the file takes 2 alone"):
            list(answers_of(Shared(), frames(5), image_size=(4, 4)))
