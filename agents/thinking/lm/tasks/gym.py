"""The door to reasoning-gym: one item at a time, each from a seed of its own.

Its data sets of neighbouring seeds share nearly all items; seeds drawn anew for every item don't.
"""

from __future__ import annotations

from random import Random
from typing import Any

from prunepolicy.pruning.errors import PrunePolicyError


def gym_entry(name: str, generator: Random, **config: Any) -> dict[str, Any]:
    """Return one entry of a reasoning-gym data set: question, answer and metadata.

    Raises:
        PrunePolicyError: when reasoning-gym isn't installed.
    """
    try:
        import reasoning_gym
    except ImportError as error:
        raise PrunePolicyError(
            f"The task {name} comes from reasoning-gym: pip install 'prunepolicy[think]'."
        ) from error
    dataset = reasoning_gym.create_dataset(name, size=1, seed=generator.getrandbits(31), **config)
    return dict(dataset[0])
