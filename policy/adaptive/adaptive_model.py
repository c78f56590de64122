"""A language model that reads with all feed-forward channels and writes with those that suit the text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from prunepolicy.policy.adaptive.adaptive_text import AdaptiveText, ChoiceSchedule
from prunepolicy.policy.adaptive.choosers import Running, chooser_named
from prunepolicy.policy.adaptive.energy_watch import EnergyWatch, SeenEnergy
from prunepolicy.policy.adaptive.model_call import ModelCall
from prunepolicy.policy.adaptive.narrow_ffn import NarrowFfn, dense_groups
from prunepolicy.policy.adaptive.selection import ChannelChoice, Chooser, Masks, Selection
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import has_tokenizer, load_model, load_tokenizer
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.errors import UnsupportedModelError, UsageError
from prunepolicy.pruning.io.precision import parse_device, parse_dtype
from prunepolicy.pruning.statistics.text_energy import outgoing_norms
from prunepolicy.pruning.units import UnitGraph

REMEMBERED = 32
"""Prompts of which statistic and choice are kept."""

Channels = Literal["adaptive", "all", "chosen"]


class AdaptiveModel:
    """A causal language model whose feed-forward channels are chosen at run time, for the text that it reads.

    A prompt is read with all channels, which are watched in the same pass. Before the first token is written,
    the best channels of each layer are chosen and their weights gathered; the tokens that follow are written
    with these. The KV cache is transformers' own, and tells one text from another. What `generate` and
    calls of the model do is decided by hooks on `model`, so that it may be used by itself: by pipelines,
    streamers, chat templates. Without a cache everything is read, and nothing written.

    Attributes:
        model: transformers' model; outside of its calls it holds all its weights.
        tokenizer: the model's, None where it was made without one.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: UnitGraph,
        chooser: Chooser,
        keep: float = 0.5,
        masks: Masks = "batch",
        schedule: ChoiceSchedule | None = None,
        tokenizer: Any = None,
    ) -> None:
        """Attach to a running model.

        Args:
            graph: the model's.
            chooser: scores the channels for the statistic of a text.
            keep: share of the channels that a text is written with, equal in all layers.
            masks: `batch` for one choice for all rows of a batch, `row` for one each.

        Raises:
            UnsupportedModelError: when the model has experts, or no channels that are known.
            UsageError: for a keep outside (0, 1].
            BudgetError: when no equal widths are within it.
        """
        self.model: Any = model
        self.tokenizer = tokenizer
        self.schedule = schedule or ChoiceSchedule()
        groups = dense_groups(graph)
        self.selection = Selection(graph, chooser, outgoing_norms(model, graph), keep, masks)
        self._ffn, self._watch = NarrowFfn(model, groups, graph), EnergyWatch(model, groups)
        self._texts: WeakKeyDictionary[Any, AdaptiveText] = WeakKeyDictionary()
        self._text = AdaptiveText()
        self._remembered: OrderedDict[bytes, tuple[SeenEnergy, ChannelChoice, float]] = OrderedDict()
        self._gathered: ChannelChoice | None = None
        self._channels: Channels = "adaptive"
        self._call: ModelCall | None = None
        # Compiled calls would be compiled anew whenever the widths change.
        settings: Any = model.generation_config
        settings.disable_compile = True
        model.register_forward_pre_hook(self._before, with_kwargs=True)
        model.register_forward_hook(self._after, always_call=True)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        policy: str | Path | Chooser = "blend",
        keep: float = 0.5,
        masks: Masks = "batch",
        schedule: ChoiceSchedule | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> Self:
        """Load a model by what a user calls it.

        Args:
            model: a folder, a hub id or an alias.
            policy: `plain` (the text's own statistic), `generic` (that of the model's own texts, whatever it
                reads), `blend` (both, the generic one counting for 256 tokens), the name or folder of a
                policy of kind `text`, or anything that scores the channels for the statistic of a text.
            device: `auto`, or a name that torch knows.
            dtype: `auto`, or `float32`, `bfloat16`, `float16`.
            trust_remote_code: run the modelling file that the folder carries.

        Raises:
            PrunePolicyError: when there is no such model or policy, or the model can't be adapted.
        """
        checkpoint = Checkpoint.open(resolve(str(model), revision))
        if checkpoint.adapter.task != "causal":
            raise UnsupportedModelError(f"{model} doesn't write text, so there is nothing to adapt to it.")
        dense_groups(checkpoint.graph)
        place = parse_device(device)
        running = load_model(
            checkpoint.folder, checkpoint.adapter, parse_dtype(dtype, place), place, trust_remote_code
        )
        folder = checkpoint.folder
        tokenizer = load_tokenizer(folder, trust_remote_code) if has_tokenizer(folder) else None
        found = Running(checkpoint, running, tokenizer)
        chooser = policy if callable(policy) else chooser_named(policy, found)
        return cls(running, checkpoint.graph, chooser, keep, masks, schedule, tokenizer)

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Run the model: with all channels where it reads, with the chosen ones where it writes."""
        return self.model(*args, **named)

    def generate(self, *args: Any, **named: Any) -> Any:
        """Write with transformers' `generate`, whatever its arguments."""
        return self.model.generate(*args, **named)

    @contextmanager
    def dense(self) -> Iterator[Any]:
        """Give the model with all channels, unwatched, while the context lasts."""
        with self._with("all"):
            yield self.model

    @contextmanager
    def chosen(self, choice: ChannelChoice | None = None) -> Iterator[Any]:
        """Give the model with chosen channels, whatever it reads, while the context lasts.

        Args:
            choice: None for what is chosen for the text of the last call.
        """
        self._gather(choice or self.choose())
        with self._with("chosen"):
            yield self.model

    @property
    def seen(self) -> SeenEnergy | None:
        """What a choice for the text of the last call stands on; None before anything was read."""
        return self._text.known

    def choose(self) -> ChannelChoice:
        """Return the channels chosen for the text of the last call, choosing now where that is to come.

        Raises:
            UsageError: when nothing was read.
        """
        if self.selection.is_whole:
            return ChannelChoice({})
        text = self._text
        if text.choice is None and text.known is None:
            raise UsageError("The model has read nothing yet that channels could be chosen for.")
        return text.choice or self._decide(text)

    def gather(self) -> None:
        """Copy the weights of the channels chosen for the text of the last call, where that is to come.

        Raises:
            UsageError: when nothing was read.
        """
        self._gather(self.choose())

    @property
    def extra_bytes(self) -> int:
        """Bytes that the gathered weights take beside those of the model."""
        return self._ffn.nbytes

    @contextmanager
    def _with(self, channels: Channels) -> Iterator[None]:
        before, self._channels = self._channels, channels
        try:
            yield
        finally:
            self._channels = before

    def _before(self, model: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.selection.is_whole or self._channels == "all":
            return
        if self._channels == "chosen":
            self._ffn.narrow()
            return
        call = ModelCall.of(args, named)
        self._text = self._text_of(call)
        if call.reads:
            self._begin_reading(self._text, call)
        else:
            self._begin_writing(self._text, call)
        self._call = call

    def _text_of(self, call: ModelCall) -> AdaptiveText:
        """Return what is known of the text that the call goes on with; a cache of elsewhere tells nothing."""
        if call.start == 0:
            return AdaptiveText()
        return self._texts.get(call.cache) or AdaptiveText(key=None)

    def _begin_reading(self, text: AdaptiveText, call: ModelCall) -> None:
        text.settle(self.schedule)
        text.key = call.key_after(text.key)
        if text.key is not None and text.key in self._remembered:
            self._remembered.move_to_end(text.key)
            text.known, choice, share = self._remembered[text.key]
            text.decide(choice, share)
        else:
            self._watch.start(call.real)

    def _begin_writing(self, text: AdaptiveText, call: ModelCall) -> None:
        if text.choice is None and self._suffices(text):
            self._decide(text)
        if text.choice is None or text.wants_all(self.schedule):
            self._watch.start(call.real & ~self._is_padding(call))
            return
        if text.choice.rows not in (1, len(call.real)):
            raise UsageError(
                f"The prompt had {text.choice.rows} rows with a mask each; {len(call.real)} rows go on."
            )
        self._gather(text.choice)
        self._ffn.narrow()

    def _after(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._ffn.widen()
        call, self._call = self._call, None
        seen = self._watch.stop()
        if call is None or output is None:  # after an exception, the text is what it was before
            return
        cache = getattr(output, "past_key_values", None)
        if cache is not None:
            self._texts[cache] = self._text
        if not call.reads:
            self._text.has_written(seen, self.selection, self.schedule)
        elif seen is not None:
            self._text.has_read(seen)

    def _suffices(self, text: AdaptiveText) -> bool:
        return text.known is not None and self.selection.tokens(text.known) >= self.schedule.least

    def _is_padding(self, call: ModelCall) -> Tensor:
        """Return which rows have ended: `generate` goes on with padding there."""
        settings = self.model.generation_config
        token = settings.pad_token_id if settings.pad_token_id is not None else settings.eos_token_id
        if call.ids is None or token is None:
            return torch.zeros_like(call.real)
        return torch.isin(call.ids, torch.as_tensor(token, device=call.ids.device))

    def _decide(self, text: AdaptiveText) -> ChannelChoice:
        assert text.known is not None
        choice = self.selection.choose(text.known)
        text.decide(choice, self.selection.share(choice, text.known))
        if text.key is not None:
            self._remembered[text.key] = (text.known, choice, text.share)
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return choice

    def _gather(self, choice: ChannelChoice) -> None:
        if self._gathered is not choice:
            units = choice.units
            self._ffn.gather(units, choice.gates(units))
            self._gathered = choice
