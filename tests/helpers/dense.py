"""Models under heads of segmentation and detection: their checkpoints in a toolbox's names, and their proof."""

import numpy as np
import torch

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.checkpoint import Checkpoint
from vimdeploy.inputs import picture_windows, random_inputs
from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.networks import network_of_variant, stages_of
from vimdeploy.parity.verify import verify_sessions
from vimdeploy.parity.weights import check_weights
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession, sessions_of_all_operators
from vimdeploy.tasks.base import Limits

CONFIG = VimConfig(image_size=(64, 64), dim=16, depth=4, num_classes=5, state_size=4)
MINE = Variant("mine", "vim", CONFIG)


def made(task, **arguments):
    """A network of ``MINE`` with weights that are all different."""
    network = network_of_variant(MINE, 0, task, **arguments)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.module.state_dict().items():
            tensor += 0.1 * torch.rand(tensor.shape) if "running" in name else 0.1 * torch.randn(tensor.shape)
    return network


def toolbox_names(module, prefix="backbone."):
    """A network's tensors under the names of mmsegmentation, or of detectron2 with its prefix ``backbone.net.``."""
    tensors = {}
    for name, tensor in module.state_dict().items():
        for ours, theirs in (("backbone.", prefix), ("neck.", "backbone.")):
            if name.startswith(ours):
                name = theirs + name.removeprefix(ours)
                break
        tensors[name] = tensor
    return tensors


def checkpoint_of(tensors, **facts):
    """A loaded checkpoint of these tensors."""
    return Checkpoint("weights.pth", "abc", "model", dict(tensors), **facts)


def verified(network, proto):
    """A file held against the network that it was made of, as ``vimdeploy verify`` does."""
    artifact, reference = artifact_from_onnx(proto), EagerSession(network)
    weights = check_weights(artifact.model, stages_of(network.info), reference.stored_tensors())
    inputs = random_inputs(network.info, 1, seed=0)
    return verify_sessions(reference, sessions_of_all_operators(artifact), inputs, weights)


def check_proven(network, proto):
    """Check that a file answers as its network does, in every way and at every stage; the results."""
    results = verified(network, proto)
    for result in results:
        assert result.passed, result.fault
        assert [stage.name for stage in result.stages] == [stage.name for stage in stages_of(network.info)]
        assert (result.weights.unknown, result.weights.differences) == ((), ())
    return results


def check_same_from_bytes(floats, made, sizes=((80, 100), (30, 200), (200, 30))):
    """Check that a file that takes bytes gives what another one gives for pictures of these sizes, to the bit.

    The last two leave margins in inputs that pictures are not cropped for.
    """
    with OnnxRuntimeSession(floats, device="cpu") as wanted, OnnxRuntimeSession(made, device="cpu") as found:
        for size in sizes:
            pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
            for one, other in zip(*(_of_windows(session, pixels) for session in (wanted, found)), strict=True):
                assert one.keys() == other.keys()
                for name in one:
                    np.testing.assert_array_equal(other[name], one[name])


def _of_windows(session, pixels):
    """What a session gives for each window of a picture."""
    for arrays, _ in picture_windows([pixels], session.info, None, Limits(score_threshold=0.0)):
        yield session.run({name: array[None] for name, array in arrays.items()})
