import pytest

from vimdeploy.api.bench import Interrupted, bench
from vimdeploy.benchmark.sources import Settings
from vimdeploy.errors import ConfigError

QUICK = {"device": "cpu", "threads": 1, "rounds": 2, "seconds": 0, "warm_up": 1}


@pytest.mark.slow
def test_rows_of_files_and_opened_models(tiny_onnx, tiny_artifact):
    rows = bench([str(tiny_onnx), tiny_artifact], batches=[1, 2], **QUICK)
    assert [(row.artifact, row.batch, row.error) for row in rows] == [
        (str(tiny_onnx), 1, ""),
        ("the model in memory", 1, ""),
        (str(tiny_onnx), 2, ""),
        ("the model in memory", 2, ""),
    ]
    assert (rows[0].image_size, rows[0].ratio, rows[0].calls, rows[0].precision) == ((32, 32), 1, 2, "fp32")


@pytest.mark.slow
def test_one_artifact_needs_no_list(tiny_onnx):
    first, eager = bench(str(tiny_onnx), against="eager", **QUICK)
    assert (first.error, eager.error, eager.operators) == ("", "", "eager")


def test_what_fails_is_a_row(tiny_onnx):
    missing, good = bench(["none.onnx", tiny_onnx], **QUICK)
    assert "No such file" in missing.error
    assert (good.error, good.ratio) == ("", None)


def test_a_profile_and_progress(tiny_onnx):
    phases = []
    (row,) = bench([tiny_onnx], profile=True, progress=lambda phase, done, steps: phases.append(phase), **QUICK)
    assert sum(part.share for part in row.profile) == pytest.approx(1)
    assert list(dict.fromkeys(phases)) == ["Preparing, own size", "Measuring, own size, batch 1"]


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"batches": [0]}, {"task": "dreams"}, {"against": ["resnet"]}])
def test_what_cannot_be_is_an_error(tiny_onnx, wrong):
    with pytest.raises(ConfigError):
        bench([tiny_onnx], **QUICK | wrong)


def test_all_settings_arrive(monkeypatch, tiny_onnx):
    given = {
        "device": "cuda",
        "providers": ["CPUExecutionProvider"],
        "cuda_graphs": True,
        "operators": "library",
        "threads": 3,
        "allow_engine_code": True,
        "task": "features",
        "variant": "v",
        "rounds": 7,
        "seconds": 0.25,
        "warm_up": 2,
        "profile": True,
    }
    seen = []
    monkeypatch.setattr("vimdeploy.benchmark.run.measure", lambda group, settings, *_: seen.append(settings))
    assert bench([tiny_onnx], **given) == []
    assert seen == [Settings(**given)]


def test_an_interrupt_keeps_what_was_measured(tiny_onnx, monkeypatch):
    def stop(group, settings, progress, phase):
        if group[0].subject.batch == 2:
            raise KeyboardInterrupt
        group[0].error = "Not measured."

    monkeypatch.setattr("vimdeploy.benchmark.run.measure", stop)
    with pytest.raises(Interrupted) as interrupt:
        bench([tiny_onnx], batches=[1, 2, 3])
    assert isinstance(interrupt.value, KeyboardInterrupt)
    assert [row.batch for row in interrupt.value.results] == [1]
