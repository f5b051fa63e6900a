import json
import os
from pathlib import Path
from typing import ClassVar

import pytest

from vimdeploy import imagenet
from vimdeploy.coco import NAMES
from vimdeploy.errors import CheckpointError, ConfigError
from vimdeploy.model_info import ModelInfo
from vimdeploy.models import ARCHITECTURES, VARIANTS, architecture_of, labels_from_file, strict_weights, variant_by_name
from vimdeploy.models.architecture import Architecture
from vimdeploy.models.deit.config import DeiTConfig
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.recipe import Recipe


class TestTables:
    def test_architectures_stand_under_their_names(self):
        assert list(ARCHITECTURES) == ["vim", "deit"]
        assert all(isinstance(value, Architecture) and value.name == name for name, value in ARCHITECTURES.items())

    def test_variants_are_those_of_all_architectures(self):
        assert [(variant.name, variant.architecture) for variant in VARIANTS.values()] == [
            ("vim_tiny_patch16_224", "vim"),
            ("vim_tiny_patch16_stride8_224", "vim"),
            ("vim_small_patch16_224", "vim"),
            ("vim_small_patch16_stride8_224", "vim"),
            ("vim_base_patch16_224", "vim"),
            ("deit_tiny_patch16_224", "deit"),
            ("deit_small_patch16_224", "deit"),
            ("deit_base_patch16_224", "deit"),
        ]
        assert all(name == variant.name for name, variant in VARIANTS.items())

    @pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
    def test_configs_survive_json(self, variant):
        numbers = json.loads(json.dumps(vars(variant.config)))
        assert ARCHITECTURES[variant.architecture].config(numbers) == variant.config


class TestArchitectureOf:
    def test_a_file_of_ours(self, tiny_info):
        assert architecture_of(tiny_info) is ARCHITECTURES["vim"]

    def test_a_model_that_somebody_brought(self):
        assert architecture_of(ModelInfo("brought", (), ())) is None

    def test_one_of_a_newer_vimdeploy(self):
        with pytest.raises(ConfigError, match="does not know the architecture 'mamba9'; it knows vim, deit"):
            architecture_of(ModelInfo("newer", (), (), architecture="mamba9"))


class TestVariantByName:
    def test_a_released_one(self):
        assert variant_by_name("deit_tiny_patch16_224").config == DeiTConfig(dim=192, heads=3)

    @pytest.mark.parametrize("variant", ARCHITECTURES["vim"].variants.values(), ids=lambda variant: variant.name)
    def test_the_upstream_name_is_an_alias(self, variant):
        assert variant_by_name(variant.upstream_name) is variant

    @pytest.mark.parametrize(
        ("name", "whole"),
        [
            ("vim_tiny", "vim_tiny_patch16_224"),
            ("vim_tiny_stride8", "vim_tiny_patch16_stride8_224"),
            ("vim_base", "vim_base_patch16_224"),
            ("deit_small", "deit_small_patch16_224"),
        ],
    )
    def test_a_short_name(self, name, whole):
        assert variant_by_name(name) is VARIANTS[whole]

    def test_the_upstream_name_of_base_is_spelt_in_its_own_way(self):
        name = "vim_base_patch16_224_bimambav2_final_pool_mean_abs_pos_embed_with_middle_cls_token_div2"
        assert variant_by_name(name).name == "vim_base_patch16_224"

    def test_an_unknown_variant_suggests_the_nearest(self):
        with pytest.raises(ConfigError, match=r"Did you mean vim_small_patch16_224\?"):
            variant_by_name("vim_smal_patch16")

    @pytest.mark.parametrize("name", ["zzz", ""])
    def test_a_variant_like_none_gets_the_list_alone(self, name):
        with pytest.raises(ConfigError, match=rf"There is no variant '{name}'\. The variants are: vim_tiny, vim_t"):
            variant_by_name(name)

    def test_a_python_file_wants_its_function(self):
        with pytest.raises(ConfigError, match=r"wants the function that makes the model: theirs\.py:make"):
            variant_by_name("theirs.py")


