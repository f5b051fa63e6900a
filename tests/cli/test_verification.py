import dataclasses
import json
import re

import pytest

from vimdeploy.cli.console import print_json
from vimdeploy.cli.verification import SHOWN, document_of, print_verifications
from vimdeploy.parity.results import (
    DeterminismCheck,
    Deviation,
    Histogram,
    OutputErrors,
    Place,
    Side,
    Stage,
    Verification,
    WeightCheck,
    WeightDifference,
)
from vimdeploy.tasks.base import Agreement, Change, Measure, Proportion
from vimdeploy.tolerance import Tolerance

BAND = Tolerance(1e-5, "a reason")
PLACE = Place("cat.png", (3, 1), 1.0, 1.5)
GOOD, BAD = Deviation(1e-6, BAND, PLACE), Deviation(1e-3, BAND, PLACE)
TABLE = ("measure ", "same top", "top-1 co")
CHANGE = Change("cat.png", "cat", "dog", "lion", (0.25, 0.125), b"a picture")


def stages(faulty=()):
    found = [BAD if i in faulty else GOOD for i in range(24)]
    return tuple(
        Stage(f"layers.{i}.mixer.scan", f"Block {i}, scan", i, "scan", deviation, deviation, 0, 0)
        for i, deviation in enumerate(found)
    )


def output(name, largest, index, std=2.0):
    place = Place("cat.png", index, 1.0, 1.5)
    return OutputErrors(name, largest, place, 1e-7, std, 1.0, Histogram((0, 1), (4,)), 0, 0, BAND)


@pytest.fixture
def result():
    """A classifier on four labelled pictures."""
    return Verification(
        reference=Side("PyTorch (eager, cpu)", "weights.pth"),
        candidate=Side("ONNX Runtime (library, cpu)", "model.onnx"),
        images=4,
        inputs="4 pictures of DIR",
        outputs=(output("logits", 1e-6, (3,)),),
        answers=Agreement(
            (Measure("same top-1", Proportion(3, 4)), Measure("top-1 correct", Proportion(3, 4), Proportion(4, 4))),
            (CHANGE,),
            1,
            "top logit minus second",
        ),
        stages=stages(),
        determinism=(DeterminismCheck("alone and in a batch", 0.0, BAND),),
    )


@pytest.fixture
def features(result):
    """A feature extractor on pictures without labels."""
    return dataclasses.replace(
        result,
        outputs=(output("map", 1e-6, (11, 3, 2)), output("pooled", 4e-6, (7,)), output("block_5", 0.0, (0, 0, 0))),
        answers=Agreement((Measure("same nearest neighbour", Proportion(4, 4)),)),
    )


def shown(capsys, *results, all_stages=False):
    print_verifications(results, all_stages)
    return capsys.readouterr().out


