import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vimdeploy import reading
from vimdeploy.reading import check_regular, downloaded, read_text, shown, why


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


@pytest.fixture(scope="module")
def server():
    """The address of a server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestDownloads:
    @pytest.mark.parametrize("path", ["/whole", "/moved", "/no length", "/w%68ole"])
    def test_are_whole(self, server, path):
        assert downloaded(server + path) == CONTENT

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/none", "the server answers 404, Not Found"),
            ("/cut", "it ended after 1000 bytes of 2000"),
            ("/loop", "the server answers 302, .* infinite loop"),
            ("/to a file", "the server answers 302, .*is not allowed"),
            ("/nonsense", r"the server does not speak HTTP \(nonsense"),
        ],
    )
    def test_are_refused(self, server, path, reason):
        with pytest.raises(OSError, match=reason):
            downloaded(server + path)

    def test_are_bounded(self, server, monkeypatch):
        monkeypatch.setattr(reading, "_MOST_DOWNLOADED", 500)
        with pytest.raises(OSError, match="it has more than 0 MiB"):
            downloaded(f"{server}/whole")

    def test_a_server_that_says_nothing(self, server, monkeypatch):
        monkeypatch.setattr(reading, "_SILENCE", 0.1)
        with pytest.raises(TimeoutError):
            downloaded(f"{server}/silence")

    def test_a_server_that_takes_its_time_with_every_byte(self, server, monkeypatch):
        monkeypatch.setattr(reading, "_WHOLE", 0.0)
        with pytest.raises(TimeoutError, match="it was not there after 0 seconds"):
            downloaded(f"{server}/whole")

    @pytest.mark.parametrize("address", ["http://127.0.0.1:1/a.png", "http://", "http://[", "http://127.0.0.1:x/"])
    def test_where_there_is_no_server(self, address):
        with pytest.raises((OSError, ValueError)):
            downloaded(address)


CONTENT = bytes(range(250)) * 4


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        moved = {"/moved": "/whole", "/loop": "/loop", "/to%20a%20file": "file:///etc/passwd"}
        lengths = {"/whole": 1000, "/w%68ole": 1000, "/cut": 2000}
        if self.path == "/silence":
            time.sleep(0.5)
        elif self.path == "/nonsense":
            self.wfile.write(b"nonsense\r\n\r\n")
        elif self.path in moved:
            self.send_response(302)
            self.send_header("Location", moved[self.path])
            self.end_headers()
        elif self.path in lengths or self.path == "/no%20length":
            self.send_response(200)
            if self.path in lengths:
                self.send_header("Content-Length", str(lengths[self.path]))
            self.end_headers()
            self.wfile.write(CONTENT)
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass
