"""What serve.py does under load: python samples/fastapi/load.py http://127.0.0.1:8000 PICTURE...

One request at a time and several at a time take turns, so that a machine whose clock drifts treats both alike; then
comes a flood of requests at once, and what it costs the server in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import httpx
import numpy as np

TURNS = 3


class Load:
    """Requests to one server, and what came of them."""

    def __init__(self, client: httpx.AsyncClient, pictures: Sequence[bytes]) -> None:
        self._client, self._pictures = client, itertools.cycle(pictures)
        self.seconds: list[float] = []
        """For each request that was answered."""
        self.duration = 0.0
        self.statuses: Counter[int] = Counter()
        self.last = ""
        """The last response."""

    async def request(self) -> None:
        """One picture."""
        start = time.perf_counter()
        response = await self._client.post(
            "/predict", content=next(self._pictures), headers={"Content-Type": "image/*"}
        )
        self.statuses[response.status_code] += 1
        self.last = f"{response.status_code} {response.text[:500]}"
        if response.status_code == 200:
            self.seconds.append(time.perf_counter() - start)

    async def several(self, at_once: int, seconds: float) -> None:
        """So many clients, each with one request after the other."""
        start = time.perf_counter()

        async def client() -> None:
            while time.perf_counter() - start < seconds:
                await self.request()

        await asyncio.gather(*(client() for _ in range(at_once)))
        self.duration += time.perf_counter() - start

    async def flood(self, count: int) -> None:
        """So many requests at once."""
        start = time.perf_counter()
        await asyncio.gather(*(self.request() for _ in range(count)))
        self.duration = time.perf_counter() - start

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return len(self.seconds) / self.duration

    def row(self, name: str) -> str:
        """A line of the table."""
        half, most = (1000 * np.percentile(self.seconds or [np.nan], [50, 99])).round()
        refused = sum(self.statuses.values()) - self.statuses[200]
        return f"{name:20} {len(self.seconds):8} {self.rate:12.1f} {half:8.0f} {most:8.0f} {refused:8}"


async def memory_of(client: httpx.AsyncClient) -> float:
    """Megabytes that the server holds; NaN if its system does not tell."""
    found = re.search(r"^process_resident_memory_bytes (\S+)", (await client.get("/metrics")).text, re.MULTILINE)
    return float(found[1]) / 1e6 if found else float("nan")


async def measure(url: str, pictures: Sequence[bytes], seconds: float, at_once: int, flood: int) -> Iterator[str]:
    """The lines to print."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60, trust_env=False) as client:
        alone, together, flooded = (Load(client, pictures) for _ in range(3))
        await Load(client, pictures).several(at_once, 1)  # warm up
        for _ in range(TURNS):
            await alone.several(1, seconds / TURNS)
            if not alone.seconds:
                raise click.ClickException(f"No picture was answered; the last response was {alone.last}")
            await together.several(at_once, seconds / TURNS)
        memory = [await memory_of(client)]
        request = asyncio.create_task(flooded.flood(flood))
        while not request.done():
            await asyncio.sleep(0.1)
            memory.append(await memory_of(client))
        await request
    return iter(
        [
            f"{'':20} {'answered':>8} {'pictures/s':>12} {'p50 ms':>8} {'p99 ms':>8} {'refused':>8}",
            alone.row("one at a time"),
            together.row(f"{at_once} at a time"),
            flooded.row(f"{flood} at once"),
            f"{at_once} at a time: {together.rate / alone.rate:.2f} times the pictures a second of one at a time",
            f"{flood} at once: {', '.join(f'{n} answered by {code}' for code, n in sorted(flooded.statuses.items()))}; "
            f"the server's memory {memory[0]:.0f} MB before, at most {max(memory):.0f} MB",
        ]
    )


@click.command()
@click.argument("url")
@click.argument("pictures", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--seconds",
    default=15.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Send requests for so many seconds, one at a time and then several: the longer, the steadier the numbers.",
)
@click.option("--at-once", default=8, show_default=True, type=click.IntRange(1, 1000), help="Requests at a time.")
@click.option("--flood", default=400, show_default=True, type=click.IntRange(1, 500), help="Requests at once.")
def main(url: str, pictures: Sequence[Path], seconds: float, at_once: int, flood: int) -> None:
    """Measure a server that was started with serve.py."""
    try:
        for line in asyncio.run(measure(url, [path.read_bytes() for path in pictures], seconds, at_once, flood)):
            click.echo(line)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise click.UsageError(f"Wanted a server at {url}, found none that answers: {error!r}.") from error


if __name__ == "__main__":
    main()