class TestText:
    def test_begins_with_the_verdict(self, result, capsys):
        assert shown(capsys, result).splitlines()[0] == (
            "Passed: ONNX Runtime (library, cpu) agrees with PyTorch (eager, cpu): the largest error of output logits "
            "is 5.0e-07 standard deviations."
        )

    def test_begins_with_the_first_fault_and_whose_it_is(self, result, capsys):
        bad = dataclasses.replace(result, stages=stages([13, 20]))
        first = shown(capsys, result, bad).splitlines()[0]
        assert first.startswith(
            "Block 13, scan: fed with the same values as the reference, a relative error of 0.001, "
        )
        assert first.endswith("[ONNX Runtime (library, cpu)].")

    def test_has_a_line_a_kind_of_stage_and_one_a_fault(self, result, capsys):
        text = shown(capsys, dataclasses.replace(result, stages=stages([13])))
        assert text.count("\nscan") == 1
        assert text.count("\nBlock") == 1

    def test_does_not_list_too_many_faults(self, result, capsys):
        text = shown(capsys, dataclasses.replace(result, stages=stages(range(24))))
        assert text.count("\nBlock") == SHOWN
        assert f"{24 - SHOWN} more stages failed; --stages lists all." in text

    def test_lists_every_stage_when_asked_for(self, result, capsys):
        assert shown(capsys, result, all_stages=True).count("\nBlock") == 24

    def test_says_why_there_are_no_stages(self, result, capsys):
        text = shown(
            capsys, dataclasses.replace(result, stages=(), stages_note="Stages are left out: it is an engine.")
        )
        assert "ONNX Runtime (library, cpu): Stages are left out: it is an engine." in text

    def test_has_a_line_per_output(self, features, capsys):
        lines = [line for line in shown(capsys, features).splitlines() if "element" in line]
        assert [line.split("  ")[1] for line in lines] == ["map", "pooled", "block_5"]
        assert "5.0e-07" in lines[0]
        assert "cat.png, element 11, 3, 2: 1 / 1.5" in lines[0]
        assert all(line.endswith("1.000000000  pass") for line in lines)

    def test_names_the_worst_output(self, features, capsys):
        assert "the largest error of output pooled is 2.0e-06 standard" in shown(capsys, features)

    def test_says_once_why_errors_are_allowed(self, features, capsys):
        assert shown(capsys, features, features).count("Allowed: a reason.") == 1

    def test_an_output_out_of_its_tolerance_fails(self, features, capsys):
        bad = dataclasses.replace(features, outputs=(*features.outputs[:2], output("block_5", 1.0, (0, 0, 0))))
        text = shown(capsys, bad)
        assert text.startswith("Output block_5: an error of 0.5 standard deviations, 1e-05 is allowed")
        assert text.count("FAIL") == 1

    def test_an_output_of_equal_values_has_no_mean(self, features, capsys):
        flat = dataclasses.replace(features, outputs=(output("map", 0.0, (0, 0, 0), std=0.0),))
        (line,) = [line for line in shown(capsys, flat).splitlines() if "element" in line]
        cells = ["0.0e+00", "1.0e-05", "cat.png, element 0, 0, 0: 1 / 1.5", "1.000000000", "pass"]
        assert re.split(r"  +", line)[2:] == cells

    def test_has_the_measures_with_their_intervals(self, result, capsys):
        text = shown(capsys, result, dataclasses.replace(result, candidate=Side("TensorRT")))
        assert "Answers to 4 images, with 95 % confidence intervals:" in text
        headers, same, correct = [line.split("  ") for line in text.splitlines() if line[:8] in TABLE]
        assert [cell.strip() for cell in headers if cell] == [
            "measure",
            "PyTorch (eager, cpu)",
            "ONNX Runtime (library, cpu)",
            "TensorRT",
        ]
        assert [cell.strip() for cell in same if cell] == ["same top-1", *["75.00% (30.06% to 95.44%)"] * 2]
        assert [cell.strip() for cell in correct if cell] == [
            "top-1 correct",
            "100.00%",
            *["75.00% (30.06% to 95.44%)"] * 2,
        ]

    def test_measures_of_both_sides_at_once_need_no_column_of_the_reference(self, features, capsys):
        lines = shown(capsys, features).splitlines()
        assert [line.split() for line in lines if line.startswith("measure")] == [
            ["measure", "ONNX", "Runtime", "(library,", "cpu)"]
        ]
        assert "same nearest neighbour  100.00% (51.01% to 100.00%)" in lines

    def test_without_a_task_there_are_outputs_alone(self, result, capsys):
        text = shown(capsys, dataclasses.replace(result, answers=Agreement()))
        assert "Only outputs were compared, no answers." in text
        assert "measure" not in text
        assert "different answer" not in text

    def test_explains_the_errors_of_stages(self, result, capsys):
        assert (
            "Largest relative error.\n'own': the stage alone, given the reference's inputs. "
            "'carried': including errors from earlier stages.\n"
        ) in shown(capsys, result)

    def test_has_the_answers_that_changed_with_both_margins(self, result, capsys):
        text = shown(capsys, result)
        assert (
            "ONNX Runtime (library, cpu) gives a different answer for 1 image (margin = top logit minus second):"
            in text
        )
        headers, change = text.rstrip().splitlines()[-2:]
        assert headers.split() == ["image", "label", "reference", "margin", "candidate", "margin"]
        assert change.split() == ["cat.png", "lion", "cat", "0.25", "dog", "0.125"]

    def test_does_not_list_too_many_changed_answers(self, result, capsys):
        answers = dataclasses.replace(result.answers, changes=(CHANGE,) * 40, changed=43)
        text = shown(capsys, dataclasses.replace(result, answers=answers))
        assert f"a different answer for 43 images, the first {SHOWN} listed (margin = " in text
        assert text.count("lion") == SHOWN

    def test_changed_answers_without_labels_and_margins(self, features, capsys):
        answers = dataclasses.replace(features.answers, changes=(Change("a.png", "b.png", "c.png"),), changed=1)
        text = shown(capsys, dataclasses.replace(features, answers=answers))
        assert "gives a different answer for 1 image:\n" in text
        headers, change = text.rstrip().splitlines()[-2:]
        assert headers.split() == ["image", "reference", "candidate"]
        assert change.split() == ["a.png", "b.png", "c.png"]

    def test_says_what_is_identical_to_the_bit(self, result, capsys):
        assert "alone and in a batch  identical to the bit" in shown(capsys, result)

    def test_has_no_determinism_if_it_was_not_checked(self, result, capsys):
        assert "Determinism" not in shown(capsys, dataclasses.replace(result, determinism=()))

    def test_has_the_weights_that_differ(self, result, capsys):
        weights = WeightCheck(3, ("head.Gemm, input 1",), (WeightDifference("w", "head", 1, 6, (2,), 0.5, 0.505),))
        text = shown(capsys, dataclasses.replace(result, weights=weights))
        assert "Weights: 3 tensors compared with the checkpoint's, 1 different." in text
        assert "head: the file's w[2] is 0.505, the checkpoint's 0.5 (1 of 6 elements differ)" in text
        assert "The file does not contain 1 tensor of the checkpoint by name; the first is head.Gemm, input 1." in text


