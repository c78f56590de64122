"""One file per way to score units for a text from little of it."""

from prunepolicy.policy.text_scores.registry import KnownText, KnownTexts, TextScorer, text_scorers

__all__ = ["KnownText", "KnownTexts", "TextScorer", "text_scorers"]
