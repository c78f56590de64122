"""Statistics that a training run has collected, each once, whoever asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.session.model_session import Subject
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats


@dataclass(frozen=True)
class Collected:
    """Remembers statistics by model, need and probe."""

    known: dict[tuple[str, Need, Probe], Stats] = field(default_factory=dict)

    def stats(self, subject: Subject, needs: Iterable[Need], probe: Probe) -> Stats:
        """Return the statistics of `subject`, collecting those that nobody has asked for yet."""
        stats = Stats(seed=probe.seed, fingerprint=subject.checkpoint.fingerprint)
        for need in sorted(needs):
            key = (subject.checkpoint.fingerprint, need, probe)
            if key not in self.known:
                self.known[key] = subject.stats({need}, probe)
            stats = stats.merged(self.known[key])
        return stats
