"""What a network answers, whatever its head is."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunepolicy.pruning.errors import UnsupportedModelError

HIDDEN = "last_hidden_state"
ANSWERS = ("logits", "prediction_logits", "start_logits", HIDDEN)
"""Names under which heads answer, the best first."""


def answer_of(outputs: Any) -> tuple[Tensor, bool]:
    """Return a network's answer, and whether it is logits; hidden states are the other kind.

    Args:
        outputs: a dictionary as transformers has it, or a tensor, which is logits.

    Raises:
        UnsupportedModelError: when there is neither.
    """
    if isinstance(outputs, Tensor):
        return outputs, True
    name = next((name for name in ANSWERS if name in outputs), None)
    if name is None:
        raise UnsupportedModelError(
            f"The model answers with {', '.join(outputs)}; nothing here compares such answers."
        )
    return outputs[name], name != HIDDEN
