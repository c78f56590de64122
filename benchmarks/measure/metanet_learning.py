"""Metanetworks for the benchmark: on the right graph, on a shuffled one, and with none at all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunepolicy.agents.images.task import ImageTask
from prunepolicy.agents.metanet.data_model import DataModel
from prunepolicy.agents.metanet.meta_step import MetaStep
from prunepolicy.agents.metanet.objective import MetaObjectiveRecipe
from prunepolicy.agents.metanet.recipe import PipelineRecipe
from prunepolicy.agents.metanet.tradeoff_curve import curve_of, height, outcomes_of
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.metanet.weight_network.metanetwork import Metanetwork
from prunepolicy.metanet.weight_network.proposals import head_output, proposal
from prunepolicy.metanet.weight_network.weight_graph import WeightGraph
from prunepolicy.policy.kinds.metanet import Metanet, MetanetConfig

STEPS, EVERY, BATCHES, BATCH = 150, 25, 2, 128
RATE, DECAY, CLIP = 2e-3, 5e-4, 1.0
CURVE = (2.0, 3.0)
CUT, REWARD = (
    MetaObjectiveRecipe(sparsity="cut", sparsity_strength=1.0),
    MetaObjectiveRecipe(sparsity="reward", num_cuts=6),
)


@dataclass(frozen=True)
class Variant:
    """What a metanetwork sees.

    Attributes:
        layers: rounds of messages; none makes it a function of single weights.
        head: what it says: other weights, gates folded into them, or what corrects group norms: scores of
            units, or decisions on layers that are learned from rewards.
        shuffled: every weight's edges join other nodes of the network than they should.
        sparse: what it has rewritten is trained with the penalty of sparse training.
        late: it sees networks after sparse training, and has the last word before the cut.
        networks: how many it learns from.
        steps: of its learning.
    """

    layers: int = 4
    head: Literal["weights", "gates", "scores", "decisions"] = "weights"
    shuffled: bool = False
    sparse: bool = False
    late: bool = False
    networks: int = 3
    steps: int = STEPS

    def seen(self, graph: WeightGraph) -> WeightGraph:
        """Return the graph as the metanetwork gets it."""
        if not self.shuffled:
            return graph
        generator = torch.Generator().manual_seed(0)
        blocks = tuple(
            replace(b, targets=_mixed(b.targets, generator), sources=_mixed(b.sources, generator))
            for b in graph.blocks
        )
        return replace(graph, blocks=blocks)


VARIANTS = {
    "metanetwork": Variant(),
    "metanetwork, sparse training": Variant(sparse=True),
    "metanetwork, shuffled graph": Variant(shuffled=True),
    "metanetwork, no graph": Variant(layers=0),
    "metanetwork, gates": Variant(head="gates"),
    "metanetwork, scores": Variant(head="scores"),
    "metanetwork, scores, sparse training": Variant(head="scores", sparse=True),
    "metanetwork after sparse training": Variant(late=True),
    "metanetwork, scores after sparse training": Variant(head="scores", late=True),
    "metanetwork, scores after sparse training, 9 networks": Variant(
        head="scores", late=True, networks=9, steps=3 * STEPS
    ),
    "metanetwork, decisions after sparse training": Variant(head="decisions", late=True),
}


@dataclass
class MetaTraining:
    """Learns one metanetwork; its best step, right after cuts of a held-out network, is kept in `file`."""

    task: ImageTask
    variant: Variant
    file: Path
    policy: Metanet = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        settings = {"layers": self.variant.layers, "head": self.variant.head, "hidden": 16, "step": 0.1}
        # Without rounds of messages it is no policy that recipes can ask for.
        self.policy = Metanet(MetanetConfig.model_construct(**settings), "metanetwork")

    @property
    def metanetwork(self) -> Metanetwork:
        """What learns."""
        return self.policy.network

    def run(self, family: Sequence[DataModel], held_out: DataModel) -> None:
        """Learn, unless an earlier run has; end with the best step."""
        if not self.file.is_file():
            self._learn([self._seen(network) for network in family], held_out)
        self.metanetwork.load_state_dict(load_file(self.file))

    def rewritten(self, network: DataModel) -> nn.Module:
        """Return a network as the metanetwork rewrites it."""
        seen = self._seen(network).blueprint
        with torch.no_grad():
            output = head_output(self.metanetwork, seen, network.weights)
            changed = proposal(self.variant.head, seen, network.weights, output).weights
        network.model.load_state_dict({**network.model.state_dict(), **changed})
        return network.model

    def _learn(self, family: Sequence[DataModel], held_out: DataModel) -> None:
        best, original = 0.0, {name: tensor.clone() for name, tensor in held_out.weights.items()}
        optimiser = torch.optim.AdamW(self.metanetwork.parameters(), RATE, weight_decay=DECAY)
        step = MetaStep(self.metanetwork, REWARD if self.variant.head == "decisions" else CUT)
        for number in range(self.variant.steps):
            batches = list(itertools.islice(self.task.batches(BATCH, 0, number), BATCHES))
            optimiser.zero_grad()
            step(family[number % len(family)], self.task, batches)
            nn.utils.clip_grad_norm_(self.metanetwork.parameters(), CLIP)
            optimiser.step()
            if (number + 1) % EVERY == 0:
                model = remeasure_norms(self.rewritten(held_out), self.task)
                score = height(
                    curve_of(outcomes_of(model, self.task, PipelineRecipe(), CURVE, policy=self.policy))
                )
                held_out.model.load_state_dict({**model.state_dict(), **original})
                print(f"{self.file.stem}: step {number + 1}, {score:.4f} right after cuts", flush=True)
                if score > best:
                    best = score
                    save_file(self.metanetwork.state_dict(), self.file)

    def _seen(self, network: DataModel) -> DataModel:
        return replace(network, graph=self.variant.seen(network.graph))


def _mixed(nodes: Tensor, generator: torch.Generator) -> Tensor:
    return nodes.flatten()[torch.randperm(nodes.numel(), generator=generator)].view_as(nodes)