class TestDescription:
    """A model of one's own as NAME.json."""

    def test_all_fields(self, tmp_path):
        path = tmp_path / "mine.json"
        described = {"config": {"dim": 32, "num_classes": 2}, "recipe": {"crop": 1.0}, "labels": ["cat", "dog"]}
        path.write_text(json.dumps(described))
        variant = variant_by_name(str(path))
        assert (variant.name, variant.architecture, variant.labels) == ("mine", "vim", ("cat", "dog"))
        assert (variant.config, variant.recipe) == (VimConfig(dim=32, num_classes=2), Recipe(crop=1.0))

    def test_another_name_and_another_architecture(self, tmp_path):
        path = tmp_path / "mine.json"
        described = {"name": "my DeiT", "architecture": "deit", "config": {"dim": 32, "heads": 2}}
        path.write_text(json.dumps(described))
        variant = variant_by_name(str(path))
        assert (variant.name, variant.architecture, variant.config) == ("my DeiT", "deit", DeiTConfig(32, 2))

    def test_a_missing_file(self):
        with pytest.raises(ConfigError, match=r"There is no model description no/such\.json"):
            variant_by_name("no/such.json")

    def test_one_number_is_a_square_image_and_numbers_are_labels(self, tmp_path):
        path = tmp_path / "mine.json"
        path.write_text('{"config": {"image_size": 64, "num_classes": 2}, "labels": [0, 1]}')
        variant = variant_by_name(str(path))
        assert (variant.config.image_size, variant.labels) == ((64, 64), ("0", "1"))

    def test_a_byte_order_mark_is_passed_over(self, tmp_path):
        path = tmp_path / "mine.json"
        path.write_bytes(b"\xef\xbb\xbf" + b'{"config": {}}')
        assert variant_by_name(str(path)).config == VimConfig()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("not json", "it is no JSON: Expecting value"),
            ("[" * 100000, "its JSON nests too deep"),
            ('{"config": {"dim": ' + "1" * 5000 + "}}", "Exceeds the limit"),
            ("[]", r"wanted an object, \{\.\.\.\}, found \[\]"),
            ("{}", "The field config is missing"),
            ('{"config": []}', "config must be an object"),
            ('{"conifg": {}}', r"There is no field 'conifg'; did you mean config\?"),
            ('{"config": {"no_such_field": 1}}', "There is no field 'no_such_field'"),
            ('{"config": {"dimm": 1}}', r"There is no field 'dimm'; did you mean dim\?"),
            ('{"config": {"dim": "64"}}', "dim must be a whole number .* found '64', in quotes"),
            ('{"config": {"dim": true}}', "dim must be a whole number .* found True"),
            ('{"config": {"dim": 1e7}}', r"dim must be a whole number .* found 10000000\.0"),
            ('{"config": {"dim": 10000000}}', "A model of dim 10000000"),
            ('{"config": {"norm_eps": "1e-5"}}', "norm_eps must be a number, found '1e-5', in quotes"),
            ('{"config": {"norm_eps": NaN}}', "norm_eps must be a number, found nan"),
            ('{"config": {"norm_eps": 0}}', r"norm_eps must be above 0, found 0\.0"),
            ('{"config": {"direction_scale": "0.5"}}', "direction_scale must be a number, found '0.5'"),
            ('{"config": {"image_size": [16.0, 16.0]}}', "image_size must be a whole number or two"),
            ('{"config": {}, "recipe": {"crop": "all"}}', "crop must be a number, found 'all'"),
            ('{"config": {}, "recipe": {"mean": 0.5}}', "mean must be a list of numbers, found 0.5"),
            ('{"config": {}, "recipe": {"sdt": [1]}}', r"There is no field 'sdt'; did you mean std\?"),
            ('{"config": {}, "architecture": "mamba9"}', "architecture must be one of vim, deit, found 'mamba9'"),
            ('{"config": {}, "architecture": "deit"}', "The field dim is missing"),
            ('{"config": {}, "labels": 5}', "labels must be a list of names"),
            ('{"config": {}, "labels": "abcdef"}', "labels must be a list of names"),
            ('{"config": {}, "labels": [1, 2.5, null, {}, [], true]}', "labels must be a list of names"),
            ('{"config": {}, "name": {"a": 1}}', "name must be text"),
        ],
        ids=lambda text: text[:40],
    )
    def test_what_describes_no_model(self, tmp_path, text, message):
        path = tmp_path / "mine.json"
        path.write_text(text)
        with pytest.raises(ConfigError, match=rf"mine\.json does not describe a model: {message}") as caught:
            variant_by_name(str(path))
        assert len(str(caught.value)) < 500 + len(str(path))

    def test_a_file_that_is_no_text(self, tmp_path):
        path = tmp_path / "mine.json"
        path.write_bytes("{}".encode("utf-16"))
        with pytest.raises(ConfigError, match=r"mine\.json does not describe a model: it is not UTF-8 but UTF-16"):
            variant_by_name(str(path))

    def test_a_file_that_is_too_large(self, tmp_path):
        path = tmp_path / "mine.json"
        path.touch()
        os.truncate(path, 70 << 20)
        with pytest.raises(
            ConfigError, match=r"mine\.json does not describe a model: it has 70 MiB, at most 64 are read"
        ):
            variant_by_name(str(path))

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_a_pipe_is_not_waited_for(self, tmp_path):
        path = tmp_path / "mine.json"
        os.mkfifo(path)
        with pytest.raises(
            ConfigError, match=r"mine\.json does not describe a model: it is a device, a pipe or a socket"
        ):
            variant_by_name(str(path))

    def test_numbers_that_cannot_be_built_say_so(self, tmp_path):
        path = tmp_path / "mine.json"
        path.write_text('{"config": {"depth": 0}}')
        with pytest.raises(ConfigError, match=r"mine\.json does not describe a model: depth must be a whole number"):
            variant_by_name(str(path))


