import pytest
import torch
from helpers.references import relative_error
from helpers.rule_weights import rule_checkpoint, rule_input

from vimdeploy.checkpoint import Checkpoint
from vimdeploy.models import VARIANTS
from vimdeploy.models.deit.config import DeiTConfig
from vimdeploy.models.deit.network import DeiT
from vimdeploy.models.heads.pyramid import BatchNorm, ConvTransposePyramid, Pyramid, SimplePyramid
from vimdeploy.models.vim.network import Vim
from vimdeploy.networks import network_of_variant


def sizes(levels):
    return [tuple(level.shape) for level in levels]


class TestConvTransposePyramid:
    @pytest.mark.parametrize(
        ("patch_size", "wanted"),
        [(16, [(16, 24), (8, 12), (4, 6), (2, 3)]), (8, [(8, 12), (4, 6), (2, 3), (1, 1)])],
    )
    def test_each_level_is_half_as_large_as_the_one_before(self, patch_size, wanted):
        levels = ConvTransposePyramid(8, patch_size)(*[torch.zeros(1, 8, 4, 6)] * 4)
        assert sizes(levels) == [(1, 8, *size) for size in wanted]

    def test_its_tensors_are_called_as_mmsegmentation_calls_them(self):
        names = set(ConvTransposePyramid(8, 16).state_dict())
        norm = {f"fpn1.1.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
        products = {f"{module}.{part}" for module in ("fpn1.0", "fpn1.3", "fpn2.0") for part in ("weight", "bias")}
        assert names == norm | products

    @torch.no_grad()
    def test_the_norm_is_torchs(self):
        """The folded convolution against a convolution and torch's own norm."""
        torch.manual_seed(0)
        neck, norm = ConvTransposePyramid(8, 16), torch.nn.BatchNorm2d(8).eval()
        for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 2)
        ours = neck.fpn1[1]
        ours.load_state_dict({name: value for name, value in norm.state_dict().items() if "batches" not in name})
        map_ = torch.randn(2, 8, 3, 4)
        wanted = neck.fpn1[3](torch.nn.functional.gelu(norm(neck.fpn1[0](map_))))
        torch.testing.assert_close(neck.fpn1(map_), wanted, rtol=1e-5, atol=1e-5)

    def test_what_a_file_stores_of_the_norm(self):
        stored = ConvTransposePyramid(8, 16).fpn1.stored_tensors()
        assert {name: tuple(tensor.shape) for name, tensor in stored.items()} == {
            "folded.weight": (8, 8, 2, 2),
            "folded.bias": (8,),
        }


class TestBatchNorm:
    @torch.no_grad()
    @pytest.mark.parametrize("bias", [False, True])
    def test_folds_into_a_convolution(self, bias):
        torch.manual_seed(0)
        conv, norm, ours = torch.nn.Conv2d(3, 5, 3, bias=bias), torch.nn.BatchNorm2d(5).eval(), BatchNorm(5)
        for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 2)
        ours.load_state_dict({name: value for name, value in norm.state_dict().items() if "batches" not in name})
        images = torch.randn(2, 3, 6, 6)
        found = torch.nn.functional.conv2d(images, *ours.folded(conv.weight, conv.bias))
        torch.testing.assert_close(found, norm(conv(images)), rtol=1e-5, atol=1e-5)


class TestSimplePyramid:
    @pytest.mark.parametrize(("rows", "coarse"), [(4, [(2, 3), (1, 2)]), (5, [(2, 3), (1, 2)]), (6, [(3, 3), (2, 2)])])
    def test_each_level_is_half_as_large_as_the_one_before(self, rows, coarse):
        levels = SimplePyramid(8, 6, 4)(torch.zeros(1, 8, rows, 6))
        fine = [(4 * rows, 24), (2 * rows, 12), (rows, 6)]
        assert sizes(levels) == [(1, 6, *size) for size in (*fine, *coarse)]

    def test_the_coarsest_is_every_second_value_of_the_one_before(self):
        *_, p5, p6 = SimplePyramid(8, 6, 4)(torch.randn(1, 8, 10, 10))
        assert torch.equal(p6, p5[:, :, ::2, ::2])

    @pytest.mark.parametrize("level", [3, 4])
    def test_its_tensors_are_called_as_detectron2_calls_them(self, level):
        names = set(SimplePyramid(8, 6, level).state_dict())
        assert {f"simfp_{level - 2}.4.weight", f"simfp_{level - 2}.4.norm.bias", f"simfp_{level}.0.weight"} < names
        assert {name.partition(".")[0] for name in names} == {f"simfp_{n}" for n in range(level - 2, level + 2)}
        assert len(names) == 6 + 2 + 8 * 3


class TestPyramid:
    def test_reads_the_blocks_that_it_is_told(self, tiny):
        torch.manual_seed(0)
        model = Pyramid(Vim(tiny.config), torch.nn.ModuleList(), (1, 0))
        model.neck = Told()
        images = torch.randn(1, 3, 32, 32)
        wanted = model.backbone.features(images, (1, 0)).blocks
        assert all(torch.equal(*pair) for pair in zip(model(images), wanted, strict=True))

    def test_reads_the_last_map_if_it_is_told_none(self, tiny):
        model, images = Pyramid(Vim(tiny.config), Told()), torch.ones(1, 3, 32, 32)
        (found,) = model(images)
        assert torch.equal(found, model.backbone.features(images).map)

    def test_it_stands_on_any_backbone(self):
        config = DeiTConfig(24, 3, (64, 96), depth=4)
        model = Pyramid(DeiT(config), ConvTransposePyramid(24, 16), (0, 1, 2, 3))
        assert sizes(model(torch.zeros(1, 3, 64, 96))) == [(1, 24, *s) for s in ((16, 24), (8, 12), (4, 6), (2, 3))]


class Told(torch.nn.Module):
    """Gives what it is given."""

    def forward(self, *maps):
        return maps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant", "prefix"),
    [("det", "vim_tiny_patch16_224", "backbone.net."), ("seg", "vim_small_patch16_224", "backbone.")],
)
def test_levels_are_the_toolboxes_own(name, variant, prefix):
    dim = VARIANTS[variant].config.dim
    config = VARIANTS[variant].config.replace(image_size=(256, 256), class_token="none", final_norm=False)
    with torch.device("meta"):
        neck = SimplePyramid(dim, 256, 4) if name == "det" else ConvTransposePyramid(dim, 16)
        tensors = rule_checkpoint(Pyramid(Vim(config), neck), prefix, rope=256)
    network = network_of_variant(VARIANTS[variant], Checkpoint("w.pth", "", "model", tensors), "pyramid")
    with torch.inference_mode():
        levels = network.module(torch.from_numpy(rule_input(256)))
    for spec, level in zip(network.info.outputs, levels, strict=True):
        assert relative_error(f"{name}_{spec.name}", level[:, ::16].numpy()) < 1e-4, spec.name
