"""What is found out about a module before anything is traced."""

import copy

import pytest
import torch
from helpers.modules import Drawing, Keeping, Linear, Mixing, Pooled, Two, Wide, Windows, wide_inputs
from torch import nn

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import ModelInfo, SizeRange, TensorSpec
from vimdeploy.torch_module import Arguments, FlatModule, looked_at, network_of_module, ready


def names_of(module, examples, **options):
    info = looked_at(module, examples, **options).info
    return [spec.name for spec in info.inputs], [spec.name for spec in info.outputs]


class Positional(nn.Module):
    def forward(self, x, *others):
        return x + others[0][0], (others[0][1],)


def test_names_are_those_of_parameters_and_keys():
    assert names_of(Wide(), wide_inputs()) == (
        ["image", "class_ids", "weight"],
        ["logits", "maps_0", "maps_1", "best"],
    )


def test_names_of_sequences():
    rows = [torch.randn(2, 3), torch.randn(2, 3)]
    assert names_of(Positional(), (torch.randn(2, 3), rows)) == (
        ["x", "others_0_0", "others_0_1"],
        ["output_0", "output_1_0"],
    )


def test_a_dataclass_has_the_names_of_its_fields_and_no_name_comes_twice():
    assert names_of(Keeping(), torch.randn(2, 4)) == (["x"], ["first", "second"])
    assert names_of(Keeping(), torch.randn(2, 4), input_names=["first"]) == (["first"], ["first_2", "second"])


def test_names_that_are_given():
    given = {"input_names": ["a", "b", "c"], "output_names": ["d", "e", "f", "g"]}
    assert names_of(Wide(), wide_inputs(), **given) == (given["input_names"], given["output_names"])


@pytest.mark.parametrize("names", [["a"], ["a", "a", "b"], ["a", "", "b"]])
def test_names_that_do_not_fit(names):
    with pytest.raises(ConfigError, match="Wanted 3 different input names"):
        looked_at(Wide(), wide_inputs(), input_names=names)
    with pytest.raises(ConfigError, match="Wanted 1 different output names"):
        looked_at(nn.Linear(4, 4), torch.randn(2, 4), output_names=["input"])


def test_a_batch_is_what_rows_are_answered_alone_in():
    found = looked_at(Wide(), wide_inputs())
    assert {spec.dims[0] for spec in (*found.info.inputs, *found.info.outputs)} == {"batch"}
    assert (found.info.has_batch, found.info.fixed_batch, found.notes) == (True, None, ())
    assert [spec.type for spec in found.info.inputs] == ["float32", "int64", "float32"]


def test_answers_that_are_nearly_equal_are_rounded_and_no_more():
    class Rounding(nn.Module):
        def forward(self, x):
            return 0.5 + 1e-7 * x + 1e-7 * (len(x) % 2)

    assert looked_at(Rounding(), torch.randn(2, 4)).info.has_batch


def test_rows_that_look_at_each_other_are_no_batch():
    _, info, notes = looked_at(Mixing(), torch.randn(3, 4))
    assert (info.inputs[0].dims, info.has_batch, info.fixed_batch) == ((3, 4), False, None)
    assert notes == ("Axis 0 is no batch, because the answer to a row depends on the others; it stays fixed.",)


def test_a_batch_that_the_forward_fixes():
    _, info, (note,) = looked_at(Two(), torch.randn(2, 4))
    assert (info.inputs[0].dims, info.has_batch, info.fixed_batch) == ((2, 4), True, 2)
    assert "fixed at 2, because the model cannot run with 3: RuntimeError: The size of tensor a (3)" in note
    assert 'of modules.py, in forward: "return self.layer(x) + torch.zeros(2, 1)")' in note


def test_different_first_sizes_are_no_batch():
    class Outer(nn.Module):
        def forward(self, x, y):
            return x[:, None] * y

    info = looked_at(Outer(), (torch.randn(2), torch.randn(3))).info
    assert (info.inputs[0].dims, info.inputs[1].dims, info.outputs[0].dims) == ((2,), (3,), (2, 3))


class TestFreeAxes:
    def test_words(self):
        free = {"images": {2: "height", 3: "width"}}
        info = looked_at(Pooled(), torch.randn(1, 3, 8, 12), dynamic=free).info
        assert info.inputs[0].dims == ("batch", 3, "height", "width")
        assert info.sizes == {"height": SizeRange(typical=8), "width": SizeRange(typical=12)}

    @pytest.mark.parametrize(
        ("free", "message"),
        [
            ({"picture": {2: "height"}}, "speaks of an input 'picture'; the inputs are images"),
            ({"images": {4: "height"}}, "Wanted a free axis from 0 to 3 of images"),
            ({"images": {2: "the height"}}, "a word for it such as height; found 2 and 'the height'"),
            ({"images": {2: "side", 3: "side"}}, "free axis side wants one size of at least 2"),
        ],
    )
    def test_what_cannot_be(self, free, message):
        with pytest.raises(ConfigError, match=message):
            looked_at(Pooled(), torch.randn(1, 3, 8, 12), dynamic=free)


