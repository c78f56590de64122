"""A choice that follows the user's text: what was read, what decides, and what that is worth on the text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prunepolicy.agents.for_text.ahead import calibration_file, seen_by
from prunepolicy.agents.for_text.examples import examples_file, written_examples
from prunepolicy.agents.for_text.known import generic_energy
from prunepolicy.commands.prune.measure import own_text
from prunepolicy.commands.report.text_reading import TextReading
from prunepolicy.policy.base import Policy
from prunepolicy.policy.kinds.text import Text, TextConfig
from prunepolicy.policy.load import DEFAULT, load_policy
from prunepolicy.policy.text_scores.blend import UNTUNED
from prunepolicy.policy.text_scores.registry import flat
from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.checkpoint.tokens import start_of_text, token_ids
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.text_file import read_text
from prunepolicy.pruning.measure.perplexity import window_losses
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.statistics.text_energy import TextEnergy, outgoing_norms, text_energy

FEWEST = 32
"""Tokens below which a text says too little."""
ENOUGH = 512
"""Tokens from which on its own statistic is worth much."""
MOST = 4096
"""Tokens that are read at most."""
HELD_BACK = 512
"""Tokens at the end that evaluate the choice, where the text has three times as many."""
OTHER_TEXTS = 4
"""Of those that the model writes to be scored on, on which a choice is evaluated, too."""
UNLEARNED = ("ahead", "blend", "plain", "generic")
"""Scorers that know nothing but the statistic of text of all kinds, the default first."""
KNOWN_BITS = 2.0
"""Bits per byte; a text that costs a model more is in no language that it knows."""


@dataclass(frozen=True)
class Reading:
    """The user's text, as the model reads it.

    Attributes:
        policy: plans for the text.
        source: the probe of the repair: text of all kinds, and the text with what the model goes on with.
        warnings: what speaks against the text.
        reader: what the policy was made from; None where the text is too short to be read.
        seed: of what the model goes on with.
    """

    session: ModelSession
    policy: Policy
    source: str
    warnings: tuple[str, ...]
    tokens: Tensor
    reader: Text | None = None
    seed: int = 0

    def facts(self, plan: Plan) -> TextReading | None:
        """Return what reading is worth: on the end of the text, chosen without it, and on other texts."""
        if self.reader is None:
            return None
        back = HELD_BACK if len(self.tokens) >= 3 * HELD_BACK else 0
        with self.session.progress.step("what reading the text is worth"):
            generic = self._planned(plan.budget, Text(), generic_energy(self.session))
            on_text = self._on_text(generic, back, self.reader) if back else {}
            others = own_text(self.session)[:OTHER_TEXTS, 1:].flatten().cpu()
            on_others = self._excess({"text": plan, "generic": generic}, others)
        return TextReading(len(self.tokens), self.policy.name, back, on_text, on_others)

    def _on_text(self, generic: Plan, back: int, reader: Text) -> dict[str, float]:
        """Return the excess log-perplexity of each way to choose on the tokens that are held back."""
        shown = self.tokens[:-back]
        few, budget = energy_within(self.session, shown), generic.budget
        seen = seen_by(reader.scorer, self.session, few, shown, self.seed)
        choices = {
            "text": self._planned(budget, reader, seen),
            "plain": self._planned(budget, Text(), few),
            "generic": generic,
        }
        return self._excess(choices, self.tokens[-back:])

    def _planned(self, budget: Budget, policy: Text, few: TextEnergy) -> Plan:
        """Return what a policy keeps that was shown a text of this statistic."""
        graph = self.session.checkpoint.graph
        shown = policy.shown(few, outgoing_norms(self.session.model, graph))
        return shown.plan(graph, Stats(fingerprint=self.session.checkpoint.fingerprint), budget)

    def _excess(self, choices: Mapping[str, Plan], tokens: Tensor) -> dict[str, float]:
        model, graph = self.session.model, self.session.checkpoint.graph
        start = start_of_text(model, self.session.tokenizer)
        dense = window_losses(model, tokens, bos=start).score.nll
        found = {}
        for name, plan in choices.items():
            with masked(model, graph, plan):
                found[name] = window_losses(model, tokens, bos=start).score.nll - dense
        return found


def reader_named(policy: str | Policy) -> Policy:
    """Return the policy that decides with --for: a scorer that has to learn nothing, or any other policy."""
    if isinstance(policy, str) and policy in UNLEARNED:
        return Text(TextConfig(scorer=policy), policy)
    return load_policy(policy) if isinstance(policy, str) else policy


def check_readable(wanted: str, policy: Policy) -> Text:
    """Return a policy that can do what the one that will read the text can; it needn't have learned anything.

    Raises:
        UsageError: when the text can't be read, or the policy wouldn't read it.
    """
    examples_file(wanted)
    if isinstance(policy, Text):
        return policy
    if policy.name == DEFAULT:
        return Text()
    raise UsageError(
        f"The policy {policy.name!r} reads no text; with --for, leave --policy out or name one that does: "
        f"{', '.join(UNLEARNED)}, or the folder of one that was trained."
    )


def read_for(session: ModelSession, policy: Policy, wanted: str, seed: int) -> Reading:
    """Read the text that the user means, and return what decides for it.

    Args:
        policy: that `check_readable` allows.
        wanted: a text file, or a task in words.

    Raises:
        UsageError: when the model reads or writes no text.
    """
    if session.checkpoint.adapter.task != "causal":
        raise UsageError(f"--for needs a model that writes text; {session.name} doesn't.")
    file = examples_file(wanted) or written_examples(session, wanted, seed)
    tokens = token_ids(session.model, session.tokenizer, read_text(file))[:MOST]
    if len(tokens) < FEWEST:
        warning = (
            f"The text has {len(tokens)} tokens; at least {FEWEST} are needed, and {ENOUGH} are enough for a "
            "good choice. The default's choice for text of all kinds was taken."
        )
        return Reading(session, load_policy(DEFAULT), "varied", (warning,), tokens)
    reader = policy if isinstance(policy, Text) and policy.config.network else None
    if reader is None:
        reader = unlearned(policy.config.scorer if isinstance(policy, Text) else UNLEARNED[0], session, seed)
    with session.progress.step("read the text"):
        few = energy_within(session, tokens)
        warnings = tuple(filter(None, [_foreign(session, tokens)]))
    seen = seen_by(reader.scorer, session, few, tokens, seed)
    shown = reader.shown(seen, outgoing_norms(session.model, session.checkpoint.graph))
    if reader.scorer.looks_ahead:
        file = calibration_file(session, tokens, seed)
    enough = reader.scorer.looks_ahead or len(tokens) >= shown.config.length
    source = f"varied+{file}" if enough else "varied"
    return Reading(session, shown, source, warnings, tokens, reader, seed)


def unlearned(scorer: str, session: ModelSession, seed: int) -> Text:
    """Return what decides without a trained policy: a scorer of `UNLEARNED`."""
    numbers = {
        "generic": flat(generic_energy(session, seed).energy),
        "weight": torch.tensor([UNTUNED]),
    }
    settings = {"repair": "reconstruction", "probe": "varied"}
    reader = Text.fitted(scorer, numbers, session.checkpoint.fingerprint, **settings)
    reader.name = scorer
    return reader


def energy_within(session: ModelSession, tokens: Tensor) -> TextEnergy:
    """Return the statistic of a text, read in pieces of the model's context."""
    pieces = tokens.split(min(MOST, context_of(session.model)))
    graph, model = session.checkpoint.graph, session.model
    return TextEnergy.pooled([text_energy(model, graph, piece[None].to(session.device)) for piece in pieces])


def _foreign(session: ModelSession, tokens: Tensor) -> str | None:
    """Return a warning where the model predicts the text so badly that it can't know its language."""
    judged = tokens[:ENOUGH]
    start = start_of_text(session.model, session.tokenizer)
    score = window_losses(session.model, judged, bos=start).score
    size = len(session.tokenizer.decode(judged).encode())
    bits = score.nll * score.tokens / math.log(2) / max(1, size)
    if bits <= KNOWN_BITS:
        return None
    return (
        f"The model doesn't know this kind of text: it needs {bits:.1f} bits for every byte of it "
        f"(perplexity {score.perplexity:.4g}). A choice that follows it is worth little."
    )
