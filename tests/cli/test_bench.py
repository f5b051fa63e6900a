import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vimdeploy.benchmark.measure import measure
from vimdeploy.benchmark.process import Worker
from vimdeploy.errors import ExecutionError
from vimdeploy.exporters import onnx_graph
from vimdeploy.installation import install_command
from vimdeploy.models import VARIANTS
from vimdeploy.models.deit.config import DeiTConfig
from vimdeploy.networks import AnySize, network_of_variant

QUICK = ("--device", "cpu", "--rounds", 2, "--seconds", 0, "--warm-up", 1, "--threads", 1)


class TestTable:
    def test_a_row_for_each_artifact_and_batch(self, invoke, tiny_onnx):
        result = invoke("bench", tiny_onnx, tiny_onnx, "--batch", "1,3", *QUICK)
        header, *rows = result.stdout.split("\n\n")[0].splitlines()
        assert (result.exit_code, header.split()[:3]) == (0, ["artifact", "size", "batch"])
        assert [row.split()[:3] for row in rows] == [[str(tiny_onnx), "32x32", batch] for batch in "1133"]
        assert all(row.endswith("library, cpu, fp32") for row in rows)

    def test_says_what_is_timed_and_where(self, invoke, tiny_onnx):
        lines = invoke("bench", tiny_onnx, *QUICK).stdout.splitlines()
        assert [line.split(":")[0] for line in lines[3:]] == ["Timed", "Ratio", "Load", "Memory", "Machine"]
        assert "--threads 1" in lines[-1]

    def test_progress_is_on_standard_error(self, invoke, tiny_onnx):
        assert invoke("bench", tiny_onnx, *QUICK).stderr.startswith("Measuring: ")


class TestJson:
    def test_is_one_document(self, invoke, tiny_onnx, operators):
        operators = operators.replace("-", " ")  # the old spelling is still taken
        document = json.loads(invoke("bench", tiny_onnx, *QUICK, "--operators", operators, "--json").stdout)
        (row,) = document["results"]
        assert (row["artifact"], row["ratio"], row["calls"]) == (str(tiny_onnx), 1, 2)
        assert (row["operators"], row["image_size"], row["error"]) == (operators, [32, 32], "")
        assert row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert document["settings"]["threads"] == 1
        assert not document["interrupted"]

    def test_ratios_are_to_the_first_of_the_same_batch(self, invoke, tiny_onnx):
        results = json.loads(invoke("bench", tiny_onnx, tiny_onnx, "--batch", "2,1", *QUICK, "--json").stdout)[
            "results"
        ]
        assert [row["batch"] for row in results] == [2, 2, 1, 1]
        for first, second in (results[:2], results[2:]):
            assert second["ratio"] == pytest.approx(second["p50_ms"] / first["p50_ms"])


@pytest.mark.slow
class TestImageSizes:
    def test_a_variant_is_measured_at_each(self, invoke, tiny_json):
        result = invoke("bench", tiny_json, "--image-size", "32,33,24x40", *QUICK, "--json")
        rows = json.loads(result.stdout)["results"]
        assert [row["image_size"] for row in rows] == [[32, 32], [33, 33], [24, 40]]
        assert [row["error"].split(" of 33;")[0] for row in rows] == [
            "",
            "Patches of 8 pixels every 8 do not divide an image height",
            "",
        ]
        assert result.exit_code == 1

    def test_a_file_has_one(self, invoke, tiny_onnx):
        result = invoke("bench", tiny_onnx, "--image-size", "32,64", *QUICK)
        assert result.exit_code == 1
        assert "Wanted an image height of 64, the file takes 32 alone" in result.stdout

    def test_a_file_of_dynamic_size_takes_each(self, invoke, tiny, tmp_path):
        network = network_of_variant(tiny, 0, image_size=AnySize())
        path = tmp_path / "dynamic.onnx"
        path.write_bytes(onnx_graph.onnx_from_model(network.module, network.info).SerializeToString())
        rows = json.loads(invoke("bench", path, "--image-size", "32,24x40", *QUICK, "--json").stdout)["results"]
        assert [(row["image_size"], row["error"]) for row in rows] == [([32, 32], ""), ([24, 40], "")]


