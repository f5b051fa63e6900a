"""Sound files to mutate, as small as they get: made when they are wanted, so that none has to be kept."""

from __future__ import annotations

import dataclasses
import io
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from helpers.dense import MINE, toolbox_names
from helpers.detectors import detector_checkpoint, small_detector
from helpers.released import released_names, training_state
from PIL import Image

from vimdeploy.engine_file import EngineInfo, sha256_of, write_engine
from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.networks import AnySize, Network, network_of_variant

if TYPE_CHECKING:
    from torch import Tensor

Files = dict[str, bytes]
"""Contents by name, of the files of a trial."""

VARIANT = Variant(
    "tiny",
    "vim",
    VimConfig(image_size=(16, 16), patch_size=8, stride=8, dim=8, depth=1, num_classes=3, state_size=2),
    labels=("ant", "bee", "cat"),
)
"""4 patches, so 5 tokens."""

DESCRIPTION = json.dumps(
    {
        "config": dataclasses.asdict(VARIANT.config),
        "recipe": dataclasses.asdict(VARIANT.recipe),
        "labels": VARIANT.labels,
    }
).encode()
DENSE_DESCRIPTION = json.dumps({"config": dataclasses.asdict(MINE.config)}).encode()
"""A backbone under heads of segmentation and detection."""
LABELS = b"ant\nbee\ncat\n"
ROWS = b'image,index,label,error\n"a, b.png",0,ant,\n"a, b.png",1,bee,\nc.png,,,gone\n'
JSON_ROWS = b'{"image": "a.png", "top": [{"index": 0, "label": "ant"}]}\n{"image": "b.png", "error": "gone"}\n'
INDEX = b"image,row,error\na.png,0,\nb.png,,gone\n"
PATHS = b"a.png\n/b/c d.jpg\nhttps://example.com/e.png\n"
TABLE = b"file,class\none.png,ant\ntwo.png,bee\n"
PLAN = b"a plan"


@cache
def network() -> Network:
    """The classifier with random weights."""
    return network_of_variant(VARIANT, 0)


@cache
def dense_network(task: str) -> Network:
    """A model for one of the dense tasks, with random weights."""
    return small_detector() if task == "detect" else network_of_variant(MINE, 0, task)


MODELS = ("classifier", "half", "features", "pyramid", "segment", "detect", "foreign")


@cache
def onnx_model(name: str) -> bytes:
    """One of ``MODELS``: ``half`` is the classifier in float16, ``foreign`` a model of another program."""
    import onnx

    from vimdeploy.artifact import artifact_from_onnx
    from vimdeploy.converters.conversion import converted_onnx
    from vimdeploy.exporters.onnx_graph import onnx_from_model
    from vimdeploy.inputs import random_inputs

    if name == "half":
        classifier = artifact_from_onnx(onnx.load_from_string(onnx_model("classifier")))
        return converted_onnx(classifier, "fp16", random_inputs(classifier.info, 1, 0).batches(1)).artifact.data
    if name == "foreign":
        value, out = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
        graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], name, [value], [out])
        return onnx.helper.make_model(graph, ir_version=10).SerializeToString()
    if name == "classifier":
        made = network()
    elif name == "features":
        made = network_of_variant(VARIANT, 0, task=name, image_size=AnySize(), blocks=(0,))
    else:
        made = dense_network(name)
    return onnx_from_model(made.module, made.info).SerializeToString()


def onnx_models() -> tuple[bytes, ...]:
    """All of ``MODELS``."""
    return tuple(map(onnx_model, MODELS))


@cache
def state() -> dict[str, Tensor]:
    """The classifier's tensors under their released names."""
    return released_names(network().module)


@cache
def dense_states() -> tuple[dict[str, Tensor], ...]:
    """The tensors of models for dense tasks under the toolboxes' names; the segmentation has three classes."""
    segmentation = toolbox_names(dense_network("segment").module)
    last = {name: segmentation[name][: len(VARIANT.labels)] for name in segmentation if "conv_seg" in name}
    return segmentation | last, dict(detector_checkpoint().tensors)


@cache
def checkpoints() -> tuple[bytes, ...]:
    """A released training state as a zip, a state dict in the old form, a safetensors file."""
    from safetensors.torch import save

    return _saved(training_state(network().module)), _saved(state(), zipped=False), save(state())


@cache
def dense_checkpoints() -> tuple[bytes, ...]:
    """Those of ``dense_states`` as a toolbox saves them."""
    segmentation, detection = dense_states()
    return _saved({"meta": {"CLASSES": VARIANT.labels}, "state_dict": segmentation}), _saved({"model": detection})


def _saved(content: object, zipped: bool = True) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@cache
def engine() -> Files:
    """An engine that no TensorRT made, and the file beside it."""
    info = EngineInfo(
        model=network().info,
        flavor="rtx",
        tensorrt_version="1.2.0",
        profiles=({"images": ((1, 3, 16, 16), (1, 3, 16, 16), (8, 3, 16, 16))},),
        onnx_sha256=sha256_of(b"a model"),
        engine_sha256=sha256_of(PLAN),
        engine_bytes=len(PLAN),
        device="Orin",
        compute_capability="8.7",
        versions={"vimdeploy": "0.1.0"},
    )
    with TemporaryDirectory() as folder:
        write_engine(Path(folder) / "model.engine", PLAN, info)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@cache
def pictures() -> tuple[bytes, ...]:
    """Small pictures in many formats and modes."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    rgb = Image.fromarray(pixels)
    wide = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    forms = [(rgb, name) for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "ICO", "TGA")]
    forms += [(rgb.convert(mode), "PNG") for mode in ("L", "LA", "RGBA", "P", "1")]
    forms += [(rgb.convert(mode), "TIFF") for mode in ("CMYK", "LAB", "F", "I")] + [(wide, "PNG"), (wide, "TIFF")]
    return tuple(_encoded(image, form) for image, form in forms)


def _encoded(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()
