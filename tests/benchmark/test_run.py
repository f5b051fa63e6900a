import dataclasses
import io
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.benchmark.run import exported, measure_all
from vimdeploy.benchmark.sources import Source, Subject, sources_of
from vimdeploy.errors import ConfigError
from vimdeploy.installation import install_command
from vimdeploy.networks import network_of_variant


class Seen(NamedTuple):
    """A series as it came to be measured."""

    subject: Subject
    error: str
    is_there: bool
    """Whether its file was."""


@pytest.fixture
def measured(monkeypatch):
    """The groups that came to be measured; none is."""
    measured = []

    def note(group, settings, progress, phase):
        measured.append([Seen(series.subject, series.error, series.subject.path.is_file()) for series in group])
        progress(phase, 1, 1)
        for series in group:
            series.error = series.error or "Not measured."

    monkeypatch.setattr("vimdeploy.benchmark.run.measure", note)
    return measured


@pytest.mark.slow
class TestGroups:
    def test_sizes_come_before_batches(self, measured, tiny_onnx, quick):
        results = measure_all([tiny_onnx], (), [4, 1], [(32, 32), (8, 8)], quick)
        expected = [((32, 32), 4), ((32, 32), 1), ((8, 8), 4), ((8, 8), 1)]
        assert [(group[0].subject.image_size, group[0].subject.batch) for group in measured] == expected
        assert [(row.image_size, row.batch) for row in results] == expected

    def test_no_size_is_each_ones_own(self, measured, tiny_onnx, quick):
        measure_all([tiny_onnx], settings=quick)
        assert measured == [[Seen(Subject(str(tiny_onnx), tiny_onnx), "", True)]]

    def test_openvino_can_be_wanted_for_all(self, measured, tiny_onnx, quick):
        settings = dataclasses.replace(quick, runtime="openvino")
        measure_all([tiny_onnx], ["openvino-bf16"], settings=settings)
        assert [(seen.subject.openvino, seen.subject.runtime) for seen in measured[0]] == [
            ("fp32", "openvino"),
            ("bf16", "openvino"),
        ]

    def test_variants_are_exported_at_every_size(self, measured, tiny_json, quick):
        measure_all([str(tiny_json)], image_sizes=[(32, 32), (33, 32), (8, 16)], settings=quick)
        (good,), (bad,), (other,) = measured
        assert (good[1:], other[1:]) == (("", True), ("", True))
        assert not bad.is_there
        assert bad.error.startswith("Patches of 8 pixels every 8 do not divide an image height of 33")

    def test_eager_is_the_first_ones_model_at_every_size(self, measured, tiny_json, quick):
        measure_all([str(tiny_json)], ["eager"], image_sizes=[(32, 32), (8, 16)], settings=quick)
        assert [(first.subject.model, eager.error) for first, eager in measured] == [(None, "")] * 2
        assert [eager.subject.model.image_size for _, eager in measured] == [(32, 32), (8, 16)]

    def test_exported_files_are_removed(self, measured, tiny_json, quick):
        measure_all([str(tiny_json)], batches=[1, 2], settings=quick)
        (one,), (two,) = measured
        assert (one.subject.path, one.is_there, two.is_there) == (two.subject.path, True, True)
        assert not one.subject.path.parent.exists()

    def test_a_model_in_memory_becomes_a_file(self, measured, tiny_artifact, quick):
        measure_all([tiny_artifact], settings=quick)
        ((seen,),) = measured
        assert (seen.error, seen.is_there, seen.subject.path.exists()) == ("", True, False)

    def test_without_torch_files_still_run(self, measured, tiny_onnx, quick, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        measure_all([tiny_onnx], ["deit_tiny"], settings=quick)
        ((file, baseline, _),) = measured
        assert (file.error, file.is_there) == ("", True)
        assert f"install it with: {install_command('export')}" in baseline.error

    def test_progress_names_the_phase(self, measured, tiny_onnx, quick):
        reports = []
        measure_all([tiny_onnx], (), [2], [(32, 48)], quick, lambda *report: reports.append(report))
        assert list(dict.fromkeys(reports)) == [
            ("Preparing, 32x48", 0, 1),
            ("Preparing, 32x48", 1, 1),
            ("Measuring, 32x48, batch 2", 1, 1),
        ]

    def test_an_interrupt_keeps_what_was_measured(self, tiny_onnx, quick, monkeypatch):
        def stop(group, settings, progress, phase):
            group[0].error = "Not measured."
            if group[0].subject.batch == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr("vimdeploy.benchmark.run.measure", stop)
        results = []
        with pytest.raises(KeyboardInterrupt):
            measure_all([tiny_onnx], batches=[1, 2, 3], settings=quick, results=results)
        assert [row.batch for row in results] == [1, 2]


def test_eager_is_an_engines_model_too(measured, engine_file, quick, tiny_info):
    measure_all([engine_file()], ["eager"], settings=quick)
    assert measured[0][1].subject.model.config == tiny_info.config | {"image_size": [32, 32]}


class TestEagerThatCannotBe:
    def error(self, measured, first, quick):
        measure_all([first], ["eager"], settings=quick)
        return measured[0][1].error

    def test_of_a_foreign_file(self, measured, foreign_onnx, quick):
        wanted = "cannot run in PyTorch, because its model is none of vimdeploy's own"
        assert wanted in self.error(measured, foreign_onnx, quick)

    def test_of_a_checkpoint(self, measured, tiny_pth, quick):
        assert "measured in PyTorch already" in self.error(measured, tiny_pth, quick)

    def test_of_a_variant_that_does_not_exist(self, measured, quick):
        error = self.error(measured, "vim_tinny", quick)
        assert error.startswith("There is no variant 'vim_tinny'. Did you mean")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"artifacts": []}, "at least one artifact"),
        ({"batches": [0]}, "Batches must be at least 1, found 0"),
        ({"against": ["resnet"]}, "against must be"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(measured, tiny_onnx, changes, message):
    with pytest.raises(ConfigError, match=message):
        measure_all(**{"artifacts": [tiny_onnx]} | changes)
    assert measured == []


def test_a_task_that_does_not_exist_is_refused(measured, tiny_onnx, quick):
    with pytest.raises(ConfigError, match="task must be one of"):
        measure_all([tiny_onnx], settings=type(quick)(task="dreams"))


def proto_of(source, *arguments):
    return onnx.load(io.BytesIO(exported(source, *arguments)))


def outputs(proto, images):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


@pytest.fixture(scope="class")
def sources(small_deit):
    """The two rows of a baseline."""
    return sources_of(["a.onnx"], ["deit_tiny"])[1:]


@pytest.fixture(scope="class")
def both(sources):
    return [proto_of(source) for source in sources]


@pytest.mark.slow
class TestExportedBaseline:
    def test_both_forms_answer_as_pytorch_does(self, both, small_deit):
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 48), dtype=np.float32)
        network = network_of_variant(small_deit, 0)
        with torch.inference_mode():
            expected = network.module(torch.from_numpy(images)).numpy()
        for proto in both:
            (logits,) = outputs(proto, images)
            np.testing.assert_allclose(logits, expected, atol=1e-5)  # a few ulp through 2 blocks

    def test_one_node_stands_for_the_attention(self, both, small_deit):
        plain, fused = (Counter(node.op_type for node in proto.graph.node) for proto in both)
        depth = small_deit.config.depth
        assert (plain["Softmax"], plain["MultiHeadAttention"]) == (depth, 0)
        assert (fused["Softmax"], fused["MultiHeadAttention"]) == (0, depth)

    def test_nothing_is_computed_from_weights_alone(self, both, small_deit):
        """The three parts of the fused form's projection are constants."""
        fused = Counter(node.op_type for node in both[1].graph.node)
        assert fused["MatMul"] + fused["Gemm"] == small_deit.config.depth * 6 + 1
        assert fused["Gather"] + fused["Slice"] <= 1  # the class token

    def test_says_what_it_is(self, both):
        info = artifact_from_onnx(both[1]).info
        assert (info.architecture, info.name, info.config["fused_attention"]) == ("deit", "deit_tiny_patch16_224", True)

    def test_has_the_size_that_was_asked_for(self, sources):
        (logits,) = outputs(proto_of(sources[0], (16, 64)), np.zeros((1, 3, 16, 64), np.float32))
        assert logits.shape == (1, 7)

    def test_a_size_that_does_not_fit(self, sources):
        with pytest.raises(ConfigError, match="Patches of 16 pixels every 16 do not divide an image height of 40"):
            exported(sources[0], (40, 32))

    def test_has_the_task_that_was_asked_for(self, sources):
        found = outputs(proto_of(sources[0], None, "features"), np.zeros((1, 3, 32, 48), np.float32))
        assert [array.shape for array in found] == [(1, 24, 2, 3), (1, 24)]


