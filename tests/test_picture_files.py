"""What sources of pictures stand for."""

import io
import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vimdeploy import picture_files
from vimdeploy.errors import ImageError
from vimdeploy.picture_files import pictures_of

NAMES = ["b.JPG", "a.png", ".hidden.png", "notes.md", "z/2.png", "z/1.webp", "z/y/3.png", "k/4.png", ".k/5.png"]
ORDER = ["a.png", "b.JPG", "k/4.png", "z/1.webp", "z/2.png", "z/y/3.png"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Empty files: they are not opened."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "pictures"


def found(*sources, info):
    return [picture.name for picture in pictures_of(sources, info)]


class TestFolders:
    def test_with_all_below_in_order(self, folder, tiny_info):
        assert found(folder, info=tiny_info) == [str(folder / name) for name in ORDER]
        assert found("pictures", info=tiny_info) == [f"pictures/{name}" for name in ORDER]

    def test_too_many_names_to_be_sorted_are_all_found(self, folder, tiny_info, monkeypatch):
        monkeypatch.setattr(picture_files, "_SORTED", 2)
        for number in range(10):
            (folder / f"{number}.png").touch()
        names = found("pictures", info=tiny_info)
        assert (len(names), set(names)) == (
            16,
            {f"pictures/{name}" for name in [*ORDER, *map("{}.png".format, range(10))]},
        )

    def test_links_that_lead_back_up_end(self, folder, tiny_info):
        (folder / "z" / "up").symlink_to(folder)
        (folder / "z" / "here").symlink_to(".")
        (folder / "z" / "aside").symlink_to(folder / "k")
        assert found("pictures", info=tiny_info) == [
            f"pictures/{name}" for name in (*ORDER[:-1], "z/aside/4.png", ORDER[-1])
        ]

    def test_links_that_lead_to_each_other_end(self, folder, tiny_info):
        (folder / "k" / "to z").symlink_to(folder / "z")
        (folder / "z" / "to k").symlink_to(folder / "k")
        names = found("pictures", info=tiny_info)
        assert {"pictures/k/to z/to k/4.png", "pictures/z/to k/to z/1.webp"} < set(names)
        assert len(names) < 20

    def test_without_pictures(self, folder, tiny_info):
        (folder / "none").mkdir()
        with pytest.raises(ImageError, match=r"The folder pictures/none holds no pictures \(\.png,"):
            found("pictures/none", info=tiny_info)

    def test_a_sub_folder_that_cannot_be_read_is_a_picture_without_an_answer(self, folder, tiny_info, monkeypatch):
        def scandir(path):
            if path == Path("pictures/k"):
                raise PermissionError(13, "Permission denied")
            return list_folder(path)

        list_folder = os.scandir
        monkeypatch.setattr(os, "scandir", scandir)
        pictures = list(pictures_of("pictures", tiny_info))
        assert [each.name for each in pictures] == [f"pictures/{name}" for name in ("a.png", "b.JPG", "k", *ORDER[3:])]
        with pytest.raises(ImageError, match=r"^The folder pictures/k cannot be read: Permission denied\.$"):
            pictures[2].read()


class TestLists:
    def test_of_paths_and_addresses(self, folder, tiny_info):
        Path("list.txt").write_bytes(b"\xef\xbb\xbfpictures/a.png\r\n\n http://x/b.png\nhttp://x/b.png\n\xff.png\nlast")
        names = ["pictures/a.png", " http://x/b.png", "http://x/b.png", "\udcff.png", "last"]
        assert found("list.txt", info=tiny_info) == names
        assert [type(each.picture) for each in pictures_of("list.txt", tiny_info)][2] is str

    def test_on_standard_input(self, folder, tiny_info, monkeypatch):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a.png\nb.png\n")))
        assert found("-", "c.png", info=tiny_info) == ["a.png", "b.png", "c.png"]

    def test_are_read_as_they_are_used(self, folder, tiny_info, monkeypatch):
        endless = SimpleNamespace(readline=lambda limit: b"a.png\n")
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=endless))
        assert len(list(itertools.islice(pictures_of("-", tiny_info), 1000))) == 1000

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"\xff\xfea\0.\0", "it is UTF-16; save it as UTF-8"),
            (b"a.png\n" + b"x" * 70_000, "line 2 has more than 64 KiB"),
        ],
    )
    def test_what_is_none(self, folder, tiny_info, content, reason):
        Path("list.txt").write_bytes(content)
        with pytest.raises(ImageError, match=rf"^The list list\.txt cannot be read: {reason}\.$"):
            found("list.txt", info=tiny_info)

    @pytest.mark.parametrize(("name", "reason"), [("none.txt", "No such file"), ("pipe.txt", "it is a device, a pipe")])
    def test_what_cannot_be_read(self, folder, tiny_info, name, reason):
        os.mkfifo("pipe.txt")
        with pytest.raises(ImageError, match=rf"^The list {name} cannot be read: {reason}"):
            found(name, info=tiny_info)


class TestPatterns:
    def test_what_fits(self, folder, tiny_info):
        assert found("pictures/*/*.png", info=tiny_info) == ["pictures/k/4.png", "pictures/z/2.png"]
        assert found("pictures/**/*.png", info=tiny_info) == [
            f"pictures/{name}" for name in ORDER if name.endswith("png")
        ]

    def test_a_file_of_that_name_is_meant_itself(self, folder, tiny_info):
        Path("[1].png").touch()
        [picture] = pictures_of("[1].png", tiny_info)
        assert (picture.name, picture.is_named) == ("[1].png", True)

    def test_nothing_fits(self, folder, tiny_info):
        with pytest.raises(ImageError, match=r"^Nothing fits the pattern pictures/\*\.gif\.$"):
            found("pictures/*.gif", info=tiny_info)


def test_what_is_named_itself(folder, tiny_info):
    named = [
        each.is_named for each in pictures_of(["none.png", "pictures/k", "pictures/k/*", "http://x/1.png"], tiny_info)
    ]
    assert named == [True, False, False, True]


def test_pictures_themselves(tiny_info):
    frames = [np.zeros((4, 4, 3), np.uint8), b"bytes"]
    assert [
        (each.name, each.picture is frame) for each, frame in zip(pictures_of(frames, tiny_info), frames, strict=True)
    ] == [
        ("picture 0", True),
        ("picture 1", True),
    ]


class TestWeb:
    @pytest.mark.parametrize("address", ["http://example.com/list.txt", "HTTPS://example.com/*.png?size=[1]"])
    def test_an_address_is_a_picture_whatever_is_in_it(self, tiny_info, address):
        [found] = pictures_of(address, tiny_info)
        assert (found.name, found.picture, found.is_named) == (address, address, True)

    def test_a_picture_is_downloaded_when_it_is_read(self, tiny_info, monkeypatch):
        [found] = pictures_of("http://example.com/a.png", tiny_info)
        monkeypatch.setattr(picture_files, "downloaded", lambda address: address.encode())
        assert found.read() == b"http://example.com/a.png"

    @pytest.mark.parametrize("error", [OSError("it is gone"), ValueError("it is gone"), TimeoutError("it is gone.")])
    def test_one_that_cannot_be(self, tiny_info, monkeypatch, error):
        def refuse(address):
            raise error

        [found] = pictures_of("http://example.com/a.png", tiny_info)
        monkeypatch.setattr(picture_files, "downloaded", refuse)
        with pytest.raises(ImageError, match=r"^The picture http://example\.com/a\.png cannot be .*: it is gone\.$"):
            found.read()
