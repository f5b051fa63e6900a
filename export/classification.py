"""Trace a Vim classifier to ONNX: the steps of ``vimdeploy export``, to copy and change where your model differs.

    python export/classification.py vim_tiny_patch16_224 vim_t_midclstok_76p1acc.pth vim_tiny.onnx [fp16 or bf16]

Your own model is any ``torch.nn.Module`` that calls ``bidirectional_conv1d`` and ``bidirectional_selective_scan`` of
``vimdeploy.ops.torch_ops`` where it would call CUDA kernels: put it in place of ``vim_from_tensors``.
"""

import sys

from vimdeploy.artifact import ModelInfo
from vimdeploy.checkpoint import config_from_checkpoint, load_checkpoint
from vimdeploy.converters.conversion import converted_onnx
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.files import write_whole
from vimdeploy.models.config import variant_by_name
from vimdeploy.models.vim import vim_from_tensors
from vimdeploy.parity.check import check_parity
from vimdeploy.parity.inputs import random_inputs
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import session_from_onnx


def main(variant_name: str, checkpoint_path: str, onnx_path: str, precision: str = "fp32") -> None:
    """Checkpoint -> ONNX file, then the proof that it answers as PyTorch does."""
    variant = variant_by_name(variant_name)
    checkpoint = load_checkpoint(checkpoint_path)
    config = config_from_checkpoint(checkpoint, variant)
    model = vim_from_tensors(config, checkpoint.tensors)

    info = ModelInfo(
        variant.name,
        config,
        variant.recipe,
        variant.labels,
        checkpoint_sha256=checkpoint.sha256,
    )
    inputs = random_inputs((config.in_channels, *config.image_size), count=2, seed=0)
    proto = onnx_from_model(model, info)
    if precision != "fp32":
        proto = converted_onnx(proto, precision, inputs.batches(1)).model
    write_whole(onnx_path, proto.SerializeToString())

    sessions = [session_from_onnx(onnx_path, operators=operators) for operators in ("auto", "function body")]
    for result in check_parity(EagerSession(model, info), sessions, inputs.batches(1)):
        error = result.logits.relative
        print(f"{result.candidate.description}: largest logit error {error:.1e} of the logits' spread")


if __name__ == "__main__":
    main(*sys.argv[1:])