class TestRefused:
    def test_random_answers(self):
        with pytest.raises(ConfigError, match="draws random numbers, in eval mode too: drawn of the same inputs"):
            looked_at(Drawing(), torch.randn(2, 4))

    def test_dropout_is_no_random_answer_in_eval_mode(self):
        looked_at(nn.Sequential(nn.Linear(4, 4), nn.Dropout()).train(), torch.randn(2, 4))

    def test_random_numbers_of_the_caller_are_left_alone(self):
        module = nn.Linear(4, 4)
        torch.manual_seed(3)
        wanted = torch.rand(1)
        torch.manual_seed(3)
        looked_at(module, torch.ones(2, 4))
        assert torch.equal(torch.rand(1), wanted)

    @pytest.mark.parametrize(
        ("module", "examples", "message"),
        [
            (nn.Linear(4, 4), 3, "Wanted example inputs: a tensor, .* found int"),
            (nn.Linear(4, 4), (3,), "at least one tensor in them, found none"),
            (nn.Linear(4, 4), torch.randn(2, 3), "cannot run on the example inputs: RuntimeError: mat1 and mat2"),
            (nn.Linear(4, 4), torch.zeros(0, 4), r"whose sizes are at least 1, found \(0, 4\)"),
            (nn.Linear(4, 4), torch.full((2, 4), torch.inf), "output of the example inputs is NaN or infinite"),
            (nn.Linear(4, 4).half(), torch.randn(2, 4), "float32, weight is float16; make them so with model.float"),
            (nn.Linear(4, 4).to(torch.complex64), torch.randn(2, 4), "Wanted real weights, weight is complex64"),
            (nn.Linear(4, 4, device="meta"), torch.randn(2, 4), "on the device meta"),
        ],
    )
    def test_what_cannot_be(self, module, examples, message):
        with pytest.raises(ConfigError, match=message):
            looked_at(module, examples)

    def test_torchscript(self):
        with pytest.raises(ConfigError, match="found TorchScript; give the module that it was made from"):
            looked_at(torch.jit.script(nn.Linear(4, 4)), torch.randn(2, 4))

    def test_outputs_that_no_file_has(self):
        class Odd(nn.Module):
            def forward(self, x):
                return self.give(x)

        for give, message in (
            (lambda x: x.bfloat16(), "The output output is bfloat16"),
            (lambda x: x + 1j, "The output output is complex64"),
            (lambda x: 3, "Wanted a model that gives tensors, found int"),
        ):
            module = Odd()
            module.give = give
            with pytest.raises(ConfigError, match=message):
                looked_at(module, torch.randn(2, 4))


def test_a_module_is_left_as_it_was():
    module = Keeping().train()
    before = copy.copy(vars(module))
    with ready(module):
        assert not module.layer.training
        module(torch.randn(2, 4))
        assert module.calls == 1
    assert (vars(module), module.layer.training) == (before, True)


def test_a_flat_module_takes_and_gives_tensors_in_a_row():
    inputs = wide_inputs()
    flat = FlatModule(Wide().eval(), Arguments(inputs))
    outputs = flat(*flat.examples)
    wanted = flat.model(**inputs)
    assert torch.equal(outputs[0], wanted["logits"])
    assert torch.equal(outputs[2], wanted["maps"][1])
    assert len(outputs) == 4


class TestTheModuleOfAFile:
    INFO = ModelInfo("x", (TensorSpec("x", ("batch", 4)),), (TensorSpec("y", ("batch", 4)),), precision="fp16")

    def test_is_its_reference_in_float32(self):
        for examples in (None, torch.randn(2, 4)):
            network = network_of_module(nn.Linear(4, 4).eval(), examples, self.INFO)
            assert network.info.precision == "fp32"
            assert network.module(torch.zeros(1, 4))[0].shape == (1, 4)

    @pytest.mark.parametrize(
        ("module", "examples", "message"),
        [
            (
                nn.Linear(3, 4),
                torch.randn(2, 3),
                r"wanted the inputs x \(batch, 4\) of float32; found \(2, 3\)",
            ),
            (nn.Linear(4, 3), torch.randn(2, 4), r"wanted the outputs y \(batch, 4\) of float32; found \(2, 3\)"),
            (Linear(), torch.randn(2, 4), "cannot run on the example inputs: NotImplementedError"),
        ],
    )
    def test_must_be_that_of_the_file(self, module, examples, message):
        with pytest.raises(ConfigError, match=message):
            network_of_module(module, examples, self.INFO)


def test_windows_leave_the_batch_free_in_pytorch():
    assert looked_at(Windows(), torch.randn(2, 4)).info.inputs[0].dims == ("batch", 4)


def test_an_output_without_rows_leaves_the_batch_free():
    class WithLoss(nn.Module):
        def forward(self, x, step):
            return x * step, x.mean()

    info = looked_at(WithLoss(), (torch.randn(3, 4), torch.tensor(2.0))).info
    assert [spec.dims for spec in (*info.inputs, *info.outputs)] == [("batch", 4), (), ("batch", 4), ()]
    assert not info.has_batch


def test_a_forward_that_writes_into_its_input_is_not_random():
    class Writing(nn.Module):
        def forward(self, x):
            return x.add_(1) * 2

    example = torch.ones(2, 4)
    looked_at(Writing(), example)
    assert torch.equal(example, torch.ones(2, 4))
