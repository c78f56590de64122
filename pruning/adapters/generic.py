"""Architectures no adapter knows: whatever is a stack of equal layers can at least lose layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from prunepolicy.pruning.adapters.base import Config, Shapes
from prunepolicy.pruning.adapters.transformer import TransformerAdapter, named_class
from prunepolicy.pruning.errors import BadCheckpointError, UnsupportedModelError
from prunepolicy.pruning.units import UnitGroup

if TYPE_CHECKING:
    from torch import nn

LAYERS_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
TIME_FIRST = ("xlnet",)
"""Model types whose layers pass hidden states as (length, samples, width), which no gate expects."""

LAYERED = ("layers", "n_layer", "depth")
REPEATED = ("block", "expert", "stage", "num_")
"""Parts of the names of settings that count modules: those with weights of their own, and others."""
MOST = 4096
"""Modules of one kind, where no weights say how many there are."""

TABLES = ("embed_tokens.", "embed_in.", "wte.", "wpe.", "word_embeddings.", "embeddings.")


class LayerOnlyAdapter(TransformerAdapter):
    """Offers the layers of an unknown architecture, and nothing inside them.

    What a layer does may depend on its number in ways that only the library's code shows; the
    comparison with the masked original, which follows every cut, would bring that to light.

    Args:
        config: of the checkpoint.
        shapes: of its tensors.
        prefix: what precedes the layers' numbers in tensor names.
        layers_key: configuration key of their number.
    """

    def __init__(self, config: Config, shapes: Shapes, prefix: str, layers_key: str) -> None:
        model_type = str(config.get("model_type"))
        self.model_types = (model_type,)
        self.marker = prefix
        self.layers_key = layers_key
        self.tables = tuple(part for part in TABLES if any(part in name for name in shapes)) or TABLES
        self.ties_head = self.head not in shapes
        self.notice = (
            f"No adapter knows model type {model_type!r}; {config[layers_key]} equal layers were found under "
            f"{prefix!r}, which `--of layers` can drop. What is inside them stays."
        )

    def for_config(self, config: Config) -> Self:
        """Return this adapter, set to load the class that the checkpoint was saved from.

        Raises:
            UnsupportedModelError: when the library has no such class, or it reads what isn't served.
        """
        check_one_stack(config)
        adapter = super().for_config(config)
        network, depth = built(adapter, config), int(config[self.layers_key])
        adapter.task = task_of(network, config, adapter.task)
        adapter.running_layers = running_stack(network, self.marker, depth)
        check_shallower(adapter, config, network)
        return adapter

    def vocabulary_groups(self, config: Config, shapes: Shapes) -> Iterator[UnitGroup]:
        """Yield nothing: other parts than embedding and head may know the tokens."""
        yield from ()

    def layer_cache(self, config: Config) -> int:
        """Return the KV-cache entries of one layer per token; 0 where the configuration has own words."""
        heads = int(config.get("num_attention_heads") or 0)
        kv_heads = int(config.get("num_key_value_heads") or heads)
        hidden = int(config.get("hidden_size") or 0)
        return 2 * kv_heads * int(config.get("head_dim") or hidden // max(heads, 1))

    def tiny(self) -> Config:
        """Refuse: nobody can say what a tiny network of an unknown architecture is."""
        raise NotImplementedError(self.notice)


def layer_only_adapter(config: Config, shapes: Shapes) -> LayerOnlyAdapter:
    """Return an adapter that drops layers, where `config` and `shapes` show one stack of equal layers.

    Raises:
        UnsupportedModelError: for every other network; the sentence says why.
    """
    model_type, stacks = str(config.get("model_type")), equal_stacks(shapes)
    for key in LAYERS_KEYS:
        fitting = [prefix for prefix, depth in stacks.items() if depth == config.get(key)]
        if len(fitting) == 1:
            return LayerOnlyAdapter(config, shapes, fitting[0], key).for_config(config)
    raise UnsupportedModelError(
        f"No adapter knows model type {model_type!r}, and its layers are no single stack of equal ones that "
        "config.json counts, so that none can be dropped."
    )


def check_known(config: Config) -> None:
    """Raise `UnsupportedModelError` for types that the library lacks."""
    import transformers

    model_type, library = str(config.get("model_type")), f"transformers {transformers.__version__}"
    if model_type not in transformers.CONFIG_MAPPING:
        raise UnsupportedModelError(
            f"No adapter knows model type {model_type!r:.80}, nor does {library}; networks that come with "
            "code of their own aren't supported."
        )
    try:
        transformers.AutoConfig.for_model(**config)
    # The library trusts the configuration, so that anything may be raised.
    except Exception as error:
        raise BadCheckpointError(f"config.json is damaged: {error!r:.120} while reading it.") from error


def check_counts(config: Config, shapes: Shapes) -> None:
    """Raise `BadCheckpointError` for more layers or experts than weights; each would be built one by one."""
    longest = max((length for shape in shapes.values() for length in shape), default=MOST)
    most = dict.fromkeys(LAYERED, len(shapes) or MOST) | dict.fromkeys(REPEATED, longest)
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key, value in part.items():
            limit = min((limit for word, limit in most.items() if word in key), default=None)
            numbers = [n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)]
            if limit is not None and max(numbers, default=0) > limit:
                raise BadCheckpointError(
                    f"config.json says {key} = {value!r:.60}, but the weights hold no more than {limit:,}."
                )


def check_one_stack(config: Config) -> None:
    """Raise `UnsupportedModelError` for networks of several parts."""
    import transformers

    model_type, settings = str(config.get("model_type")), transformers.AutoConfig.for_model(**config)
    if model_type in TIME_FIRST:
        raise UnsupportedModelError(
            f"{model_type!r} orders what its layers read otherwise, which isn't supported."
        )
    if settings.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{model_type!r} is an encoder with a decoder; networks with one stack of layers are supported."
        )
    if any(isinstance(config.get(part), dict) for part in type(settings).sub_configs):
        text = settings.get_text_config().model_type
        raise UnsupportedModelError(
            f"{model_type!r} joins several networks, which isn't supported; a folder with one of them alone "
            f"may be ({text!r} is the one that handles text)."
        )


def built(adapter: TransformerAdapter, config: Config) -> nn.Module:
    """Return the network without weights, as the library would load it.

    Raises:
        UnsupportedModelError: when it builds another class than the checkpoint was saved from, or none.
    """
    named = named_class(config)
    try:
        network = adapter.build_on_meta(config)
    # The library trusts the configuration, so that anything may be raised.
    except Exception as error:
        raise UnsupportedModelError(
            f"transformers can't build {named or config.get('model_type')} from config.json: {error!r:.120}."
        ) from error
    if named and type(network).__name__ != named:
        raise UnsupportedModelError(
            f"The checkpoint is of class {named}, but {adapter.auto_class} loads {type(network).__name__}."
        )
    return network


def check_shallower(adapter: TransformerAdapter, config: Config, whole: nn.Module) -> None:
    """Raise `UnsupportedModelError` unless the library builds the same without the first layer."""
    kept = range(1, int(config[adapter.layers_key]))
    lists = {key: [value[i] for i in kept] for key, value in adapter.per_layer_lists(config).items()}
    stack = f"{adapter.running_layers}."
    try:
        network = adapter.build_on_meta({**config, adapter.layers_key: len(kept), **lists})
        same = _around(network, stack) == _around(whole, stack) and _depth(network, stack) == len(kept)
    # The library trusts the configuration, so that anything may be raised.
    except Exception:
        same = False
    if not same:
        raise UnsupportedModelError(
            f"No adapter knows model type {config.get('model_type')!r}, and transformers builds no such "
            "network without its first layer, so that none can be dropped."
        )


def _around(network: nn.Module, stack: str) -> dict[str, tuple[int, ...]]:
    """Return the parameters' shapes by name; those of the layers by their names inside a layer."""
    return {
        name.removeprefix(stack).partition(".")[2] if name.startswith(stack) else name: tuple(parameter.shape)
        for name, parameter in network.named_parameters()
    }


