import math

import numpy as np
import onnxruntime
import pytest
import torch
from helpers.dense import checkpoint_of
from helpers.detectors import detections, small_detector
from helpers.references import REFERENCES, relative_error
from helpers.rule_weights import rule_checkpoint, rule_input
from onnx import TensorProto, helper

from vimdeploy.models import VARIANTS
from vimdeploy.models.heads.detect import BOX_WEIGHTS, Detector, anchors_of, clipped, moved, pooled_of
from vimdeploy.models.heads.pyramid import SimplePyramid
from vimdeploy.models.vim.network import Vim
from vimdeploy.networks import network_of_variant
from vimdeploy.ops.detection_ops import NONE, roi_align, suppressed
from vimdeploy.runtimes.eager import EagerSession


def boxes_of(batch, number, width, height, seed=0):
    """Boxes of all sizes within a picture."""
    corners = torch.rand(batch, number, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=2).values
    return corners.reshape(batch, number, 4) * torch.tensor([width, height] * 2)


def run_node(node, **inputs):
    """What ONNX Runtime makes of one node."""
    types = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int64"): TensorProto.INT64}
    given = [helper.make_tensor_value_info(n, types[a.dtype], a.shape) for n, a in inputs.items()]
    output = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph([node], "one", given, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


class TestRoiAlign:
    def test_means_of_samples(self):
        """One box, by the definition: as many samples as the box has cells, bilinear between the centres of cells."""
        features = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
        box = torch.tensor([[[5.0, 3.0, 26.0, 21.0]]])  # of a map with a value every 4 pixels
        left, top, right, bottom = (value / 4 - 0.5 for value in box.flatten().tolist())

        def at(channel, y, x):
            y, x = min(max(y, 0), 5), min(max(x, 0), 7)
            row, column = min(int(y), 4), min(int(x), 6)
            dy, dx, values = y - row, x - column, features[0, channel]
            return (
                (1 - dy) * ((1 - dx) * values[row, column] + dx * values[row, column + 1])
                + dy * ((1 - dx) * values[row + 1, column] + dx * values[row + 1, column + 1])
            ).item()

        rows, columns = math.ceil((bottom - top) / 3), math.ceil((right - left) / 3)
        wanted = np.empty((2, 3, 3))
        for channel, i, j in np.ndindex(wanted.shape):
            wanted[channel, i, j] = np.mean(
                [
                    at(
                        channel,
                        top + (i + (a + 0.5) / rows) * (bottom - top) / 3,
                        left + (j + (b + 0.5) / columns) * (right - left) / 3,
                    )
                    for a in range(rows)
                    for b in range(columns)
                ]
            )
        np.testing.assert_allclose(roi_align(features, box, 4, 3)[0], wanted, atol=1e-5)

    def test_boxes_of_all_sizes_are_as_onnx_runtime_has_them(self):
        features, boxes = torch.randn(2, 3, 8, 12), boxes_of(2, 20, 96, 64)
        boxes[:, 0], boxes[:, 1] = 0, torch.tensor([0.0, 0.0, 96.0, 64.0])
        node = helper.make_node(
            "RoiAlign", ["x", "rois", "images"], ["y"], output_height=7, output_width=7, spatial_scale=1 / 8
        )  # aligned and adaptive by default
        images = np.repeat(np.arange(2), 20)
        wanted = run_node(node, x=features.numpy(), rois=boxes.reshape(-1, 4).numpy(), images=images)
        found = roi_align(features, boxes, 8, 7)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert not found[0].any()

    def test_no_boxes(self):
        assert roi_align(torch.zeros(1, 3, 4, 4), torch.zeros(1, 0, 4), 8, 7).shape == (0, 3, 7, 7)

    def test_gradients_reach_the_map(self):
        features = torch.zeros(1, 1, 4, 4, requires_grad=True)
        roi_align(features, torch.tensor([[[0.0, 0.0, 16.0, 16.0]]]), 8, 2).sum().backward()
        assert features.grad.sum() == pytest.approx(4)  # each of the four means has weights of 1 in all


class TestSuppressed:
    @pytest.mark.parametrize("overlap", [0.3, 0.5, 0.7])
    def test_it_is_onnx_runtimes(self, overlap):
        boxes, scores = boxes_of(2, 40, 30, 30), torch.rand(2, 3, 40)
        scores[0, 1, ::3] = NONE
        node = helper.make_node("NonMaxSuppression", ["b", "s", "most", "overlap", "least"], ["y"])
        found = run_node(
            node,
            b=boxes.numpy(),
            s=scores.numpy(),
            most=np.array([1000]),
            overlap=np.array([overlap], np.float32),
            least=np.array([NONE], np.float32),
        )
        wanted = torch.zeros(2, 3, 40, dtype=torch.bool)
        wanted[tuple(torch.from_numpy(found).T)] = True
        assert 10 < wanted.sum() < (scores > NONE).sum()
        assert torch.equal(suppressed(boxes, scores, overlap), wanted)

    def test_empty_boxes_overlap_nothing(self):
        assert suppressed(torch.zeros(1, 2, 4), torch.ones(1, 1, 2), 0.5).all()


class TestBoxes:
    def test_no_deltas_move_no_box(self):
        boxes = boxes_of(1, 5, 64, 64)
        torch.testing.assert_close(moved(boxes, torch.zeros(1, 5, 4)), boxes)

    def test_deltas_are_parts_of_sides_and_logarithms(self):
        box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
        found = moved(box, torch.tensor([[1.0, 1.0, math.log(2) * 5, 100.0]]), (10.0, 10.0, 5.0, 5.0))
        half = 40 * 1000 / 16 / 2  # no box grows more than that
        torch.testing.assert_close(found, torch.tensor([[2.0, 44 - half, 42.0, 44 + half]]))

    def test_clipped_to_its_own_picture(self):
        boxes = torch.tensor([[[-5.0, -5.0, 50.0, 50.0]], [[-5.0, 3.0, 50.0, 50.0]]])
        found = clipped(boxes, torch.tensor([[40.0, 30.0], [20.0, 60.0]]))
        assert found.tolist() == [[[0, 0, 40, 30]], [[0, 3, 20, 50]]]

    def test_a_box_is_looked_at_on_the_level_of_its_size(self):
        levels = [torch.full((1, 1, 1024 >> n, 1024 >> n), float(n)) for n in range(2, 6)]
        sides = [0, 10, 111, 113, 223, 225, 447, 449, 1000]
        boxes = torch.tensor([[[0.0, 0.0, side, side] for side in sides]])
        found = pooled_of(levels, boxes, 2, 7)[:, 0].mean(dim=(1, 2))
        torch.testing.assert_close(found, torch.tensor([0.0, 2, 2, 3, 3, 4, 4, 5, 5]))


@pytest.mark.slow
def test_heads_are_the_toolboxs_own():
    """Vim-Ti with Cascade Mask R-CNN, from a checkpoint in detectron2's names."""
    variant = VARIANTS["vim_tiny_patch16_224"]
    config = variant.config.replace(image_size=(256, 256), class_token="none", final_norm=False)
    with torch.device("meta"):
        like = Detector(Vim(config), SimplePyramid(192, 256, 4), 2, 256, 80, 2, 4, 256, 1024, 4, 256)
    network = network_of_variant(
        variant, checkpoint_of(rule_checkpoint(like, "backbone.net.", rope=256)), "detect", (256, 256)
    )
    net, sizes = network.module, torch.tensor([[256.0, 256.0]])
    with np.load(REFERENCES) as stored:
        boxes, mask_boxes, proposals, anchors = (
            torch.from_numpy(stored[f"det_{name}"]) for name in ("boxes", "mask_boxes", "proposals", "anchors")
        )
    errors = {}
    with torch.inference_mode():
        features = net.backbone.features(torch.from_numpy(rule_input(256)))
        levels = net.neck(features.map)
        logits, deltas = net.proposal_generator.rpn_head(levels)
        counts = [3 * level.shape[2] * level.shape[3] for level in levels]
        for n, a, b, level in zip(range(2, 7), logits.split(counts, 1), deltas.split(counts, 1), levels, strict=True):
            side = level.shape[2]
            errors[f"rpn_logits_p{n}"] = a.reshape(side, side, 3).permute(2, 0, 1)
            errors[f"rpn_deltas_p{n}"] = b.reshape(side, side, 12).permute(2, 0, 1)
            ours = anchors_of(side, side, 1 << n)
            assert torch.equal(torch.cat([ours[:9], ours[-3:]]), anchors[12 * (n - 2) : 12 * (n - 1)])
        found = net.proposal_generator(levels, sizes)[0]
        near = (found[:, None] - proposals).abs().amax(dim=2) < 1e-2
        assert near.any(dim=0).float().mean() > 0.98  # a rounding brings others among the best thousand
        heads = net.roi_heads
        errors["box_pooled"] = pooled = pooled_of(levels[:-1], boxes[None], 2, 7)
        errors["box_pooled"] = pooled[:, ::16]
        for k, (head, predictor) in enumerate(zip(heads.box_head, heads.box_predictor, strict=True)):
            errors[f"box_scores_{k}"], errors[f"box_deltas_{k}"] = predictor(head(pooled))
        moving, means = boxes[None], 0
        for k, weights in enumerate(BOX_WEIGHTS):
            scores, deltas = heads.box_predictor[k](
                heads.box_head[k](pooled_of(levels[:-1], clipped(moving, sizes), 2, 7))
            )
            moving, means = moved(clipped(moving, sizes), deltas[None], weights), means + scores.softmax(1) / 3
            errors[f"cascade_boxes_{k}"] = moving
        last, errors["cascade_probs"] = heads.cascade(levels[:-1], boxes[None], sizes)
        assert torch.equal(last, moving)
        torch.testing.assert_close(errors["cascade_probs"][0], means)
        errors["mask_logits"] = heads.mask_head(pooled_of(levels[:-1], mask_boxes[None], 2, 14))
    assert {name: relative_error(f"det_{name}", value.numpy()) for name, value in errors.items()} == {
        name: pytest.approx(0, abs=1e-4) for name in errors
    }


@pytest.fixture(scope="module")
def run():
    return EagerSession(small_detector()).run


class TestDetector:
    def test_as_many_as_are_asked_for(self, run):
        for most in (1, 7, 30):
            boxes, scores, classes, masks = detections(run, max_detections=most)
            assert boxes.shape == (1, most, 4)
            assert scores.shape == classes.shape == (1, most)
            assert masks.shape == (1, most, 28, 28)
            assert (np.diff(scores[0]) <= 0).all()
            assert (scores > 0).all()

    def test_none(self, run):
        found = detections(run, score_threshold=0.99)
        assert [values.shape for values in found] == [(1, 0, 4), (1, 0), (1, 0), (1, 0, 28, 28)]

    def test_boxes_stay_in_their_own_picture(self, run):
        boxes, scores, _, _ = detections(run, sizes=((64, 96), (40, 50)), max_detections=(5, 20))
        assert boxes.shape == (2, 20, 4)
        assert (scores > 0).sum(axis=1).tolist() == [5, 20]
        assert not boxes[0, 5:].any()  # what one picture has less is filled with nothing
        assert boxes[0].max() > 50 >= boxes[1].max()

    def test_a_picture_has_the_same_answer_in_a_batch(self, run):
        both = detections(run, sizes=((64, 96), (40, 50)))
        alone = detections(run, sizes=((64, 96),))
        for one, two in zip(alone, both, strict=True):
            np.testing.assert_allclose(two[:1, : one.shape[1]], one, atol=1e-4)
