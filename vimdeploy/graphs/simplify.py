"""Foreign graphs made simple: what other people's Mamba code writes, in fewer nodes that give the same answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vimdeploy.errors import require

if TYPE_CHECKING:
    import onnx_ir as ir


def simplified(model: ir.Model) -> None:
    """Rewrite what foreign code writes in a roundabout way, in place.

    A pass that does not understand a part of the graph leaves it as it is; no pass changes what the model answers.

    Args:
        model: as torch's exporter and onnxscript's optimizer give it, the exporter's notes in it. A new node belongs to
            the module of the node that it replaces.

    Raises:
        MissingPackageError: without onnx_ir, which comes with onnxscript.
    """
    require("onnx_ir", "export")
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    from vimdeploy.graphs.passes.convolutions import convolutions_to_operator, silu_into_operator
    from vimdeploy.graphs.passes.editor import Editor
    from vimdeploy.graphs.passes.flips import flips_to_reverse
    from vimdeploy.graphs.passes.low_rank import linear_into_scan
    from vimdeploy.graphs.passes.mixers import mixers_to_operators
    from vimdeploy.graphs.passes.scatters import scatters_to_concats
    from vimdeploy.graphs.passes.tidy import drop_identities, tidy_up
    from vimdeploy.graphs.passes.transposes import cancel_transposes

    edit = Editor(model.graph)
    rewrites = (
        drop_identities,
        scatters_to_concats,
        convolutions_to_operator,
        flips_to_reverse,
        cancel_transposes,
        tidy_up,
        silu_into_operator,
        linear_into_scan,
        mixers_to_operators,
        tidy_up,
    )
    for rewrite in rewrites:
        rewrite(edit)
        RemoveUnusedNodesPass()(model)
