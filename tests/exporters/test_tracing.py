"""What torch says of a trace that fails, in a sentence."""

import inspect
import logging

import pytest
import torch
from helpers.modules import Choosing, Factored, Rows, Windows

from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.exporters.tracing import TracingError, _sizes
from vimdeploy.model_info import SizeRange
from vimdeploy.torch_module import looked_at

LINE = inspect.getsourcelines(Windows.forward)[1] + 1
SUGGESTED = """Constraints violated (height, width)! For more information, run with TORCH_LOGS="+dynamic".
  - Not all values of height = L['tensors'][0].size()[2] in the specified range are valid
Suggested fixes:
  _height = Dim('_height', min=2, max=16)
  height = 8*_height
  width = Dim('width', min=4)
  depth = 4*_depth
  batch = 3

The error above occurred when calling torch.export.export."""


def test_the_sizes_that_torch_suggests():
    assert _sizes(SUGGESTED) == {
        "height": SizeRange(16, 128, 8),
        "width": SizeRange(4),
        "depth": SizeRange(4, step=4),
    }
    assert _sizes("Constraints violated (batch)! Nothing more.") == {}


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Windows(), f'batch is fixed by line {LINE} of modules.py, in forward: "windows = int(x.shape[0] * 4 / 4)"'),
        (Rows(), "batch is fixed by line "),
        (Factored(), "DispatchError: No ONNX function found for <OpOverload(op='aten.linalg_qr'"),
        (Choosing(), "GuardOnDataDependentSymNode: Could not guard on data-dependent expression Eq(u0, 1)"),
    ],
)
def test_the_line_that_fails(module, reason, capfd):
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before, export = (list(logger.handlers), logger.level, logger.propagate), torch.export.export
    flat, info, _ = looked_at(module, torch.randn(2, 4))
    with pytest.raises(TracingError) as raised:
        onnx_from_model(flat, info)
    assert raised.value.reason.startswith(reason)
    assert str(raised.value).startswith("The model cannot be traced")
    assert ((logger.handlers, logger.level, logger.propagate), torch.export.export) == (before, export)
    assert capfd.readouterr() == ("", "")
