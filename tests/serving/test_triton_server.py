"""A real server takes what ``vimdeploy package`` writes, warms it up and answers as the file does.

Either ``tritonserver`` is on the path with its ONNX Runtime backend, as in NVIDIA's container; or VIMDEPLOY_PYTRITON is
a Python that has nvidia-pytriton and onnxruntime: its server has the Python backend alone, by which
``helpers/triton_onnxruntime.py`` runs the file.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.detectors import small_detector
from helpers.loading import ROOT

import vimdeploy
from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.graphs.portable import portable
from vimdeploy.inputs import random_inputs

PATHS = """
import pathlib, sys, sysconfig, pytriton
home = pathlib.Path(pytriton.__file__).parent
print(home / "tritonserver", home.parent / "nvidia_pytriton.libs", sysconfig.get_path("purelib"))
"""
STARTS_WITHIN = 60  # seconds


@pytest.fixture
def program(tmp_path):
    """The beginning of the server's argument list, and its environment."""
    if found := shutil.which("tritonserver"):
        return [found], os.environ
    python = os.environ.get("VIMDEPLOY_PYTRITON")
    if not python:
        pytest.skip("there is no Triton server here: no tritonserver on the path, and VIMDEPLOY_PYTRITON is not set")
    done = subprocess.run([python, "-c", PATHS], capture_output=True, text=True, check=True)
    home, libraries, packages = map(Path, done.stdout.split())
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    backends = tmp_path / "backends"
    shutil.copytree(home / "backends" / "python", backends / "python")
    stub = home / "python_backend_stubs" / ".".join(version.split(".")[:2]) / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    (backends / "onnxruntime").mkdir()
    backend = (ROOT / "tests" / "helpers" / "triton_onnxruntime.py").read_text()
    (backends / "onnxruntime" / "model.py").write_text(f"import sys\nsys.path.insert(0, {str(packages)!r})\n{backend}")
    command = [home / "bin" / "tritonserver", f"--backend-directory={backends}"]
    return command, os.environ | {"LD_LIBRARY_PATH": str(libraries)}


@pytest.fixture
def serve(program, tmp_path):
    """``serve(packaged)`` -> the address of a server that has it."""
    running = []

    def start(packaged):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command, environment = program
        options = ["--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
        with (tmp_path / "server.log").open("wb") as log:
            running.append(
                subprocess.Popen(
                    [*command, *packaged.command[1:], *options],
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        address = f"http://127.0.0.1:{port}/v2"
        for _ in range(4 * STARTS_WITHIN):
            assert running[-1].poll() is None, (tmp_path / "server.log").read_text()[-4000:]
            try:
                urllib.request.urlopen(f"{address}/health/ready", timeout=5).close()
                return address
            except OSError:
                time.sleep(0.25)
        pytest.fail((tmp_path / "server.log").read_text()[-4000:])

    yield start
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(address, model, arrays, **parameters):
    """The first output of one request, as JSON has it."""
    types = {"float32": "FP32", "int64": "INT64"}
    inputs = [
        {"name": name, "shape": array.shape, "datatype": types[str(array.dtype)], "data": array.ravel().tolist()}
        for name, array in arrays.items()
    ]
    outputs = {"outputs": [parameters]} if parameters else {}
    body = json.dumps({"inputs": inputs, **outputs}).encode()
    request = urllib.request.Request(f"{address}/models/{model}/infer", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())["outputs"][0]


@pytest.mark.slow
class TestAServer:
    def test_answers_as_the_file_does_and_with_its_labels(self, tiny_onnx, tmp_path, serve):
        packaged = vimdeploy.package(tiny_onnx, tmp_path / "repository", device="cpu")
        address = serve(packaged)
        images = np.random.default_rng(0).standard_normal((12, 3, 32, 32), dtype=np.float32)
        wanted = vimdeploy.load(tiny_onnx, device="cpu").run(images)["logits"]
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda one: ask(address, "tiny", {"images": one[None]})["data"], images))
        assert np.abs(np.array(found) - wanted).max() < 1e-4 * wanted.std()
        classes = ask(address, "tiny", {"images": images[:1]}, name="logits", parameters={"classification": 1})["data"]
        best = int(wanted[0].argmax())
        assert [answer.split(":")[1:] for answer in classes] == [[str(best), ("ant", "bee", "cat", "dog", "eel")[best]]]

    def test_refuses_another_size_and_serves_on(self, tiny_onnx, tmp_path, serve):
        address = serve(vimdeploy.package(tiny_onnx, tmp_path / "repository", operators="function-body"))
        with pytest.raises(urllib.error.HTTPError) as error:
            ask(address, "tiny", {"images": np.zeros((1, 3, 40, 40), np.float32)})
        assert "[-1,3,32,32]" in error.value.read().decode()
        assert len(ask(address, "tiny", {"images": np.zeros((8, 3, 32, 32), np.float32)})["data"]) == 40

    def test_takes_any_size_and_gives_several_outputs(self, any_size_proto, tmp_path, serve):
        artifact = artifact_from_onnx(any_size_proto)
        address = serve(vimdeploy.package(artifact, tmp_path / "repository", name="features"))
        session = vimdeploy.load(artifact, device="cpu")
        for side in (32, 48):
            images = np.random.default_rng(side).standard_normal((2, 3, side, side), dtype=np.float32)
            wanted = session.run(images)["pooled"]
            found = np.reshape(ask(address, "features", {"images": images}, name="pooled")["data"], wanted.shape)
            assert np.abs(found - wanted).max() < 1e-4 * wanted.std()

    def test_takes_a_portable_files_own_batch(self, tiny_proto, tmp_path, serve):
        artifact = artifact_from_onnx(portable(tiny_proto, batch=2))
        address = serve(vimdeploy.package(artifact, tmp_path / "repository", name="portable"))
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
        wanted = vimdeploy.load(artifact, device="cpu").run(images)["logits"]
        found = np.reshape(ask(address, "portable", {"images": images})["data"], wanted.shape)
        assert np.abs(found - wanted).max() < 1e-4 * wanted.std()

    def test_takes_a_detectors_numbers(self, tmp_path, serve):
        network = small_detector()
        artifact = artifact_from_onnx(onnx_from_model(network.module, network.info))
        address = serve(vimdeploy.package(artifact, tmp_path / "repository", name="detector"))
        (arrays,) = random_inputs(artifact.info, 1, seed=0).batches(1)
        wanted = vimdeploy.load(artifact, device="cpu").run(arrays)["scores"]
        scalars = {name: array.reshape(-1, 1) if array.ndim == 1 else array for name, array in arrays.items()}
        found = ask(address, "detector", scalars, name="scores")
        assert found["shape"] == list(wanted.shape)
        assert np.abs(np.reshape(found["data"], wanted.shape) - wanted).max() < 1e-4
