"""Pictures to Parquet on a local cluster: a row for each, whoever is killed on the way."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections import Counter

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
import os, runpy, signal, sys, time
from pathlib import Path
import ray, ray.data
from vimdeploy.serving import ray_data

log, victim, *sys.argv = sys.argv[1:]
driver, start = os.getpid(), ray.init
ray.init = lambda *arguments, **options: start(
    *arguments, **options, num_cpus=2, num_gpus=0, object_store_memory=100 << 20, _node_ip_address="127.0.0.1"
)
ray.data.DataContext.get_current().target_min_block_size = 50_000  # about ten pictures
done = Path(sys.argv[3] + ".checkpoint")


class Killed(ray_data.Predictor):
    def __call__(self, batch):
        with open(log, "a") as file:
            print(os.getpid(), len(batch["path"]), file=file)
        table = super().__call__(batch)
        given = [int(line.split()[1]) for line in Path(log).read_text().splitlines()]
        if victim and sum(given) >= HALF:
            try:
                Path(log + ".killed").symlink_to(str(os.getpid()))  # by one worker alone
            except FileExistsError:
                return table
            while victim == "driver" and sum(".pending" not in path.name for path in done.glob("*")) < 7:
                time.sleep(0.01)  # until about half of the rows are written, by the other worker
            os.kill(driver if victim == "driver" else os.getpid(), signal.SIGKILL)
        return table


ray_data.Predictor = Killed
runpy.run_path(sys.argv[0], run_name="__main__")
""".replace("HALF", str(PICTURES // 2))
"""Runs the script on a small cluster. When half of the pictures are handed out, somebody is killed: the worker, with a
batch that is answered and not handed back, or the script."""


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
    """``run("worker")`` -> the script's result, if that is killed half-way; and each batch's worker and size."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    arguments = (SCRIPT, tiny_onnx, pictures, tmp_path / "rows", "--workers", "2", "--batch", str(BATCH))

    def start(victim, name="log"):
        log = tmp_path / name
        log.touch()
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            (tmp_path / "output").open("w+") as output,
        ):
            done = subprocess.run(
                [sys.executable, "-c", KILLED, log, victim, *arguments],
                env=environment | {"RAY_TMPDIR": folder},  # not tmp_path: the paths of sockets are short
                stdout=output,  # not a pipe: the cluster's processes would hold it open for a while
                stderr=subprocess.STDOUT,
                timeout=300,
            )
            done.stdout = (tmp_path / "output").read_text()
        return done, [tuple(map(int, line.split())) for line in log.read_text().splitlines()]

    return start


def rows_of(folder):
    return dataset(folder, format="parquet").to_table().to_pylist()


def check(rows, pictures):
    """Every picture once, with what it is; the damaged one with its reason."""
    assert Counter(row["path"] for row in rows) == Counter(map(str, pictures.rglob("*.png")))
    assert [(row["label"], "is not a picture" in row["error"]) for row in rows if row["error"]] == [(None, True)]
    assert all(len(row["label"]) == 5 and 0 < row["probability"][0] <= 1 for row in rows if not row["error"])


@pytest.mark.slow
def test_a_worker_is_killed_half_way(run, pictures, tmp_path):
    done, batches = run("worker")
    assert done.returncode == 0, done.stdout
    assert f"{PICTURES} pictures, 1 of them without an answer\n" in done.stdout
    workers = {worker for worker, _ in batches}
    assert len(workers) == 3  # two, and one in place of the one that was killed
    assert int((tmp_path / "log.killed").readlink().name) in workers
    assert sum(size for _, size in batches) > PICTURES  # its batches were answered again
    check(rows_of(tmp_path / "rows"), pictures)
    assert not (tmp_path / "rows.checkpoint").exists()


@pytest.mark.slow
def test_all_of_it_is_killed_half_way_and_goes_on(run, pictures, tmp_path):
    done, _ = run("driver", "first")
    assert done.returncode == -signal.SIGKILL
    done, batches = run("", "second")
    assert done.returncode == 0, done.stdout
    assert sum(size for _, size in batches) < PICTURES  # not all of it again
    check(rows_of(tmp_path / "rows"), pictures)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("picture.png", ".", "rows"), "ONNX file"),
        (("none.onnx", ".", "rows"), "cannot be read"),
        (("picture.png", "none", "rows"), "does not exist"),
        (("picture.png", ".", "."), "is finished, or somebody else's"),
    ],
)
def test_wrong_arguments(picture, arguments, reason):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], cwd=picture.parent, capture_output=True, text=True)
    assert done.returncode == 2
    assert reason in " ".join(done.stderr.split())
    assert [path.name for path in picture.parent.iterdir()] == ["picture.png"]
