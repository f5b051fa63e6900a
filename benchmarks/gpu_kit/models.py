"""Whole models on the device: PyTorch as it is, the same with our kernels, and the runtimes that are installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vimdeploy
from gpu_kit.kernels import Kernels
from gpu_kit.problems import MODELS, ConvOperands, ScanOperands, problem_in
from gpu_kit.steps import Settings
from vimdeploy.errors import MissingPackageError, require
from vimdeploy.models.vim.config import VARIANTS, VimConfig
from vimdeploy.models.vim.layers import REVERSE, BidirectionalMamba, MixerOperands
from vimdeploy.networks import Network, network_of_variant
from vimdeploy.runtimes.base import Arrays, Session

WEIGHTS_SEED = 0
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}
_IN_ONNX_RUNTIME = {"ONNX Runtime CUDA": False, "ONNX Runtime CUDA, graphs": True}
"""Whether it captures CUDA graphs."""
RUNTIMES = ("PyTorch with our kernels", *_IN_ONNX_RUNTIME, "TensorRT", "TensorRT-RTX")
MAX_BATCH = 8

_IN_FLOAT32 = ("dt_bias", "A", "D")
"""The operands that are float32 in files of every precision."""


class TorchSession(Session):
    """A PyTorch classifier on the device."""

    def __init__(self, network: Network) -> None:
        self.model = network.module.cuda().eval()
        self.info, self.device, self.operators = network.info, "cuda", "eager"

    def _run(self, inputs: Arrays) -> Arrays:
        with torch.inference_mode():
            logits = self.model(torch.from_numpy(inputs["images"]).cuda()).float().cpu().numpy()
        return {"logits": logits}


class FusedMixer(nn.Module):
    """A mixer of a Vim with our kernels for its operators, and its operands made beforehand, as in an ONNX file."""

    def __init__(self, mixer: BidirectionalMamba, config: VimConfig, kernels: Kernels, dtype: torch.dtype) -> None:
        super().__init__()
        self.config, self.kernels, self.dtype = config, kernels, dtype
        self.in_proj, self.out_proj = (layer.weight.to(dtype) for layer in (mixer.in_proj, mixer.out_proj))
        types = {name: torch.float32 if name in _IN_FLOAT32 else dtype for name in MixerOperands._fields}
        operands = mixer.operands()._asdict()
        self.operands = MixerOperands(**{name: operands[name].to(types[name]).contiguous() for name in types})

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        conv_weight, conv_bias, x_weight, *of_scan = self.operands
        problem = problem_in(self.config, len(x))
        xz = F.linear(x.to(self.dtype), self.in_proj)  # (B, L, 2E)
        u = xz.new_empty(len(REVERSE), *x.shape[:2], problem.channels)
        self.kernels.conv1d(ConvOperands(xz, conv_weight, conv_bias), REVERSE, u)
        workspace_bytes = self.kernels.plan(problem, self.dtype).workspace_bytes
        workspace = torch.empty(max(workspace_bytes, 1), dtype=torch.uint8, device=x.device)
        operands = ScanOperands(u, xz, u @ x_weight, *of_scan)
        y = torch.empty_like(u[0])
        self.kernels.selective_scan(problem, operands, workspace, y)
        return F.linear(y, self.out_proj)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Without TF32, whose products have 10 bits of fraction."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def eager_session(name: str) -> TorchSession:
    """PyTorch in float32 with the plain loops over the tokens: the reference."""
    return TorchSession(network_of_variant(VARIANTS[MODELS[name]], WEIGHTS_SEED))


def session_of(runtime: str, name: str, precision: str, settings: Settings) -> Session:
    """A model in one of RUNTIMES, with the weights of ``eager_session``.

    Raises:
        MissingPackageError: if the runtime is not on this machine.
        Exception: whatever goes wrong with one that is.
    """
    if runtime == RUNTIMES[0]:
        return _fused_session(name, PRECISIONS[precision], settings)
    if runtime in _IN_ONNX_RUNTIME:
        _want_cuda_provider()
        file = _onnx_file(name, precision, settings)
        return vimdeploy.load(file, device="cuda", cuda_graphs=_IN_ONNX_RUNTIME[runtime])
    package, flavor = {"TensorRT": ("tensorrt", "tensorrt"), "TensorRT-RTX": ("tensorrt_rtx", "rtx")}[runtime]
    for needed in (package, "pycuda"):
        require(needed, flavor)
    onnx = _onnx_file(name, precision, settings)
    engine = onnx.with_suffix(f".{flavor}.engine")
    if not engine.exists():
        vimdeploy.build(onnx, engine, flavor=flavor, batch=(1, MAX_BATCH, MAX_BATCH))
    return vimdeploy.load(engine)


def _fused_session(name: str, dtype: torch.dtype, settings: Settings) -> TorchSession:
    library = settings.built("libvimdeploy_gpu_bench.so")
    if library is None:
        raise MissingPackageError("the build made no libvimdeploy_gpu_bench.so")
    session, kernels = eager_session(name), Kernels(library)
    with torch.no_grad():
        for layer in session.model.get_submodule("backbone.layers").children():
            assert isinstance(layer.mixer, BidirectionalMamba)
            layer.mixer = FusedMixer(layer.mixer, VARIANTS[MODELS[name]].config, kernels, dtype)
    session.operators = "library"
    return session


def _want_cuda_provider() -> None:
    if "CUDAExecutionProvider" not in require("onnxruntime", "gpu").get_available_providers():
        raise MissingPackageError("the ONNX Runtime here has no CUDA provider; install onnxruntime-gpu in its place")


def _onnx_file(name: str, precision: str, settings: Settings) -> Path:
    path = settings.work / f"{MODELS[name]}.{precision}.onnx"
    if not path.exists():
        vimdeploy.export(MODELS[name], path, random_weights=WEIGHTS_SEED, precision=precision)
    return path
