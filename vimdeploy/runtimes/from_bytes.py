"""A model that takes normalised pictures as if it took bytes, to be compared with one that does."""

from __future__ import annotations

from collections.abc import Mapping

from vimdeploy.model_info import ModelInfo
from vimdeploy.preprocess import FloatArray, normalised
from vimdeploy.runtimes.base import Array, Arrays, Session, Stages


def as_other(session: Session, other: ModelInfo) -> Session:
    """A session that takes bytes if another model does, to be given the same inputs."""
    return FromBytes(session) if other.takes_bytes and not session.info.takes_bytes else session


class FromBytes(Session):
    """Another session, which is given pictures as ``preprocess`` normalises them."""

    def __init__(self, session: Session) -> None:
        """Take bytes for a session.

        Raises:
            ConfigError: if its model takes no pictures by a recipe, or bytes already.
        """
        self._session, self.info = session, session.info.with_bytes()
        self.device, self.operators = session.device, session.operators

    @property
    def description(self) -> str:
        """That of the other session."""
        return self._session.description

    def open_stages(self) -> Stages:
        """The inner values of the other session."""
        return _StagesFromBytes(self._session.open_stages(), self.info)

    def close(self) -> None:
        """Close the other session."""
        self._session.close()

    def _run(self, inputs: Arrays) -> Arrays:
        return self._session.run(_normalised(inputs, self.info))


class _StagesFromBytes(Stages):
    """The inner values of a model that takes normalised pictures."""

    def __init__(self, stages: Stages, info: ModelInfo) -> None:
        self._stages, self._info, self.names = stages, info, stages.names

    def values(
        self, inputs: Mapping[str, Array], chosen: Mapping[str, FloatArray] | None = None
    ) -> Mapping[str, FloatArray]:
        return self._stages.values(_normalised(inputs, self._info), chosen)

    def values_apart(self, inputs: Mapping[str, Array], fed: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
        return self._stages.values_apart(_normalised(inputs, self._info), fed)


def _normalised(inputs: Mapping[str, Array], info: ModelInfo) -> Arrays:
    assert info.picture is not None  # with_bytes refuses models without
    return {**inputs, info.picture.name: normalised(inputs[info.picture.name], info.recipe)}
