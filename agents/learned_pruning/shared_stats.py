"""Statistics that a training run has collected, each once, whoever asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats


@dataclass(frozen=True)
class SharedStats:
    """Remembers statistics by model, need and probe."""

    known: dict[tuple[str, Need, Probe], Stats] = field(default_factory=dict)

    def stats(self, session: ModelSession, needs: Iterable[Need], probe: Probe) -> Stats:
        """Return the statistics of `session`, collecting those that nobody has asked for yet."""
        stats = Stats(seed=probe.seed, fingerprint=session.checkpoint.fingerprint)
        for need in sorted(needs):
            key = (session.checkpoint.fingerprint, need, probe)
            if key not in self.known:
                self.known[key] = session.stats({need}, probe)
            stats = stats.merged(self.known[key])
        return stats