class TestLabels:
    def test_have_their_own_unit(self, result, capsys):
        labels = dataclasses.replace(output("classes", 0.02, (0,), std=1.0), of_labels=True)
        text = shown(capsys, dataclasses.replace(result, outputs=(*result.outputs, labels)))
        assert "in standard deviations of the reference's values; of classes, the part of an image's labels" in text

    def test_an_output_without_values_says_so(self, result, capsys):
        nothing = dataclasses.replace(output("masks", 0.0, ()), histogram=Histogram((0, 1), (0,)))
        text = shown(capsys, dataclasses.replace(result, outputs=(*result.outputs, nothing)))
        assert "nothing was found on both sides" in text


class TestDocument:
    def test_is_json_with_all_that_follows(self, result, capsys):
        print_json(document_of([result]))
        [document] = json.loads(capsys.readouterr().out)
        assert (document["passed"], document["fault"]) == (True, None)
        assert document["outputs"][0]["name"] == "logits"
        assert document["outputs"][0]["relative"] == 5e-7
        same, correct = document["answers"]["measures"]
        assert (same["name"], same["candidate"]["part"], same["reference"]) == ("same top-1", 0.75, None)
        assert correct["reference"]["part"] == 1.0
        assert document["stages"][13]["title"] == "Block 13, scan"

    def test_has_all_outputs_each_once(self, features):
        [document] = document_of([features])
        assert [output["name"] for output in document["outputs"]] == ["map", "pooled", "block_5"]
        assert "worst" not in document

    def test_has_no_pictures(self, result):
        [change] = document_of([result])[0]["answers"]["changes"]
        assert not change.keys() & {"png", "drawn", "sides"}
        assert change["margins"] == [0.25, 0.125]

    def test_of_a_model_without_a_task_has_no_answers(self, result):
        [document] = document_of([dataclasses.replace(result, answers=Agreement())])
        assert document["answers"] == {"measures": [], "changes": [], "changed": 0, "margin": ""}