@pytest.fixture
def small_deit(monkeypatch):
    """A DeiT of few numbers in place of deit_tiny."""
    name = "deit_tiny_patch16_224"
    config = DeiTConfig(dim=24, heads=3, image_size=(32, 32), depth=1, num_classes=5)
    monkeypatch.setitem(VARIANTS, name, dataclasses.replace(VARIANTS[name], config=config))


@pytest.mark.slow
class TestAgainst:
    def test_baselines_are_rows(self, invoke, tiny_onnx, small_deit):
        rows = json.loads(invoke("bench", tiny_onnx, "--against", "deit_tiny", *QUICK, "--json").stdout)["results"]
        names = [str(tiny_onnx), "deit_tiny, as exported", "deit_tiny, attention fused"]
        assert [row["artifact"] for row in rows] == names
        assert [row["operators"] for row in rows] == ["library", "", ""]
        assert all(row["ratio"] > 0 for row in rows)

    def test_a_file_is_a_row(self, invoke, tiny_onnx, tmp_path):
        other = tmp_path / "other.onnx"
        other.write_bytes(tiny_onnx.read_bytes())
        rows = json.loads(invoke("bench", tiny_onnx, "--against", other, *QUICK, "--json").stdout)["results"]
        assert [(row["artifact"], row["error"]) for row in rows] == [(str(tiny_onnx), ""), (str(other), "")]


@pytest.mark.slow
class TestTask:
    def test_of_variants_and_baselines(self, invoke, tiny_json, small_deit):
        result = invoke("bench", tiny_json, "--against", "deit_tiny", "--task", "features", *QUICK, "--json")
        document = json.loads(result.stdout)
        assert [row["error"] for row in document["results"]] == ["", "", ""]
        assert document["settings"]["task"] == "features"

    def test_of_checkpoints(self, invoke, tiny_pth, tiny_json):
        result = invoke("bench", tiny_pth, "--variant", tiny_json, "--task", "features", *QUICK)
        assert (result.exit_code, "failed" in result.stdout) == (0, False)

    def test_that_does_not_exist(self, invoke, tiny_onnx):
        result = invoke("bench", tiny_onnx, "--task", "dreams", *QUICK)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "task must be one of classification, features, pyramid, segment, detect, found 'dreams'" in result.stderr


@pytest.mark.slow
class TestEager:
    def test_runs_beside_the_file(self, invoke, tiny_onnx):
        result = invoke("bench", tiny_onnx, "--against", "eager", *QUICK)
        row = result.stdout.splitlines()[2]
        assert row.startswith(f"{tiny_onnx}, eager PyTorch  32x32")
        assert row.endswith("PyTorch, cpu, fp32")
        assert "\nPyTorch: eager" in result.stdout

    def test_a_checkpoint_is_an_artifact(self, invoke, tiny_pth, tiny_json):
        arguments = (tiny_pth, "--variant", tiny_json, "--image-size", "32,40", *QUICK)
        rows = json.loads(invoke("bench", *arguments, "--json").stdout)["results"]
        assert [(row["image_size"], row["operators"]) for row in rows] == [([32, 32], "eager"), ([40, 40], "eager")]

    def test_a_checkpoint_that_fits_no_released_variant(self, invoke, tiny_pth, tiny_onnx):
        result = invoke("bench", tiny_pth, tiny_onnx, *QUICK)
        assert result.exit_code == 1
        assert "fits none of the released variants: it has dim 16 and depth 2; say what it is with" in result.stdout

    def test_of_a_foreign_file_is_a_row_that_says_why(self, invoke, foreign_onnx, tiny_onnx):
        result = invoke("bench", foreign_onnx, tiny_onnx, "--against", "eager", *QUICK)
        foreign, good, eager = result.stdout.splitlines()[1:4]
        assert (result.exit_code, "failed" in foreign, "failed" in good) == (1, False, False)
        assert foreign.split()[1:3] == ["-", "1"]
        assert "because its model is none of vimdeploy's own" in eager


