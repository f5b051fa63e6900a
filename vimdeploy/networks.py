"""Variant, checkpoint and task -> a PyTorch network, and what its file is to say of itself; and back from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from vimdeploy.errors import CheckpointError, ConfigError, ModelFileError, require
from vimdeploy.model_info import BATCH, HEIGHT, WIDTH, FromCheckpoint, FromSeed, ModelInfo, SizeRange, TensorSpec
from vimdeploy.models import ARCHITECTURES, BACKBONE, architecture_of, strict_weights
from vimdeploy.models.architecture import Architecture, CheckpointModel
from vimdeploy.models.stages import StageSpec, stages_of_steps
from vimdeploy.models.variant import Variant
from vimdeploy.recipe import Recipe
from vimdeploy.tasks import TASKS, task_by_name, task_of
from vimdeploy.tasks.base import Task
from vimdeploy.text import shortened

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vimdeploy.checkpoint import Checkpoint
    from vimdeploy.models.backbone import Backbone

INPUT = "images"


@dataclass(frozen=True)
class AnySize:
    """Pictures of every size between two bounds, in steps of the stride."""

    least: tuple[int, int] | None = None
    """Height and width in pixels; None: the fewest patches that the task takes, two for most."""
    most: tuple[int, int] | None = None
    """Height and width in pixels; None: as large as memory allows."""


class Network(NamedTuple):
    """A PyTorch network with its weights."""

    module: nn.Module
    info: ModelInfo
    passed_over: tuple[str, ...] = ()
    """Tensors of the checkpoint that the task has no use for."""


def network_of_variant(
    variant: Variant,
    checkpoint: Checkpoint | int,
    task: str = "classification",
    image_size: tuple[int, int] | AnySize | None = None,
    blocks: Sequence[int] = (),
    ema: bool = False,
    neck: str = "",
) -> Network:
    """Make the network that a file is to hold.

    Args:
        variant: the model.
        checkpoint: its weights, or the seed of random ones.
        task: one of ``TASKS``.
        image_size: height and width in pixels, or a range; None stands for the size that the weights were trained at.
        blocks: whose maps are wanted too, if the task has such outputs.
        ema: whether the checkpoint's tensors are the averaged ones.
        neck: of a pyramid; empty: the checkpoint's.

    Raises:
        CheckpointError: if the checkpoint holds another model.
        ConfigError: for a size, a task or blocks that the model cannot have.
        MissingPackageError: without torch.
    """
    require("torch", "export")
    architecture, job = ARCHITECTURES[variant.architecture], task_by_name(task)
    held = None if isinstance(checkpoint, int) else _held(architecture, checkpoint, variant, job)
    usual = architecture.dense(variant.config) if job.dense else variant.config
    config = usual if held is None else held.config
    numbers = job.numbers(config, {} if held is None else _shapes(held.tensors), neck)
    named = () if isinstance(checkpoint, int) else checkpoint.class_names
    labels = (variant.labels or named) if job.dense else variant.class_names(config.num_classes)
    sizes, dims = _sizes(config, image_size, job.least_grid(config, numbers))
    grid = _grid(config, dims)
    info = ModelInfo(
        name=variant.name,
        inputs=(TensorSpec(INPUT, (BATCH, config.in_channels, *dims)), *job.more_inputs),
        outputs=job.outputs(config, grid, blocks, numbers),
        task=job.name,
        sizes=sizes,
        architecture=architecture.name,
        config=_numbers(config),
        head=numbers,
        recipe=_recipe(variant.recipe, job),
        labels=labels if job.has_classes else (),
        origin=FromSeed(checkpoint) if isinstance(checkpoint, int) else FromCheckpoint(checkpoint.sha256, ema),
    )
    job.check(info)
    return _network(architecture, job, config, info, held)


def _recipe(recipe: Recipe, task: Task) -> Recipe:
    """The recipe of a classifier's variant for a task."""
    return replace(recipe, crop=1.0, interpolation=task.interpolation, fit=task.fit) if task.dense else recipe


