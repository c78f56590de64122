"""One multiplier per unit on the running model: 1 keeps, 0 removes, gradients are scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.adapters.expert_gates import gate_expert, gate_router
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.statistics.token_gate import only_tokens
from prunepolicy.pruning.units import VOCABULARY, Slice, UnitGraph, UnitGroup, written_by

Values = Mapping[str, Tensor]
"""Group name to multipliers, shape (units,) or (batch, units)."""


@contextmanager
def gates(model: nn.Module, graph: UnitGraph, values: Values) -> Iterator[None]:
    """Multiply what the units of `graph` write by `values` while the context lasts.

    With values of shape (batch, units), every sample of a batch has gates of its own, so that one
    backward pass yields the gradients of all samples.

    Raises:
        UnsupportedModelError: when the running model lacks a module that the graph names.
    """
    with ExitStack() as stack:
        for name, multipliers in values.items():
            group = graph[name]
            if group.gate is None:
                raise UnsupportedModelError(f"{name} can't be gated on a running model.")
            _ATTACH[group.gate.how](stack, model, group, multipliers)
        yield


def keep_values(graph: UnitGraph, plan: Plan, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Return the 0/1 multipliers that silence what `plan` removes, tokens aside."""
    values = {}
    for name in plan.with_all_tokens().keep:
        group = graph[name]
        mask = torch.zeros(group.size, dtype=dtype, device=device)
        mask[list(plan.kept(group))] = 1
        if not bool(mask.all()):
            values[name] = mask
    return values


@contextmanager
def masked(model: nn.Module, graph: UnitGraph, plan: Plan) -> Iterator[None]:
    """Run `model` as `plan` would leave it, without cutting anything.

    Where tokens go, it reads and answers with the numbers that those which stay will have.
    """
    weight = next(model.parameters())
    with ExitStack() as stack:
        stack.enter_context(gates(model, graph, keep_values(graph, plan, weight.dtype, weight.device)))
        if VOCABULARY in plan.keep:
            stack.enter_context(only_tokens(model, plan.keep[VOCABULARY]))
        yield


def find_module(model: nn.Module, name: str) -> nn.Module:
    """Return the module called `name`, whatever prefix model or checkpoint put before it.

    Raises:
        UnsupportedModelError: when none or several modules answer to the name.
    """
    with suppress(AttributeError):
        return model.get_submodule(name)
    found: dict[str, nn.Module] = dict(model.named_modules())
    hits = [path for path in found if path and (path.endswith(f".{name}") or name.endswith(f".{path}"))]
    # A short path such as `mlp` ends many names; the longest one is the module itself.
    longest = [path for path in hits if len(path) == max(map(len, hits))]
    if len(longest) != 1:
        raise UnsupportedModelError(f"The running model has no module {name!r}.")
    return found[longest[0]]


def units_of_entries(group: UnitGroup, part: Slice | None = None) -> Tensor:
    """Return, for every entry that the group's gate module reads, its unit (or -1).

    The result's length is one more than the last owned entry.

    Args:
        part: whose entries are meant; the first that reads the units, when None.
    """
    part = part or next(part for part in group.slices if part.consumer)
    entries = part.indices(torch.arange(group.size).numpy())
    owners = torch.full((int(entries.max()) + 1,), -1, dtype=torch.long)
    blocks, units, width = entries.shape
    numbers = torch.arange(units)[None, :, None].expand(blocks, units, width)
    owners[torch.from_numpy(entries).reshape(-1)] = numbers.reshape(-1)
    return owners


def spread(group: UnitGroup, multipliers: Tensor, features: int, part: Slice | None = None) -> Tensor:
    """Repeat (…, units) multipliers to (…, features) entries; entries nobody owns get 1."""
    owners = torch.full((features,), -1, dtype=torch.long)
    found = units_of_entries(group, part)
    owners[: len(found)] = found
    # Entry -1, which nobody owns, looks up the 1 that is put behind the multipliers.
    ones = torch.ones_like(multipliers[..., :1])
    return torch.cat([multipliers, ones], dim=-1)[..., owners.to(multipliers.device)]


def scale_entries(hidden: Tensor, factors: Tensor) -> Tensor:
    """Multiply (batch, …, features) or (tokens, features) by (features,) or (batch, features)."""
    factors = factors.to(hidden.dtype)
    if factors.dim() == 1:
        return hidden * factors
    if hidden.shape[0] != factors.shape[0]:  # tokens of all samples in one axis
        return hidden * factors.repeat_interleave(hidden.shape[0] // factors.shape[0], dim=0)
    return hidden * factors.view(factors.shape[0], *[1] * (hidden.dim() - 2), factors.shape[1])


def _input_gate(stack: ExitStack, model: nn.Module, group: UnitGroup, multipliers: Tensor) -> None:
    assert group.gate is not None

    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, *rest = inputs
        return (scale_entries(hidden, spread(group, multipliers, hidden.shape[-1])), *rest)

    handle = find_module(model, group.gate.module).register_forward_pre_hook(hook)
    stack.callback(handle.remove)


def _output_gate(stack: ExitStack, model: nn.Module, group: UnitGroup, multipliers: Tensor) -> None:
    assert group.gate is not None

    def hook_for(part: Slice) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            factors = spread(group, multipliers, output.shape[1], part).to(output.dtype)
            factors = factors if factors.dim() == 2 else factors[None]
            return output * factors.view(*factors.shape, *[1] * (output.dim() - 2))

        return hook

    for name in (group.gate.module, *group.gate.also):
        handle = find_module(model, name).register_forward_hook(hook_for(written_by(group, name)))
        stack.callback(handle.remove)


def _residual_gate(stack: ExitStack, model: nn.Module, group: UnitGroup, multipliers: Tensor) -> None:
    assert group.gate is not None
    layers = find_module(model, group.gate.module)

    def hook_for(layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
            before = inputs[0] if inputs else named["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            factor = multipliers[..., layer].to(after.dtype)
            factor = factor.view(-1, *[1] * (after.dim() - 1)) if factor.dim() else factor
            # A layer adds to the residual stream: a closed one is the identity, and the gradient of its gate
            # is that of what it adds.
            gated = before + factor * (after - before)
            return (gated, *output[1:]) if isinstance(output, tuple) else gated

        return hook

    for layer in range(group.size):
        handle = layers.get_submodule(str(layer)).register_forward_hook(hook_for(layer), with_kwargs=True)
        stack.callback(handle.remove)


def _router_gate(stack: ExitStack, model: nn.Module, group: UnitGroup, multipliers: Tensor) -> None:
    assert group.gate is not None
    gate_router(stack, find_module(model, group.gate.module), multipliers)


def _experts_gate(stack: ExitStack, model: nn.Module, group: UnitGroup, multipliers: Tensor) -> None:
    assert group.gate is not None
    gate_expert(stack, find_module(model, group.gate.module), group.gate.expert, multipliers)


_ATTACH: dict[str, Callable[[ExitStack, nn.Module, UnitGroup, Tensor], None]] = {
    "input": _input_gate,
    "output": _output_gate,
    "residual": _residual_gate,
    "router": _router_gate,
    "fused_experts": _experts_gate,
}
