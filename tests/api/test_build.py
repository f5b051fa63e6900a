import pytest

import vimdeploy
from vimdeploy.api.build import Built
from vimdeploy.engine_file import read_engine
from vimdeploy.errors import ConfigError, ModelFileError, OutputError
from vimdeploy.exporters import tensorrt_engine
from vimdeploy.exporters.tensorrt_engine import BuildOptions, BuiltEngine


@pytest.fixture
def asked(monkeypatch, engine_file):
    """What the builder, a stand-in, was asked for."""
    calls = []
    _, info = read_engine(engine_file())

    def build(artifact, options, timing_cache, progress):
        calls.append((artifact, options, timing_cache))
        return BuiltEngine(b"a plan", info, None if timing_cache is None else b"timings", '{"Layers": []}')

    monkeypatch.setattr(tensorrt_engine, "engine_from_onnx", build)
    return calls


def test_the_opened_engine(tiny_onnx, tmp_path, asked):
    built = vimdeploy.build(tiny_onnx, tmp_path / "model.engine")
    assert isinstance(built, Built)
    assert (built.artifact.path, built.artifact.engine.device) == (tmp_path / "model.engine", "Orin")
    [(artifact, options, cache)] = asked
    assert (artifact.path, options, cache) == (tiny_onnx, BuildOptions(), None)


@pytest.mark.parametrize(("batch", "bounds"), [(4, (4, 4, 4)), ((1, 2, 4), (1, 2, 4))])
def test_bounds(tiny_artifact, tmp_path, asked, batch, bounds):
    vimdeploy.build(tiny_artifact, tmp_path / "model.engine", batch=batch, shapes={"height": (32, 64, 64)})
    assert asked[0][1].shapes == {"batch": bounds, "height": (32, 64, 64)}


def test_profiles(tiny_artifact, tmp_path, asked):
    vimdeploy.build(tiny_artifact, tmp_path / "model.engine", profiles=[{"batch": 1}, {"batch": (8, 32, 32)}])
    assert asked[0][1] == BuildOptions(profiles=({"batch": (1, 1, 1)}, {"batch": (8, 32, 32)}))


def test_files_beside_it(tiny_onnx, tmp_path, asked):
    folder = tmp_path / "out"
    folder.mkdir()
    vimdeploy.build(
        tiny_onnx, folder / "model.engine", timing_cache=folder / "cache", layer_report=folder / "layers.json"
    )
    assert (asked[0][1].layer_report, asked[0][2]) == (True, b"")
    assert {path.name for path in folder.iterdir()} == {"model.engine", "model.engine.json", "cache", "layers.json"}
    assert (folder / "cache").read_bytes() == b"timings"


def test_an_engine_of_rtx(tiny_artifact, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("polygraphy")
    built = vimdeploy.build(tiny_artifact, tmp_path / "tiny.engine", flavor="rtx", batch=2)
    assert built.artifact.path == tmp_path / "tiny.engine"
    assert built.artifact.engine.profiles == ({"images": ((2, 3, 32, 32),) * 3},)


@pytest.mark.slow  # tests/exporters/test_tensorrt_engine.py has the bounds alone
def test_an_engine_of_rtx_at_any_size(tiny, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("polygraphy")
    exported = vimdeploy.export(tiny, tmp_path / "any.onnx", random_weights=0, image_size="dynamic").artifact
    with pytest.raises(ConfigError, match=r"an engine needs bounds: give them with --shape height=16,32,64"):
        vimdeploy.build(exported, tmp_path / "any.engine", flavor="rtx")
    sizes = {"height": (16, 32, 64), "width": (32, 32, 32)}
    engine = vimdeploy.build(exported, tmp_path / "any.engine", flavor="rtx", batch=2, shapes=sizes).artifact.engine
    assert engine.profiles == ({"images": ((2, 3, 16, 32), (2, 3, 32, 32), (2, 3, 64, 32))},)


def test_what_cannot_be(tiny_onnx, engine_file, tmp_path, asked):
    with pytest.raises(ModelFileError, match="is an engine; wanted the ONNX file"):
        vimdeploy.build(engine_file(), tmp_path / "again.engine")
    with pytest.raises(OutputError, match="would be written over"):
        vimdeploy.build(tiny_onnx, tmp_path / "model.engine", layer_report=tmp_path / "model.engine.json")
    with pytest.raises(OutputError, match="would be written over"):
        vimdeploy.build(tiny_onnx, tiny_onnx)
    with pytest.raises(ConfigError, match="MIN <= OPT <= MAX"):
        vimdeploy.build(tiny_onnx, tmp_path / "model.engine", batch=(4, 2, 1))
    assert asked == []
