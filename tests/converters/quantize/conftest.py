"""What the tests of int8 share: pictures, and the tiny model with a channel that is much larger than the others."""

import numpy as np
import pytest
from PIL import Image

from vimdeploy.inputs import folder_inputs


@pytest.fixture(scope="session")
def pictures(tmp_path_factory, tiny_info):
    """Twelve pictures of noise, files of 32 x 32."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")
    return folder_inputs(folder, tiny_info)
