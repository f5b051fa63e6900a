"""The steps of a network whose values can be compared: what each is called, where it is found, what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vimdeploy.errors import ConfigError
from vimdeploy.text import reason_of

CALLS = "calls"
"""Where the config of a model that somebody brings has its ``OperatorCall``s."""


@dataclass(frozen=True)
class OperatorCall:
    """An operator node of a file, and the call in PyTorch that it is."""

    node: str
    """The name of the node in the file."""
    value: str
    """The name of what it gives."""
    kind: str
    """``scan`` or ``conv1d``."""
    number: int
    """Of the call, among those of our operators in one run, from 0."""
    flipped: tuple[int, ...] = ()
    """The groups, or directions, whose tokens the call has last to first, and the node first to last."""

    @property
    def group_axis(self) -> int:
        """Where its value has the groups."""
        return 1 if self.kind == "scan" else 0


@dataclass(frozen=True)
class StoredWeight:
    """A constant that a node of our exports reads."""

    node: str
    """The name of the node in the file."""
    input: int
    """Which of its inputs the constant is."""
    source: str
    """Its name among ``stored_tensors`` of the PyTorch model."""
    transposed: bool = False
    """Whether the file has a matrix the other way round: Linear layers become MatMul nodes."""


@dataclass(frozen=True)
class StageSpec:
    """One step of a network: all that anybody has to know of it."""

    name: str
    """After the module: ``layers.13.mixer.in_proj``; ``layers.13`` is the residual after the block."""
    kind: str
    """The step within its block: ``norm``, ``in_proj`` ... ``residual``; elsewhere the name."""
    block: int | None
    """None before and after the blocks."""
    terms: int
    """How many products one of its values sums up; of the residual, the blocks so far."""
    module: str
    """The PyTorch module that gives its value."""
    value: str
    """The value's name in our exports."""
    weights: tuple[StoredWeight, ...] = ()
    batch_axis: int | None = 0
    """Where its value has the batch; None if it has another row for each box of a picture."""
    float32_in: tuple[str, ...] = ()
    """The precisions whose files compute it in float32 all the same."""
    before_blocks: bool = False
    is_choice: bool = False
    """Whether its value is a list of rows (B, N, D) that are chosen of many, as detections are: a rounding may bring
    another one among them, or change their order."""
    moves_boxes: bool = False
    """Whether boxes are moved by its value. What is sampled in a box that a rounding moved is another value, perhaps by
    all that it is, and says nothing of the stage that samples it."""
    more_units: float = 0.0
    """Rounding units of float32 that its band has beyond those of its sum."""
    call: OperatorCall | None = None
    """In a module that somebody brings, the call of our operators that gives its value, in place of a module."""

    @property
    def is_handed_on(self) -> bool:
        """Whether what stands behind it is always computed from the reference's value of it."""
        return self.is_choice or self.moves_boxes

    @property
    def title(self) -> str:
        """For people: ``Block 13, in_proj``; the node's name in a model that somebody brings."""
        if self.call is not None:
            return self.name
        return self.kind if self.block is None else f"Block {self.block}, {self.kind}"


def config_of_calls(calls: Sequence[OperatorCall]) -> dict[str, Any]:
    """The config of a model that somebody brings, which remembers the calls."""
    return {CALLS: [{**asdict(call), "flipped": list(call.flipped)} for call in calls]} if calls else {}


def stages_of_calls(config: Mapping[str, Any]) -> tuple[StageSpec, ...]:
    """The operator nodes of a model that somebody brings, as far as they are single calls; each counts as a block.

    Raises:
        ConfigError: if the config is damaged.
    """
    try:
        calls = [
            OperatorCall(
                str(call["node"]),
                str(call["value"]),
                {"scan": "scan", "conv1d": "conv1d"}[call["kind"]],
                int(call["number"]),
                tuple(map(int, call["flipped"])),
            )
            for call in config.get(CALLS, [])
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"what the file says of its operator nodes is damaged ({reason_of(error)})") from error
    return tuple(
        StageSpec(
            call.node,
            call.kind,
            block,
            terms=1,
            module="",
            value=call.value,
            batch_axis=None,
            call=call,
        )
        for block, call in enumerate(calls)
    )
