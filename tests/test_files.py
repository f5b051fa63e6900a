import errno
import os
import stat

import pytest

from vimdeploy.errors import OutputError
from vimdeploy.files import check_outputs, check_writable, write_together, write_whole


class TestWriteWhole:
    def test_writes(self, tmp_path):
        write_whole(tmp_path / "file", b"content")
        assert (tmp_path / "file").read_bytes() == b"content"

    def test_replaces(self, tmp_path):
        (tmp_path / "file").write_bytes(b"old")
        write_whole(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"new"

    def test_leaves_nothing_beside_the_file(self, tmp_path):
        write_whole(tmp_path / "file", b"content")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_others_may_read_the_file_as_the_umask_says(self, tmp_path):
        before = os.umask(0o027)
        try:
            write_whole(tmp_path / "file", b"content")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640

    @pytest.fixture
    def full_disk(self, monkeypatch):
        def fsync(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fsync)

    def test_a_full_disk_says_so(self, tmp_path, full_disk):
        with pytest.raises(OutputError, match="No space left on device; nothing was left behind"):
            write_whole(tmp_path / "file", b"content")

    def test_a_full_disk_leaves_nothing(self, tmp_path, full_disk):
        with pytest.raises(OutputError):
            write_whole(tmp_path / "file", b"content")
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_keeps_the_old_file(self, tmp_path, full_disk):
        (tmp_path / "file").write_bytes(b"old")
        with pytest.raises(OutputError):
            write_whole(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"old"

    def test_an_interrupt_leaves_nothing(self, tmp_path, monkeypatch):
        def interrupted(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_whole(tmp_path / "file", b"content")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("check", [check_writable, lambda path: write_whole(path, b"")], ids=["before", "then"])
    class TestPlaces:
        """Told before the long work, and at the write as well."""

        def test_no_folder(self, check, tmp_path):
            with pytest.raises(OutputError, match=r"no such for file does not exist; create it first"):
                check(tmp_path / "no such" / "file")

        def test_a_folder_that_is_a_file(self, check, tmp_path):
            (tmp_path / "a file").touch()
            with pytest.raises(OutputError, match=r"a file for file does not exist"):
                check(tmp_path / "a file" / "file")

        def test_a_file_that_is_a_folder(self, check, tmp_path):
            with pytest.raises(OutputError, match="Wanted a file to write, found the folder"):
                check(tmp_path)

        def test_a_folder_of_others(self, check, tmp_path, monkeypatch):
            monkeypatch.setattr(os, "access", lambda path, mode: False)  # root, too, meets such folders
            with pytest.raises(OutputError, match="cannot be written to; choose another one"):
                check(tmp_path / "file")


class TestWriteTogether:
    def test_writes_all(self, tmp_path):
        write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}

    def test_one_that_cannot_be_written_keeps_all_as_they_were(self, tmp_path):
        (tmp_path / "a").write_bytes(b"old")
        with pytest.raises(OutputError, match="no such for b does not exist"):
            write_together({tmp_path / "a": b"1", tmp_path / "no such" / "b": b"2"})
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


class TestCheckOutputs:
    def test_files_of_their_own(self, tmp_path):
        check_outputs([tmp_path / "a", str(tmp_path / "b")], [tmp_path / "c", "name of a variant"])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["in", "./in", "folder/../in", "link"])
    def test_one_that_is_an_input(self, tmp_path, name):
        (tmp_path / "folder").mkdir()
        (tmp_path / "in").touch()
        (tmp_path / "link").symlink_to("in")
        with pytest.raises(OutputError, match=r"would be written over .*in; give every file a name of its own"):
            check_outputs([tmp_path / name], [tmp_path / "in"])

    def test_two_that_are_one(self, tmp_path):
        with pytest.raises(OutputError, match="would be written over"):
            check_outputs([tmp_path / "out", tmp_path / "." / "out"], [])

    def test_one_that_cannot_be_written(self, tmp_path):
        with pytest.raises(OutputError, match="does not exist; create it first"):
            check_outputs([tmp_path / "a", tmp_path / "no such" / "b"], [])
