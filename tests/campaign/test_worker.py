import pytest
from helpers import faulty_doors

from campaign.worker import Worker

FILES = {"file.bin": b"data"}


@pytest.fixture(scope="module")
def worker():
    with Worker(limit=60) as worker:
        yield worker


@pytest.mark.slow  # starts the process that the workers are forked from, with torch in it
class TestWorker:
    @pytest.mark.parametrize(
        ("door", "kind", "fault"),
        [
            ("accepts", "accepted", ""),
            ("refuses", "refused", ""),
            ("refuses_without_a_word", "crashed", "ImageError at faulty_doors.py:20 in refuses_without_a_word with a"),
            (
                "repeats_the_file",
                "crashed",
                "ImageError at faulty_doors.py:24 in repeats_the_file with a message of 10000",
            ),
            ("raises", "crashed", "KeyError at faulty_doors.py:28 in raises"),
            ("leaves", "crashed", "SystemExit at faulty_doors.py:32 in leaves"),
            ("takes_all_memory", "crashed", "MemoryError at faulty_doors.py:45 in takes_all_memory"),
            ("dies", "crashed", "the process died: SIGSEGV"),
        ],
    )
    def test_tells_how_a_trial_ended(self, worker, door, kind, fault):
        outcome = worker.outcome(getattr(faulty_doors, door), FILES)
        assert outcome.kind == kind
        assert outcome.fault.startswith(fault)
        assert bool(fault) == outcome.is_bad

    def test_tells_the_last_words_of_one_that_died_and_goes_on(self, worker):
        assert "the last word" in worker.outcome(faulty_doors.dies, FILES).details
        assert worker.outcome(faulty_doors.accepts, FILES).kind == "accepted"

    def test_ends_one_that_hangs_and_goes_on(self, worker):
        with Worker(limit=0.5) as impatient:
            assert impatient.outcome(faulty_doors.hangs, FILES).fault == "no end after 0.5 s"
        assert worker.outcome(faulty_doors.accepts, FILES).kind == "accepted"