def network_of_info(info: ModelInfo, checkpoint: Checkpoint | None) -> Network:
    """Make the network again that a file was exported from, in float32; it takes normalised pictures.

    Args:
        info: of the file.
        checkpoint: its weights; None for a file whose weights came from a seed.

    Raises:
        CheckpointError: if the checkpoint holds another model.
        ConfigError: if the file does not say what model it is, or needs a checkpoint.
        ModelFileError: if what it says cannot be.
        MissingPackageError: without torch.
    """
    require("torch", "export")
    architecture = architecture_of(info)
    if architecture is None or not info.task:
        raise ConfigError(
            f"{info.name} is a model that vimdeploy did not make; compare it with --against FILE or --model "
            "FILE.py:FUNCTION."
        )
    config, held = _config_of(architecture, info), None
    if checkpoint is not None:
        held = _held(architecture, checkpoint, Variant(info.name, architecture.name, config), task_by_name(info.task))
        if held.config.replace(num_classes=config.num_classes) != config:
            raise CheckpointError(
                f"{checkpoint.path} is not the checkpoint of {info.name}: wanted {_numbers(config)}, found "
                f"{_numbers(held.config)}."
            )
    elif not isinstance(info.origin, FromSeed):
        raise ConfigError(f"The weights of {info.name} came from a checkpoint: give it with --checkpoint FILE.")
    info = replace(info.with_floats(), precision="fp32")
    return _network(architecture, task_by_name(info.task), config, info, held)