def _depth(network: nn.Module, stack: str) -> int:
    """Return the number of equal layers in a stack; 0 where they differ."""
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    return equal_stacks(shapes).get(stack, 0)


def task_of(network: Any, config: Config, written: str) -> str:
    """Return what the network does, by what it reads: `written` for text, `vision` for images.

    Raises:
        UnsupportedModelError: for other inputs.
    """
    reads = network.main_input_name
    if reads == "input_ids" and isinstance(config.get("vocab_size"), int):
        return written
    if reads == "pixel_values" and isinstance(config.get("image_size"), int):
        return "vision"
    raise UnsupportedModelError(
        f"{type(network).__name__} reads {reads!r}; supported are networks that read text (input_ids, with a "
        "vocab_size) or images of one size (pixel_values, with an image_size)."
    )


def running_stack(network: nn.Module, prefix: str, depth: int) -> str:
    """Return the name of the list of layers in the running model; checkpoints may call it otherwise."""
    from torch import nn

    lists = [name for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    lists = [name for name in lists if len(network.get_submodule(name)) == depth]  # type: ignore[arg-type]
    same = [name for name in lists if f"{name}." == prefix]
    if len(same or lists) != 1:
        raise UnsupportedModelError(
            f"The layers under {prefix!r} have no counterpart in the running {type(network).__name__}; none "
            "can be dropped."
        )
    return str((same or lists)[0])


def equal_stacks(shapes: Shapes) -> dict[str, int]:
    """Return prefix and depth of every numbered list whose members hold the same tensors."""
    stacks: dict[str, dict[int, dict[str, tuple[int, ...]]]] = defaultdict(lambda: defaultdict(dict))
    for name, shape in shapes.items():
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
        if place:
            prefix, inside = ".".join(parts[:place]) + ".", ".".join(parts[place + 1 :])
            stacks[prefix][int(parts[place])][inside] = shape
    return {
        prefix: len(members)
        for prefix, members in stacks.items()
        if sorted(members) == list(range(len(members)))
        and all(member == members[0] for member in members.values())
    }
