"""From numbers to int8 and back: the scales of one Linear layer.

A value x becomes round(x / step), zero at 0 and the largest value at 127: the whole input with one step, each column of
the weight with its own. Before that the input's channels are smoothed: a channel that is larger than the others leaves
them few of the levels, so it is divided by s and the weight's row is multiplied by s, which changes no product
(SmoothQuant, https://arxiv.org/abs/2211.10438).

Measured on the trained digits (samples/digits), all layers in int8, scales from other pictures: the output of out_proj,
whose input is the scan's gated output, against the error in it (SQNR), and the mean change of the logits, relative to
their standard deviation.

    levels end at                            SQNR     logits
    the largest input                        21 dB     4.2 %
    99.99 % of them (ONNX Runtime)           20 dB     5.1 %
    99.9 % of them (ONNX Runtime)            12 dB      15 %
    the least entropy (ONNX Runtime)         12 dB      13 %
    the least error of the output            25 dB     3.9 %
    the largest input, smoothed by 0.5       28 dB     1.8 %
                               by 0.75       30 dB     1.5 %
                               by 1          30 dB     2.1 %
    the least error, smoothed by 0.75        32 dB     1.6 %

The same of samples/fashion: 17 dB and 7.7 % without smoothing, 26 dB and 2.4 % with 0.75.
The few large values of a vision mamba carry the answer: what cuts them off is worse than what is coarse. With smoothing
nothing is gained by cutting; and a strength chosen layer by layer was no better than one for all.

The division is a Mul before the layer. It could stand in the weight of the norm before in_proj, but not in what comes
before out_proj: z and the step sizes go through functions that are not linear, B and C serve all channels alike. And a
norm that gives something else than PyTorch's could not be compared with it. in_proj seldom needs it (43 dB without).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from vimdeploy.preprocess import FloatArray

LEVELS = 127
"""Steps of int8 on either side of 0."""

STRENGTH = 0.75
"""How much of a channel's size moves from the input to the weight."""

WORTHWHILE_DB = 3.0
"""What smoothing must gain, for it takes a Mul: half of the error's power."""

_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Scales:
    """How the numbers of a Linear layer become int8."""

    smoothing: FloatArray | None
    """(in,) divides the input and multiplies the rows of the weight."""
    input_step: float
    sqnr_db: float = 0.0
    """The layer's output against the error that int8 brings, in decibels of their squares."""

    def product(self, rows: FloatArray, weight: FloatArray) -> FloatArray:
        """The layer's output as int8 gives it: (rows, in) x (in, out) -> (rows, out)."""
        if self.smoothing is not None:
            rows, weight = rows / self.smoothing, weight * self.smoothing[:, None]
        steps = np.maximum(np.abs(weight).max(axis=0) / np.float32(LEVELS), _TINY)  # (out,)
        levels = np.clip(np.rint(rows / np.float32(self.input_step)), -LEVELS - 1, LEVELS)
        sums: FloatArray = levels @ np.rint(weight / steps)
        return sums * (steps * np.float32(self.input_step))


def best_scales(rows: FloatArray, largest: FloatArray, weight: FloatArray) -> Scales:
    """The scales of a layer, smoothed if that is worth a Mul.

    Args:
        rows: (rows, in) of the layer's input, a sample.
        largest: (in,) of each channel, over all inputs that were seen.
        weight: (in, out).
    """
    exact = rows @ weight
    plain, smoothed = (
        replace(scales, sqnr_db=_sqnr_db(exact, scales.product(rows, weight)))
        for scales in (_scales(largest, None), _scales(largest, _smoothing(largest, weight)))
    )
    return smoothed if smoothed.sqnr_db > plain.sqnr_db + WORTHWHILE_DB else plain


def _smoothing(largest: FloatArray, weight: FloatArray) -> FloatArray:
    heights = np.abs(weight).max(axis=1)
    smoothing = np.ones_like(largest)
    seen = (largest > 0) & (heights > 0)  # a channel that is always 0 needs no scale
    smoothing[seen] = largest[seen] ** STRENGTH / heights[seen] ** (1 - STRENGTH)
    return smoothing


def _scales(largest: FloatArray, smoothing: FloatArray | None) -> Scales:
    """The largest of all values is the last level."""
    end = float((largest if smoothing is None else largest / smoothing).max())
    return Scales(smoothing, input_step=max(end / LEVELS, _TINY))


def _sqnr_db(exact: FloatArray, found: FloatArray) -> float:
    signal, noise = (float(np.square(values, dtype=np.float64).sum()) for values in (exact, found - exact))
    return 10 * math.log10(signal / noise) if signal and noise else math.inf
