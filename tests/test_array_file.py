import io
import zipfile

import numpy as np
import pytest

from vimdeploy.array_file import read_arrays, write_arrays
from vimdeploy.errors import InputError, OutputError
from vimdeploy.model_info import TensorSpec

SPECS = (TensorSpec("map", ("batch", 2, "height")), TensorSpec("count", ("batch",), "int64"))
ARRAYS = {"map": np.ones((3, 2, 5), np.float32), "count": np.arange(3)}


@pytest.fixture
def file(tmp_path):
    """``file(name=array, ...)`` -> a file of them."""

    def write(**arrays):
        np.savez(tmp_path / "arrays.npz", **arrays)
        return tmp_path / "arrays.npz"

    return write


def test_what_is_written_can_be_read(tmp_path):
    write_arrays(tmp_path / "arrays.npz", ARRAYS)
    found = read_arrays(tmp_path / "arrays.npz", SPECS, has_batch=True)
    assert list(found) == ["map", "count"]
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_else_is_in_the_file_is_left(file):
    assert read_arrays(file(**ARRAYS, other=np.zeros(7)), SPECS, True).keys() == ARRAYS.keys()


def test_a_single_array_may_have_any_name_and_size_of_its_type(file):
    found = read_arrays(file(arr_0=np.full((4, 2, 1), 0.5)), SPECS[:1], True)
    assert (found["map"].dtype, found["map"].shape) == (np.float32, (4, 2, 1))


def test_a_model_without_a_batch_has_calls_in_front(file):
    spec = TensorSpec("y", (2, 3))
    assert read_arrays(file(y=np.zeros((5, 2, 3))), [spec], has_batch=False)["y"].shape == (5, 2, 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"map": ARRAYS["map"]}, "wanted the arrays map, count; found map"),
        (ARRAYS | {"map": np.ones((3, 4, 5))}, r"wanted map \(count, 2, height\) of float32, found \(3, 4, 5\)"),
        (ARRAYS | {"map": np.ones((3, 2))}, r"wanted map .* found \(3, 2\)"),
        (ARRAYS | {"count": np.zeros(3)}, r"wanted count \(count\) of int64, found \(3,\) of float64"),
        (ARRAYS | {"count": np.array([None] * 3)}, "found .* of object"),
        (ARRAYS | {"count": np.arange(4)}, "arrays of one length along axis 0, found map 3, count 4"),
        ({"map": np.ones((0, 2, 5)), "count": np.arange(0)}, "arrays of one length along axis 0, found map 0"),
    ],
)
def test_other_arrays_are_refused(file, arrays, message):
    with pytest.raises(InputError, match=message):
        read_arrays(file(**arrays), SPECS, True)


def test_an_array_that_claims_to_be_huge_takes_no_memory(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 2, 1)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("map.npy", header.getvalue())
    with pytest.raises(InputError, match=r"its arrays take .* MiB, at most 2,048 are read"):
        read_arrays(tmp_path / "huge.npz", SPECS[:1], True)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"other\.npz cannot be read as arrays: .* Wanted a file of numpy\.savez"):
        read_arrays(tmp_path / "other.npz", SPECS, True)


def test_an_array_that_is_cut_short_is_refused(tmp_path):
    whole = io.BytesIO()
    np.save(whole, ARRAYS["map"])
    with zipfile.ZipFile(tmp_path / "cut.npz", "w") as archive:
        archive.writestr("map.npy", whole.getvalue()[:-8])
    with pytest.raises(InputError, match=r"cut\.npz cannot be read as arrays"):
        read_arrays(tmp_path / "cut.npz", SPECS[:1], True)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_arrays(tmp_path / "none.npz", SPECS, True)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError):
        write_arrays(tmp_path / "none" / "arrays.npz", ARRAYS)
