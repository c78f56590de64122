"""The learned prior for energies, and the text's own tokens for what channels write together."""

from __future__ import annotations

from prunepolicy.policy.text_scores.interplay import Interplay
from prunepolicy.policy.text_scores.low_rank import LowRank
from prunepolicy.policy.text_scores.registry import text_scorers


@text_scorers.register
class LowRankTogether(Interplay, LowRank):
    """`low_rank`, with correlations."""
