"""One backward pass through a metanetwork, whatever the number of losses of what it gives.

The tensors it gives are cut off from it; losses gather their gradients there, and one vector-Jacobian product
takes these through the metanetwork. The sum of backward passes from end to end is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

Loss = Callable[[Mapping[str, Tensor]], Tensor]
"""From what a metanetwork gave to a number."""
Direct = Callable[[Mapping[str, Tensor]], None]
"""Adds to the gradients of what it gave, where no loss has these gradients."""


def deferred_backward(
    modified: Mapping[str, Tensor], losses: Iterable[Loss], direct: Iterable[Direct] = ()
) -> list[float]:
    """Add to the gradients of a metanetwork those of the sum of `losses`, and return the losses.

    Args:
        modified: what the metanetwork gave.
        losses: one after the other; each is forgotten before the next begins.
        direct: called after all losses.
    """
    changed = {name: tensor for name, tensor in modified.items() if tensor.requires_grad}
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in changed.items()}
    weights, found = {**modified, **leaves}, []
    for loss in losses:
        value = loss(weights)
        value.backward()
        found.append(float(value.detach()))
    for add in direct:
        add(weights)
    touched = [name for name, leaf in leaves.items() if leaf.grad is not None]
    torch.autograd.backward([changed[name] for name in touched], [leaves[name].grad for name in touched])
    return found