class TestFigure:
    def test_is_written_beside_the_table(self, invoke, tiny_onnx, tmp_path):
        pytest.importorskip("matplotlib", reason="needs matplotlib: pip install '.[bench]'")
        result = invoke("bench", tiny_onnx, *QUICK, "--figure", tmp_path / "figure.SVG")
        assert (result.exit_code, result.stdout.split()[0]) == (0, "artifact")
        assert result.stderr.endswith(f"Figure: {tmp_path / 'figure.SVG'}\n")
        assert b"<svg" in (tmp_path / "figure.SVG").read_bytes()

    def test_is_not_written_if_nothing_ran(self, invoke, tmp_path):
        pytest.importorskip("matplotlib", reason="needs matplotlib: pip install '.[bench]'")
        assert invoke("bench", "none.onnx", *QUICK, "--figure", tmp_path / "figure.png").exit_code == 1
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["figure.pdf", "none/figure.svg"])
    def test_that_cannot_be_is_refused_before_anything_runs(self, invoke, tiny_onnx, tmp_path, name):
        result = invoke("bench", tiny_onnx, *QUICK, "--figure", tmp_path / name)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1

    def test_without_matplotlib_names_the_extra(self, invoke, tiny_onnx, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        result = invoke("bench", tiny_onnx, *QUICK, "--figure", tmp_path / "figure.svg")
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"install it with: {install_command('bench')}" in result.stderr


class TestProfile:
    def test_is_a_table_of_each_artifact(self, invoke, tiny_onnx):
        tables = invoke("bench", tiny_onnx, tiny_onnx, "--profile", *QUICK).stdout.split("\n\n")[1:-1]
        titles = [table.splitlines()[0] for table in tables]
        assert titles == [f"{tiny_onnx}, 32x32, batch 1, by ONNX Runtime's profiler:"] * 2
        assert all("BidirectionalSelectiveScan" in table for table in tables)

    def test_is_in_the_document(self, invoke, tiny_onnx):
        (row,) = json.loads(invoke("bench", tiny_onnx, "--profile", *QUICK, "--json").stdout)["results"]
        assert sum(part["share"] for part in row["profile"]) == pytest.approx(1)
        assert sorted(row["profile"][0]) == ["milliseconds", "nodes", "operator", "share"]

    def test_that_fails_leaves_the_row(self, invoke, tiny_onnx, monkeypatch):
        def fail(worker):
            raise ExecutionError("There is no room.")

        monkeypatch.setattr(Worker, "profile", fail)
        result = invoke("bench", tiny_onnx, "--profile", *QUICK)
        table, profile, _ = result.stdout.split("\n\n")
        assert (result.exit_code, "failed" in table) == (0, False)
        assert profile.splitlines()[1] == "No profile: There is no room."

    def test_is_empty_if_it_was_not_asked_for(self, invoke, tiny_onnx):
        assert json.loads(invoke("bench", tiny_onnx, *QUICK, "--json").stdout)["results"][0]["profile"] == []


class TestOneThatFails:
    def test_is_a_row_and_the_others_run(self, invoke, tiny_onnx, tmp_path):
        (tmp_path / "cut.onnx").write_bytes(tiny_onnx.read_bytes()[:-200])
        result = invoke("bench", "none.onnx", tmp_path / "cut.onnx", tiny_onnx, *QUICK)
        missing, cut, good = result.stdout.splitlines()[1:4]
        assert result.exit_code == 1
        assert missing.endswith("The model file none.onnx cannot be read: No such file or directory.")
        assert "failed" in cut
        assert "cut.onnx is no whole ONNX file" in cut
        assert "failed" not in good

    def test_is_in_the_document(self, invoke, tiny_onnx):
        result = invoke("bench", "none.onnx", tiny_onnx, *QUICK, "--json")
        missing, good = json.loads(result.stdout)["results"]
        assert (result.exit_code, missing["p50_ms"], good["ratio"], good["error"]) == (1, None, None, "")
        assert "No such file" in missing["error"]

    def test_an_engine_without_a_gpu(self, invoke, engine_file, tiny_onnx):
        result = invoke("bench", engine_file(), tiny_onnx, *QUICK)
        assert result.exit_code == 1
        assert "An engine runs on a GPU: device must be auto or cuda, found 'cpu'." in result.stdout


class TestWrongUsage:
    @pytest.mark.parametrize(
        "option",
        [
            ("--batch", "1,x"),
            ("--batch", "0"),
            ("--rounds", 0),
            ("--seconds", -1),
            ("--device", "tpu"),
            ("--image-size", "32,x"),
            ("--against", "resnet"),
        ],
    )
    def test_is_2(self, invoke, tiny_onnx, option):
        result = invoke("bench", tiny_onnx, *option)
        assert (result.exit_code, result.stdout) == (2, "")
        assert option[0] in result.stderr

    def test_no_artifact(self, invoke):
        assert "Missing argument 'ARTIFACT...'" in invoke("bench").stderr


class TestInterrupt:
    """Ctrl-C."""

    @pytest.fixture
    def stopped(self, monkeypatch):
        """The second batch is stopped before its first turn."""

        def stop(group, settings, progress, phase):
            if group[0].subject.batch == 2:
                raise KeyboardInterrupt
            measure(group, settings, progress, phase)

        monkeypatch.setattr("vimdeploy.benchmark.run.measure", stop)

    def test_prints_what_was_measured(self, invoke, tiny_onnx, stopped):
        result = invoke("bench", tiny_onnx, "--batch", "1,2,3", *QUICK)
        table, _, rest = result.stdout.partition("\n\n")
        assert (result.exit_code, [row.split()[2] for row in table.splitlines()]) == (130, ["batch", "1"])
        assert rest.startswith("Stopped before the end: the table holds what was measured until then.")

    def test_is_told_in_the_document(self, invoke, tiny_onnx, stopped):
        result = invoke("bench", tiny_onnx, "--batch", "1,2,3", *QUICK, "--json")
        document = json.loads(result.stdout)
        assert (result.exit_code, document["interrupted"], len(document["results"])) == (130, True, 1)

    def test_before_anything_was_measured(self, invoke, tiny_onnx, stopped):
        result = invoke("bench", tiny_onnx, "--batch", "2", *QUICK)
        assert (result.exit_code, result.stdout) == (130, "Stopped before anything was measured.\n")

    def test_inside_of_an_export_prints_what_was_measured(self, invoke, tiny_json, monkeypatch):
        """torch turns an interrupt into an error of its own."""
        export = onnx_graph.onnx_from_model

        def interrupted(model, info):
            if info.image_size == (32, 32):
                return export(model, info)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as interrupt:
                raise RuntimeError("Failed to export the model") from interrupt

        monkeypatch.setattr(onnx_graph, "onnx_from_model", interrupted)
        result = invoke("bench", tiny_json, "--image-size", "32,40", *QUICK, "--json")
        document = json.loads(result.stdout)
        assert (result.exit_code, document["interrupted"], len(document["results"])) == (130, True, 1)

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the children of a process")
    def test_ends_the_processes(self, command, tiny_onnx):
        arguments = [*command, "bench", str(tiny_onnx), "--device", "cpu", "--rounds", "1000000", "--json"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not (child := children.read_text().split()):
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        assert (process.returncode, json.loads(out)["interrupted"]) == (130, True)
        deadline = time.monotonic() + 30  # one that the signal caught half born sees its input end once it has started
        while _runs(child[0]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _runs(child[0])


def _runs(pid):
    """Whether a process is there and has not ended: an orphan stays as a zombie where nobody asks how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
