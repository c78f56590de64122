"""An optimiser's state as named tensors, so that a checkpoint needs no pickle."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.optim import Optimizer

PREFIX = "optimiser/"


def packed(optimiser: Optimizer) -> dict[str, Tensor]:
    """Return the state (moments, step counts) of every parameter under a name of its own."""
    state = optimiser.state_dict()["state"]
    return {f"{PREFIX}{number}/{key}": value for number, one in state.items() for key, value in one.items()}


def unpack(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `packed` returned; settings such as the learning rate stay the optimiser's own."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(PREFIX):
            number, key = name.removeprefix(PREFIX).split("/")
            state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
