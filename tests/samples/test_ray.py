"""Pictures to Parquet on a local cluster: a row for each, whoever is killed on the way."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.loading import ROOT
from PIL import Image

pytest.importorskip("ray.data.checkpoint", reason="ray[data] with checkpoints is not installed")
from pyarrow.dataset import dataset

PICTURES = 160
BATCH = 8
SCRIPT = ROOT / "samples" / "ray" / "images_to_parquet.py"
KILLED = """
import os, runpy, signal, sys
from pathlib import Path
import ray
from vimdeploy.serving import ray_data

log, victim, *sys.argv = sys.argv[1:]
start = ray.init
ray.init = lambda *arguments, **options: start(
    *arguments, **options, num_cpus=3, num_gpus=0, object_store_memory=100 << 20, _node_ip_address="127.0.0.1"
)
driver = os.getpid()


class Killed(ray_data.Predictor):
    '''Tells what it answers; once half of it is told, the victim is killed, with a batch that is not given back.'''

    def __call__(self, batch):
        with open(log, "a") as file:
            file.write(f"{os.getpid()} {len(batch['path'])}" + chr(10))
        table = super().__call__(batch)
        lines = Path(log).read_text().split()
        if sum(map(int, lines[1::2])) >= HALF:
            try:
                Path(log + ".killed").touch(exist_ok=False)
            except FileExistsError:
                return table
            Path(log + ".killed").write_text(f"{os.getpid()} {len(Path(log).read_text().split())}")
            os.kill(driver if victim == "driver" else os.getpid(), signal.SIGKILL)
            signal.pause()
        return table


ray_data.Predictor = Killed
runpy.run_path(sys.argv[0], run_name="__main__")
""".replace("HALF", str(PICTURES // 2))


@pytest.fixture
def pictures(tmp_path):
    """A folder of them; one is damaged."""
    folder = tmp_path / "pictures"
    noise = np.random.default_rng(0)
    for number in range(PICTURES):
        path = folder / str(number % 3) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    (folder / "0" / "0.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def run(tiny_onnx, pictures, tmp_path):
    """``run("worker")`` -> the script's result, if that is killed half-way; and what each worker was given."""

    def start(victim):
        environment = os.environ | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
            "RAY_TMPDIR": str(tmp_path)
        }
        log = tmp_path / f"{victim}.log"
        log.touch()
        done = subprocess.run(
            [sys.executable, "-c", KILLED, log, victim, SCRIPT, tiny_onnx, pictures, tmp_path / "rows", "--workers", "2", "--batch", str(BATCH)],
            env=environment, capture_output=True, text=True, timeout=120,
        )
        return done, [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    return start
