"""``vimdeploy run`` on files of the task detect."""

import csv
import json

import numpy as np
import pytest
from helpers.detections import NAMES, Always
from PIL import Image

CAT, DOG, BIRD = range(3)
TWO = [((8, 16, 24, 48), 0.9, CAT), ((32, 8, 72, 40), 0.3, DOG)]


@pytest.fixture(autouse=True)
def detect(monkeypatch):
    """A file that finds two objects in any picture."""
    monkeypatch.setattr("vimdeploy.runtimes.load.load", lambda *_, **__: Always(TWO))


@pytest.fixture
def pictures(tmp_path):
    """Three of twice the input's size."""
    paths = [tmp_path / name for name in ("000000000139.jpg", "cat.png", "7.png")]
    for path in paths:
        Image.new("RGB", (192, 128), "white").save(path)
    return paths


class TestResults:
    def test_of_all_pictures(self, invoke, pictures, tmp_path):
        result = invoke("run", "m.onnx", *pictures, "-o", tmp_path / "results.json")
        assert result.exit_code == 0, result.output
        found = json.loads((tmp_path / "results.json").read_text())
        assert [line["image_id"] for line in found] == [139, 139, "cat", "cat", 7, 7]
        assert found[0] | {"segmentation": 0} == {
            "image_id": 139,
            "category_id": CAT,
            "bbox": [16, 32, 32, 64],
            "score": 0.9,
            "segmentation": 0,
        }
        assert found[1]["segmentation"]["size"] == [128, 192]
        assert "results.json: 6 objects in 3 pictures" in result.stderr

    def test_cocos_own_tools_take_them(self, invoke, pictures, tmp_path):
        pytest.importorskip("pycocotools", reason="needs pycocotools: pip install '.[dev]'")
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        picture = pictures[0]
        assert invoke("run", "m.onnx", picture, "-o", tmp_path / "results.json").exit_code == 0
        truth = {
            "info": {},
            "images": [{"id": 139, "width": 192, "height": 128}],
            "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES)],
            "annotations": [
                {"id": 1, "image_id": 139, "category_id": CAT, "bbox": [16, 32, 32, 64], "area": 2048, "iscrowd": 0,
                 "segmentation": [[16, 32, 48, 32, 48, 96, 16, 96]]},
                {"id": 2, "image_id": 139, "category_id": DOG, "bbox": [64, 16, 80, 64], "area": 5120, "iscrowd": 0,
                 "segmentation": [[64, 16, 144, 16, 144, 80, 64, 80]]},
            ],
        }  # fmt: skip
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        ours = COCO(str(tmp_path / "truth.json"))
        theirs = ours.loadRes(str(tmp_path / "results.json"))
        for kind in ("bbox", "segm"):
            judged = COCOeval(ours, theirs, kind)
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
            assert judged.stats[0] == pytest.approx(1)

    def test_two_pictures_of_one_number(self, invoke, pictures, tmp_path):
        other = tmp_path / "007.png"
        pictures[2].rename(other)
        Image.new("RGB", (8, 8)).save(pictures[2])
        result = invoke("run", "m.onnx", pictures[2], other, "-o", tmp_path / "results.json")
        assert (result.exit_code, "would have the same image_id, 7" in result.stderr) == (2, True)
        assert not (tmp_path / "results.json").exists()

    def test_a_picture_without_an_answer_does_not_cost_the_others_theirs(self, invoke, pictures, tmp_path):
        result = invoke("run", "m.onnx", pictures[0], "none.png", "-o", tmp_path / "results.json")
        assert result.exit_code == 2
        assert [line["image_id"] for line in json.loads((tmp_path / "results.json").read_text())] == [139, 139]

    def test_no_picture_has_an_answer(self, invoke, tmp_path):
        assert invoke("run", "m.onnx", "none.png", "-o", tmp_path / "results.json").exit_code == 2
        assert not (tmp_path / "results.json").exists()

    def test_over_a_picture(self, invoke, pictures):
        before = pictures[0].read_bytes()
        result = invoke("run", "m.onnx", *pictures, "-o", pictures[0])
        assert (result.exit_code, "would be written over" in result.stderr) == (2, True)
        assert pictures[0].read_bytes() == before

    def test_nothing_is_found(self, invoke, pictures, tmp_path):
        asked = ("--score-threshold", 0.95)
        result = invoke("run", "m.onnx", pictures[0], "-o", tmp_path / "results.json", *asked)
        assert (result.exit_code, (tmp_path / "results.json").read_text()) == (0, "[]")
        assert "nothing found" in result.stdout


class TestLimits:
    @pytest.mark.parametrize(
        ("asked", "count"),
        [((), 2), (("--score-threshold", 0.5), 1), (("--max-detections", 1), 1), (("--score-threshold", 0), 2)],
    )
    def test_are_kept(self, invoke, pictures, asked, count):
        document = json.loads(invoke("run", "m.onnx", pictures[0], "--json", *asked).stdout)
        assert len(document["images"][0]["detections"]) == count

    @pytest.mark.parametrize(
        "asked",
        [("--score-threshold", 1), ("--score-threshold", "nan"), ("--max-detections", 0), ("--max-detections", 1001)],
    )
    def test_that_nothing_keeps_to_are_refused(self, invoke, pictures, asked):
        result = invoke("run", "m.onnx", pictures[0], *asked)
        assert (result.exit_code, result.stdout) == (2, "")
        assert asked[0].strip("-").replace("-", "_") in result.stderr.replace("-", "_")


class TestShown:
    def test_as_a_table(self, invoke, pictures):
        header, first, second = invoke("run", "m.onnx", pictures[0]).stdout.splitlines()
        assert header.split() == ["image", "score", "class", "x", "y", "width", "height"]
        assert first.split()[1:] == ["90.00%", "cat", "16.0", "32.0", "32.0", "64.0"]
        assert second.split() == ["30.00%", "dog", "64.0", "16.0", "80.0", "64.0"]

    def test_the_best(self, invoke, pictures):
        *_, last = invoke("run", "m.onnx", pictures[0], "--top", 1).stdout.splitlines()
        assert last.strip() == "and 1 more"

    def test_saved(self, invoke, pictures, tmp_path):
        assert invoke("run", "m.onnx", *pictures, "--save", tmp_path / "out").exit_code == 0
        assert len(list((tmp_path / "out").iterdir())) == 6
        assert Image.open(tmp_path / "out/cat.png").size == (192, 128)
        assert np.load(tmp_path / "out/cat.npz")["boxes"].tolist()[0] == [16, 32, 48, 96]


class TestRows:
    def test_csv_has_a_line_for_each_object(self, invoke, pictures, tmp_path):
        assert invoke("run", "m.onnx", *pictures, "-o", tmp_path / "a.csv").exit_code == 0
        with (tmp_path / "a.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row.pop("image") for row in rows] == [str(path) for path in pictures for _ in TWO]
        assert [json.loads(row.pop("bbox")) for row in rows[:2]] == [[16, 32, 32, 64], [64, 16, 80, 64]]
        assert rows[0] == {"category_id": str(CAT), "label": NAMES[CAT], "score": "0.9", "error": ""}

    def test_json_lines_have_the_masks(self, invoke, pictures, tmp_path):
        assert invoke("run", "m.onnx", *pictures, "-o", tmp_path / "a.jsonl").exit_code == 0
        rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
        assert [row["image"] for row in rows] == [str(path) for path in pictures]
        assert rows[0]["detections"][0]["segmentation"]["size"] == [128, 192]
