"""Nodes of a file are found among the calls of a module by their values."""

import numpy as np
import pytest
import torch
from helpers.miniatures import miniature
from helpers.modules import Scans

import vimdeploy
from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.errors import ConfigError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models.stages import CallPart, ModuleOutput, OperatorCall, config_of_steps, stages_of_steps
from vimdeploy.parity.steps import _found, _Piece, steps_of_nodes
from vimdeploy.torch_module import looked_at


def piece(number, group=0, seed=None):
    values = np.random.default_rng(number if seed is None else seed).standard_normal((2, 5, 3), np.float32)
    return _Piece(number, group, values)


PIECES = {0: piece(0), 1: piece(0, 1, seed=7), 2: piece(1)}


class TestAGroup:
    def test_is_found_although_the_roundings_are_others(self):
        nearly = PIECES[2].values * np.float32(1 + 1e-5)
        assert _found(nearly, PIECES) == {2: CallPart(1, 0)}

    def test_is_found_the_other_way_round(self):
        assert _found(PIECES[1].values[:, ::-1], PIECES) == {1: CallPart(0, 1, is_flipped=True)}

    def test_is_not_found_if_a_value_or_the_order_is_another(self):
        other = PIECES[2].values.copy()
        other[0, 0, 0] += 0.1
        assert _found(other, PIECES) == {}
        assert _found(np.roll(PIECES[2].values, 1, axis=1), PIECES) == {}
        assert _found(PIECES[2].values[:1], PIECES) == {}

    def test_of_equals_the_first_is_taken(self):
        assert _found(piece(0).values, {3: piece(0), 4: piece(0)}) == {3: CallPart(0, 0)}


def test_every_node_of_a_module_of_our_operators():
    torch.manual_seed(0)
    module, info, _ = looked_at(Scans().eval(), torch.randn(2, 9, 6))
    artifact = artifact_from_onnx(onnx_from_model(module, info))
    calls, left_out = steps_of_nodes(artifact, module, {"tokens": module.examples[0].numpy()})
    assert left_out == 0
    assert [call.kind for call in calls] == ["conv1d", "scan"] * 2
    assert [[part.number for part in call.parts] for call in calls] == [[0], [1, 1], [2], [3, 3]]
    assert [call.value for call in calls] == [node.output[0] for node in artifact.model.graph.node if node.domain]


def test_the_nearest_module_stands_for_a_fused_scan(tmp_path):
    with vimdeploy.compat.mamba():
        model, tokens = miniature("vim")
        file = vimdeploy.export(
            torch.nn.Sequential(model, torch.nn.LayerNorm(tokens.shape[-1])).eval(), tokens, tmp_path / "v.onnx"
        )
    assert file.notes == ()
    stages = stages_of_steps(file.artifact.info.config)
    assert [stage.kind for stage in stages] == ["conv1d", "module"]
    assert stages[1].name == "0"  # out_proj is a call of F.linear within the block


class TestTheConfig:
    STEPS = (
        OperatorCall("a.scan", "a.scan", "scan", (CallPart(0, 0), CallPart(0, 1, True))),
        OperatorCall("b.conv", "b", "conv1d", (CallPart(1, 0),)),
        ModuleOutput("b.out_proj", "b.Add"),
    )

    def test_remembers_the_steps(self):
        stages = stages_of_steps(config_of_steps(self.STEPS))
        assert [stage.call for stage in stages] == [*self.STEPS[:2], None]
        assert [(stage.name, stage.title, stage.value, stage.module, stage.block) for stage in stages] == [
            ("a.scan", "a.scan", "a.scan", "", 0),
            ("b.conv", "b.conv", "b", "", 1),
            ("b.out_proj", "b.out_proj", "b.Add", "model.b.out_proj", 2),
        ]

    @pytest.mark.parametrize(
        "damage",
        [{"kind": "dream"}, {"parts": [[0, 0]]}, {"parts": 3}, {"parts": [["a", 0, 0]]}, {"node": None, "parts": None}],
    )
    def test_damaged(self, damage):
        config = config_of_steps(self.STEPS)
        config["steps"][0] |= damage
        with pytest.raises(ConfigError, match="what the file says of its operator nodes is damaged"):
            stages_of_steps(config)

    def test_none(self):
        assert stages_of_steps({}) == ()