class TestExportedVariant:
    def test_is_a_file_of_ours(self, tiny_json):
        info = artifact_from_onnx(proto_of(Source("tiny", str(tiny_json), "variant"), (24, 40))).info
        assert (info.image_size, str(info.origin), info.labels[0]) == ((24, 40), "random seed 0", "ant")

    def test_has_its_own_size(self, tiny_json):
        proto = proto_of(Source("tiny", str(tiny_json), "variant"))
        assert [size.dim_value for size in proto.graph.input[0].type.tensor_type.shape.dim][1:] == [3, 32, 32]

    def test_a_name_that_is_none(self):
        with pytest.raises(ConfigError, match=r"There is no variant 'vim_tinny'\. Did you mean"):
            exported(Source("vim_tinny", "vim_tinny", "variant"))


def test_a_whole_run(tiny_onnx, tiny_artifact, quick):
    rows = measure_all([tiny_onnx, Path(tiny_onnx)], [tiny_artifact], [2], settings=quick)
    assert [(row.artifact, row.error) for row in rows] == [
        (str(tiny_onnx), ""),
        (str(tiny_onnx), ""),
        ("the model in memory", ""),
    ]
    assert rows[0].ratio == 1
    assert all(row.p50_ms > 0 and row.calls == 2 for row in rows)
