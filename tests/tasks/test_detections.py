import io
import json

import numpy as np
import pytest
import torch
from helpers.detections import NAMES, half
from PIL import Image

from vimdeploy import coco
from vimdeploy.tasks.detections import Detections, pasted
from vimdeploy.tasks.segment import color_of

CAT, DOG, BIRD = range(3)


def found(*detections, size=(60, 100), labels=NAMES, **fields):
    """Detections of (box, score, class), with masks that fill their boxes."""
    boxes, scores, classes = zip(*detections, strict=True) if detections else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(classes, np.int64),
        np.ones((len(detections), 28, 28), np.float32),
        size,
        labels,
        **fields,
    )


TWO = found(((10, 20, 30, 60), 0.9, CAT), ((40, 8, 90, 32), 0.6, DOG))


class TestTable:
    def test_a_line_each(self):
        assert TWO.rows() == [
            (" 90.00%", "cat", "10.0", "20.0", "20.0", "40.0"),
            (" 60.00%", "dog", "40.0", "8.0", "50.0", "24.0"),
        ]
        assert len(TWO.columns) == 6

    def test_the_rest_is_counted(self):
        assert [row[1] for row in TWO.first(1).rows()] == ["cat", "and 1 more"]

    def test_nothing_is_found(self):
        assert found().rows() == [("", "nothing found", "", "", "", "")]

    def test_classes_that_nobody_named(self):
        assert found(((0, 0, 9, 9), 0.5, 7), labels=()).rows()[0][1] == "class 7"


class TestDocument:
    def test_has_all_of_them(self):
        document = json.loads(json.dumps(TWO.first(1).document()))
        assert document["size"] == [60, 100]
        assert [line["label"] for line in document["detections"]] == ["cat", "dog"]
        assert document["detections"][1] | {"segmentation": None} == {
            "category_id": 1,
            "bbox": [40, 8, 50, 24],
            "score": 0.6,
            "segmentation": None,
            "label": "dog",
        }

    def test_nothing_is_found(self):
        assert found().document() == {"size": [60, 100], "detections": []}
        assert found().results(3) == []

    def test_lines_of_results(self):
        first, second = TWO.results(139)
        assert list(first) == ["image_id", "category_id", "bbox", "score", "segmentation"]
        assert (first["image_id"], second["bbox"]) == (139, [40, 8, 50, 24])

    @pytest.mark.parametrize(("labels", "number"), [(coco.NAMES, 90), (NAMES, 79), ((), 79)])
    def test_categories_are_cocos_if_the_names_are(self, labels, number):
        (line,) = found(((0, 0, 9, 9), 0.5, 79), labels=labels).results("a")
        assert line["category_id"] == number

    def test_as_arrays(self):
        assert {name: array.shape for name, array in TWO.arrays().items()} == {
            "boxes": (2, 4),
            "scores": (2,),
            "classes": (2,),
            "masks": (2, 28, 28),
        }


