"""The registry of algorithms: for every name that a recipe may give, who learns and in what experiment."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.pruning.registry import Registry


@dataclass(frozen=True)
class AlgorithmSpec:
    """Where an algorithm's two classes are, as `module:Class`; they are imported on first use.

    Attributes:
        learner: a `SteppedLearner`.
        experiment: the `Experiment` that prepares, evaluates and reports its runs.
    """

    learner: str
    experiment: str

    @property
    def learner_type(self) -> type[SteppedLearner]:
        """The class that learns."""
        found: type[SteppedLearner] = _loaded(self.learner)
        return found

    @property
    def experiment_type(self) -> Any:
        """The class of its runs, a type of `Experiment`."""
        return _loaded(self.experiment)


def _loaded(entry_point: str) -> Any:
    module, _, name = entry_point.partition(":")
    return getattr(import_module(module), name)


algorithms: Registry[AlgorithmSpec] = Registry("algorithm")

_PRUNING = "prunepolicy.agents.learned_pruning"
_EXPERIMENT = f"{_PRUNING}.experiment:PruningExperiment"
algorithms.add("ppo", AlgorithmSpec(f"{_PRUNING}.ppo:Ppo", _EXPERIMENT))
algorithms.add("reinforce", AlgorithmSpec(f"{_PRUNING}.reinforce:Reinforce", _EXPERIMENT))
algorithms.add("gradient_gates", AlgorithmSpec(f"{_PRUNING}.gradient_gates:GradientGates", _EXPERIMENT))
_METANET = "prunepolicy.agents.metanet"
algorithms.add(
    "metanet", AlgorithmSpec(f"{_METANET}.learner:MetanetLearner", f"{_METANET}.experiment:MetanetExperiment")
)
_THINKING = "prunepolicy.agents.thinking"
algorithms.add(
    "grpo", AlgorithmSpec(f"{_THINKING}.lm.grpo:Grpo", f"{_THINKING}.lm.experiment:ThinkExperiment")
)
algorithms.add(
    "think_bandit",
    AlgorithmSpec(
        f"{_THINKING}.bandit.learner:ThinkBandit", f"{_THINKING}.bandit.experiment:BanditExperiment"
    ),
)
_TEXT = "prunepolicy.agents.for_text"
algorithms.add("text", AlgorithmSpec(f"{_TEXT}.learner:TextLearner", f"{_TEXT}.experiment:TextExperiment"))
algorithms.add(
    "text_offsets",
    AlgorithmSpec(f"{_TEXT}.offsets_learner:TextOffsets", f"{_TEXT}.experiment:TextExperiment"),
)
