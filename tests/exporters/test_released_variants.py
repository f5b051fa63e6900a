"""Each released variant the whole way: a checkpoint in the released form, exported and verified; for every task."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.released import training_state

import vimdeploy
from vimdeploy.artifact import artifact_from_onnx, open_artifact, operator_counts
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.inputs import random_inputs
from vimdeploy.libraries import library_path
from vimdeploy.models import VARIANTS
from vimdeploy.networks import AnySize, network_of_info, network_of_variant, stages_of
from vimdeploy.parity.verify import verify_sessions
from vimdeploy.parity.weights import check_weights
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession, sessions_of_all_operators
from vimdeploy.tasks import TASKS, detect
from vimdeploy.tasks.pyramid import NECKS

BOUNDS = {"ONNX Runtime (library, cpu)": 1e-4, "ONNX Runtime (function body, cpu)": 1e-3}
WHOLE = ("vim_tiny_patch16_224", "vim_tiny_patch16_stride8_224", "vim_base_patch16_224")
OTHERS = [name for name, variant in VARIANTS.items() if variant.architecture == "vim" and name not in WHOLE]


def check(variant, folder):
    """Export a checkpoint of a variant and hold the file against the checkpoint, in every way."""
    torch.save(training_state(network_of_variant(variant, 0).module), folder / "released.pth")
    checkpoint = load_checkpoint(folder / "released.pth")
    network = network_of_variant(variant, checkpoint)
    (folder / "model.onnx").write_bytes(onnx_from_model(network.module, network.info).SerializeToString())

    artifact = open_artifact(folder / "model.onnx")
    blocks = variant.config.depth
    assert operator_counts(artifact.model) == {"BidirectionalConv1d": blocks, "BidirectionalSelectiveScan": blocks}
    assert len(artifact.model.graph.node) == blocks * 12 + 14

    reference = EagerSession(network_of_info(artifact.info, checkpoint))
    weights = check_weights(artifact.model, stages_of(artifact.info), reference.stored_tensors())
    assert (weights.unknown, weights.differences) == ((), ())
    inputs = random_inputs(artifact.info, 1, seed=1)
    results = verify_sessions(reference, sessions_of_all_operators(artifact), inputs, weights)
    assert len(results) == (2 if library_path() else 1)
    for result in results:
        assert result.passed, result.fault
        assert len(result.stages) == 4 + 7 * blocks
        assert result.outputs[0].relative <= BOUNDS[result.candidate.description]


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_variant(name, tmp_path):
    check(VARIANTS[name], tmp_path)


@pytest.mark.parametrize("name", [WHOLE[0], *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_two_blocks_of_a_variant(name, tmp_path):
    check(replace(VARIANTS[name], config=VARIANTS[name].config.replace(depth=2)), tmp_path)


def of_four_blocks(name, **changes):
    """A variant of four blocks, the fewest that every neck reads."""
    return replace(VARIANTS[name], config=VARIANTS[name].config.replace(depth=4, **changes))


@pytest.fixture
def _narrow_heads(monkeypatch):
    """Heads of detection of few channels: theirs do not hang on the variant, and a thousand boxes go through them."""
    narrow = {"classes": 3, "rpn_convs": 1, "box_convs": 1, "box_channels": 16, "box_width": 32}
    for name, number in (narrow | {"mask_convs": 1, "mask_channels": 16}).items():
        monkeypatch.setitem(detect._USUAL, name, number)


@pytest.mark.slow
@pytest.mark.usefixtures("_narrow_heads")
@pytest.mark.parametrize(
    ("name", "task"),
    [
        (name, task)
        for name in VARIANTS
        for task in TASKS
        if name in (WHOLE[0], "deit_tiny_patch16_224") or task == "segment"  # which has features and a neck inside
    ],
)
def test_every_task_of_a_variant(name, task, tmp_path, picture):
    """Export, verify and run, as the commands do."""
    for neck in NECKS if task == "pyramid" else ("",):
        path = tmp_path / f"{task}{neck}.onnx"
        vimdeploy.export(of_four_blocks(name), path, random_weights=0, task=task, neck=neck, image_size=64)
        for result in vimdeploy.verify(path, count=1):
            assert result.passed, result.fault
            assert bool(result.stages) == (VARIANTS[name].architecture == "vim")
        with vimdeploy.load(path) as session:
            answer = session.predict(picture)
        assert answer.rows()
        assert answer.not_finite == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "neck", "fused_attention"),
    [("features", "", False), ("features", "", True), ("pyramid", "fpn", False), ("pyramid", "simple", True)],
)
def test_a_deit_of_any_size_is_the_one_made_for_the_size(task, neck, fused_attention):
    variant = of_four_blocks("deit_tiny_patch16_224", dim=24, fused_attention=fused_attention)

    def opened(image_size):
        network = network_of_variant(variant, 0, task, image_size, neck=neck)
        with torch.no_grad():
            network.module.backbone.pos_embed *= 50  # as large as what it is added to
        return OnnxRuntimeSession(artifact_from_onnx(onnx_from_model(network.module, network.info)))

    of_any_size = opened(AnySize())
    for size in ((64, 64), (224, 96)):
        images = np.random.default_rng(0).standard_normal((2, 3, *size), np.float32)
        wanted = opened(size).run(images)
        for output, value in of_any_size.run(images).items():
            np.testing.assert_allclose(value, wanted[output], atol=1e-4 * wanted[output].std())
