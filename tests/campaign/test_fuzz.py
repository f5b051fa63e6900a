import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from campaign import fuzz, seeds
from campaign.doors import COMMANDS, DOORS, LOOKING
from campaign.fuzz import Campaign, replayed
from campaign.worker import Outcome, Worker

PAST = sorted((Path(__file__).resolve().parents[1] / "data" / "fuzz").iterdir())
TRIALS = {"commands": 60, "onnx": 150, "portable": 30}
"""At each door, of the minute that ``make test`` spends here; 200 if a door is not named."""


class StandIn:
    """A worker to whom a table with the letter z in it is a fault, and one that begins with y another."""

    def outcome(self, enter, files):
        table = files["table.csv"]
        if b"z" in table:
            return Outcome("crashed", "z", "a traceback")
        return Outcome("hung", "y") if table[:1] == b"y" else Outcome("refused")


@pytest.fixture(scope="module")
def worker():
    with Worker(limit=120) as worker:
        yield worker


class TestCampaign:
    @pytest.fixture
    def campaign(self, tmp_path):
        campaign = Campaign(StandIn(), tmp_path)
        for seed in range(6):
            campaign.round("table", 300, seed)
        return campaign

    def test_finds_a_fault_and_makes_its_input_smaller(self, campaign):
        table = (campaign.faults["table", "z"] / "table.csv").read_bytes()
        assert table.count(b"z") == 1
        assert abs(len(table) - len(seeds.TABLE)) < 10

    def test_saves_what_happened_and_how_to_see_it_again(self, campaign):
        folder = campaign.faults["table", "z"]
        first, second, *rest = (folder / fuzz.FAULT).read_text().splitlines()
        assert (first, second, rest) == ("crashed: z", f"tools/fuzz --replay {folder}", ["", "a traceback"])
        assert replayed(campaign.worker, folder) == Outcome("crashed", "z")

    def test_counts_each_trial_once_and_goes_on_after_a_fault(self, campaign):
        count = campaign.counts["table"]
        assert sum(count.values()) > 900
        assert count["crashed"] > 1
        assert count["refused"] > 500
        assert not campaign.is_clean

    def test_the_same_seed_draws_the_same_files(self, tmp_path):
        class Recorder:
            def __init__(self):
                self.files = []

            def outcome(self, enter, files):
                self.files.append(files)
                return Outcome("accepted")

        both = Recorder(), Recorder()
        for recorder in both:
            Campaign(recorder, tmp_path).round("sidecar", 20, 7)
        assert both[0].files == both[1].files
        assert len(both[0].files) == 20

    def test_time_that_is_up_ends_a_round(self, tmp_path):
        campaign = Campaign(StandIn(), tmp_path)
        campaign.round("table", 50, 0, until=0.0)
        assert campaign.counts == {"table": Counter()}


class TestCommandLine:
    def test_tells_counts_and_ends_with_0(self, monkeypatch, tmp_path):
        monkeypatch.setattr(Worker, "outcome", lambda *_: Outcome("refused"))
        result = CliRunner().invoke(fuzz.main, ["--door", "labels", "--trials", "7", "--output", str(tmp_path)])
        assert result.exit_code == 0
        assert [line.split() for line in result.stdout.splitlines()] == [
            ["door", "tried", "accepted", "refused", "crashed", "hung"],
            ["labels", "7", "0", "7", "0", "0"],
        ]

    @pytest.mark.parametrize("kind", ["crashed", "hung"])
    def test_ends_with_1_and_names_the_fault(self, monkeypatch, tmp_path, kind):
        monkeypatch.setattr(Worker, "outcome", lambda *_: Outcome(kind, "a fault"))
        result = CliRunner().invoke(fuzz.main, ["--door", "labels", "--trials", "7", "--output", str(tmp_path)])
        assert result.exit_code == 1
        (saved,) = tmp_path.iterdir()
        assert f"labels: a fault\n  {saved}\n" in result.stdout

    def test_replays_a_saved_input(self, monkeypatch, tmp_path):
        folder = tmp_path / "labels-0123"
        folder.mkdir()
        (folder / "labels.txt").write_bytes(b"ant")
        monkeypatch.setattr(Worker, "outcome", lambda *_: Outcome("crashed", "a fault", "a traceback"))
        result = CliRunner().invoke(fuzz.main, ["--replay", str(folder)])
        assert (result.exit_code, result.stdout) == (1, "crashed: a fault\na traceback\n")


SOUND = {
    "description": {"tiny.json": seeds.DESCRIPTION},
    "labels": {"labels.txt": seeds.LABELS},
    "rows": {"answers.csv": seeds.ROWS, "answers.jsonl": seeds.JSON_ROWS, "00000.csv": seeds.INDEX}
    | {"list.txt": seeds.PATHS},
    "table": {"table.csv": seeds.TABLE, "one.png": seeds.pictures()[0], "two.png": seeds.pictures()[1]},
}


@pytest.mark.slow
class TestDoors:
    @pytest.mark.parametrize("door", SOUND)
    def test_accept_what_is_sound(self, worker, door):
        assert worker.outcome(DOORS[door].enter, SOUND[door]) == Outcome("accepted")

    @pytest.mark.parametrize("model", [model for model in seeds.MODELS if model != "foreign"])
    def test_accept_sound_models(self, worker, model):
        files = {"model.onnx": seeds.onnx_model(model), "picture.png": seeds.pictures()[0]}
        assert worker.outcome(DOORS["onnx"].enter, files) == Outcome("accepted")

    def test_accept_a_sound_picture(self, worker):
        files = {f"{model}.onnx": seeds.onnx_model(model) for model in LOOKING}
        files["picture.png"] = seeds.pictures()[0]
        assert worker.outcome(DOORS["picture"].enter, files) == Outcome("accepted")

    def test_accept_sound_checkpoints(self, worker):
        assert worker.outcome(DOORS["checkpoint"].enter, {"weights": seeds.checkpoints()[0]}) == Outcome("accepted")
        for weights in seeds.dense_checkpoints():
            files = {"dense.json": seeds.DENSE_DESCRIPTION, "weights": weights}
            assert worker.outcome(DOORS["dense"].enter, files) == Outcome("accepted")

    @pytest.mark.parametrize("command", [*COMMANDS["picture"], *COMMANDS["dense"]])
    def test_commands_run(self, worker, command):
        words = command.split()
        files = {"arguments.json": json.dumps(words).encode(), "picture.png": seeds.pictures()[0]}
        files |= {f"{model}.onnx": seeds.onnx_model(model) for model in seeds.MODELS if f"{model}.onnx" in words}
        if "dense.json" in words:
            files |= {"dense.json": seeds.DENSE_DESCRIPTION, "weights": seeds.dense_checkpoints()["detect" in words]}
        outcome = worker.outcome(DOORS["commands"].enter, files)
        assert outcome == Outcome("accepted"), outcome.details

    @pytest.mark.parametrize("folder", PAST, ids=lambda folder: folder.name)
    def test_past_faults_stay_mended(self, worker, folder):
        outcome = replayed(worker, folder)
        assert not outcome.is_bad, outcome.details

    @pytest.mark.parametrize("door", [door for door in DOORS if door != "operators"])  # which ctest tries
    def test_hold_for_a_while(self, worker, tmp_path, door):
        campaign = Campaign(worker, tmp_path)
        campaign.round(door, TRIALS.get(door, 200), seed=11)
        faults = [(path / fuzz.FAULT).read_text() for path in campaign.faults.values()]
        assert not faults, "\n".join(faults)
