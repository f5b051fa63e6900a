import dataclasses
import errno
import json
import os

import pytest

from vimdeploy.engine_file import EngineInfo, check_name, is_engine, read_engine, sha256_of, sidecar_path, write_engine
from vimdeploy.errors import ModelFileError, OutputError
from vimdeploy.model_info import ModelInfo, SizeRange, TensorSpec

FULL = EngineInfo(
    model=ModelInfo(
        "mine",
        (TensorSpec("images", ("batch", 3, "height", 224)),),
        (TensorSpec("logits", ("batch", 2)),),
        task="classification",
        sizes={"height": SizeRange(32, 224, 16, 224)},
        labels=("a", "b"),
        precision="fp16",
    ),
    flavor="rtx",
    tensorrt_version="1.7.1.116",
    profiles=(
        {"images": ((1, 3, 224, 224), (2, 3, 224, 224), (4, 3, 224, 224))},
        {"images": ((8, 3, 224, 224), (8, 3, 224, 224), (16, 3, 224, 224))},
    ),
    onnx_sha256="abc",
    engine_sha256=sha256_of(b"plan"),
    engine_bytes=4,
    plugin_version="1",
    plugin_in_engine=True,
    device="Orin",
    compute_capability="8.7",
    version_compatible=True,
    hardware_compatibility="ampere_plus",
    versions={"polygraphy": "0.53.6"},
)
"""No field has its default where another value is possible."""


@pytest.fixture
def path(tmp_path):
    write_engine(tmp_path / "model.engine", b"plan", FULL)
    return tmp_path / "model.engine"


@pytest.fixture
def change(path):
    """``change(entry=...)`` edits the file beside the engine; None takes the entry out."""

    def edit(**entries):
        document = json.loads(sidecar_path(path).read_text()) | entries
        sidecar_path(path).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
        return path

    return edit


class TestEngineInfo:
    @pytest.mark.parametrize(("version", "operators"), [(None, "function body"), ("1", "plugin")])
    def test_what_computes_the_operators(self, version, operators):
        assert dataclasses.replace(FULL, plugin_version=version).operators == operators

    @pytest.mark.parametrize(
        ("plugin", "compatible", "carries"), [(False, False, False), (True, False, True), (False, True, True)]
    )
    def test_whether_it_carries_code(self, plugin, compatible, carries):
        info = dataclasses.replace(FULL, plugin_in_engine=plugin, version_compatible=compatible)
        assert info.carries_code is carries


