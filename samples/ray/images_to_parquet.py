"""Pictures to Parquet, a row for each, on this machine or on a cluster of Ray.

python samples/ray/images_to_parquet.py MODEL.onnx PICTURES OUTPUT

A worker that dies is started again by Ray, with the batch that it had. If all of it ends before its end, the same
command goes on: what has a row in OUTPUT is passed over.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its maker unless this is set before its import

import click
import pyarrow.compute as pc
import ray
from pyarrow.dataset import dataset
from ray.data.checkpoint import CheckpointConfig

import vimdeploy
from vimdeploy.serving.ray_data import Predictor

WORKER, HELPER = 0.75, 0.25
"""CPUs that Ray counts for a worker, and for a task that reads or writes. With a worker for each CPU there has to be
room for the tasks that bring it pictures, or all would wait for ever."""
SUFFIXES = ["png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff", "gif", "ppm", "avif"]


@click.command()
@click.argument("model", type=click.Path(resolve_path=True))
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, resolve_path=True))
@click.argument("output", type=click.Path(file_okay=False, resolve_path=True))
@click.option("--workers", type=click.IntRange(min=1), help="Run this many sessions. Default: one per CPU, or per GPU.")
@click.option("--gpu", is_flag=True, help="Give each worker a GPU.")
@click.option("--vectors", is_flag=True, help="Write vectors instead of what is in the pictures.")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Hand over so many at once.")
@click.option("--address", envvar="RAY_ADDRESS", help="Use this cluster; all paths are on a disk that it shares.")
def main(
    model: str,
    pictures: str,
    output: str,
    workers: int | None,
    gpu: bool,
    vectors: bool,
    batch: int,
    address: str | None,
) -> None:
    """Write what MODEL says of all PICTURES, a folder, to OUTPUT, a folder of Parquet files."""
    checkpoint = Path(f"{output}.checkpoint")  # the paths of the pictures that are done; removed at the end
    if not checkpoint.is_dir() and Path(output).is_dir() and any(Path(output).iterdir()):
        raise click.UsageError(f"{output} is finished, or somebody else's; choose another folder.")
    try:
        vimdeploy.inspect(model)
    except vimdeploy.InputError as error:
        raise click.UsageError(str(error)) from error
    ray.init(address, include_dashboard=None if address else False)
    ray.data.DataContext.get_current().checkpoint_config = CheckpointConfig("path", str(checkpoint))
    found = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 1))
    ray.data.read_binary_files(pictures, include_paths=True, file_extensions=SUFFIXES, num_cpus=HELPER).map_batches(
        Predictor,
        fn_constructor_args=[model],
        fn_constructor_kwargs={"vectors": vectors, "device": "cuda" if gpu else "cpu"},
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=workers or found),
        num_cpus=WORKER,
        num_gpus=int(gpu),
    ).write_parquet(output, ray_remote_args={"num_cpus": HELPER})
    written = dataset(output, format="parquet")
    errors = written.count_rows(filter=pc.field("error").is_valid())
    click.echo(f"{output}: {written.count_rows()} pictures, {errors} of them without an answer")


if __name__ == "__main__":
    main()
