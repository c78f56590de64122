"""Architectures no adapter knows: whatever is a stack of equal layers can at least lose layers."""

from __future__ import annotations

from collections import defaultdict
from typing import Self

from prunepolicy.pruning.adapters.base import Config, Shapes
from prunepolicy.pruning.adapters.transformer import TransformerAdapter

LAYERS_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
TABLES = ("embed_tokens.", "embed_in.", "wte.", "wpe.", "embeddings.")


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
        """Return this adapter, set to load the class that the checkpoint was saved from."""
        adapter = super().for_config(config)
        if adapter.auto_class == "AutoModelForImageClassification":
            adapter.task = "vision"
        return adapter

    def layer_cache(self, config: Config) -> int:
        """Return the KV-cache entries of one layer per token; 0 where the configuration has own words."""
        heads = int(config.get("num_attention_heads") or 0)
        kv_heads = int(config.get("num_key_value_heads") or heads)
        hidden = int(config.get("hidden_size") or 0)
        return 2 * kv_heads * int(config.get("head_dim") or hidden // max(heads, 1))

    def tiny(self) -> Config:
        """Refuse: nobody can say what a tiny network of an unknown architecture is."""
        raise NotImplementedError(self.notice)


def layer_only_adapter(config: Config, shapes: Shapes) -> LayerOnlyAdapter | None:
    """Return an adapter that drops layers, where `config` and `shapes` show one stack of equal layers."""
    import transformers

    if config.get("model_type") not in transformers.CONFIG_MAPPING:
        return None
    stacks = equal_stacks(shapes)
    for key in LAYERS_KEYS:
        fitting = [prefix for prefix, depth in stacks.items() if depth == config.get(key)]
        if len(fitting) == 1:
            return LayerOnlyAdapter(config, shapes, fitting[0], key)
    return None


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
