"""One file per way to choose the prompts of the next batch."""

from prunepolicy.envs.thinking.sampling.registry import Sampler, samplers

__all__ = ["Sampler", "samplers"]