class TestLabels:
    def test_one_per_line(self, tmp_path):
        path = tmp_path / "labels.txt"
        path.write_text("tench\n great white shark \n\nkite\n")
        assert labels_from_file(path) == ("tench", "great white shark", "kite")

    def test_as_windows_saves_it(self, tmp_path):
        path = tmp_path / "labels.txt"
        path.write_bytes(b"\xef\xbb\xbftench\r\nkite\xe2\x80\xa8bird\r\n")
        assert labels_from_file(path) == ("tench", "kite\u2028bird")

    def test_those_of_coco(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert labels_from_file(Path("coco")) == NAMES
        (tmp_path / "coco").write_text("one\ntwo\n")
        assert labels_from_file(Path("coco")) == ("one", "two")

    def test_those_of_imagenet(self):
        assert labels_from_file(Path("imagenet")) == imagenet.names()

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ConfigError) as caught:
            labels_from_file(tmp_path / "none.txt")
        assert str(caught.value) == (
            f"Wanted a text file with one label per line, but {tmp_path}/none.txt cannot be read: "
            "No such file or directory."
        )

    def test_a_file_that_is_no_text(self, tmp_path):
        path = tmp_path / "labels.txt"
        path.write_bytes("tench\n".encode("utf-16"))
        with pytest.raises(ConfigError, match=r"one label per line, but .* it is not UTF-8 but UTF-16"):
            labels_from_file(path)


class TestStrictWeights:
    BACKBONE: ClassVar = {"backbone.norm_f.weight": (4,), "backbone.cls_token": (1, 1, 4)}
    HEAD: ClassVar = {"head.weight": (2, 4), "head.bias": (2,)}

    def test_all_that_is_wanted_and_no_more(self):
        assert strict_weights(self.BACKBONE | self.HEAD, self.HEAD | self.BACKBONE) == []

    def test_a_head_that_is_not_wanted_is_passed_over(self):
        assert strict_weights(self.BACKBONE, self.BACKBONE | self.HEAD) == ["head.bias", "head.weight"]

    def test_a_part_of_the_head_that_is_not_there(self):
        with pytest.raises(CheckpointError, match=r"Missing \(1\): head\.bias\. Unused \(0\): none\."):
            strict_weights(self.BACKBONE | self.HEAD, self.BACKBONE | {"head.weight": (2, 4)})

    def test_missing_and_unused_names_are_listed(self):
        found = {"backbone.cls_token": (1, 1, 4), "backbone.extra.weight": (1,)}
        with pytest.raises(CheckpointError, match=r"Missing \(1\): norm_f\.weight\. Unused \(1\): extra\.weight\.$"):
            strict_weights(self.BACKBONE, found)

    def test_if_there_are_many_the_first_are_listed(self):
        found = self.BACKBONE | {f"backbone.extra.{i}": (1,) for i in range(9)}
        message = r"Missing \(0\): none\. Unused \(9\): extra\.0, .*extra\.5, \.\.\.\."
        with pytest.raises(CheckpointError, match=message):
            strict_weights(self.BACKBONE, found)

    def test_other_shapes_are_listed(self):
        found = self.BACKBONE | self.HEAD | {"head.bias": (9,)}
        with pytest.raises(CheckpointError, match=r"1 shapes .*head\.bias: wanted \[2\], found \[9\]"):
            strict_weights(self.BACKBONE | self.HEAD, found)
