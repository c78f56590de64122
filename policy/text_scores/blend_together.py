"""The blend for energies, and the text's own tokens for what channels write together."""

from __future__ import annotations

from prunepolicy.policy.text_scores.blend import Blend
from prunepolicy.policy.text_scores.interplay import Interplay
from prunepolicy.policy.text_scores.registry import text_scorers


@text_scorers.register
class BlendTogether(Interplay, Blend):
    """`blend`, with correlations."""
