import dataclasses
import math
import re
import sys
from datetime import datetime, timezone
from html.parser import HTMLParser

import pytest
from helpers.made import (
    CHANGED,
    MACHINE,
    SECTIONS,
    changes,
    classified,
    deviation,
    drawn,
    failing,
    features,
    output,
    passing,
    place,
    stages,
    taskless,
)

from vimdeploy.errors import MissingPackageError, OutputError
from vimdeploy.parity.results import Histogram, Side, Stage, WeightCheck
from vimdeploy.report.page import check_report, page_of
from vimdeploy.tasks.base import Agreement, Change, Measure, Proportion

DATE = datetime(2026, 11, 22, 4, 0, tzinfo=timezone.utc)
HOSTILE = """<script>alert(1)</script>"><img src=x onerror='alert(2)'>{{ 7 * 7 }}\N{RIGHT-TO-LEFT OVERRIDE}&amp;"""


class Reader(HTMLParser):
    """The tags of a page, and what a person reads."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.headings = [], [], []
        self._skipped = self._heading = False
        self.feed(page)
        self.text = " ".join("".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._skipped = tag == "style"
        self.texts.append(" " if tag in ("td", "th") else "")
        if tag in ("h1", "h2", "h3"):
            self._heading = True
            self.headings.append("")

    def handle_endtag(self, tag):
        self._skipped = False
        self._heading = self._heading and tag not in ("h1", "h2", "h3")

    def handle_data(self, data):
        if not self._skipped:
            self.texts.append(data)
        if self._heading:
            self.headings[-1] += data


def read(*verifications):
    return Reader(page_of(verifications, MACHINE, DATE))


def plain(*verifications):
    """The text of a page, in characters that a keyboard has."""
    special = {"\N{NARROW NO-BREAK SPACE}": " ", "\N{MULTIPLICATION SIGN}": "x", "\N{EN DASH}": "-"}
    return " ".join(read(*verifications).text.translate(str.maketrans(special)).split())


@pytest.mark.parametrize("verification", [passing(), failing(), features()], ids=["pass", "fail", "features"])
def test_all_sections_are_there(verification):
    headings = read(verification).headings
    assert [heading for heading in headings if heading in SECTIONS] == list(SECTIONS)


def test_sections_without_data_say_so():
    bare = passing(
        answers=Agreement((Measure("same top-1", Proportion(8, 8)),)),
        stages=(),
        stages_note="An engine does not expose its stages.",
        weights=None,
        determinism=(),
    )
    page = read(bare)
    assert [heading for heading in page.headings if heading in SECTIONS] == list(SECTIONS)
    for sentence in (
        "How often each side is right is unknown, because the inputs have no labels.",
        "An engine does not expose its stages.",
        "Not compared: no checkpoint was given.",
        "Not checked.",
        "None in the candidate's outputs.",
        "None of 450.",
    ):
        assert sentence in page.text


def test_the_verdict_comes_first():
    assert read(passing()).headings[0] == "Pass. Every error is within its bounds"
    page = read(failing())
    assert page.headings[0] == "Fail. Block 13, in_proj"
    assert "of 144 stages fail; the first is Block 13, in_proj." in page.text


def test_what_was_compared():
    sides = {
        "reference": Side("PyTorch (eager, cpu)", "a.pth", "fp32", "a" * 64),
        "candidate": Side("ONNX Runtime (library, cpu)", "b.onnx", "fp16", "b" * 64),
    }
    text = read(passing(**sides)).text
    for fact in (
        "a.pth",
        "a" * 64,
        "b.onnx",
        "b" * 64,
        "ONNX Runtime (library, cpu), fp16",
        "450 pictures of pictures",
    ):
        assert fact in text
    for fact in ("2026-11-22 04:00 UTC", "A Processor @ 2.50GHz, 2 cores", "onnxruntime 1.31.0", "AVX-512"):
        assert fact in text


def test_several_candidates_have_a_chapter_each_and_the_first_fault_is_the_verdict():
    body = Side("ONNX Runtime (function body, cpu)", "digits.onnx")
    page = read(passing(), failing(candidate=body))
    assert page.headings[0] == "Fail. Block 13, in_proj"
    assert page.headings.count("Answers") == 2
    assert "ONNX Runtime (library, cpu): Pass. Every error is within its bounds" in page.headings
    assert f"{body.description}: Fail. Block 13, in_proj" in page.headings


def test_answers_are_a_table_of_measures():
    text = plain(failing())
    assert "of all images reference candidate 95 % interval" in text
    assert "same top-1 - 95.56 % 430 of 450 93.24 to 97.10 %" in text
    assert "top-1 correct 98.89 % 445 of 450 95.78 % 431 of 450 93.50 to 97.28 %" in text
    assert "no labels" not in text


def test_a_feature_extractor_has_a_table_of_outputs_and_a_histogram_of_each():
    page = read(features())
    text = plain(features())
    for line in (
        "map 2.0 x 10⁻⁵ 1.0 x 10⁻⁴ pass 4.0 x 10⁻⁷ 0.999999999",
        "pooled 4.5 x 10⁻⁶ 1.0 x 10⁻⁴ pass",
        "block_5 1.0 x 10⁻⁵ 1.0 x 10⁻⁴ pass",
        "Output map, the worst. Bars: the number of values",
        "The other 2 outputs",
        "Output pooled. Bars:",
        "element 11, 3, 2: ",
        "same nearest neighbour 100.00 % 450 of 450",
        "same nearest neighbour for 450 of 450 images; the largest error of output map is 2.0 x 10⁻⁵ standard",
    ):
        assert line in text
    assert "reference candidate" not in text
    assert [a["aria-label"].split(";")[0] for tag, a in page.tags if "values of" in a.get("aria-label", "")] == [
        "5,000 values of map",
        "5,000 values of pooled",
        "5,000 values of block_5",
    ]
    assert not re.search("logit|class", page.text)


def test_an_output_out_of_its_tolerance_is_the_verdict():
    page = read(features(outputs=(output("map"), output("pooled", 0.5)), stages=()))
    assert page.headings[0] == "Fail. Output pooled"
    assert "Output pooled, the worst" in page.text
    assert "The other output" in page.text


def test_a_model_without_a_task_has_outputs_alone():
    page = read(taskless())
    assert [heading for heading in page.headings if heading in SECTIONS] == [s for s in SECTIONS if s != CHANGED]
    assert "Only outputs were compared, no answers." in page.text
    assert "agrees with PyTorch (eager, cpu): the largest error is " in page.text


def test_an_output_of_equal_values_has_no_relative_mean():
    flat = dataclasses.replace(output("map"), largest=0.0, mean=0.0, std=0.0)
    assert "map 0 1.0 x 10⁻⁴ pass - " in plain(features(outputs=(flat, output("pooled"))))


def test_hostile_names_and_labels_stay_text():
    stage = Stage(HOSTILE, HOSTILE, None, HOSTILE, deviation(1.0, 1e-5), None, 1, 0)
    worst = dataclasses.replace(output(HOSTILE), place=place(image=HOSTILE))
    changed = changes(3, image=HOSTILE.replace("{", "{{").replace("}", "}}"), label="'\"><b>")
    answers = Agreement((Measure(HOSTILE, Proportion(1, 4)),), changed, 3, HOSTILE)
    page = read(
        failing(
            reference=Side(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
            inputs=HOSTILE,
            outputs=(worst, output("pooled")),
            answers=answers,
            stages=(stage,),
            weights=WeightCheck(1, (HOSTILE,), ()),
            stages_note=HOSTILE,
        )
    )
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "b"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 3
    assert page.text.count(HOSTILE) >= 7


def test_names_that_are_no_text_can_be_written():
    page = page_of([passing(inputs="450 pictures of caf\udce9")], MACHINE, DATE)
    assert "caf?" in page.encode().decode()


def test_the_page_refers_to_nothing_outside():
    for tag, attributes in read(failing()).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, name)
    page = page_of([failing()], MACHINE, DATE)
    assert not re.search(r"@import|url\(|https?:", page)


def test_the_policy_allows_nothing_but_the_pages_own():
    (policy,) = (a["content"] for tag, a in read(passing()).tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("style-src").startswith("'sha256-")
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}


def test_not_a_number_is_counted_and_located():
    page = read(passing(outputs=(output(largest=math.inf, nan=7, infinite=2),), stages=stages(4, nan_at=(2, "scan"))))
    assert page.headings[0] == "Fail. Block 2, scan"
    assert "Block 2, scan 4 0" in page.text
    assert "Output logits 7 2" in page.text


def test_all_changed_answers_are_counted_and_the_first_are_shown():
    assert "20 of 450; the first 12 of them are shown." in read(failing()).text
    pictures = [attributes for tag, attributes in read(failing()).tags if tag == "img"]
    assert len(pictures) == 12
    assert all(picture["alt"] and picture["src"].startswith("data:image/png;base64,") for picture in pictures)


def test_changed_answers_of_random_inputs_have_no_picture():
    bare = tuple(dataclasses.replace(change, png=b"", truth="") for change in changes(2))
    page = read(failing(answers=classified(448, shown=bare)))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "pictures/3/1.png" in page.text


def test_changed_answers_that_are_pictures_stand_side_by_side():
    page = read(drawn())
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures] == [
        "The reference's answer to street.png",
        "The candidate's answer to street.png",
    ]
    assert all(picture["src"].startswith("data:image/jpeg;base64,") for picture in pictures)
    assert "drawn on what the models saw of the picture. What both sides found is a thin grey box." in page.text


def test_outputs_of_labels_have_their_own_unit():
    labels = dataclasses.replace(output("classes", 0.02), std=1.0, of_labels=True)
    text = read(features(outputs=(output("boxes"), labels))).text
    assert (
        "in standard deviations of the reference's values; of classes, the part of an image's labels that differ."
        in text
    )


def test_outputs_without_values_say_so():
    nothing = dataclasses.replace(output("masks", 0.0), histogram=Histogram((0, 1), (0,)))
    text = read(features(outputs=(output("boxes"), nothing))).text
    assert "Output masks: nothing was found on both sides, so no values were compared." in text


def test_changed_answers_have_margins_and_what_these_are():
    text = read(failing()).text
    assert "Margin = top logit minus second; the reference's largest margin among them is 0.0123." in text
    assert "0, margin 0.0123" in text


def test_changed_answers_without_margins():
    changed = (Change("a.png", "b.png", "c.png"),)
    text = read(features(answers=Agreement((Measure("same", Proportion(449, 450)),), changed, 1))).text
    assert "1 of 450." in text
    assert "argin" not in text


def test_hundreds_of_stages():
    many = stages(100, fault_at=(77, "scan"))
    page = read(failing(stages=many, weights=None))
    assert page.headings[0] == "Fail. Block 77, scan"
    circles = [a for tag, a in page.tags if tag == "circle" and a["class"] != "ring"]
    assert len(circles) == sum(1 + (stage.own is not None) for stage in many)


def test_without_jinja(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingPackageError, match=r"pip install '.*\[export\]'"):
        check_report(tmp_path / "report.html")


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        check_report(tmp_path / "none" / "report.html")
