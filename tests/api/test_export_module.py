"""Modules that somebody brings: exported, verified, and everything else that is done with files of our own."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from helpers.miniatures import miniature
from helpers.modules import Choosing, Drawing, Keeping, Mixing, Pooled, Rows, Scans, Wide, Windows, wide_inputs
from onnx import numpy_helper
from torch import nn

import vimdeploy
from vimdeploy.errors import ConfigError, OutputError
from vimdeploy.model_info import TensorSpec
from vimdeploy.networks import stages_of


def seeded(make, *arguments):
    torch.manual_seed(0)
    return make(*arguments)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A module in training mode whose statistics were trained, and its file."""
    module = seeded(Wide)
    module.norm.running_mean += 0.1
    phases = []
    path = tmp_path_factory.mktemp("wide") / "wide.onnx"
    made = vimdeploy.export(module, wide_inputs(), path, progress=lambda phase, *_: phases.append(phase))
    return module, made, list(dict.fromkeys(phases))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A module of our operators, example inputs, and its file."""
    module, examples = seeded(Scans).eval(), torch.randn(2, 9, 6)
    return module, examples, vimdeploy.export(module, examples, tmp_path_factory.mktemp("scans") / "scans.onnx")


class TestSeveralInputsAndOutputs:
    def test_the_file_says_what_the_module_takes_and_gives(self, wide):
        _, made, _ = wide
        info = made.artifact.info
        assert info.inputs == (
            TensorSpec("image", ("batch", 4)),
            TensorSpec("class_ids", ("batch",), "int64"),
            TensorSpec("weight", ("batch", 4)),
        )
        assert [str(spec) for spec in info.outputs] == [
            "logits (batch, 4) of float32",
            "maps_0 (batch, 4) of float32",
            "maps_1 (batch, 4) of float32",
            "best (batch) of int64",
        ]
        assert (info.name, info.task, info.architecture, made.artifact.ours) == ("Wide", "", "", True)

    def test_it_was_compared_with_pytorch(self, wide):
        _, made, _ = wide
        assert all(result.passed and result.reference.description == "PyTorch (eager, cpu)" for result in made.parity)
        assert [output.name for output in made.parity[0].outputs] == ["logits", "maps_0", "maps_1", "best"]

    def test_it_answers_for_any_batch(self, wide):
        module, made, _ = wide
        given = wide_inputs(5)
        with torch.no_grad():
            wanted = module.eval()(**given)
        module.train()
        arrays = {"image": given["image"], **given["beside"]}
        found = vimdeploy.load(made.artifact, device="cpu").run(arrays)
        np.testing.assert_allclose(found["logits"], wanted["logits"], atol=1e-5)
        np.testing.assert_allclose(found["maps_1"], wanted["maps"][1], atol=1e-5)
        assert found["best"].tolist() == wanted["best"].tolist()

    def test_training_mode_is_told_and_restored(self, wide):
        module, made, _ = wide
        assert made.notes == ("The model was in training mode; the file answers as it does in eval mode.",)
        assert all(part.training for part in module.modules())

    def test_parameters_and_buffers_keep_their_names(self, wide):
        names = {tensor.name for tensor in wide[1].artifact.model.graph.initializer}
        assert {"norm.running_mean", "shift", "names.weight", "image_2"} <= names  # image is an input
        assert {"proj.bias", "again.bias"} & names
        assert not [name for name in names if name.startswith("model.")]

    def test_phases(self, wide):
        assert wide[2] == [
            "Running the model",
            "Tracing the model",
            "Looking at the operators",
            "Comparing with PyTorch",
        ]

    def test_nobodys_paths_are_in_the_file(self, wide):
        data = wide[1].artifact.data
        assert b"modules.py" not in data
        assert b"site-packages" not in data


class TestTheBatch:
    @pytest.fixture(scope="class")
    def fixed(self, tmp_path_factory):
        module = seeded(Windows).eval()
        return module, vimdeploy.export(module, torch.randn(3, 4), tmp_path_factory.mktemp("fixed") / "fixed.onnx")

    def test_is_that_of_the_example_if_the_model_fixes_it_and_the_line_is_told(self, fixed):
        _, made = fixed
        assert made.artifact.info.inputs[0].dims == (3, 4)
        assert (made.artifact.info.fixed_batch, made.artifact.changes) == (3, ())
        (note,) = made.notes
        assert note.startswith("The batch is fixed at 3, that of the example: batch is fixed by line ")
        assert note.endswith('of modules.py, in forward: "windows = int(x.shape[0] * 4 / 4)".')

    def test_and_any_number_of_rows_runs_in_parts(self, fixed):
        module, made = fixed
        rows = np.random.default_rng(0).standard_normal((7, 4), np.float32)
        found = vimdeploy.load(made.artifact, device="cpu").run(rows)["output"]
        np.testing.assert_allclose(found, module(torch.from_numpy(rows)).detach(), atol=1e-6)

    def test_and_the_other_commands_take_the_file(self, fixed, tmp_path):
        module, made = fixed
        assert vimdeploy.verify(made.artifact, model=(module, torch.randn(3, 4)), count=4)[0].passed
        with pytest.warns(vimdeploy.VimdeployWarning, match="give the model's examples with --model"):
            half = vimdeploy.convert(made.artifact, tmp_path / "half.onnx", "fp16", count=4)
        assert half.artifact.info.fixed_batch == 3

    def test_a_loop_over_the_batch(self, tmp_path):
        made = vimdeploy.export(seeded(Rows).eval(), torch.randn(2, 4), tmp_path / "rows.onnx")
        assert 'in forward: "return torch.stack([self.layer(x[row]) for row in range(x.shape[0])])"' in made.notes[0]

    def test_one_example_leaves_it_free(self, scans, tmp_path):
        made = vimdeploy.export(scans[0], torch.randn(1, 9, 6), tmp_path / "one.onnx")
        assert made.artifact.info.inputs[0].dims == ("batch", 9, 6)

    def test_no_batch(self, tmp_path):
        module = seeded(Mixing).eval()
        made = vimdeploy.export(module, torch.randn(3, 4), tmp_path / "mixing.onnx")
        assert (made.artifact.info.inputs[0].dims, made.artifact.info.has_batch) == ((3, 4), False)
        results = vimdeploy.verify(made.artifact, model=(module, torch.randn(3, 4)), count=3)
        assert all(result.passed for result in results)
        assert [check.name for check in results[0].determinism] == ["the same run twice", "one thread and the default"]


def test_odd_outputs_and_inputs(tmp_path):
    """One tensor twice, a stored one, one without a batch; a scalar input, and one that is written into."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x, step):
            hidden = self.layer(x.mul_(step))
            return hidden, hidden, self.layer.bias, hidden.mean()

    module, examples = seeded(Odd).eval(), (torch.randn(3, 4), torch.tensor(2.0))
    made = vimdeploy.export(module, examples, tmp_path / "odd.onnx")
    assert [str(spec) for spec in made.artifact.info.outputs] == [
        "output_0 (batch, 4) of float32",
        "output_1 (batch, 4) of float32",
        "output_2 (4) of float32",
        "output_3 () of float32",
    ]
    assert all(result.passed for result in vimdeploy.verify(made.artifact, model=(module, examples), count=3))
    given = {"x": np.ones((5, 4), np.float32), "step": np.float32(3)}
    found = vimdeploy.load(made.artifact, device="cpu").run({name: np.asarray(each) for name, each in given.items()})
    np.testing.assert_allclose(found["output_1"], found["output_0"])
    np.testing.assert_allclose(found["output_3"], found["output_0"].mean(), rtol=1e-5)


