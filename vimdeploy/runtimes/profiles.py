"""An engine's optimization profiles: which one runs which shapes, and in what parts a batch runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vimdeploy.errors import InputError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
"""By input; the first size of each is the batch."""


@dataclass(frozen=True)
class Profile:
    """Bounds of the inputs, and the shapes that TensorRT has made an engine fastest at."""

    index: int
    """TensorRT's number of it."""
    smallest: Shapes
    best: Shapes
    largest: Shapes

    @property
    def batches(self) -> tuple[int, int]:
        """The smallest and the largest batch."""
        return max(shape[0] for shape in self.smallest.values()), min(shape[0] for shape in self.largest.values())

    def takes(self, shapes: Shapes) -> bool:
        """Whether inputs are within the bounds in all but their batch."""
        return all(
            len(shape) == len(self.best[name])
            and all(
                low <= size <= high
                for low, size, high in zip(self.smallest[name][1:], shape[1:], self.largest[name][1:], strict=True)
            )
            for name, shape in shapes.items()
        )

    def distance(self, shapes: Shapes, batch: int) -> float:
        """How far inputs of a batch are from what the profile is fastest at: 0 for the same, else by their ratio."""
        return sum(
            abs(math.log(size / best))
            for name, shape in shapes.items()
            for size, best in zip((batch, *shape[1:]), self.best[name], strict=True)
        )


@dataclass(frozen=True)
class Part:
    """Rows of a batch that run together."""

    profile: Profile
    start: int
    rows: int
    computed: int
    """As ``rows``, or the profile's smallest batch if that is more: the last row is then repeated."""


def parts_of(profiles: Sequence[Profile], shapes: Shapes) -> list[Part]:
    """How inputs run: in parts of the largest batch, and the rest, each by the profile whose best shape is nearest.

    Args:
        profiles: of the engine.
        shapes: of the inputs.

    Raises:
        InputError: if no profile has the shapes.
    """
    fitting = [profile for profile in profiles if profile.takes(shapes)]
    if not fitting:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        built = ", or ".join(
            ", ".join(f"{name} from {profile.smallest[name]} to {profile.largest[name]}" for name in profile.best)
            for profile in profiles
        )
        raise InputError(f"The engine was built for {built}, found {found}; build it again with a wider --shape.")
    batch, most = next(iter(shapes.values()))[0], max(profile.batches[1] for profile in fitting)
    return [_part(fitting, shapes, start, min(most, batch - start)) for start in range(0, batch, most)]


def _part(profiles: Sequence[Profile], shapes: Shapes, start: int, rows: int) -> Part:
    def cost(profile: Profile) -> tuple[int, float]:
        """Rows that are computed for nobody, then the distance."""
        computed = max(rows, profile.batches[0])
        return computed - rows, profile.distance(shapes, computed)

    profile = min((profile for profile in profiles if rows <= profile.batches[1]), key=cost)
    return Part(profile, start, rows, max(rows, profile.batches[0]))
