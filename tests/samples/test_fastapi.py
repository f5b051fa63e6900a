"""The FastAPI sample, over HTTP: its answers, what it refuses, a flood, and how it stops."""

import http.client
import io
import json
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from helpers.loading import ROOT
from PIL import Image

import vimdeploy

for package in ("fastapi", "uvicorn", "httpx", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'vimdeploy[dev]'")

pytestmark = pytest.mark.slow  # servers start
SAMPLE = ROOT / "samples" / "fastapi"
PLACES, MEGABYTES, MEGAPIXELS = 4, 0.2, 1
LISTENS = re.compile(r"running on http://127\.0\.0\.1:(\d+)")


class Server:
    """A server in a process of its own."""

    def __init__(self, process, port):
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}"

    def request(self, method, path, body=None, **headers):
        """(status, headers, text) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def post(self, body, kind="image/png"):
        """(status, headers, document) of a picture."""
        status, headers, text = self.request("POST", "/predict", body, Content_Type=kind)
        return status, headers, json.loads(text)

    def metric(self, name):
        """A number of /metrics; 0 if it is not there yet."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.request("GET", "/metrics")[2], re.MULTILINE)
        return float(found[1]) if found else 0

    @contextmanager
    def upload(self, picture):
        """A request that has sent half of its picture; ``finish()`` sends the rest and gives status and document."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", "image/png")
        connection.putheader("Content-Length", str(len(picture)))
        connection.endheaders(picture[: len(picture) // 2])

        def finish():
            connection.send(picture[len(picture) // 2 :])
            response = connection.getresponse()
            return response.status, json.loads(response.read())

        try:
            yield finish
        finally:
            connection.close()


@contextmanager
def serving(model, *options, script=("serve.py",)):
    """A server of a model, until the end of the block."""
    command = [sys.executable, *script, model, "--port", "0", *map(str, options)]
    process = subprocess.Popen(command, cwd=SAMPLE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := LISTENS.search(line):
                break
        else:
            pytest.fail("".join(lines))
        with ThreadPoolExecutor(1) as reader:
            reader.submit(process.stderr.read)  # so that it never waits for a reader
            yield Server(process, int(found[1]))
            process.kill()
    finally:
        process.kill()
        process.wait()


def until(condition):
    """Wait for something that another process does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server(tiny_onnx):
    limits = ("--places", PLACES, "--megabytes", MEGABYTES, "--megapixels", MEGAPIXELS)
    with serving(tiny_onnx, "--sessions", 2, "--window", 50, *limits) as server:
        yield server


@pytest.fixture(scope="module")
def patient(tiny_onnx):
    """A server that waits long for other pictures."""
    with serving(tiny_onnx, "--sessions", 1, "--window", 1000) as server:
        yield server


@pytest.fixture(scope="module")
def pictures():
    """PNG files."""
    generator = np.random.default_rng(0)
    return [png(Image.fromarray(generator.integers(0, 256, (40, 60, 3), np.uint8))) for _ in range(PLACES)]


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_answers_as_a_session_does(server, pictures, tiny_onnx):
    status, _, document = server.post(pictures[0])
    assert status == 200
    with vimdeploy.load(tiny_onnx, threads=1) as session:
        wanted = session.predict(pictures[0]).document()
    assert [line["index"] for line in document["top"]] == [line["index"] for line in wanted["top"]]
    assert document["top"][0]["probability"] == pytest.approx(wanted["top"][0]["probability"], rel=1e-5)


def test_concurrent_requests_make_batches_and_each_gets_its_own_answer(server, patient, pictures):
    batches, answered = (patient.metric(f"vimdeploy_batch_pictures_{name}") for name in ("count", "sum"))
    with ThreadPoolExecutor(PLACES) as clients:
        together = [document for _, _, document in clients.map(patient.post, pictures)]
    assert patient.metric("vimdeploy_batch_pictures_sum") == answered + len(pictures)
    assert patient.metric("vimdeploy_batch_pictures_count") < batches + len(pictures)
    for picture, among in zip(pictures, together, strict=True):
        _, _, alone = server.post(picture)
        assert [line["index"] for line in alone["top"]] == [line["index"] for line in among["top"]]
        assert alone["top"][0]["probability"] == pytest.approx(among["top"][0]["probability"], rel=1e-5)


def test_nothing_is_computed_for_a_client_that_has_gone(patient, pictures):
    gone, computed = 'vimdeploy_requests_total{status="499"}', "vimdeploy_batch_pictures_sum"
    before = patient.metric(gone), patient.metric(computed)
    connection = http.client.HTTPConnection("127.0.0.1", patient.port, timeout=60)
    connection.request("POST", "/predict", pictures[0], {"Content-Type": "image/png"})
    until(lambda: patient.metric("vimdeploy_pictures_taken") == 1)
    connection.close()
    until(lambda: patient.metric("vimdeploy_pictures_taken") == 0)
    assert (patient.metric(gone), patient.metric(computed)) == (before[0] + 1, before[1])


@pytest.mark.parametrize(
    ("body", "kind", "status", "sentence"),
    [
        (b'{"picture": 1}', "application/json", 415, "Wanted a picture file as the body"),
        (b"", "image/png", 422, "The picture of 0 bytes is not a picture that Pillow can read"),
        (b"no picture", "application/octet-stream", 422, "is not a picture that Pillow can read"),
        (png(Image.new("RGB", (60, 40)))[:-30], "image/png", 422, "The picture cannot be read"),
        (png(Image.new("1", (1001, 1000))), "image/png", 413, "Image size (1001000 pixels) exceeds limit"),
        (bytes(int(MEGABYTES * 1e6) + 1), "image/png", 413, "A picture file may have 200000 bytes"),
    ],
    ids=["type", "nothing", "text", "cut off", "pixels", "bytes"],
)
def test_what_is_refused(server, pictures, body, kind, status, sentence):
    found, _, document = server.post(body, kind)
    assert found == status
    assert sentence in document["detail"]
    assert server.post(pictures[0])[0] == 200


