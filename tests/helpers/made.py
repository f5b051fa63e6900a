"""Made-up comparisons: every class of ``parity.results``, with plain numbers in it."""

import io

import numpy as np
from PIL import Image

from vimdeploy.parity.results import (
    DeterminismCheck,
    Deviation,
    Histogram,
    OutputErrors,
    Place,
    Side,
    Stage,
    Verification,
    WeightCheck,
    WeightDifference,
)
from vimdeploy.tasks.base import Agreement, Change, Measure, Proportion
from vimdeploy.tolerance import Tolerance

MACHINE = {
    "processor": "A Processor @ 2.50GHz",
    "cores": 2,
    "gpus": [],
    "system": "Linux 6.1 x86_64",
    "python": "3.11.7",
    "versions": {"vimdeploy": "0.1.0", "onnxruntime": "1.31.0"},
    "instruction_set": "AVX-512",
}
CHANGED = "Images whose answer changed"
SECTIONS = (
    "What was compared",
    "Answers",
    "Error by depth",
    "Output errors",
    "Weights in the file",
    "Determinism",
    "NaN and infinity",
    CHANGED,
    "What is allowed, and why",
)
"""The headings of a page, in their order."""
EDGES = (0.0, *(10.0 ** (n / 4) for n in range(-36, 9)), float("inf"))
KINDS = ("in_proj", "conv", "x_proj", "scan", "out_proj", "residual")


def place(image="input 0", index=(3,), wanted=1.5, found=1.5000125):
    return Place(image, index, wanted, found)


def histogram(largest=1e-4):
    counts = [0] * (len(EDGES) - 1)
    for error in np.random.default_rng(0).lognormal(np.log(min(largest, 1.0)) - 4, 1.2, 5000):
        counts[int(np.searchsorted(EDGES, min(error, largest), side="right")) - 1] += 1
    return Histogram(EDGES, tuple(counts))


def output(name="logits", largest=2e-5, nan=0, infinite=0, index=(3,)):
    tolerance = Tolerance(1e-4, "float32 sums in another order, through all blocks")
    return OutputErrors(
        name=name,
        largest=largest,
        place=place(index=index),
        mean=largest / 50,
        std=2.0,
        cosine=0.999999999,
        histogram=histogram(largest),
        nan=nan,
        infinite=infinite,
        tolerance=tolerance,
    )


def deviation(error, limit):
    return Deviation(error, Tolerance(limit, "192 products of float32, rounded once each"), place(index=(7, 12)))


def stages(blocks=2, fault_at=None, nan_at=None):
    """The stages of ``blocks`` blocks; errors are large from ``fault_at`` = (block, kind) on."""
    noise = np.random.default_rng(1)
    made, faulty = [], False
    for block in range(blocks):
        for kind in KINDS:
            here = (block, kind) == fault_at
            faulty |= here
            own, carried = noise.lognormal(np.log(2e-7), 0.4), noise.lognormal(np.log(4e-7 * (block + 1) ** 0.5), 0.4)
            made.append(
                Stage(
                    name=f"layers.{block}.mixer.{kind}",
                    title=f"Block {block}, {kind}",
                    block=block,
                    kind=kind,
                    carried=deviation(carried * (2e4 if faulty else 1), 1e-5),
                    own=None if kind == "residual" else deviation(own * (3e4 if here else 1), 2e-6),
                    nan=4 if (block, kind) == nan_at else 0,
                    infinite=0,
                )
            )
    return tuple(made)


def png(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def jpeg(seed=0, size=(400, 256)):
    data = io.BytesIO()
    Image.effect_noise(size, 20 + seed).convert("RGB").save(data, "JPEG")
    return data.getvalue()


def changes(count, image="pictures/3/{}.png", label="{}"):
    return tuple(
        Change(
            image.format(n), label.format(n % 10), label.format((n + 1) % 10), label.format(3), (0.0123, 0.0045), png(n)
        )
        for n in range(count)
    )


def classified(same=450, correct=445, shown=()):
    """The answers of a classifier to 450 labelled pictures."""
    return Agreement(
        measures=(
            Measure("same top-1", Proportion(same, 450)),
            Measure("same top-5, in any order", Proportion(449, 450)),
            Measure("top-1 correct", Proportion(correct, 450), Proportion(445, 450)),
            Measure("top-5 correct", Proportion(450, 450), Proportion(450, 450)),
        ),
        changes=shown,
        changed=450 - same,
        margin="top logit minus second",
    )


def passing(**fields):
    """A classifier without faults; ``fields`` replace its own."""
    made = {
        "reference": Side("PyTorch (eager, cpu)", "digits.safetensors"),
        "candidate": Side("ONNX Runtime (library, cpu)", "digits.onnx"),
        "images": 450,
        "inputs": "450 pictures of pictures",
        "outputs": (output(),),
        "answers": classified(),
        "stages": stages(),
        "weights": WeightCheck(52, (), ()),
        "determinism": (
            DeterminismCheck("the same run twice", 0.0, Tolerance(0.0, "one thread adds in one order")),
            DeterminismCheck("alone and in a batch", 3e-7, Tolerance(1e-5, "another batch, another order of sums")),
        ),
    }
    return Verification(**made | fields)


def failing(**fields):
    """A classifier with a fault in block 13."""
    different = WeightDifference("layers.13.mixer.in_proj.weight", "Block 13, in_proj", 1, 9216, (3, 4), 0.1, 0.2)
    made = {
        "outputs": (output(largest=0.8),),
        "answers": classified(430, 431, changes(12)),
        "stages": stages(24, fault_at=(13, "in_proj")),
        "weights": WeightCheck(52, (), (different,)),
    }
    return passing(**made | fields)


def features(**fields):
    """A feature extractor without faults: several outputs, and answers without margins or labels."""
    made = {
        "outputs": (
            output("map", 4e-5, index=(11, 3, 2)),
            output("pooled", 9e-6),
            output("block_5", 2e-5, index=(7, 0, 1)),
        ),
        "answers": Agreement((Measure("same nearest neighbour", Proportion(450, 450)),)),
    }
    return passing(**made | fields)


def drawn(**fields):
    """Detections without faults, and a picture in which another one was found."""
    sides = tuple(jpeg(seed) for seed in range(2))
    change = Change("street.png", "2 detections, here alone: cat 9.1%", "1 detection", png=png(), drawn=sides)
    measures = (Measure("same detections", Proportion(449, 450)),)
    answers = Agreement(measures, (change,), 1, drawing="What both sides found is a thin grey box.")
    return passing(**{"answers": answers} | fields)


def taskless(**fields):
    """A model whose task nobody knows: outputs alone are compared."""
    return passing(**{"outputs": (output("y"),), "answers": Agreement()} | fields)
