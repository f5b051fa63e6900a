"""What ``make demo`` runs, on few photographs."""

import numpy as np
import pytest
from helpers.loading import script

from vimdeploy.artifact import open_artifact

demo = script("samples/demo.py")


@pytest.mark.slow
def test_it_ends_on_photographs_answers_and_the_next_command(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(demo, "OUT", tmp_path / "demo")
    monkeypatch.setenv("COLUMNS", "80")
    demo.main(photographs=20)
    assert open_artifact(tmp_path / "demo" / "fashion.onnx").info.name == "fashion"
    assert "<h1>" in (tmp_path / "demo" / "proof.html").read_text()
    lines = capfd.readouterr().out.splitlines()
    assert sum(line.startswith("Passed: ") for line in lines) == 1
    start = next(number for number, line in enumerate(lines) if line.startswith(">>> "))
    assert len(lines) - start < 24, "more than a screenful"
    (answers,) = (line for line in lines[start:] if line.startswith("ankle boot, "))
    assert [answer.split(",")[0].strip() for answer in answers.split("%")[:3]] == ["ankle boot", "trousers", "pullover"]
    assert lines[-1].endswith("vimdeploy run vim_tiny.onnx PICTURE")


def test_a_command_that_fails_ends_it(capfd):
    with pytest.raises(SystemExit, match=r"vimdeploy ended with exit code 2\."):
        demo.run("vimdeploy", "inspect", "no/such.onnx")
    assert "no/such.onnx" in capfd.readouterr().err


@pytest.mark.parametrize(("in_colours", "top", "bottom"), [(False, " ", "@"), (True, "▀", "▀")])
def test_a_character_stands_for_two_pixels(in_colours, top, bottom):
    grey = np.zeros((4, 3), np.uint8)
    grey[2:] = 255
    text = demo.drawn(grey, in_colours)
    assert text.plain == f"{top * 3}\n{bottom * 3}"
    colours = [str(span.style) for span in text.spans]
    assert colours == (["rgb(0,0,0) on rgb(0,0,0)"] * 3 + ["rgb(255,255,255) on rgb(255,255,255)"] * 3) * in_colours
