"""What the rest of the project asks of an architecture; the only code that knows one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGraph

if TYPE_CHECKING:
    import torch
    from torch import nn

Config = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Vocabulary:
    """Names of the tensors that have a row per token; None for those that a checkpoint doesn't hold.

    Attributes:
        embedding: turns tokens into hidden states.
        head: turns hidden states into tokens.
        needs_head: the network has a head, so that one must be stored unless the embedding is it.
        biases: of the head.
    """

    embedding: str | None = None
    head: str | None = None
    needs_head: bool = False
    biases: tuple[str, ...] = ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(filter(None, (self.embedding, self.head, *self.biases)))


class ModelAdapter(ABC):
    """Answers about one family of architectures.

    Attributes:
        model_types: the values of `model_type` in `config.json` that belong to the family.
        task: `causal` (writes text), `encoder` (reads text) or `vision` (reads images).
        auto_class: the transformers class that loads the model by its configuration.
        bias_key: configuration key that gives the FFN's last projection a bias, where the family
            has such a switch (bias compensation needs it).
        carries: what every folder of the family carries, file name to source: the code that runs it,
            where transformers has none.
        notice: a sentence to print before pruning, where little is known about the architecture.
    """

    model_types: tuple[str, ...]
    task: str = "causal"
    auto_class: str = "AutoModelForCausalLM"
    bias_key: str | None = None
    carries: Mapping[str, Path] = MappingProxyType({})
    notice: str | None = None

    def for_config(self, config: Config) -> Self:
        """Return this adapter, fit to load what `config` describes (some families have several heads)."""
        return self

    def ties(self, config: Config) -> bool:
        """Return whether `config` says that token embedding and head are one matrix."""
        return False

    def vocabulary(self, shapes: Shapes) -> Vocabulary:
        """Return which tensors have a row per token."""
        return Vocabulary()

    def tokens(self, config: Config) -> int:
        """Return how many tokens the model knows."""
        return int(config["vocab_size"])

    def reads(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the keyword inputs with which the model reads tokens."""
        return {"input_ids": tokens}

    @abstractmethod
    def units(self, config: Config, shapes: Shapes) -> UnitGraph:
        """Build the unit graph from the configuration and the tensors' shapes."""

    @abstractmethod
    def edit_config(self, config: Config, graph: UnitGraph, plan: Plan) -> Config:
        """Return a copy of `config` that describes the network after `plan`."""

    @abstractmethod
    def tiny(self) -> Config:
        """Return the configuration of a tiny network of this family, for the contract tests."""

    def build(self, config: Config) -> nn.Module:
        """Return a network of this family with random weights."""
        import transformers

        settings = transformers.AutoConfig.for_model(**config)
        model: nn.Module = getattr(transformers, self.auto_class).from_config(settings)
        return model

    def build_on_meta(self, config: Config) -> nn.Module:
        """Return a network of this family that has shapes, but no weights."""
        import torch

        with torch.device("meta"):
            return self.build(config)

    def load(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        """Load `folder` as its users will, in evaluation mode.

        Raises:
            BadCheckpointError: when it doesn't load, or a weight is missing or of another shape.
        """
        from prunepolicy.pruning.io.transformers_loading import load_folder

        return load_folder(folder, self.auto_class, dtype)

    def stored_names(self, config: Config) -> dict[str, str]:
        """Return the checkpoint's names of the running model's tensors; those it stacks have none."""
        return {name: name for name in self.build_on_meta(config).state_dict()}

    def shapes(self, config: Config) -> dict[str, tuple[int, ...]]:
        """Return the checkpoint's tensor names and shapes, built without weights.

        Tied tensors are listed once.
        """
        model = self.build_on_meta(config)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        tied = getattr(model, "all_tied_weights_keys", None) or {}
        return {name: shape for name, shape in shapes.items() if name not in tied}


def require(config: Config, key: str) -> int:
    """Return the positive integer at `key`, or raise `BadCheckpointError` that names the key."""
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadCheckpointError(f"config.json: {key!r} must be a positive integer; found {value!r}.")
    return value


def layer_root(shapes: Shapes, marker: str) -> str:
    """Return what stands before `marker` ("layers.") in the checkpoint's tensor names.

    Checkpoints of base models lack the prefix that those of whole models have.

    Raises:
        BadCheckpointError: when no tensor belongs to a first layer.
    """
    first = f"{marker}0."
    for name in shapes:
        if name.startswith(first) or f".{first}" in name:
            return name[: name.index(first)]
    raise BadCheckpointError(f"No tensor of a first layer ({first}...) is in the checkpoint.")
