import json

import numpy as np
import pytest

from vimdeploy.coco import CATEGORIES, NAMES, category_id, run_lengths


class TestCategories:
    def test_eighty_of_ninety(self):
        assert (len(NAMES), len(set(NAMES)), max(CATEGORIES)) == (80, 80, 90)
        assert [number for number in range(1, 91) if number not in CATEGORIES] == [
            12, 26, 29, 30, 45, 66, 68, 69, 71, 83,
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("number", "name"), [(1, "person"), (13, "stop sign"), (67, "dining table"), (90, "toothbrush")]
    )
    def test_names(self, number, name):
        assert CATEGORIES[number] == name

    @pytest.mark.parametrize(("labels", "number"), [(NAMES, 90), (list(NAMES), 90), (NAMES[:79], 79), ((), 79)])
    def test_a_category_is_cocos_if_all_names_are(self, labels, number):
        assert category_id(79, labels) == number

    def test_a_class_that_is_none(self):
        assert category_id(80, NAMES) == 80


def rectangle(height, width, top, left, bottom, right):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


class TestRunLengths:
    """The texts were written by pycocotools 2.0.11."""

    @pytest.mark.parametrize(
        ("mask", "text"),
        [
            (rectangle(3, 4, 0, 0, 0, 0), "<"),
            (rectangle(3, 4, 0, 0, 3, 4), "0<"),
            (rectangle(3, 4, 0, 0, 2, 1), "02:"),
            (rectangle(3, 4, 1, 1, 3, 3), "42102"),
            (rectangle(3, 4, 0, 3, 3, 4), "93"),
            (rectangle(480, 640, 100, 200, 300, 204), "Tkm2X6h800000lX\\6"),
        ],
    )
    def test_as_text(self, mask, text):
        assert run_lengths(mask, (0, 0), mask.shape) == {"size": list(mask.shape), "counts": text}

    def test_of_a_part(self):
        mask = rectangle(48, 64, 10, 20, 30, 42)
        assert run_lengths(mask[10:30, 20:42], (10, 20), mask.shape) == run_lengths(mask, (0, 0), mask.shape)

    @pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
    def test_of_a_part_without_pixels(self, shape):
        assert run_lengths(np.zeros(shape, bool), (2, 3), (3, 4))["counts"] == "<"

    def test_is_json(self):
        assert json.loads(json.dumps(run_lengths(rectangle(3, 4, 0, 0, 2, 1), (0, 0), (3, 4))))["size"] == [3, 4]

    @pytest.mark.parametrize("seed", range(50))
    def test_as_pycocotools_reads_and_writes_it(self, seed):
        mask_of = pytest.importorskip("pycocotools.mask", reason="needs pycocotools: pip install '.[dev]'")
        generator = np.random.default_rng(seed)
        height, width = (int(side) for side in generator.integers(1, 300, 2))
        top, left = int(generator.integers(0, height)), int(generator.integers(0, width))
        mask = np.zeros((height, width), np.uint8)
        part = mask[top:, left:]
        part[...] = generator.random(part.shape) < generator.choice([0, 0.01, 0.5, 0.99, 1])
        found = run_lengths(part.astype(bool), (top, left), mask.shape)
        assert found["counts"].encode() == mask_of.encode(np.asfortranarray(mask))["counts"]
        assert np.array_equal(mask_of.decode(found), mask)
