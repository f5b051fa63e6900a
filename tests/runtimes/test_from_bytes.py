import numpy as np
import pytest

from vimdeploy.errors import ConfigError, InputError
from vimdeploy.preprocess import normalised
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.from_bytes import FromBytes, as_other

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def floats(tiny_network):
    return EagerSession(tiny_network)


@pytest.fixture
def session(floats):
    return FromBytes(floats)


@pytest.fixture
def images(tiny_info):
    return {"images": normalised(PIXELS, tiny_info.recipe)}


def test_runs_the_other_session_on_normalised_pictures(session, floats, images):
    np.testing.assert_array_equal(session.run(PIXELS)["logits"], floats.run(images)["logits"])
    assert (session.description, session.operators) == (floats.description, floats.operators)


def test_takes_nothing_else(session, images):
    with pytest.raises(
        InputError, match=r"Wanted images \(batch, 32, 32, 3\) of uint8, .* \(2, 3, 32, 32\) of float32"
    ):
        session.run(images)


def test_gives_its_stages(session, floats, images):
    stages, wanted = session.open_stages(), floats.open_stages()
    assert stages.names == wanted.names
    right = wanted.values(images)
    for found in (stages.values({"images": PIXELS}), stages.values_apart({"images": PIXELS}, right)):
        assert found.keys() == right.keys()
        for name in found:
            np.testing.assert_allclose(found[name], right[name], rtol=1e-4, atol=1e-5)


def test_is_given_what_another_model_takes(floats, session, tiny_info):
    assert as_other(floats, tiny_info) is floats
    assert isinstance(as_other(floats, tiny_info.with_bytes()), FromBytes)
    assert as_other(session, tiny_info.with_bytes()) is session


def test_one_that_takes_bytes_already(session):
    with pytest.raises(ConfigError, match="already"):
        FromBytes(session)