class TestPasted:
    def test_a_whole_box(self):
        inside, corner = pasted(np.ones((28, 28), np.float32), np.array([10.0, 20, 30, 60]), (60, 100))
        assert (inside.shape, corner) == ((40, 20), (20, 10))
        assert inside.all()

    def test_a_half(self):
        inside, _ = pasted(half("left"), np.array([0.0, 0, 56, 28]), (100, 100))
        assert inside[:, :28].all()
        assert not inside[:, 28:].any()

    @pytest.mark.parametrize("seed", range(20))
    def test_as_torch_interpolates(self, seed):
        """As detectron2 pastes: grid_sample over the whole picture, align_corners False, zeros outside."""
        generator = np.random.default_rng(seed)
        mask = generator.random((28, 28), np.float32) ** 0.5
        x1, y1 = generator.uniform(0, 40, 2)
        box = np.array([x1, y1, x1 + generator.uniform(0.1, 60), y1 + generator.uniform(0.1, 60)], np.float32)
        box = np.minimum(box, (70, 50, 70, 50)).astype(np.float32)
        ys, xs = torch.arange(50) + 0.5, torch.arange(70) + 0.5
        grid = torch.stack(
            torch.meshgrid(
                (xs - box[0]) / (box[2] - box[0]) * 2 - 1, (ys - box[1]) / (box[3] - box[1]) * 2 - 1, indexing="xy"
            ),
            dim=-1,
        )
        values = torch.nn.functional.grid_sample(torch.from_numpy(mask)[None, None], grid[None], align_corners=False)
        certain = (values[0, 0] - 0.5).abs().numpy() > 1e-4
        whole = np.zeros((50, 70), bool)
        inside, (top, left) = pasted(mask, box, (50, 70))
        whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        assert np.array_equal(whole[certain], (values[0, 0].numpy() >= 0.5)[certain])

    def test_a_large_picture_in_strips(self):
        inside, _ = pasted(half("right"), np.array([0.0, 0, 3000, 2000]), (2000, 3000))
        assert inside.shape == (2000, 3000)
        assert inside[100:-100, 1500:-100].all()  # the corners are round, since a mask is 0 outside of its box
        assert not inside[:, :1499].any()

    def test_a_box_between_the_middles_of_pixels(self):
        inside, _ = pasted(np.ones((28, 28), np.float32), np.array([0.6, 0.6, 0.9, 5.0]), (10, 10))
        assert inside.shape == (4, 0)


class TestPicture:
    def test_a_box_its_mask_and_its_name(self):
        drawn = np.asarray(found(((20, 20, 60, 50), 0.9, DOG)).picture(Image.new("RGB", (100, 60), "black")))
        color = np.array(color_of(DOG))
        assert np.array_equal(drawn[20, 40], color)
        assert np.array_equal(drawn[35, 20], color)
        np.testing.assert_allclose(drawn[35, 40], 0.45 * color, atol=1.5)
        assert not drawn[55, 80].any()
        assert (drawn[5:20, 20:60] == color).all(axis=-1).mean() > 0.3  # the ground of its name

    def test_masks_are_drawn(self):
        answer = found(((0, 0, 100, 60), 0.9, CAT))
        answer.masks[0] = half("left")
        drawn = np.asarray(answer.picture(Image.new("RGB", (100, 60), "white")))
        assert (drawn[40, 30] < 255).any()
        assert (drawn[40, 70] == 255).all()

    def test_nothing_is_found(self):
        picture = Image.effect_noise((100, 60), 50).convert("RGB")
        assert np.array_equal(found().picture(picture), picture)

    def test_on_a_picture_of_another_size(self):
        drawn = np.asarray(found(((10, 10, 90, 50), 0.9, CAT)).picture(Image.new("L", (200, 120), "black")))
        assert np.array_equal(drawn[60, 20], color_of(CAT))
        assert np.array_equal(drawn[60, 180], color_of(CAT))

    @pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3)])
    def test_on_a_picture_of_any_size(self, size):
        assert TWO.picture(Image.new("RGB", size)).size == size

    def test_names_of_any_letters(self):
        answer = found(((10, 10, 90, 50), 0.9, 0), labels=("天空",))
        assert answer.picture(Image.new("RGB", (100, 60))).size == (100, 60)

    def test_faint_ones_are_thin(self):
        answer = found(((10, 10, 90, 50), 0.9, CAT), faint=frozenset([0]))
        drawn = np.asarray(answer.picture(Image.new("RGB", (100, 60), "black")))
        assert not drawn[30, 50].any()
        assert len(set(drawn[30, 10].tolist())) == 1
        assert drawn[30, 10].all()

    def test_what_is_not_finite_is_not_drawn(self):
        picture = Image.new("RGB", (100, 60), "black")
        assert not np.asarray(found(((10, np.nan, 90, 50), 0.9, CAT)).picture(picture)).any()

    def test_is_a_picture_that_can_be_saved(self):
        file = io.BytesIO()
        TWO.picture(Image.new("RGB", (100, 60))).save(file, "PNG")
        assert Image.open(io.BytesIO(file.getvalue())).size == (100, 60)