def test_a_corrupt_picture_does_not_cost_others_of_its_batch_theirs(server, pictures):
    with ThreadPoolExecutor(PLACES) as clients:
        found = list(clients.map(server.post, [pictures[0], b"no picture", pictures[1]]))
    assert [status for status, _, _ in found] == [200, 422, 200]
    assert found[1][2]["detail"].startswith("The picture of 10 bytes")


def test_too_many_bytes_are_refused_before_they_come(server):
    most = int(MEGABYTES * 1e6)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()

    connection.putrequest("POST", "/predict")
    connection.putheader("Transfer-Encoding", "chunked")  # says nothing of its length
    connection.endheaders()
    connection.send(b"%x\r\n%b\r\n" % (most + 1, bytes(most + 1)))
    assert connection.getresponse().status == 413
    connection.close()


def test_a_flood_is_answered_by_503_and_not_by_memory(server, pictures):
    refused = 'vimdeploy_requests_total{status="503"}'
    before, memory = server.metric(refused), server.metric("process_resident_memory_bytes")
    large = bytes(int(MEGABYTES * 1e6))
    with ExitStack() as stack, ThreadPoolExecutor(32) as clients:
        uploads = [stack.enter_context(server.upload(picture)) for picture in pictures]
        until(lambda: server.metric("vimdeploy_pictures_taken") == PLACES)
        answers = list(clients.map(server.post, [large] * 200))
        assert {status for status, _, _ in answers} == {503}
        assert {headers["Retry-After"] for _, headers, _ in answers} == {"1"}
        assert "4 pictures are waiting; try again in a second." in answers[0][2]["detail"]
        assert server.metric(refused) == before + 200
        assert server.metric("process_resident_memory_bytes") < memory + 100 * len(large)
        assert [server.request("GET", f"/health/{what}")[0] for what in ("live", "ready")] == [200, 503]
        assert [finish()[0] for finish in uploads] == [200] * PLACES
    status, _, text = server.request("GET", "/health/ready")
    assert status == 200
    assert json.loads(text)["status"] == "ready"


def test_a_client_that_goes_away_gives_its_place_back(server, pictures):
    with server.upload(pictures[0]):
        until(lambda: server.metric("vimdeploy_pictures_taken") == 1)
    until(lambda: server.metric("vimdeploy_pictures_taken") == 0)
    assert server.metric('vimdeploy_requests_total{status="499"}') >= 1


def test_a_client_that_is_too_slow_loses_its_place(tiny_onnx, pictures):
    impatient = ("-c", "import serve; serve.BODY_SECONDS = 0.5; serve.main()")
    with serving(tiny_onnx, "--sessions", 1, script=impatient) as server, server.upload(pictures[0]) as finish:
        until(lambda: server.metric("vimdeploy_pictures_taken") == 1)
        until(lambda: server.metric("vimdeploy_pictures_taken") == 0)
        status, document = finish()
        assert status == 408
        assert document["detail"] == "The picture was not here after 0.5 seconds."
        assert server.post(pictures[0])[0] == 200


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_what_was_taken_is_answered_after_sigterm(tiny_onnx, pictures):
    with serving(tiny_onnx, "--sessions", 1, "--window", 1000) as server:
        with server.upload(pictures[0]) as finish, ThreadPoolExecutor(1) as clients:
            until(lambda: server.metric("vimdeploy_pictures_taken") == 1)
            waiting = clients.submit(server.post, pictures[1])
            until(lambda: server.metric("vimdeploy_pictures_taken") == 2)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not listens(server))
            assert server.process.poll() is None
            assert waiting.result()[0] == 200
            assert finish()[0] == 200
        assert server.process.wait(30) in (0, -signal.SIGTERM)


def listens(server):
    try:
        return server.request("GET", "/health/live")[0] == 200
    except OSError:
        return False


def test_the_load_table(server, pictures, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        path.write_bytes(picture)
    command = [sys.executable, SAMPLE / "load.py", server.url, *paths, "--seconds", "0.6", "--at-once", "3"]
    done = subprocess.run([*command, "--flood", "40"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["answered", "pictures/s", "p50", "ms", "p99", "ms", "refused"]
    assert [line[:20].strip() for line in lines[1:4]] == ["one at a time", "3 at a time", "40 at once"]
    for line in lines[1:3]:
        answered, rate, half, most, refused = map(float, line[20:].split())
        assert answered > 0
        assert rate > 0
        assert most >= half > 0
        assert refused == 0
    answered, *_, refused = map(float, lines[3][20:].split())
    assert answered + refused == 40
    assert re.fullmatch(r"3 at a time: \d+\.\d\d times the pictures a second of one at a time", lines[4])
    assert re.search(r"memory \d+ MB before, at most \d+ MB$", lines[5])


def test_load_ends_with_the_reason_if_no_picture_is_answered(server, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no picture")
    command = [sys.executable, SAMPLE / "load.py", server.url, tmp_path / "no.png", "--seconds", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "No picture was answered; the last response was 422" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("serve.py", ["README.md"], "README.md is no whole ONNX file"),
        ("serve.py", ["nothing.onnx"], "'nothing.onnx' does not exist"),
        ("load.py", ["http://127.0.0.1:9", "README.md", "--seconds", "0.1"], "Wanted a server at http://127.0.0.1:9"),
    ],
)
def test_wrong_arguments_end_with_a_sentence(script, arguments, sentence):
    done = subprocess.run([sys.executable, SAMPLE / script, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
