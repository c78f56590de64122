"""All prompts alike."""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.thinking.sampling.registry import Prompts, Sampler, samplers


@samplers.register
class Random(Sampler):
    """Draws uniformly, without repetition as long as prompts last."""

    def draw(self, count: int, generator: np.random.Generator) -> Prompts:
        """Return `count` prompts; several passes over all of them where there are fewer."""
        passes = -(-count // self.prompts)
        return np.concatenate([generator.permutation(self.prompts) for _ in range(passes)])[:count]
