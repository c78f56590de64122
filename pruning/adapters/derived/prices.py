"""What every tensor costs per token of text."""

from __future__ import annotations

from collections.abc import Iterable

from prunepolicy.pruning.adapters.derived.described import Described
from prunepolicy.pruning.adapters.derived.paths import joined, number
from prunepolicy.pruning.adapters.derived.settings_by_name import EXPERTS, TOP_K
from prunepolicy.pruning.adapters.transformer import ONCE_PER_INPUT
from prunepolicy.pruning.units import TensorSpec, UnitGroup


class Prices:
    """Prices tensors of a network: 2 operations per matrix entry and token, none for look-ups.

    Args:
        groups: of its units; whatever number of experts stays, tokens are spread over them.
    """

    def __init__(self, found: Described, groups: Iterable[UnitGroup]) -> None:
        self.network = found.network
        self.routers = [group for group in groups if group.kind == "expert"]
        self.visited, self.experts = (
            next((n for key in keys if (n := number(found.config, joined(found.part, key)))), 0)
            for keys in (TOP_K, EXPERTS)
        )
        # Where several networks are joined, text passes the one around the stack, and the head.
        around = found.stack.running.rstrip(".").rpartition(".")[0] if found.stack else ""
        self.text = around if found.part else ""

    def spec(self, name: str, shape: tuple[int, ...]) -> TensorSpec:
        """Return shape and price of a tensor."""
        passes, router = self._passes(name, shape), self._router(name)
        return TensorSpec(
            shape,
            2.0 * passes * (router.size if router else 1),
            average_over=router.name if router else None,
            is_parameter=name not in self.network.buffers,
        )

    def _router(self, name: str) -> UnitGroup | None:
        """Return the group of the experts that a tensor belongs to, each or all of them."""
        for group in self.routers:
            if group.prefix and name.startswith(group.prefix):
                return group
        stack = self.network.running.get(name, "").rpartition(".")[0]
        return next((group for group in self.routers if group.gate and group.gate.also == (stack,)), None)

    def _passes(self, name: str, shape: tuple[int, ...]) -> float:
        """Return how many tokens pass through every entry, per token of text."""
        network = self.network
        if len(shape) < 2 or name in network.buffers or any(part in name for part in ONCE_PER_INPUT):
            return 0.0
        if name in network.tables:
            return float(name == network.embedding and network.head is None)
        running = network.running.get(name, name)
        if self.text and name != network.head and not running.startswith(self.text):
            return 0.0
        stacked = name not in network.running or self._router(name) or len(shape) == 3
        return self.visited / self.experts if stacked and self.experts and self.visited else 1.0