class TestReadEngine:
    def test_comes_back_whole(self, path):
        assert read_engine(path) == (b"plan", FULL)

    def test_defaults_come_back_too(self, tmp_path):
        required = {f.name: getattr(FULL, f.name) for f in dataclasses.fields(FULL) if f.default is dataclasses.MISSING}
        info = EngineInfo(**{name: value for name, value in required.items() if name != "versions"})
        write_engine(tmp_path / "a.engine", b"plan", info)
        assert read_engine(tmp_path / "a.engine")[1] == info

    def test_the_layout_before_had_one_profile(self, path, change):
        profiles = json.loads(sidecar_path(path).read_text())["profiles"]
        info = read_engine(change(format="1", profiles=None, profile=profiles[0]))[1]
        assert info == dataclasses.replace(FULL, profiles=FULL.profiles[:1])
        with pytest.raises(ModelFileError, match="its entry profiles must be a list of objects with three shapes"):
            read_engine(change(profile=5))

    def test_entries_of_others_are_passed_over(self, change):
        assert read_engine(change(note="mine"))[1] == FULL

    def test_the_plan_is_untouched(self, path):
        assert path.read_bytes() == b"plan"

    def test_a_missing_engine(self, tmp_path):
        with pytest.raises(ModelFileError, match=r"^The engine .*none\.engine cannot be read: No such file"):
            read_engine(tmp_path / "none.engine")

    def test_a_missing_sidecar(self, path):
        sidecar_path(path).unlink()
        with pytest.raises(ModelFileError, match=r"engine\.json, .* cannot be read \(No such.*copy it from where"):
            read_engine(path)

    @pytest.mark.parametrize("content", [b"", b'{"format": "1"', b"\xff\xfe", b"text"])
    def test_a_damaged_sidecar(self, path, content):
        sidecar_path(path).write_bytes(content)
        with pytest.raises(ModelFileError, match=r"is no JSON document .*build it again with: vimdeploy build"):
            read_engine(path)

    def test_a_sidecar_of_something_else(self, path):
        sidecar_path(path).write_text("[1]")
        with pytest.raises(ModelFileError, match="is no JSON object"):
            read_engine(path)

    def test_a_sidecar_of_a_newer_vimdeploy(self, change):
        with pytest.raises(
            ModelFileError, match="it has format '3', this vimdeploy reads formats up to 2; build it again"
        ):
            read_engine(change(format="3"))

    @pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(FULL) if f.default is dataclasses.MISSING])
    def test_a_sidecar_that_lacks_an_entry(self, change, name):
        path = change(**{name: None})
        if name == "versions":  # has a default
            assert read_engine(path)[1].versions == {}
            return
        with pytest.raises(
            ModelFileError, match=rf"json cannot be used: it lacks the entry {name}, .*; build it again"
        ):
            read_engine(path)

    @pytest.mark.parametrize(
        ("entry", "values"),
        [
            ("model", [5, {}, {"vimdeploy.format": 2}, {"vimdeploy.format": "2"}, []]),
            ("flavor", [5, ["rtx"], {}]),
            ("tensorrt_version", ["x.y", 5, 10.3, "", "10", "10.3.", "9" * 5000 + ".1", "1.7\n", "\u0661.\u0667"]),
            ("profiles", [5, [], {}, [[]], [5], [{"images": 1}], [{"images": []}], [{"images": [[1] * 4] * 3}, {}]]),
            ("profiles", [[{"images": [[size] * 4] * 3}] for size in ("x", 1.5, float("inf"), True, -1)]),
            ("profiles", [[{"images": [[1], [1, 2], [1]]}], [{"images": [[1, 3]] * 3}], [{"other": [[1] * 4] * 3}]]),
            ("onnx_sha256", [5, "", "xyz"]),
            ("engine_sha256", [5, "", "xyz", ["a"]]),
            ("engine_bytes", ["4", 4.5, True, -1, float("nan"), 10**300]),
            ("plugin_version", [1, ["1"], False]),
            ("plugin_in_engine", ["false", 1]),
            ("device", [5, {}]),
            ("compute_capability", [8.7, "8", "eight"]),
            ("version_compatible", ["", 0]),
            ("hardware_compatibility", [None, "turing", []]),
            ("versions", [5, ["onnx"], {"onnx": 1}]),
        ],
    )
    def test_a_sidecar_with_a_damaged_entry(self, path, entry, values):
        written = json.loads(sidecar_path(path).read_text())
        for value in values:
            sidecar_path(path).write_text(json.dumps(written | {entry: value}))
            with pytest.raises(ModelFileError) as error:
                read_engine(path)
            said = str(error.value)
            assert "engine.json cannot be used: it" in said
            assert said.endswith("; build it again with: vimdeploy build.")
            assert len(said) < 500
            if entry != "model":
                assert f"its entry {entry} must " in said

    @pytest.mark.parametrize(
        "content",
        [
            b"[" * 10**5,
            b'{"a":' * 10**5,
            b"9" * 10**5,
            b'{"format": "1", "profile": NaN}',
            b'{"format": "2", "profiles": [NaN]}',
        ],
    )
    def test_a_sidecar_that_attacks(self, path, content):
        sidecar_path(path).write_bytes(content)
        with pytest.raises(ModelFileError, match=r"engine\.json .*build it again with: vimdeploy build"):
            read_engine(path)

    def test_a_sidecar_without_end_is_not_read_to_it(self, path):
        with sidecar_path(path).open("wb") as file:
            file.truncate(1 << 40)  # sparse: a terabyte on no disk
        with pytest.raises(ModelFileError, match="has more than 32 MiB, so it is none of vimdeploy's"):
            read_engine(path)

    def test_metadata_that_attacks(self, change, path):
        model = json.loads(sidecar_path(path).read_text())["model"]
        with pytest.raises(ModelFileError, match=r"json cannot be used: its "):
            read_engine(change(model=model | {"vimdeploy.config": "[" * 10**5}))

    def test_an_unknown_flavor(self, change):
        with pytest.raises(ModelFileError, match="its entry flavor must be one of tensorrt, rtx, found 'lean'"):
            read_engine(change(flavor="lean"))

    @pytest.mark.parametrize("plan", [b"", b"pla", b"PLAN"])
    def test_an_engine_that_is_another_one(self, path, plan):
        path.write_bytes(plan)
        with pytest.raises(ModelFileError, match=r"is not the engine that .* speaks of: 4 bytes with SHA-256"):
            read_engine(path)

    @pytest.mark.parametrize("newer", ["engine", "sidecar"])
    def test_half_a_pair_that_a_killed_build_left_is_named(self, tmp_path, path, newer):
        """Between its two renames a build can only leave one new file beside an old one."""
        write_engine(
            tmp_path / "new.engine", b"newer plan", dataclasses.replace(FULL, engine_sha256=sha256_of(b"newer plan"))
        )
        name = "new.engine" if newer == "engine" else "new.engine.json"
        (tmp_path / name).rename(path if newer == "engine" else sidecar_path(path))
        with pytest.raises(ModelFileError, match=r"model\.engine is not the engine that .* build it again with"):
            read_engine(path)


