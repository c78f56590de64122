"""What learning after a cut came to, for reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RecoveryFacts:
    """What learning after a cut came to.

    Attributes:
        budget: what was asked, such as `20m`.
        steps: that the budget came to; with the same texts they give the same weights again.
        tokens: that were learned from, repeated ones included.
        seconds: it took.
        before: held-out loss before the first step: KL divergence from the dense model, nats per token.
        after: of the weights that were kept.
        kept: the step after which the weights were as they are kept.
        broken_at: the step whose loss was no number; 0 where all were.
        lora_rank: of the adapters that learned and were merged; 0 where the weights did.
    """

    budget: str
    steps: int
    tokens: int
    seconds: float
    before: float
    after: float
    kept: int
    broken_at: int = 0
    lora_rank: int = 0

    @property
    def sentence(self) -> str:
        """All of it in words."""
        kept = f"; the weights after step {self.kept:,} were kept" if self.kept != self.steps else ""
        adapters = f" (LoRA of rank {self.lora_rank}, merged)" if self.lora_rank else ""
        return (
            f"Knowledge distillation{adapters} for {self.budget}: {self.steps:,} steps, {self.tokens:,} "
            f"tokens. On held-out text, the divergence from the dense model went from {self.before:.3f} to "
            f"{self.after:.3f} nats per token{kept}."
        )

    @property
    def warning(self) -> str | None:
        """A warning where the training broke."""
        if not self.broken_at:
            return None
        return (
            f"The training broke in step {self.broken_at:,}, where the loss is no number; the weights after "
            f"step {self.kept:,} were kept."
        )
