import numpy as np
import pytest
from PIL import Image

import vimdeploy
from vimdeploy.errors import ConfigError, ImageError, ModelFileError


def test_answers_to_what_a_folder_holds(tiny_onnx, picture):
    Image.new("RGB", (30, 30)).save(picture.with_name("another.png"))
    rows = list(vimdeploy.run(tiny_onnx, picture.parent))
    assert [row.image for row in rows] == [str(picture.with_name("another.png")), str(picture)]
    with vimdeploy.load(tiny_onnx) as session:
        np.testing.assert_array_equal(rows[1].answer.logits, session.predict(picture).logits)


def test_frames_that_somebody_makes(tiny_onnx):
    frames = (np.full((40, 40, 3), value, np.uint8) for value in range(20))
    rows = list(vimdeploy.run(tiny_onnx, frames, workers=2, batch=3))
    assert [row.image for row in rows] == [f"picture {number}" for number in range(20)]
    assert len({row.answer.logits.tobytes() for row in rows}) == 20


def test_a_picture_that_cannot_be_read_is_a_row(tiny_onnx, picture):
    bad, good = vimdeploy.run(tiny_onnx, ["none.png", picture])
    assert (type(bad.error), bad.answer, good.error) == (ImageError, None, None)


def test_what_does_not_fit_is_told_at_once(tiny_onnx, picture):
    with pytest.raises(ModelFileError):
        vimdeploy.run("none.onnx", picture)
    with pytest.raises(ConfigError, match="score_threshold and max_detections are for the task detect"):
        vimdeploy.run(tiny_onnx, picture, max_detections=3)