def test_free_axes(tmp_path):
    module = seeded(Pooled).eval()
    free = {"images": {2: "height", 3: "width"}}
    made = vimdeploy.export(module, torch.randn(1, 3, 16, 24), tmp_path / "pooled.onnx", dynamic=free)
    assert made.artifact.info.inputs[0].dims == ("batch", 3, "height", "width")
    assert made.artifact.info.outputs[1].dims[:2] == ("batch", 6)
    picture = np.random.default_rng(0).standard_normal((2, 3, 32, 20), np.float32)
    found = vimdeploy.load(made.artifact, device="cpu").run(picture)
    np.testing.assert_allclose(found["output_0"], module(torch.from_numpy(picture))[0].detach(), atol=1e-5)


def test_the_sizes_that_a_model_takes_are_found(tmp_path):
    class Skips(nn.Module):
        """Down and up again, as a U-Net does."""

        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Conv1d(2, 2, 4, 4), nn.ConvTranspose1d(2, 2, 4, 4)

        def forward(self, signal):
            return signal + self.up(self.down(signal))

    made = vimdeploy.export(
        seeded(Skips), torch.randn(2, 2, 12), tmp_path / "skips.onnx", dynamic={"signal": {2: "length"}}
    )
    info = made.artifact.info
    assert (info.inputs[0].dims, str(info.sizes["length"])) == (("batch", 2, "length"), "4 or more in steps of 4")
    session = vimdeploy.load(made.artifact, device="cpu")
    assert session.run(np.zeros((1, 2, 20), np.float32))["output"].shape == (1, 2, 20)
    with pytest.raises(vimdeploy.InputError, match="Wanted a length of 4 or more in steps of 4; found 18"):
        session.run(np.zeros((1, 2, 18), np.float32))


