"""Rewards from the output error of a block, on calibration data."""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.shaping.registry import Outcomes, Rewards, shaping

SMALLEST = 1e-12


@shaping("function_aware", "output_error")
def function_aware(outcomes: Outcomes) -> Rewards:
    """Return minus the relative output error of the FFN block; 0 loses nothing.

    `output_error` is tr((W - W_K) C (W - W_K)^T) / tr(W C W^T), with C the second moments of the
    activations: see `pruning/statistics/moments.py`.
    """
    return -outcomes["output_error"]


@shaping("loss_aware", "loss_rise")
def loss_aware(outcomes: Outcomes) -> Rewards:
    """Return minus the predicted rise of the loss, a quadratic form of gate gradients."""
    return -outcomes["loss_rise"]


@shaping("function_and_loss", "output_error", "loss_rise")
def function_and_loss(outcomes: Outcomes) -> Rewards:
    """Return minus the sum of the logarithms of output error and predicted rise of the loss.

    The two err in different places: the output error ignores what later layers read, and gradients are local,
    so that they miss the effect of large removals. Logarithms make both scale-free.
    """
    parts = [np.log(np.maximum(outcomes[name], SMALLEST)) for name in ("output_error", "loss_rise")]
    return -(parts[0] + parts[1])
