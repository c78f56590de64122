"""What transformers builds from a configuration: tensors as checkpoints name them, and running modules."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from prunepolicy.pruning.adapters.base import Config, Shapes
from prunepolicy.pruning.adapters.expert_gates import can_be_gated
from prunepolicy.pruning.errors import UnsupportedModelError

AUTO_CLASSES = (
    "AutoModelForImageTextToText",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForMaskedLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForPreTraining",
    "AutoModelForImageClassification",
    "AutoModel",
)
"""What loads a model, the most telling class first."""

WRITERS = ("AutoModelForImageTextToText", "AutoModelForCausalLM")


@dataclass(frozen=True)
class Network:
    """A network without weights.

    Attributes:
        stored: shapes of its tensors by the checkpoint's names; tied ones are listed once.
        running: the running model's names of those tensors that it doesn't stack.
        buffers: checkpoint's names of what is stored, but not trained.
        tables: checkpoint's names of what is read by index.
        embedding: of the table that tokens are looked up in.
        head: of the matrix that turns hidden states into tokens; None where the embedding is it.
    """

    model: nn.Module
    stored: Shapes
    running: Mapping[str, str]
    buffers: frozenset[str]
    tables: frozenset[str]
    embedding: str | None
    head: str | None

    def reader(self, tensor: str) -> nn.Module | None:
        """Return the running module whose weight `tensor` is; None for anything else."""
        name = self.running.get(tensor, "")
        return self.model.get_submodule(name.removesuffix(".weight")) if name.endswith(".weight") else None

    def stack_of(self, tensor: str) -> Any | None:
        """Return the running module of stacked experts whose last projection `tensor` is; else None."""
        module, _, weight = self.running.get(tensor, "").rpartition(".")
        found = self.model.get_submodule(module)
        return found if weight == "down_proj" and can_be_gated(found) else None

    @property
    def settings(self) -> Any:
        """The configuration as the library completed it."""
        return self.model.config


def loader_of(config: Config) -> str:
    """Return the transformers class that loads what `config` describes.

    Raises:
        UnsupportedModelError: when it is none that reads text or images.
    """
    import transformers

    model_type, named = str(config.get("model_type")), (config.get("architectures") or [None])[0]
    for auto_class in AUTO_CLASSES:
        builds = getattr(transformers, auto_class)._model_mapping._model_mapping.get(model_type)
        classes = builds if isinstance(builds, tuple) else (builds,)
        if builds and (named is None or named in classes):
            return auto_class
    raise UnsupportedModelError(
        f"transformers {transformers.__version__} has no class for text or images that loads "
        f"{named or model_type}."
    )


def network(config: Config, auto_class: str) -> Network:
    """Return the network of a configuration; whatever the library raises passes through."""
    return _network(_Asked(json.dumps(config, sort_keys=True), auto_class, config))


@dataclass(frozen=True)
class _Asked:
    """A configuration that is told apart from others by its text."""

    text: str
    auto_class: str
    config: Config = field(compare=False)


@functools.lru_cache(maxsize=16)
def _network(asked: _Asked) -> Network:
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    settings = transformers.AutoConfig.for_model(**copy.deepcopy(asked.config))
    with torch.device("meta"):
        model = getattr(transformers, asked.auto_class).from_config(settings)
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    running = {id(tensor): name for name, tensor in state.items()}
    stored = revert_weight_conversion(model, state)
    names = {name: running[id(tensor)] for name, tensor in stored.items() if id(tensor) in running}
    stored_as = {running: name for name, running in names.items()}
    parameters = [*model.named_parameters(remove_duplicate=False)]
    trained = {name for name, _ in parameters}
    weights = {id(weight): stored_as[name] for name, weight in parameters if name in stored_as}
    modules = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    embedding, head = (
        weights.get(id(_weight_of(end))) for end in (model.get_input_embeddings, model.get_output_embeddings)
    )
    return Network(
        model,
        {name: tuple(tensor.shape) for name, tensor in stored.items()},
        names,
        frozenset(name for name, other in names.items() if other not in trained),
        frozenset(weights[id(table.weight)] for table in modules if id(table.weight) in weights),
        embedding,
        None if head == embedding else head,
    )


def _weight_of(end: Callable[[], Any]) -> Any:
    """Return the weight of a network's embedding or head, where it has one that it tells."""
    try:
        return getattr(end(), "weight", None)
    except NotImplementedError:
        return None


def task_of(found: Network, auto_class: str) -> str:
    """Return what a network does: `causal` writes text, `encoder` reads it, `vision` reads images.

    Raises:
        UnsupportedModelError: for other inputs.
    """
    reads, settings = getattr(found.model, "main_input_name", None), found.settings
    if reads == "input_ids" and isinstance(getattr(settings.get_text_config(), "vocab_size", None), int):
        return "causal" if auto_class in WRITERS else "encoder"
    if reads == "pixel_values" and isinstance(getattr(settings, "image_size", None), int):
        return "vision"
    raise UnsupportedModelError(
        f"{type(found.model).__name__} reads {reads!r}; supported are networks that read text (input_ids, "
        "with a vocab_size) or images of one size (pixel_values, with an image_size)."
    )


def text_part(config: Config) -> str:
    """Return the path of the configuration of what reads text; '' where that is the whole."""
    import transformers

    settings = transformers.AutoConfig.for_model(**config)
    text = settings.get_text_config(decoder=True) if not settings.is_encoder_decoder else settings
    return next((key for key in settings.sub_configs if getattr(settings, key) is text), "")


def completed(config: Config) -> Config:
    """Return `config` with every setting that its class leaves to a default or a rule."""
    import transformers

    whole: Config = transformers.AutoConfig.for_model(**config).to_dict()
    return _without_types(whole | {"architectures": config.get("architectures")})


def _without_types(config: Config) -> Config:
    """Return `config` as JSON would have it, without number types, which say nothing of shapes."""
    return {
        str(key): _without_types(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in ("dtype", "torch_dtype", "quantization_config")
    }
