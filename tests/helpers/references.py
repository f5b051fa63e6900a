"""What the toolboxes' own heads give for weights by rule (``helpers.rule_weights``), beside what ours give.

``tests/data/dense/references.npz`` was made with mmsegmentation 0.29.1 and detectron2 02b5c4e on the backbones of
hustvl/Vim's seg and det folders, whose scan was upstream's plain reference: Vim-S with UperNet, and Vim-Ti with the
simple feature pyramid, on one picture of 256 x 256. It has every ``_step``-th value of every 16th channel of the maps,
and the standard deviation of all of them.
"""

from pathlib import Path

import numpy as np

REFERENCES = Path(__file__).parents[1] / "data/dense/references.npz"


def relative_error(name, found):
    """The largest difference from the reference of that name, in its standard deviations."""
    with np.load(REFERENCES) as stored:
        wanted, step, std = (stored[f"{name}{suffix}"] for suffix in ("", "_step", "_std"))
    return np.abs(found.reshape(-1)[::step] - wanted).max() / std