def random_weights(architecture: Architecture, task: Task, config: Any, info: ModelInfo, seed: int) -> nn.Module:
    """A network as it is before training, at the trained image size, the same for the same seed.

    The backbone is that of the classifier of the same seed, whatever the task.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = task_by_name("classification").head(architecture.backbone(config), info)
        architecture.reset_parameters(classifier)
        is_classifier = task.name == "classification"
        network = classifier if is_classifier else task.head(_backbone_in(classifier), info)
    return network.eval()


def released_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A classifier's tensors under the names of hustvl/Vim's checkpoints, as a training script saves them."""
    return {name.removeprefix("backbone."): tensor for name, tensor in module.state_dict().items()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _held(architecture: Architecture, checkpoint: Checkpoint, variant: Variant, task: Task) -> CheckpointModel:
    """The model that a checkpoint holds, and all that is passed over in the file.

    Raises:
        CheckpointError: if it holds another one, or one for another task.
    """
    held = architecture.from_checkpoint(checkpoint, variant)
    lacking = _lacking(task, held.tensors)
    if lacking:
        fitting = [other for other in map(task_by_name, TASKS) if not _lacking(other, held.tensors)]
        best = max(fitting, key=lambda other: len(other.parts))
        backbone = " --task features takes its backbone alone." if best.parts else ""
        raise CheckpointError(
            f"The checkpoint is for --task {best.name}: it has no {' and no '.join(lacking)}, which --task {task.name} "
            f"wants.{backbone}"
        )
    return held._replace(passed_over=(*held.passed_over, *checkpoint.passed_over))


def _lacking(task: Task, tensors: Mapping[str, Tensor]) -> list[str]:
    """What of a task's networks has no tensor, for people."""
    return [part for start, part in task.parts.items() if not any(name.startswith(start) for name in tensors)]


def _backbone_in(network: nn.Module) -> Backbone:
    backbone: Backbone = network.get_submodule("backbone")  # type: ignore[assignment]
    return backbone


def _network(
    architecture: Architecture, task: Task, config: Any, info: ModelInfo, held: CheckpointModel | None
) -> Network:
    """The network with a checkpoint's tensors, or with random ones from the info's seed, at the info's image size."""
    import torch

    height, width = info.image_size
    any_size = isinstance(height, str)
    at = config if any_size else config.replace(image_size=(height, width))
    if held is None:
        assert isinstance(info.origin, FromSeed)
        trained = random_weights(architecture, task, config, info, info.origin.seed)
        held = CheckpointModel(config, trained.state_dict())
    with torch.device("meta"):  # the weights come from elsewhere: no memory, and no random numbers of the caller's
        like = task.head(architecture.backbone(config), info).state_dict()
        network = task.head(architecture.backbone(at, any_size), info)
    passed_over = [held.names.get(name, name) for name in strict_weights(_shapes(like), _shapes(held.tensors))]
    used = {name: _usable(name.removeprefix(BACKBONE), held.tensors[name], like[name]) for name in like}
    if at.image_size != config.image_size:
        used = architecture.at_image_size(used, config, at.image_size)
    network.load_state_dict(used, assign=True)
    return Network(network.eval(), info, (*passed_over, *held.passed_over))


def _usable(name: str, tensor: Tensor, like: Tensor) -> Tensor:
    """A copy of a checkpoint's tensor in the network's type.

    Raises:
        CheckpointError: if its values are no finite real numbers, or not there.
    """
    import torch

    kind = "without values" if tensor.is_meta else "sparse" if tensor.layout != torch.strided else str(tensor.dtype)
    if kind not in ("torch.float16", "torch.bfloat16", "torch.float32", "torch.float64"):
        raise CheckpointError(
            f"Wanted weights of float16, bfloat16, float32 or float64; the checkpoint's {shortened(name, 60)} is "
            f"{kind.removeprefix('torch.')}. Save the weights in float32 (tensor.float())."
        )
    used = tensor.detach().to(like.dtype, copy=True).contiguous()
    if not torch.isfinite(used).all():
        raise CheckpointError(
            f"The checkpoint's {shortened(name, 60)} has values that are not finite in float32; take an earlier "
            "checkpoint of the training."
        )
    return used


def _config_of(architecture: Architecture, info: ModelInfo) -> Any:
    """The architecture's config of a file."""
    try:
        return architecture.config(info.config)
    except ConfigError as error:
        raise ModelFileError(f"The config of {info.name} is damaged ({error}); export it again.") from error


def _sizes(
    config: Any, image_size: tuple[int, int] | AnySize | None, least_grid: int
) -> tuple[dict[str, SizeRange], tuple[int | str, int | str]]:
    """The ranges of the free dimensions, and the dimensions of a picture."""
    if not isinstance(image_size, AnySize):
        return {}, config.replace(image_size=image_size or config.image_size).image_size
    smallest = config.patch_size + (least_grid - 1) * config.stride
    least = image_size.least or (smallest, smallest)
    sizes = {}
    for size in (least, image_size.most or least):
        config.replace(image_size=size)  # refuses what patches do not divide
    for axis, word in enumerate((HEIGHT, WIDTH)):
        most = image_size.most[axis] if image_size.most else None
        if least[axis] < smallest or (most is not None and most <= least[axis]):
            bounds = f"{least[axis]}" + (f", {most}" if most is not None else "")
            raise ConfigError(f"The bounds of the image {word} must ascend from {smallest} on, found {bounds}.")
        exact = SizeRange(least[axis], most, config.stride)
        sizes[word] = replace(exact, typical=exact.nearest(config.image_size[axis]))
    return sizes, (HEIGHT, WIDTH)


def _grid(config: Any, dims: tuple[int | str, int | str]) -> tuple[int | str, int | str]:
    """Patches down and across; words if the picture's size is free."""
    height, width = dims
    if isinstance(height, str) or isinstance(width, str):
        return ("rows", "columns")
    rows, columns = config.replace(image_size=(height, width)).grid
    return rows, columns


def _numbers(config: Any) -> dict[str, Any]:
    """A config as plain values."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(config).items()}


def stages_of(info: ModelInfo) -> tuple[StageSpec, ...]:
    """The steps of a file's network whose values can be compared, in the order of the network; needs no torch.

    Raises:
        ConfigError: if nobody has listed those of the model.
        ModelFileError: if the file describes a model that cannot be.
    """
    architecture, task = architecture_of(info), task_of(info)
    stages = stages_of_steps(info.config) if architecture is None else ()
    if architecture is not None and task is not None:
        any_size = info.picture is not None and isinstance(info.image_size[0], str)
        stages = architecture.stages(_config_of(architecture, info), any_size)
        stages += task.stages(info) if stages else ()
    if not stages:
        raise ConfigError(f"vimdeploy does not know the stages of {info.name}")
    return stages
