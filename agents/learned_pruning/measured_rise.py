"""The measured rise of a network's loss when units go: what rewards cost where nothing predicts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair import RepairContext, repairs
from prunepolicy.pruning.repair.edited import edited
from prunepolicy.pruning.repair.ridge import remember_moments
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import Probe, batches_of
from prunepolicy.pruning.units import Keep

REWARDING_SEED = 2_000_003
"""Of the text that rewards are measured on; no evaluator and no training probe uses it."""
REMEMBERS = "ridge"
"""The repair whose second moments are measured once; all blocks of a network have to fit into memory."""
MOST_BYTES = 1 << 30
"""Dense distributions over the vocabulary are remembered up to this size."""


@dataclass(frozen=True)
class MeasuredRise:
    """Runs the masked network on text sampled from the dense one, which costs one forward pass.

    The loss of a position is the cross entropy with the dense network's distribution, so that its rise
    is their KL divergence, without the variance of single tokens. Where those distributions don't
    fit into `MOST_BYTES`, it is the cross entropy with the token.

    Attributes:
        session: the network.
        text: what it is measured on; its seed should be neither the evaluation's nor the calibration's.
        repair: name of the repair that follows every cut; None measures right after the cut.
        calibration: data of the repair, where there is one.
    """

    session: ModelSession
    text: Probe
    repair: str | None = None
    calibration: Probe | None = None

    def __call__(self, keep: Keep) -> float:
        """Return by how much the loss rises when only `keep` stays, in nats per token."""
        return float(self.per_text(keep).mean())

    def per_text(self, keep: Keep) -> Tensor:
        """Return the rise on every text, shape (texts,), in nats per token."""
        graph = self.session.checkpoint.graph
        units = {name: tuple(ids) for name, ids in keep.items() if len(ids) < graph[name].size}
        plan, dense = Plan(units, Budget(1.0), "episode"), self._dense
        with edited(self.session.model, graph, plan, self._repaired(plan)):
            return self._losses() - dense

    def __getstate__(self) -> dict[str, Any]:
        """Travel with what the dense network said, so that every machine compares with the same numbers."""
        said = {name: getattr(self, name).cpu() for name in ("_tokens", "_targets", "_dense")}
        return {field.name: getattr(self, field.name) for field in fields(self)} | said

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive where the network is."""
        self.__dict__.update(state)
        for name in ("_tokens", "_targets"):
            self.__dict__[name] = state[name].to(self.session.device)

    @cached_property
    def _tokens(self) -> Tensor:
        if self.session.checkpoint.adapter.task != "causal":
            raise UsageError(
                f"{self.session.name} doesn't write text, so its loss can't be measured; "
                "reward by the surrogate."
            )
        return self.session.probe(self.text)["input_ids"]

    @cached_property
    def _targets(self) -> Tensor:
        """What the network should predict: distributions in half precision, or tokens."""
        vocabulary = self._logits(self._tokens[:1]).shape[-1]
        if self._tokens[:, 1:].numel() * vocabulary * torch.half.itemsize > MOST_BYTES:
            return self._tokens[:, 1:]
        parts = [
            torch.stack([row.float().softmax(-1).half() for row in self._logits(batch["input_ids"])])
            for batch in batches_of({"input_ids": self._tokens})
        ]
        return torch.cat(parts)

    @cached_property
    def _dense(self) -> Tensor:
        return self._losses()

    def _losses(self) -> Tensor:
        """Return the mean loss per token on every text, for the network as it runs now."""
        losses = []
        for batch in batches_of({"input_ids": self._tokens, "targets": self._targets}):
            for row, target in zip(self._logits(batch["input_ids"]), batch["targets"], strict=True):
                wanted = target.float() if target.is_floating_point() else target
                losses.append(functional.cross_entropy(row.float(), wanted))
        return torch.stack(losses).double()

    def _logits(self, tokens: Tensor) -> Tensor:
        """Return what the network says about every next token, shape (texts, length - 1, vocabulary)."""
        with torch.no_grad():
            logits: Tensor = self.session.model(input_ids=tokens, use_cache=False).logits
        return logits[:, :-1]

    @cached_property
    def _calibration_inputs(self) -> Mapping[str, Tensor]:
        """Of a repair: as many as the text has, since some repairs run on them for every plan."""
        inputs = self.session.probe(self.calibration or self.text)
        if self.repair == REMEMBERS:
            return inputs
        return {name: tensor[: self.text.samples] for name, tensor in inputs.items()}

    def _repaired(self, plan: Plan) -> Edits:
        if self.repair is None:
            return Edits()
        context = RepairContext(
            self.session.checkpoint, self.session.model, plan, self._calibration_inputs, self._known
        )
        if self.repair == REMEMBERS and not self._known:
            remember_moments(context)
        return repairs[self.repair](context)

    @cached_property
    def _known(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What every repair of this network starts from."""
        return {}
