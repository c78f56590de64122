"""What is known of a batch of texts while it is read and written, and when its channels are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from prunepolicy.policy.adaptive.energy_watch import SeenEnergy
from prunepolicy.policy.adaptive.selection import ChannelChoice, Selection
from prunepolicy.pruning.errors import UsageError

LEAST_SAMPLES = 4
"""CachedStats tokens before anything is said about a drift."""


@dataclass(frozen=True)
class ChoiceSchedule:
    """When a text is watched, and when its channels are chosen again.

    Attributes:
        least: tokens that are read or written with all channels before a choice.
        measure_every: each so-manyth token is written with all channels, which is how the energies of the
            written text become known; 0 watches none, so that the first choice stays.
        every: written tokens after which the choice is made again.
        drift: by how much the kept channels' share of the watched tokens may fall below their share of what
            they were chosen on; then the text counts as a new one.

    Raises:
        UsageError: for numbers that make no sense.
    """

    least: int = 32
    measure_every: int = 16
    every: int = 256
    drift: float = 0.08

    def __post_init__(self) -> None:
        if self.least < 1 or self.measure_every < 0 or self.every < 1 or not 0 < self.drift <= 1:
            raise UsageError(
                "least and every are at least 1, measure_every is at least 0, and drift is a share above 0."
            )


@dataclass
class AdaptiveText:
    """A batch on its way, known by its KV cache.

    Attributes:
        known: what the choice is made on: the prompt, and what was watched before the last choice.
        watched: what was seen of the written text since the choice.
        choice: the channels in use; None where it has still to be made.
        share: the kept channels' share of `known`.
        steps: tokens written since the choice.
        key: a hash of all that was read; None once something was written.
    """

    known: SeenEnergy | None = None
    watched: SeenEnergy | None = None
    choice: ChannelChoice | None = None
    share: float = 0.0
    steps: int = 0
    key: bytes | None = b""

    def decide(self, choice: ChannelChoice, share: float) -> None:
        """Write with `choice` from now on."""
        self.choice, self.share, self.steps = choice, share, 0

    def wants_all(self, schedule: ChoiceSchedule) -> bool:
        """Return whether the next token is written with all channels although there is a choice."""
        return schedule.measure_every > 0 and (self.steps + 1) % schedule.measure_every == 0

    def has_read(self, seen: SeenEnergy) -> None:
        """Take in what was read; the choice has to be made anew."""
        self.known = seen if self.known is None else self.known + seen
        self.choice = None

    def has_written(self, seen: SeenEnergy | None, selection: Selection, schedule: ChoiceSchedule) -> None:
        """Take in a written token, and drop the choice where it is time, or where the text has drifted.

        Args:
            seen: what the step has shown, where it was watched.
        """
        self.key, self.steps = None, self.steps + 1
        if seen is None:
            return
        if self.choice is None:
            self.has_read(seen)
            return
        self.watched = seen if self.watched is None else self.watched + seen
        if self._has_drifted(self.choice, selection, schedule):
            self.known, self.watched, self.choice = self.watched, None, None
        elif self.steps >= schedule.every:
            self.settle(schedule)

    def settle(self, schedule: ChoiceSchedule) -> None:
        """Count what was watched as known, each token for all that were written beside it."""
        self.choice = None
        if self.known is not None and self.watched is not None:
            self.known = self.known + self.watched.standing_for(schedule.measure_every)
            self.watched = None

    def _has_drifted(self, choice: ChannelChoice, selection: Selection, schedule: ChoiceSchedule) -> bool:
        if self.watched is None or selection.tokens(self.watched) < LEAST_SAMPLES:
            return False
        return selection.share(choice, self.watched) < self.share - schedule.drift
