import dataclasses
import math
import re
import sys
from datetime import datetime, timezone
from html.parser import HTMLParser

import pytest
from helpers.made import MACHINE, changed, deviation, failing, logits, passing, place, stages

from vimdeploy.errors import MissingPackageError, OutputError
from vimdeploy.parity.results import Agreement, Proportion, Side, Stage, WeightCheck
from vimdeploy.report.page import check_report, page_of

DATE = datetime(2026, 11, 22, 4, 0, tzinfo=timezone.utc)
HOSTILE = """<script>alert(1)</script>"><img src=x onerror='alert(2)'>{{ 7 * 7 }}\N{RIGHT-TO-LEFT OVERRIDE}&amp;"""
SECTIONS = (
    "What was compared",
    "Answers",
    "Error by depth",
    "Errors of the logits",
    "Weights in the file",
    "Determinism",
    "NaN and infinity",
    "Images whose answer changed",
    "What was allowed, and why",
)


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


@pytest.mark.parametrize("verification", [passing(), failing()], ids=["pass", "fail"])
def test_all_sections_are_there(verification):
    headings = read(verification).headings
    assert [heading for heading in headings if heading in SECTIONS] == list(SECTIONS)


def test_sections_without_data_say_so():
    bare = passing(
        answers=Agreement(Proportion(8, 8), None),
        stages=(),
        stages_note="An engine tells nothing of its stages.",
        weights=None,
        determinism=(),
    )
    page = read(bare)
    assert [heading for heading in page.headings if heading in SECTIONS] == list(SECTIONS)
    for sentence in (
        "Accuracy is not known: the inputs have no labels.",
        "An engine tells nothing of its stages.",
        "Not compared: no checkpoint was given.",
        "Not checked.",
        "None in the candidate's logits.",
        "None of 450.",
    ):
        assert sentence in page.text


def test_the_verdict_comes_first():
    assert read(passing()).headings[0] == "Pass. Every error is within its bounds"
    page = read(failing())
    assert page.headings[0] == "Fail. Block 13, in_proj"
    assert "of 144 stages leave their band; the first is Block 13, in_proj." in page.text


def test_what_was_compared():
    sides = {
        "reference": Side("Eager (eager, cpu)", "a.pth", "fp32", "a" * 64),
        "candidate": Side("OnnxRuntime (library, cpu)", "b.onnx", "fp16", "b" * 64),
    }
    text = read(passing(**sides)).text
    for fact in ("a.pth", "a" * 64, "b.onnx", "b" * 64, "OnnxRuntime (library, cpu), fp16", "450 pictures of pictures"):
        assert fact in text
    for fact in ("2026-11-22 04:00 UTC", "A Processor @ 2.50GHz, 2 cores", "onnxruntime 1.31.0", "AVX-512"):
        assert fact in text


def test_several_candidates_have_a_chapter_each_and_the_first_fault_is_the_verdict():
    body = Side("OnnxRuntime (function body, cpu)", "digits.onnx")
    page = read(passing(), failing(candidate=body))
    assert page.headings[0] == "Fail. Block 13, in_proj"
    assert page.headings.count("Answers") == 2
    assert "OnnxRuntime (library, cpu): Pass. Every error is within its bounds" in page.headings
    assert f"{body.description}: Fail. Block 13, in_proj" in page.headings


def test_parts_have_their_interval():
    text = read(failing()).text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "Same first answer 430 of 450 95.56 % 93.24 to 97.10 %" in text


def test_hostile_names_and_labels_stay_text():
    stage = Stage(HOSTILE, HOSTILE, None, HOSTILE, deviation(1.0, 1e-5), None, 1, 0)
    worst = dataclasses.replace(logits(), place=place(image=HOSTILE))
    page = read(
        failing(
            reference=Side(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
            inputs=HOSTILE,
            logits=worst,
            changed=changed(3, image=HOSTILE.replace("{", "{{").replace("}", "}}"), label="'\"><b>"),
            stages=(stage,),
            weights=WeightCheck(1, (HOSTILE,), ()),
            stages_note=HOSTILE,
        )
    )
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "b"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 3
    assert page.text.count(HOSTILE) >= 5


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


def test_not_a_number_is_told_and_placed():
    page = read(passing(logits=logits(math.inf, nan=7, infinite=2), stages=stages(4, nan_at=(2, "scan"))))
    assert page.headings[0] == "Fail. Block 2, scan"
    assert "Block 2, scan 4 0" in page.text
    assert "Logits 7 2" in page.text


def test_as_many_changed_answers_as_are_told_of():
    assert "20 of 450; the first 12 of them are here." in read(failing()).text
    pictures = [attributes for tag, attributes in read(failing()).tags if tag == "img"]
    assert len(pictures) == 12
    assert all(picture["alt"] and picture["src"].startswith("data:image/png;base64,") for picture in pictures)


def test_changed_answers_of_random_inputs_have_no_picture():
    bare = tuple(dataclasses.replace(answer, png=b"", truth="") for answer in changed(2))
    page = read(failing(changed=bare))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "pictures/3/1.png" in page.text


def test_hundreds_of_stages():
    many = stages(100, fault_at=(77, "scan"))
    page = read(failing(stages=many, weights=None))
    assert page.headings[0] == "Fail. Block 77, scan"
    circles = [a for tag, a in page.tags if tag == "circle" and a["class"] != "ring"]
    assert len(circles) == sum(1 + (stage.own is not None) for stage in many)


def test_without_jinja(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'vimdeploy\[export\]'"):
        check_report(tmp_path / "report.html")


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        check_report(tmp_path / "none" / "report.html")
