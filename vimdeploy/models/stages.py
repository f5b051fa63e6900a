"""The steps of a network whose values can be compared: what each is called, where it is found, what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from vimdeploy.errors import ConfigError
from vimdeploy.text import reason_of

STEPS = "steps"
"""Where the config of a model that somebody brings has the steps of its file that can be compared, in their order."""
MODULE = "module"
"""The kind of a stage that is what a module of such a model gives."""
ROOT = "model."
"""What the names of such a model's own parameters and modules begin with in the module that is traced."""
GROUP_AXES = {"scan": 1, "conv1d": 0}
"""Where what our operators give has the groups or directions, by the kind of the stage."""


@dataclass(frozen=True)
class CallPart:
    """One group, or direction, of what an operator node gives, as a call in PyTorch gives it."""

    number: int
    """The call's, among those of our operators in one run, from 0."""
    group: int
    """Which of the call's groups it is."""
    is_flipped: bool = False
    """Whether the call has the tokens last to first, and the node first to last."""


@dataclass(frozen=True)
class OperatorCall:
    """An operator node of a file, and the calls in PyTorch that it computes: one, or several at once."""

    node: str
    """The name of the node in the file."""
    value: str
    """The name of what it gives."""
    kind: str
    """``scan`` or ``conv1d``."""
    parts: tuple[CallPart, ...]
    """One for each of its groups."""

    @property
    def group_axis(self) -> int:
        """Where its value has the groups, and those of its calls too."""
        return GROUP_AXES[self.kind]


@dataclass(frozen=True)
class ModuleOutput:
    """A value of a file that is what a module of somebody's model gives."""

    module: str
    """The module's path: ``layers.3.mixer``."""
    value: str
    """The value's name in the file."""


Step = OperatorCall | ModuleOutput


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
    def is_foreign(self) -> bool:
        """Whether it is a step of a model that somebody brings."""
        return self.call is not None or self.kind == MODULE

    @property
    def title(self) -> str:
        """For people: ``Block 13, in_proj``; the node's or the module's name in a model that somebody brings."""
        if self.is_foreign:
            return self.name
        return self.kind if self.block is None else f"Block {self.block}, {self.kind}"


def config_of_steps(steps: Sequence[Step]) -> dict[str, Any]:
    """The config of a model that somebody brings, which remembers the steps."""
    return {STEPS: [_written(step) for step in steps]}


def _written(step: Step) -> dict[str, Any]:
    if isinstance(step, ModuleOutput):
        return asdict(step)
    return {**asdict(step), "parts": [list(astuple(part)) for part in step.parts]}


def stages_of_steps(config: Mapping[str, Any]) -> tuple[StageSpec, ...]:
    """The steps of a model that somebody brings, as far as its file remembers them; each counts as a block.

    Raises:
        ConfigError: if the config is damaged.
    """
    try:
        steps = [_read(step) for step in config.get(STEPS, [])]
    except (KeyError, StopIteration, TypeError, ValueError) as error:
        raise ConfigError(f"what the file says of its operator nodes is damaged ({reason_of(error)})") from error
    return tuple(_stage(step, block) for block, step in enumerate(steps))


def _read(step: Mapping[str, Any]) -> Step:
    if "module" in step:
        return ModuleOutput(str(step["module"]), str(step["value"]))
    return OperatorCall(
        str(step["node"]),
        str(step["value"]),
        next(kind for kind in GROUP_AXES if kind == step["kind"]),
        tuple(CallPart(int(number), int(group), bool(flipped)) for number, group, flipped in step["parts"]),
    )


def _stage(step: Step, block: int) -> StageSpec:
    if isinstance(step, ModuleOutput):
        return StageSpec(step.module, MODULE, block, 1, f"{ROOT}{step.module}", step.value, batch_axis=None)
    return StageSpec(step.node, step.kind, block, 1, "", step.value, batch_axis=None, call=step)
