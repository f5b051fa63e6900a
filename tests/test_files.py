import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vimdeploy.errors import OutputError
from vimdeploy.files import (
    check_outputs,
    check_writable,
    scratch_folder,
    write_folder,
    write_together,
    write_whole,
)


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

    def test_a_link_stays_one_and_what_it_points_to_is_written(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real/file")
        for content in (b"first", b"second"):
            write_whole(tmp_path / "link", content)
            assert (tmp_path / "link").is_symlink()
            assert (tmp_path / "real" / "file").read_bytes() == content

    def test_a_file_keeps_its_permissions(self, tmp_path):
        (tmp_path / "private").touch(0o600)
        write_whole(tmp_path / "private", b"content")
        assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600

    def test_a_name_as_long_as_names_can_be(self, tmp_path):
        write_whole(tmp_path / ("x" * 255), b"content")
        assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]

    def test_the_umask_of_other_threads_stays(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask of the whole process was changed"))
        write_whole(tmp_path / "file", b"content")

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

        @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
        def test_a_pipe_is_no_file_and_stays_one(self, check, tmp_path):
            os.mkfifo(tmp_path / "pipe")
            with pytest.raises(OutputError, match="which is a device, a pipe or a socket"):
                check(tmp_path / "pipe")
            assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

        def test_a_device_is_no_file(self, check):
            with pytest.raises(OutputError, match="found /dev/null, which is a device"):
                check("/dev/null")
            assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

        @pytest.mark.parametrize("name", ["x" * 300, "zero\0byte"])
        def test_a_name_that_no_file_can_have(self, check, tmp_path, name):
            with pytest.raises(OutputError, match=r"cannot be written: (File name too long|.*null byte)"):
                check(tmp_path / name)

        def test_a_link_to_itself(self, check, tmp_path):
            (tmp_path / "link").symlink_to("link")
            with pytest.raises(OutputError, match="cannot be written"):
                check(tmp_path / "link")

        def test_a_protected_file(self, check, tmp_path, monkeypatch):
            (tmp_path / "file").touch()
            monkeypatch.setattr(os, "access", lambda path, mode: path == tmp_path)  # root may write all files
            with pytest.raises(OutputError, match="file is write-protected"):
                check(tmp_path / "file")

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

    def test_the_later_of_two_writers_wins_with_all_its_files(self, tmp_path):
        def write(tag):
            for _ in range(50):
                write_together({tmp_path / "a": tag * 1000, tmp_path / "b": tag * 1000})

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, [b"1", b"2", b"3", b"4"]))
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        assert len(list(tmp_path.iterdir())) == 2


class TestWriteFolder:
    def test_writes(self, tmp_path):
        write_folder(tmp_path / "new", {"file": b"content", "inner/file": b"more"})
        found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert found == {"new/file": b"content", "new/inner/file": b"more"}
        assert [path.name for path in tmp_path.iterdir()] == ["new"]

    def test_others_may_read_it_as_the_umask_says(self, tmp_path):
        before = os.umask(0o027)
        try:
            write_folder(tmp_path / "new", {"inner/file": b"content"})
        finally:
            os.umask(before)
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "new/inner", "new/inner/file")]
        assert modes == [0o750, 0o750, 0o640]

    def test_one_that_is_there_stays(self, tmp_path):
        write_folder(tmp_path / "new", {"file": b"content"})
        with pytest.raises(OutputError, match="new cannot be written"):
            write_folder(tmp_path / "new", {"file": b"other"})
        assert (tmp_path / "new" / "file").read_bytes() == b"content"
        assert [path.name for path in tmp_path.iterdir()] == ["new"]

    def test_a_full_disk_leaves_nothing(self, tmp_path, monkeypatch):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left on device; nothing was left behind"):
            write_folder(tmp_path / "new", {"file": b"content"})
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks nothing in this way")
class TestLeftByAKilledProcess:
    def killed(self, code, folder):
        """A process that is killed where it says so."""
        code = f"import os, signal; die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n{code}"
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment)
        assert process.returncode == -signal.SIGKILL

    def test_a_file_is_swept_by_the_next_writer(self, tmp_path):
        self.killed("os.fsync = die; from vimdeploy.files import write_whole; write_whole('file', b'new')", tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        write_whole(tmp_path / "other", b"content")
        assert [path.name for path in tmp_path.iterdir()] == ["other"]

    def test_a_folder_is_swept_by_the_next(self, tmp_path, monkeypatch):
        code = "from vimdeploy.files import scratch_folder\nwith scratch_folder() as f: (f / 'file').touch(); die()"
        self.killed(code, tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with scratch_folder() as folder:
            assert list(tmp_path.iterdir()) == [folder]
        assert list(tmp_path.iterdir()) == []

    def test_a_new_folder_is_swept_by_the_next_writer(self, tmp_path):
        code = "from vimdeploy.files import write_folder; write_folder(Path('new'), {'inner/file': b'content'})"
        self.killed(f"from pathlib import Path; os.fsync = die; {code}", tmp_path)
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        write_folder(tmp_path / "other", {"file": b"content"})
        assert [path.name for path in tmp_path.iterdir()] == ["other"]

    def test_what_is_being_written_is_not_swept(self, tmp_path, monkeypatch):
        fsync = os.fsync

        def meanwhile(descriptor):
            monkeypatch.setattr(os, "fsync", fsync)
            process = subprocess.run(
                [sys.executable, "-c", "from vimdeploy.files import write_whole; write_whole('other', b'theirs')"],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            assert process.returncode == 0

        monkeypatch.setattr(os, "fsync", meanwhile)
        write_whole(tmp_path / "file", b"ours")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"ours", "other": b"theirs"}


def test_files_can_be_written_together_in_a_scratch_folder(monkeypatch):
    monkeypatch.setattr("vimdeploy.files._PATIENCE", 0.1)  # the folder is locked, by this process itself
    with scratch_folder() as folder:
        write_together({folder / "a": b"1", folder / "b": b"2"})
        assert len(list(folder.iterdir())) == 2


def test_no_place_for_temporary_files_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with (
        pytest.raises(OutputError, match=r"The folder for temporary files, .*none, cannot be used: No such file"),
        scratch_folder(),
    ):
        pass


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

    def test_one_that_is_an_input_by_a_second_name(self, tmp_path):
        (tmp_path / "in").touch()
        os.link(tmp_path / "in", tmp_path / "second")
        with pytest.raises(OutputError, match="would be written over"):
            check_outputs([tmp_path / "second"], [tmp_path / "in"])

    def test_one_of_a_folder_of_inputs(self, tmp_path):
        (tmp_path / "class").mkdir()
        (tmp_path / "class" / "a.png").touch()
        check_outputs([tmp_path / "class" / "new.png"], [tmp_path])
        with pytest.raises(OutputError, match="would be written over a file of"):
            check_outputs([tmp_path / "class" / "a.png"], [tmp_path])

    def test_two_that_are_one(self, tmp_path):
        with pytest.raises(OutputError, match="would be written over"):
            check_outputs([tmp_path / "out", tmp_path / "." / "out"], [])

    def test_one_that_cannot_be_written(self, tmp_path):
        with pytest.raises(OutputError, match="does not exist; create it first"):
            check_outputs([tmp_path / "a", tmp_path / "no such" / "b"], [])
