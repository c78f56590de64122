"""Training health checks on logged metrics; each warns once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.config import StrictConfig


def _word(value: Any) -> Any:
    """Return the word that was written: YAML takes a bare `off` for a truth value."""
    return "off" if value is False else value


Reaction = Annotated[Literal["off", "warn", "stop"], BeforeValidator(_word)]
Row = Mapping[str, float]


class AlarmRecipe(StrictConfig):
    """What to do when a training health check fails.

    Attributes:
        patience: failed measurements in a row after which it warns or stops.
        mode_collapse: all completions think, or none does.
        dead_reward: all rewards are the same within every group, so that nothing is learned.
        length_explosion: most completions are cut off.
        unfinished_thoughts: most thoughts are cut off, so that answers at once are nearly all that is paid.
        drift: the KL divergence from the reference model is large, in nats per token.
        verifier_errors: answers couldn't be verified.
    """

    patience: int = Field(default=10, ge=1)
    mode_collapse: Reaction = "warn"
    dead_reward: Reaction = "stop"
    length_explosion: Reaction = "warn"
    unfinished_thoughts: Reaction = "stop"
    drift: Reaction = "warn"
    verifier_errors: Reaction = "stop"


@dataclass(frozen=True)
class Alarm:
    """A check of one metric.

    Attributes:
        reads: the metric; a step that doesn't log it changes nothing.
        sounds: whether a value fails.
    """

    reads: str
    sounds: Callable[[float], bool]
    sentence: str


ALARMS = {
    "mode_collapse": Alarm(
        "think",
        lambda value: not 0.01 <= value <= 0.99,
        "The model has collapsed into one mode (think rate {think:.0%}): no group compares both any more. "
        "Add the balance term to this stage, or reinforcement.force=half.",
    ),
    "dead_reward": Alarm(
        "zero_variance",
        lambda value: value >= 1,
        "All rewards are equal within every group, so nothing is learned (mean reward {reward:.2f}): "
        "take easier or harder problems, or check the answers' format.",
    ),
    "length_explosion": Alarm(
        "clipped_length",
        lambda value: value > 0.5,
        "{clipped_length:.0%} of the completions are cut off: raise reinforcement.max_tokens, or pay for "
        "brevity.",
    ),
    "unfinished_thoughts": Alarm(
        "unfinished",
        lambda value: value > 0.5,
        "{unfinished:.0%} of the thoughts are cut off before they end, so that little else than answering at "
        "once is ever paid: raise reinforcement.max_tokens.",
    ),
    "drift": Alarm(
        "kl",
        lambda value: value > 1.0,
        "The KL divergence from the reference model is {kl:.1f} nats per token: lower the learning rate, or "
        "set reinforcement.objective.beta.",
    ),
    "verifier_errors": Alarm(
        "verifier_errors",
        lambda value: value > 0.1,
        "{verifier_errors:.0%} of the answers couldn't be verified; their rewards mean nothing.",
    ),
}


@dataclass
class HealthMonitor:
    """Counts how many measurements in a row each check has failed.

    Attributes:
        held: measurements in a row, by alarm.
    """

    recipe: AlarmRecipe
    held: dict[str, int] = field(default_factory=dict)

    def check(self, row: Row) -> list[str]:
        """Return the warnings of a step's metrics, each once until its check passes again.

        Raises:
            PrunePolicyError: with the sentence of a check that stops the run.
        """
        sentences = []
        for name, alarm in ALARMS.items():
            if alarm.reads not in row:
                continue
            reaction: Reaction = getattr(self.recipe, name)
            self.held[name] = self.held.get(name, 0) + 1 if alarm.sounds(row[alarm.reads]) else 0
            if reaction == "off" or self.held[name] != self.recipe.patience:
                continue
            sentence = alarm.sentence.format(**row)
            if reaction == "stop":
                raise PrunePolicyError(f"{sentence} (alarms.{name}=off continues regardless.)")
            sentences.append(sentence)
        return sentences