class TestWriteEngine:
    def test_a_full_disk_changes_neither_file(self, path, monkeypatch):
        before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
        syncs = iter([None, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])

        def second_one_fails(_):
            error = next(syncs)
            if error:
                raise error

        monkeypatch.setattr(os, "fsync", second_one_fails)
        with pytest.raises(OutputError, match=r"model\.engine\.json cannot be written: No space left"):
            write_engine(path, b"another plan", FULL)
        assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        *[("a.engine", True), ("a.plan", True), ("a.onnx", False), ("a", False), ("model.engine", True)],
        *[("a.ENGINE", True), ("a.ONNX", False), ("a.bak", False)],
    ],
)
def test_an_engine_is_known_by_its_name(path, name, engine):
    assert is_engine(path.parent / name) is engine


def test_or_by_the_file_beside_it(path):
    path.rename(path.parent / "renamed")
    sidecar_path(path).rename(path.parent / "renamed.json")
    assert is_engine(path.parent / "renamed")
    assert read_engine(path.parent / "renamed")[1] == FULL


@pytest.mark.parametrize("neighbour", ['{"results": []}', "[1]", "text", '"engine_sha256"'])
def test_another_file_beside_it_makes_no_engine_of_it(tmp_path, neighbour):
    """A report called model.json beside a model without a suffix, for example."""
    (tmp_path / "model.json").write_text(neighbour)
    assert not is_engine(tmp_path / "model")


def test_a_name_that_ends_in_onnx_is_never_an_engines(path):
    """Whatever lies beside it, such as a report called model.onnx.json."""
    path.rename(path.parent / "model.onnx")
    sidecar_path(path).rename(path.parent / "model.onnx.json")
    assert not is_engine(path.parent / "model.onnx")
    assert not is_engine(str(path.parent / "model.onnx"))


def test_a_sidecar_with_metadata_of_the_first_release(change):
    """The layout of the file beside the engine is the same; the metadata in it has its own format."""
    metadata = {
        "format": "1",
        "operators_version": "1",
        "variant": "mine",
        "config": '{"image_size": [32, 32], "in_channels": 3, "num_classes": 2}',
        "labels": '["a", "b"]',
        "precision": "fp16",
        "trained_image_size": "[32, 32]",
        "weights": "random seed 0",
        "checkpoint_sha256": "",
        "versions": "{}",
        "crop": "0.875",
        "interpolation": "bicubic",
        "mean": "[0.5, 0.5, 0.5]",
        "std": "[0.5, 0.5, 0.5]",
    }
    model = read_engine(change(model={f"vimdeploy.{name}": value for name, value in metadata.items()}))[1].model
    assert (model.name, model.image_size, model.labels) == ("mine", (32, 32), ("a", "b"))


class TestNames:
    """A name for a new file, which is read by its name later."""

    @pytest.mark.parametrize(
        ("name", "engine"), [("a.onnx", False), ("a.bin", False), ("a", False), ("a.engine", True), ("a.bin", True)]
    )
    def test_that_say_what_the_file_is_or_nothing(self, tmp_path, name, engine):
        check_name(tmp_path / name, engine)

    @pytest.mark.parametrize("name", ["a.engine", "a.PLAN"])
    def test_of_engines_for_onnx(self, tmp_path, name):
        with pytest.raises(OutputError, match=r"would be taken for an engine, .* a name that ends in \.onnx"):
            check_name(tmp_path / name, engine=False)

    def test_beside_the_description_of_an_engine(self, engine_file):
        path = engine_file()
        bare = path.with_suffix("")
        sidecar_path(path).rename(sidecar_path(bare))
        with pytest.raises(OutputError, match="would be taken for an engine"):
            check_name(bare, engine=False)

    @pytest.mark.parametrize("name", ["a.onnx", "a.ONNX"])
    def test_of_onnx_for_engines(self, tmp_path, name):
        with pytest.raises(OutputError, match=r"would be taken for an ONNX file; .* ends in \.engine"):
            check_name(tmp_path / name, engine=True)
