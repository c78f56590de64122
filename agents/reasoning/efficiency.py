"""How much was saved without losing accuracy, in one number."""

from __future__ import annotations


def efficiency_f1(
    accuracy: float, tokens: float, standard: tuple[float, float], never: tuple[float, float]
) -> float:
    """Return E-F1."""
    a = (accuracy - standard[0]) / max(1e-9, standard[0] - never[0])
    t = (standard[1] - tokens) / max(1e-9, standard[1] - never[1])
    a, t = min(1.0, max(0.0, a)), min(1.0, max(0.0, t))
    return 2 * a * t / (a + t) if a + t else 0.0


def accuracy_efficiency(accuracy: float, tokens: float, base_accuracy: float, base_tokens: float) -> float:
    """Return AES."""
    saved, gained = 1 - tokens / base_tokens, accuracy / max(1e-9, base_accuracy) - 1
    return saved + (3 if gained >= 0 else 5) * gained
