"""The command line of ``tools/fuzz``."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import HypothesisException

from campaign.doors import DOORS
from campaign.seeds import Files
from campaign.worker import Outcome, Worker

REPOSITORY = Path(__file__).resolve().parents[2]
ROUND = 100
"""Trials after which the next door has its turn."""
FAULT = "fault.txt"
"""What is said of a saved input, beside its files."""
KINDS = ("accepted", "refused", "crashed", "hung")


class FaultFoundError(Exception):
    """Tells Hypothesis that a trial failed, so that it looks for a smaller one."""


@dataclass
class Campaign:
    """What was tried at each door, and what was found."""

    worker: Worker
    output: Path
    """Where failing inputs are saved."""
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: dict[tuple[str, str], Path] = field(default_factory=dict)
    """The folder of the smallest input, by door and fault."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing crashed or hung."""
        return not any(count["crashed"] or count["hung"] for count in self.counts.values())

    def round(self, door: str, trials: int, seed: int, until: float = float("inf")) -> None:
        """Make trials at a door, up to the first new fault, whose input is then made smaller.

        Args:
            door: one of ``DOORS``.
            trials: how many at most.
            seed: the same trials for the same seed.
            until: the moment of ``time.monotonic`` at which to stop.
        """
        count = self.counts.setdefault(door, Counter())
        shrinking: str | None = None

        @seeded(seed)
        @settings(
            max_examples=trials,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @given(DOORS[door].files())
        def trial(files: Files) -> None:
            nonlocal shrinking
            if time.monotonic() > until:
                return
            outcome = self.worker.outcome(DOORS[door].enter, files)
            if shrinking is None:
                count[outcome.kind] += 1
                if not outcome.is_bad or (door, outcome.fault) in self.faults:
                    return
                self._save(door, files, outcome)
                shrinking = outcome.fault if outcome.kind == "crashed" else None  # each step of a hang would hang
            if outcome.fault == shrinking:
                self._save(door, files, outcome)
                raise FaultFoundError

        with warnings.catch_warnings():  # of torch about odd tensors, of Hypothesis about large files
            warnings.simplefilter("ignore")
            # Hypothesis's own: time was up, or the fault did not come again, while it made an input smaller.
            with contextlib.suppress(FaultFoundError, HypothesisException):
                trial()

    def _save(self, door: str, files: Files, outcome: Outcome) -> None:
        name = f"{door}-{hashlib.sha256(outcome.fault.encode()).hexdigest()[:8]}"
        folder = self.faults[door, outcome.fault] = self.output / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        again = f"tools/fuzz --replay {folder}"
        (folder / FAULT).write_text(f"{outcome.kind}: {outcome.fault}\n{again}\n\n{outcome.details}")


def replayed(worker: Worker, folder: Path) -> Outcome:
    """Bring a saved input to its door once more: the folder's name begins with the door's."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != FAULT}
    return worker.outcome(DOORS[folder.resolve().name.partition("-")[0]].enter, files)


def table(campaign: Campaign) -> str:
    """The counts per door, and a line for each fault."""
    lines = [f"{'door':12}" + "".join(f"{kind:>10}" for kind in ("tried", *KINDS))]
    for door, count in campaign.counts.items():
        lines.append(f"{door:12}{sum(count.values()):10}" + "".join(f"{count[kind]:10}" for kind in KINDS))
    lines += [f"{door}: {fault}\n  {folder}" for (door, fault), folder in sorted(campaign.faults.items())]
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Go on for this many minutes, shared by the doors in turn.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Make this many trials at each door instead.")
@click.option(
    "--seed", type=int, help="Draw from this seed, to have the same trials again. Default: a new one each time."
)
@click.option(
    "--door",
    "doors",
    type=click.Choice(list(DOORS)),
    multiple=True,
    help="Try this door alone; repeat the option for more. Default: all.",
)
@click.option(
    "--limit",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Say that a trial hangs after this many seconds; sound ones take less than one.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=REPOSITORY / "build" / "fuzz",
    help="Save failing inputs to this folder. Default: build/fuzz.",
)
@click.option(
    "--replay",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Bring a saved input to its door once more, show what happens, and do nothing else.",
)
def main(
    minutes: float,
    trials: int | None,
    seed: int | None,
    doors: tuple[str, ...],
    limit: float,
    output: Path,
    replay: Path | None,
) -> None:
    """Bring broken files to every door of vimdeploy, and count what happens.

    Each trial takes a sound file, breaks it, and does with it what a user would. The answer must be a result or a
    refusal in a sentence. All else is a fault: a foreign exception, a signal, no end. Its input is made smaller and
    saved.

    Ctrl-C ends the campaign; what was counted until then is printed.

    Exit codes: 0 no fault, 1 something crashed or hung, 2 wrong options, 130 after Ctrl-C.
    """
    with Worker(limit) as worker:
        if replay is not None:
            outcome = replayed(worker, replay)
            click.echo(f"{outcome.kind}: {outcome.fault}\n{outcome.details}".rstrip(":\n "))
            sys.exit(outcome.is_bad)
        seed = secrets.randbits(31) if seed is None else seed
        click.echo(f"seed {seed}", err=True)
        reasons = {door: DOORS[door].missing() for door in doors or DOORS}
        for door, reason in reasons.items():
            if reason:
                click.echo(f"{door} is left out: {reason}", err=True)
        campaign = Campaign(worker, output)
        until = float("inf") if trials else time.monotonic() + 60 * minutes
        number, code = 0, 0
        try:
            while time.monotonic() < until and (not trials or number * ROUND < trials):
                for door in [door for door, reason in reasons.items() if not reason]:
                    left = ROUND if trials is None else min(ROUND, trials - number * ROUND)
                    campaign.round(door, left, seed + number, until)
                number += 1
        except KeyboardInterrupt:
            code = 130
        click.echo(table(campaign))
        sys.exit(code or not campaign.is_clean)
