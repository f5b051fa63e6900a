import os

import pytest

from vimdeploy.reading import check_regular, read_text, shown, why


class TestText:
    @pytest.mark.parametrize(
        "data", [b"ant\nb\xc3\xa9e\n", b"\xef\xbb\xbfant\nb\xc3\xa9e\n", b"ant\r\nb\xc3\xa9e\r\n", b"ant\rb\xc3\xa9e\r"]
    )
    def test_of_all_systems_is_the_same(self, tmp_path, data):
        (tmp_path / "text").write_bytes(data)
        assert read_text(tmp_path / "text") == "ant\nb\u00e9e\n"

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
    def test_in_wide_characters(self, tmp_path, encoding):
        """As Notepad saves it under the name Unicode."""
        (tmp_path / "text").write_bytes("ant\nbee".encode(encoding))
        with pytest.raises(ValueError, match="it is not UTF-8 but UTF-16 or no text at all; save it as UTF-8"):
            read_text(tmp_path / "text")

    def test_in_the_characters_of_a_country(self, tmp_path):
        (tmp_path / "text").write_bytes("ant\nb\u00e9e".encode("latin-1"))
        with pytest.raises(ValueError, match=r"line 2 is not UTF-8 \(byte 0xe9\); save it as UTF-8"):
            read_text(tmp_path / "text")

    def test_that_is_too_long(self, tmp_path):
        with (tmp_path / "text").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(ValueError, match="it has 1048576 MiB, at most 64 are read"):
            read_text(tmp_path / "text")


class TestRegular:
    def test_files_are(self, tmp_path):
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to("file")
        check_regular(tmp_path / "file")
        check_regular(tmp_path / "link")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("none", "No such file or directory"),
            (".", "Is a directory"),
            ("pipe", "it is a device, a pipe or a socket; wanted a regular file"),
            ("loop", "Too many levels of symbolic links"),
        ],
    )
    def test_others_are_not(self, tmp_path, name, reason):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(OSError) as caught:
            check_regular(tmp_path / name)
        assert why(caught.value) == reason


def test_why_is_the_reason_alone():
    assert why(ValueError("no such thing")) == "no such thing"
    assert why(FileNotFoundError(2, "No such file or directory", "x")) == "No such file or directory"


def test_names_are_shown_in_full_unless_they_are_none():
    assert shown("a  b.png") == "a  b.png"
    assert len(shown("x" * 100_000)) <= 300
