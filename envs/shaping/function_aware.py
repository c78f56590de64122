"""A reward that looks at what a block computes, on text the model wrote itself."""

from __future__ import annotations

from prunepolicy.envs.shaping.registry import Outcomes, Rewards, shaping


@shaping("function_aware", "output_error")
def function_aware(outcomes: Outcomes) -> Rewards:
    """Return minus the relative output error of the feed-forward block; 0 loses nothing.

    `output_error` is tr((W - W_K) C (W - W_K)^T) / tr(W C W^T), with C the second moments of the
    activations: see `pruning/moments.py`.
    """
    return -outcomes["output_error"]