def test_what_a_forward_assigns_is_gone_and_an_answer_may_be_a_dataclass(tmp_path):
    module = seeded(Keeping).eval()
    made = vimdeploy.export(module, torch.randn(2, 4), tmp_path / "keeping.onnx")
    assert [spec.name for spec in made.artifact.info.outputs] == ["first", "second"]
    assert not {"kept", "calls"} & vars(module).keys()


class TestOperators:
    def test_each_node_is_remembered_as_the_call_that_it_is(self, scans):
        stages = stages_of(scans[2].artifact.info)
        assert [(stage.kind, {part.number for part in stage.call.parts}) for stage in stages] == [
            ("conv1d", {0}),
            ("scan", {1}),
            ("conv1d", {2}),
            ("scan", {3}),
        ]
        nodes = {node.name: node.op_type for node in scans[2].artifact.model.graph.node}
        assert all("inner" in stage.name and nodes[stage.name] for stage in stages)

    def test_verify_compares_them_own_and_carried(self, scans):
        module, examples, made = scans
        results = vimdeploy.verify(made.artifact, model=(module, examples), count=3)
        for result in results:
            assert result.passed
            assert [stage.title for stage in result.stages] == [stage.name for stage in stages_of(made.artifact.info)]
            assert all(0 < stage.carried.error < 1e-5 and stage.own.error < 1e-5 for stage in result.stages)
        assert results[0].inputs == "2 example inputs and 1 random input (seed 0)"

    def test_a_module_alone_is_compared_on_random_inputs(self, scans):
        results = vimdeploy.verify(scans[2].artifact, model=scans[0], count=2)
        assert (results[0].passed, results[0].inputs) == (True, "2 random inputs (seed 0)")

    def test_a_weight_that_is_off_is_found_in_its_operator(self, scans, tmp_path):
        module, examples, made = scans
        model = onnx.ModelProto()
        model.CopyFrom(made.artifact.model)
        second = stages_of(made.artifact.info)[3]
        node = next(node for node in model.graph.node if node.name == second.name)
        stored = {tensor.name: tensor for tensor in model.graph.initializer}
        weight = stored[node.input[2]]  # A
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.01, weight.name))
        path = tmp_path / "off.onnx"
        path.write_bytes(model.SerializeToString())
        result = vimdeploy.verify(path, model=(module, examples), count=2)[-1]
        assert (result.fault.where, "fed with the same values" in result.fault.what) == (second.name, True)
        assert [stage.passed for stage in result.stages] == [True, True, True, False]

    def test_other_precisions(self, scans, tmp_path):
        module, examples, _ = scans
        made = vimdeploy.export(module, examples, tmp_path / "half.onnx", precision="fp16")
        assert (made.artifact.info.precision, stages_of(made.artifact.info)[0].kind) == ("fp16", "conv1d")
        assert all(result.passed for result in vimdeploy.verify(made.artifact, model=(module, examples), count=2))

    @pytest.mark.parametrize("loops", [True, False])
    def test_portable(self, scans, tmp_path, loops):
        module, examples, _ = scans
        made = vimdeploy.export(module, examples, tmp_path / "portable.onnx", portable=True, batch=2, loops=loops)
        assert (made.artifact.info.form, made.artifact.info.fixed_batch) == ("portable" if loops else "unrolled", 2)
        rows = torch.randn(5, 9, 6)
        found = vimdeploy.load(made.artifact, device="cpu").run(rows)["output"]
        np.testing.assert_allclose(found, module(rows).detach(), atol=1e-5)
        [result] = vimdeploy.verify(made.artifact, model=(module, examples), count=2)
        assert result.passed
        assert len(result.stages) == 4

    def test_portable_with_axes_that_are_free(self, scans, tmp_path):
        module, examples, _ = scans
        with pytest.raises(ConfigError, match="a model that leaves length free; export it at one size"):
            vimdeploy.export(
                module, examples, tmp_path / "portable.onnx", dynamic={"tokens": {1: "length"}}, portable=True
            )
        assert not list(tmp_path.iterdir())

    def test_int8(self, scans, tmp_path):
        module, examples, made = scans
        small = vimdeploy.quantize(made.artifact, tmp_path / "int8.onnx", exported_from=(module, examples))
        assert small.judged_by == "the outputs' standard deviation"
        assert 0 < small.points_lost < 5
        assert {layer.layer.split(".")[-1] for layer in small.layers} == {"MatMul"}
        results = vimdeploy.verify(small.artifact, model=(module, examples), count=2)
        assert all(result.passed and result.stages for result in results)
        portable = vimdeploy.convert(
            small.artifact, tmp_path / "portable.onnx", portable=True, exported_from=(module, examples)
        )
        assert (portable.artifact.info.precision, portable.artifact.info.form) == ("int8", "portable")

    def test_int8_of_layers_that_read_an_input_and_an_output(self, tmp_path):
        class Ends(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second, self.head = (nn.Linear(8, size, bias=False) for size in (8, 8, 3))

            def forward(self, x):  # (B, L, 8)
                hidden = self.second(self.first(x).sin())
                return hidden, self.head(hidden).cos()

        module = seeded(Ends).eval()
        uneven = torch.randn(4, 5, 8) * torch.logspace(-2, 1, 8)  # such channels are evened out
        with torch.no_grad():
            module.first.weight *= torch.logspace(2, -1, 8)
            module.second.weight *= torch.logspace(1, -2, 8)[:, None]
        made = vimdeploy.export(module, uneven, tmp_path / "ends.onnx")
        small = vimdeploy.quantize(made.artifact, tmp_path / "int8.onnx", exported_from=(module, uneven), budget=50)
        assert {"first.MatMul", "head.MatMul"} <= {layer.layer for layer in small.layers if layer.smoothed}
        assert vimdeploy.load(small.artifact, device="cpu").run(uneven)["output_1"].shape == (4, 5, 3)

    def test_another_module_is_refused(self, scans):
        with pytest.raises(ConfigError, match="not the one of the file: wanted the inputs tokens"):
            vimdeploy.verify(scans[2].artifact, model=(nn.Linear(4, 4), torch.randn(2, 4)))
        with pytest.raises(ConfigError, match=r"Wanted a PyTorch module, .* found int"):
            vimdeploy.verify(scans[2].artifact, model=3)

    def test_without_the_module_the_library_is_compared_with_the_bodies(self, scans):
        if scans[2].artifact.info.config and len(scans[2].parity) == 2:
            with pytest.warns(vimdeploy.VimdeployWarning, match="Without --checkpoint or --model"):
                assert vimdeploy.verify(scans[2].artifact, count=1)[0].passed


@pytest.mark.parametrize(("name", "flipped"), [("oflex", True), ("stock", False), ("vim", True)])
def test_a_model_of_stand_ins_outside_of_a_block(name, flipped, tmp_path):
    module, example = miniature(name)
    made = vimdeploy.export(module, example, tmp_path / "mini.onnx")
    stages = stages_of(made.artifact.info)
    calls = [stage.call for stage in stages if stage.call is not None]
    assert any(part.is_flipped for call in calls for part in call.parts) == flipped
    assert all(result.passed and result.stages for result in vimdeploy.verify(made.artifact, model=module, count=1))


class TestRefused:
    @pytest.mark.parametrize(
        ("module", "options", "error", "message"),
        [
            (Drawing(), {}, ConfigError, "draws random numbers, in eval mode too: drawn of"),
            (
                Choosing(),
                {},
                ConfigError,
                r'cannot be traced: GuardOnDataDependentSymNode: .* in forward: "if x.sum\(\) > 0:"\)',
            ),
            (Keeping(), {"precision": "fp8"}, ConfigError, "precision must be one of"),
            (Keeping(), {"precision": "fp16"}, ConfigError, "Nothing in the model would be in fp16"),
            (Keeping(), {"opset": 7}, ConfigError, "opset must be 20 to 24"),
            (
                Rows(),
                {"dynamic": {"x": {1: "features"}}},
                ConfigError,
                "features is fixed by line .* of modules.py, in ",
            ),
            (Keeping(), {"output_names": ["a"]}, ConfigError, "Wanted 2 different output names"),
            ("a text", {}, TypeError, "takes 2 positional"),
            (3, {}, ConfigError, "Wanted a variant or a PyTorch module to export, found int"),
        ],
    )
    def test_nothing_is_written(self, module, options, error, message, tmp_path, capfd):
        with pytest.raises(error, match=message):
            vimdeploy.export(module, torch.randn(2, 4), tmp_path / "none.onnx", **options)
        assert list(tmp_path.iterdir()) == []
        assert capfd.readouterr() == ("", "")

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(OutputError):
            vimdeploy.export(Keeping(), torch.randn(2, 4), tmp_path / "none" / "x.onnx")

    def test_a_damaged_list_of_steps(self, scans):
        info = dataclasses.replace(scans[2].artifact.info, config={"steps": [{"node": "x"}]})
        with pytest.raises(ConfigError, match="what the file says of its operator nodes is damaged"):
            stages_of(info)
