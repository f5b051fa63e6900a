import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.config import VARIANTS
from vimdeploy.models.vim.stages import stages_of
from vimdeploy.networks import AnySize, network_of_variant
from vimdeploy.networks import stages_of as stages_of_file

MIXER = {"class_token": "none", "final_norm": False, "block_feature": "mixer"}
ROTARY = {"class_token": "none", "final_norm": False, "rotary": True, "block_feature": "rotated"}


def test_all_are_there_in_the_order_of_the_network(tiny):
    names = [stage.name for stage in stages_of(tiny.config)]
    assert names[:3] == ["patch_embed", "pos_embed", "layers.0.norm"]
    assert names[2:9] == [
        "layers.0.norm",
        "layers.0.mixer.in_proj",
        "layers.0.mixer.conv1d",
        "layers.0.mixer.x_proj",
        "layers.0.mixer.scan",
        "layers.0.mixer.out_proj",
        "layers.0",
    ]
    assert names[-2:] == ["layers.1", "norm_f"]
    assert len(names) == len(set(names)) == 2 + 7 * 2 + 1


def test_without_a_last_norm_the_last_block_is_the_last_stage(tiny):
    assert stages_of(tiny.config.replace(final_norm=False))[-1].name == "layers.1"


def test_titles_are_for_people(tiny):
    titles = [stage.title for stage in stages_of(tiny.config)]
    assert titles[:4] == ["patch_embed", "pos_embed", "Block 0, norm", "Block 0, in_proj"]
    assert titles[-2:] == ["Block 1, residual", "norm_f"]


def test_terms_are_what_a_value_sums_up(tiny):
    terms = {stage.name: stage.terms for stage in stages_of(tiny.config)}
    assert terms["patch_embed"] == 3 * 8 * 8
    assert (terms["layers.1.mixer.in_proj"], terms["layers.1.mixer.out_proj"]) == (16, 32)
    assert (terms["layers.1.mixer.scan"], terms["layers.1"]) == (17, 2)


def test_those_before_the_blocks_say_so(tiny):
    assert [stage.name for stage in stages_of(tiny.config) if stage.before_blocks] == ["patch_embed", "pos_embed"]


def test_an_int8_file_computes_its_linear_layers_alone_in_int8(tiny):
    linear = [stage.kind for stage in stages_of(tiny.config) if "int8" not in stage.float32_in]
    assert set(linear) == {"in_proj", "out_proj"}


def test_every_weight_of_the_backbone_has_its_stage():
    """The weights that a file stores as they are, or as its operators read them."""
    variant = VARIANTS["vim_tiny_patch16_224"]
    sources = [weight.source for stage in stages_of(variant.config) for weight in stage.weights]
    assert len(sources) == len(set(sources)) == 2 + 2 + 24 * (1 + 1 + 2 + 1 + 4 + 1) + 1


def network(config, task, image_size=None, blocks=()):
    return network_of_variant(Variant("mine", "vim", config), 0, task, image_size, blocks)


@pytest.fixture(
    scope="module",
    params=[
        ({}, "classification", None, ()),
        ({"class_token": "first", "stride": 4}, "classification", AnySize(), ()),
        ({"class_token": "none"}, "features", AnySize(), ()),
        (ROTARY, "features", None, (0, 1)),
        (MIXER, "features", None, (0,)),
    ],
    ids=["classifier", "any size, class token first", "any size, no class token", "rotary", "mixer"],
)
def exported(request, tiny):
    """A network with weights that are all different, its file, and its stages."""
    changes, *arguments = request.param
    made = network(tiny.config.replace(image_size=(16, 24)).replace(**changes), *arguments)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made, onnx_from_model(made.module, made.info), stages_of_file(made.info)


@pytest.mark.slow
class TestInTheFile:
    """The table against exported files, and against the modules that they were made of."""

    def test_every_value_is_there(self, exported):
        _, model, stages = exported
        values = {value for node in model.graph.node for value in node.output}
        assert not [stage.name for stage in stages if stage.value not in values]

    def test_every_module_is_there(self, exported):
        made, _, stages = exported
        modules = {name for name, _ in made.module.named_modules()}
        assert not [stage.name for stage in stages if stage.module not in modules]

    def test_every_weight_is_what_its_node_reads(self, exported):
        made, model, stages = exported
        stored = {name: tensor.detach() for name, tensor in made.module.named_parameters()}
        stored |= {f"backbone.{name}": tensor for name, tensor in made.module.backbone.stored_tensors().items()}
        nodes = {node.name: node for node in model.graph.node}
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for weight in (weight for stage in stages for weight in stage.weights):
            found = constants[nodes[weight.node].input[weight.input]]
            wanted = stored[weight.source].numpy()
            np.testing.assert_allclose(
                found, wanted.T if weight.transposed else wanted, rtol=1e-6, err_msg=weight.source
            )

    def test_every_value_is_its_modules(self, exported):
        made, model, stages = exported
        found = {}
        for stage in stages:
            module = made.module.get_submodule(stage.module)
            module.register_forward_hook(lambda _, __, value, name=stage.name: found.update({name: value}))
        images = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            made.module(images)
        computed = values_of(model, images.numpy(), [stage.value for stage in stages])
        for stage in stages:
            wanted = found[stage.name][0] if isinstance(found[stage.name], tuple) else found[stage.name]
            np.testing.assert_allclose(computed[stage.value], wanted.numpy(), rtol=1e-3, atol=1e-4, err_msg=stage.name)
            assert computed[stage.value].shape[stage.batch_axis] == 2


def values_of(model, images, names):
    """Inner values of a model, by ONNX Runtime with the function bodies."""
    import onnxruntime

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in given)
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), {"images": images}), strict=True))
