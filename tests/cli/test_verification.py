import dataclasses
import json

import pytest

from vimdeploy.cli.console import print_json
from vimdeploy.cli.verification import SHOWN, document_of, print_verifications
from vimdeploy.parity.results import (
    Agreement,
    ChangedAnswer,
    DeterminismCheck,
    Deviation,
    Histogram,
    LogitErrors,
    Place,
    Proportion,
    Side,
    Stage,
    Verification,
    WeightCheck,
    WeightDifference,
)
from vimdeploy.tolerance import Tolerance

BAND = Tolerance(1e-5, "a reason")
PLACE = Place("cat.png", (3, 1), 1.0, 1.5)
GOOD, BAD = Deviation(1e-6, BAND, PLACE), Deviation(1e-3, BAND, PLACE)
CHANGE = ChangedAnswer("cat.png", "cat", "dog", 0.25, 0.125, "cat", b"a picture")


def stages(faulty=()):
    found = [BAD if i in faulty else GOOD for i in range(24)]
    return tuple(
        Stage(f"layers.{i}.mixer.scan", f"Block {i}, scan", i, "scan", deviation, deviation, 0, 0)
        for i, deviation in enumerate(found)
    )


@pytest.fixture
def result():
    return Verification(
        Side("Eager (eager, cpu)", "weights.pth"),
        Side("OnnxRuntime (library, cpu)", "model.onnx"),
        4,
        "4 pictures of DIR",
        LogitErrors(1e-6, Place("cat.png", (3,), 1.0, 1.5), 1e-7, 2.0, 1.0, Histogram((0, 1), (4,)), 0, 0, BAND),
        Agreement(Proportion(3, 4), None, Proportion(4, 4), None, Proportion(3, 4), None),
        (CHANGE,),
        stages(),
        determinism=(DeterminismCheck("alone and in a batch", 0.0, BAND),),
    )


def shown(capsys, *results, all_stages=False):
    print_verifications(results, all_stages)
    return capsys.readouterr().out


class TestText:
    def test_begins_with_the_verdict(self, result, capsys):
        assert shown(capsys, result).startswith("Passed: OnnxRuntime (library, cpu) answers as Eager (eager, cpu) does")

    def test_begins_with_the_first_fault_and_whose_it_is(self, result, capsys):
        bad = dataclasses.replace(result, stages=stages([13, 20]))
        first = shown(capsys, result, bad).splitlines()[0]
        assert first.startswith("Block 13, scan: fed with the same values as the reference, an error of 0.001 of its ")
        assert first.endswith("[OnnxRuntime (library, cpu)].")

    def test_has_a_line_a_kind_of_stage_and_one_a_fault(self, result, capsys):
        text = shown(capsys, dataclasses.replace(result, stages=stages([13])))
        assert text.count("\nscan") == 1
        assert text.count("\nBlock") == 1

    def test_does_not_list_too_many_faults(self, result, capsys):
        text = shown(capsys, dataclasses.replace(result, stages=stages(range(24))))
        assert text.count("\nBlock") == SHOWN
        assert f"{24 - SHOWN} more stages are out of their bands; --stages lists all." in text

    def test_lists_every_stage_when_asked_for(self, result, capsys):
        assert shown(capsys, result, all_stages=True).count("\nBlock") == 24

    def test_says_why_there_are_no_stages(self, result, capsys):
        text = shown(
            capsys, dataclasses.replace(result, stages=(), stages_note="Stages are left out: it is an engine.")
        )
        assert "OnnxRuntime (library, cpu): Stages are left out: it is an engine." in text

    def test_has_accuracy_with_its_interval(self, result, capsys):
        text = shown(capsys, result)
        assert "75.00% (30.06% to 95.44%)" in text
        assert "same first five" not in text

    def test_has_the_answers_that_changed_with_both_margins(self, result, capsys):
        text = shown(capsys, result)
        assert "1 answers of OnnxRuntime (library, cpu) are others" in text
        assert text.rstrip().splitlines()[-1].split() == ["cat.png", "cat", "cat", "0.25", "dog", "0.125"]

    def test_says_what_is_equal_to_the_bit(self, result, capsys):
        assert "alone and in a batch  equal to the bit" in shown(capsys, result)

    def test_has_the_weights_that_differ(self, result, capsys):
        weights = WeightCheck(3, ("head.Gemm, input 1",), (WeightDifference("w", "head", 1, 6, (2,), 0.5, 0.505),))
        text = shown(capsys, dataclasses.replace(result, weights=weights))
        assert "Weights: 3 tensors of the file compared, 1 differ." in text
        assert "head: the file's w[2] is 0.505, the checkpoint's 0.5 (1 of 6 elements differ)" in text
        assert "Not found under the names of our exports: 1, first head.Gemm, input 1." in text


class TestDocument:
    def test_is_json_with_all_that_follows(self, result, capsys):
        print_json(document_of([result]))
        [document] = json.loads(capsys.readouterr().out)
        assert (document["passed"], document["fault"], document["logits"]["relative"]) == (True, None, 5e-7)
        assert document["answers"]["top1"]["part"] == 0.75
        assert document["stages"][13]["title"] == "Block 13, scan"

    def test_has_no_pictures(self, result):
        [change] = document_of([result])[0]["changed"]
        assert "png" not in change
        assert change["candidate_margin"] == 0.125
