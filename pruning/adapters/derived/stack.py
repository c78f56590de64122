"""The stack of layers that a configuration counts, in the checkpoint's names and in the running model's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.derived.network import Network
from prunepolicy.pruning.adapters.derived.paths import joined, number

DEPTHS = (
    "num_hidden_layers",
    "n_layer",
    "num_layers",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
    "depth",
)
"""What configurations call the number of layers."""


@dataclass(frozen=True)
class Stack:
    """A list of layers.

    Attributes:
        key: path of the number of layers.
        prefix: what precedes a layer's number in the checkpoint.
        running: the same in the running model.
    """

    key: str
    depth: int
    prefix: str
    running: str


def text_stack(network: Network, config: Config, part: str) -> Stack | None:
    """Return the only stack of the text network, which `part` of the configuration describes."""
    inside = _text_network(network) if part else ""
    found = [
        stack
        for key in DEPTHS
        for stack in stacks(network, config, joined(part, key))
        if stack.running.startswith(inside)
    ]
    return found[0] if len(found) == 1 else None


def _text_network(network: Network) -> str:
    """Return what the names of the network that reads text start with, among those that are joined."""
    text = network.settings.get_text_config(decoder=True)
    modules = network.model.named_modules()
    return next((name for name, module in modules if getattr(module, "config", None) is text), "")


def stacks(network: Network, config: Config, key: str) -> Iterator[Stack]:
    """Yield the lists of as many layers as the number at `key` says."""
    depth = number(config, key)
    for running, module in network.model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            prefix = _stored_prefix(network, running)
            if prefix:
                yield Stack(key, depth, prefix, f"{running}.")


def _stored_prefix(network: Network, running: str) -> str:
    """Return what checkpoints put before the numbers of the list that runs as `running`."""
    for stored, name in network.running.items():
        if name.startswith(f"{running}.0."):
            inside = name.removeprefix(f"{running}.0")
            if stored.endswith(f".0{inside}"):
                return stored.removesuffix(f"0{inside}")
            before, marker, _ = stored.partition(".0.")
            return f"{before}." if marker else ""
    return ""
