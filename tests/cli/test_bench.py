import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vimdeploy.bench.measure import Series, measure

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
        "option", [("--batch", "1,x"), ("--batch", "0"), ("--rounds", 0), ("--seconds", -1), ("--device", "tpu")]
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

        def stop(subjects, settings, found, report):
            if subjects[0].batch == 2:
                found.append(Series(subjects[0]))
                raise KeyboardInterrupt
            measure(subjects, settings, found, report)

        monkeypatch.setattr("vimdeploy.bench.measure.measure", stop)

    def test_prints_what_was_measured(self, invoke, tiny_onnx, stopped):
        result = invoke("bench", tiny_onnx, "--batch", "1,2,3", *QUICK)
        table, _, rest = result.stdout.partition("\n\n")
        assert (result.exit_code, [row.split()[2] for row in table.splitlines()]) == (130, ["batch", "1"])
        assert rest.startswith("Stopped before the end: the table holds what was measured until then.")

    def test_is_told_in_the_document(self, invoke, tiny_onnx, stopped):
        result = invoke("bench", tiny_onnx, "--batch", "1,2,3", *QUICK, "--json")
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
        assert not Path(f"/proc/{child[0]}").exists()
