"""Find out what a configuration offers: candidates by the names of its numbers, tried one by one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, product

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.derived.adapter import DerivedAdapter
from prunepolicy.pruning.adapters.derived.described import Described, NoGroupsError
from prunepolicy.pruning.adapters.derived.heads import Heads, hidden_size
from prunepolicy.pruning.adapters.derived.movement import Axis, compared, movement
from prunepolicy.pruning.adapters.derived.network import completed, loader_of, network, task_of
from prunepolicy.pruning.adapters.derived.offer import Findings, Layout, Offer, axis_key
from prunepolicy.pruning.adapters.derived.paths import joined, number, restated, setting
from prunepolicy.pruning.adapters.derived.settings_by_name import EXPERTS, HEADS, KV_HEADS, is_width
from prunepolicy.pruning.adapters.derived.small_copy import small_copies
from prunepolicy.pruning.adapters.derived.trial import CutTrial, OtherTensorsError
from prunepolicy.pruning.adapters.transformer import VOCABULARY_KEY
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.io.transformers_loading import without_bars

MOST_LAYOUTS = 16
UNCOUNTED = {
    "ffn": "its configuration states no width of feed-forward blocks, but a ratio or a rule",
    "kv_head": "its configuration states no number of heads under a known name",
    "layer": "they are no single stack that its configuration counts",
}
"""Why kinds of unit aren't offered that no number counts."""
logger = logging.getLogger(__name__)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers from talking about configurations that are only tried, while the context lasts."""
    from transformers.utils import logging as library

    level = library.get_verbosity()
    library.set_verbosity(logging.CRITICAL)
    try:
        with without_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.set_verbosity(level)


class NoTrialError(UnsupportedModelError):
    """No copy of the network is small enough to be tried, or none runs."""


def derive(config: Config) -> Findings:
    """Return what a small copy of the network that `config` describes can lose.

    Raises:
        UnsupportedModelError: when transformers can't build it, or it reads neither text nor images.
        NoTrialError: when no small copy of it runs.
    """
    auto_class = loader_of(config)
    try:
        whole = completed(config)
        built = network(whole, auto_class)
    except Exception as error:  # The library trusts the configuration, so that anything may be raised.
        raise UnsupportedModelError(
            f"transformers can't build {config.get('model_type')!r} from config.json: {error!r:.120}."
        ) from error
    task_of(built, auto_class)
    with quietly():
        return _found(_first_that_runs(whole, auto_class))


def _found(trial: CutTrial) -> Findings:
    """Return what passes the trial, and why the rest doesn't."""
    offers: list[Offer] = []
    refusals: dict[str, str] = {}
    for kind, candidates in _candidates(Described(trial.config, trial.auto_class)).items():
        reasons = []
        for candidate in candidates:
            found = _tried(candidate, trial)
            if isinstance(found, Offer):
                offers.append(found)
                if kind != "ffn":
                    break
            else:
                reasons.append(found)
        if not any(offer.kind == kind for offer in offers) and (reasons or kind in UNCOUNTED):
            refusals[kind] = reasons[0] if reasons else UNCOUNTED[kind]
    return Findings(offers=tuple(offers), refusals=refusals)


def _first_that_runs(config: Config, auto_class: str) -> CutTrial:
    """Return a trial of the smallest copy that answers.

    Raises:
        NoTrialError: when none does.
    """
    reason = "it would be too large"
    for copy in small_copies(config, auto_class):
        try:
            return CutTrial(copy, auto_class)
        except Exception as error:  # The library trusts the configuration, so that anything may be raised.
            reason = f"{type(error).__name__}: {error}"
            logger.debug("a small copy doesn't run", exc_info=True)
    raise NoTrialError(
        f"No small copy of {config.get('model_type')!r} can be tried: {reason:.160}; so nothing is offered."
    )


def _candidates(found: Described) -> dict[str, list[Offer]]:
    """Return what might be offered, by kind of unit."""
    config, part, stack = found.config, found.part, found.stack
    settings = setting(config, part) if part else config
    widths = [key for key in settings if is_width(key) and _may_count(config, joined(part, key))]
    return {
        "ffn": [Offer(kind="ffn", tie=joined(part, key)) for key in widths],
        "kv_head": list(_heads(config, part)),
        "expert": [Offer(kind="expert", tie=path) for path in _experts(config, part)],
        "layer": [Offer(kind="layer", tie=stack.key)] if stack else [],
        "vocabulary": [Offer(kind="vocabulary", tie=VOCABULARY_KEY)] if _reads_one_text(found) else [],
    }


def _may_count(config: Config, path: str) -> bool:
    """Return whether a number at `path` may count units; one that is left to a rule may."""
    found = number(config, path)
    return setting(config, path) is None or (found is not None and found > 1)


def _reads_one_text(found: Described) -> bool:
    """Return whether a network reads text alone, and as one stream, so that its tokens have one meaning."""
    reads = getattr(found.network.model, "main_input_name", None) == "input_ids"
    return reads and not found.part and not found.network.settings.is_encoder_decoder


def _experts(config: Config, part: str) -> Iterator[str]:
    """Yield the path of the number of experts, where there are some."""
    paths = (joined(part, key) for key in EXPERTS)
    yield from islice((path for path in paths if (number(config, path) or 1) > 1), 1)


def _heads(config: Config, part: str) -> Iterator[Offer]:
    heads = next((path for key in HEADS if number(config, path := joined(part, key))), None)
    if heads is None:
        return
    settings = setting(config, part) if part else config
    kv_heads = next((joined(part, key) for key in KV_HEADS if key in settings), heads)
    for head_dim in (joined(part, "head_dim"), ""):
        yield Offer(kind="kv_head", tie=kv_heads, heads=heads, head_dim=head_dim)


def _tried(candidate: Offer, trial: CutTrial) -> Offer | str:
    """Return the candidate with the layout that passes, or why none does."""
    reason = ""
    for layouts in _layouts(candidate, trial):
        offer = candidate.model_copy(update={"layouts": layouts})
        try:
            adapter = DerivedAdapter(trial.config, Findings(offers=(offer,)))
            said = trial.verdict(adapter, offer.kind)
        except (NoGroupsError, OtherTensorsError) as error:
            return str(error)
        except Exception as error:  # The library trusts the configuration, so that anything may be raised.
            logger.debug("the trial of %s broke", offer, exc_info=True)
            fits = "size of tensor" not in str(error)
            why = f"{type(error).__name__}: {error!s:.100}" if fits else "not all of its sizes follow"
            said = f"the network without them doesn't run ({why})"
        if not said:
            return _with_query_heads(offer, trial) if offer.kind == "kv_head" else offer
        reason = reason or said
    return reason


def _with_query_heads(offer: Offer, trial: CutTrial) -> Offer:
    """Return an offer of KV heads with what is found of query heads: whether they go, and by which rule."""
    adapter = DerivedAdapter(trial.config, Findings(offers=(offer,)))
    graph = adapter.units(trial.config, adapter.shapes(trial.config))
    queries = bool(graph.of_kind("query_head")) and not trial.verdict(adapter, "query_head")
    return offer.model_copy(update={"queries": queries, "divides": _must_divide(offer, trial)})


def _must_divide(offer: Offer, trial: CutTrial) -> bool:
    """Return whether the library refuses numbers of query heads that don't divide the hidden size."""
    config, heads, hidden = trial.config, Heads(offer, trial.config), hidden_size(trial.config, offer.heads)
    odd = next((n for n in range(1, hidden + 2) if hidden % (n * heads.per_kv)), heads.kv)
    changes = heads.stated(odd, heads.per_kv)
    try:
        network(restated(config, changes), trial.auto_class)
    except Exception:  # The library trusts the configuration, so that anything may be raised.
        return True
    return False


def _layouts(candidate: Offer, trial: CutTrial) -> Iterator[dict[str, Layout]]:
    """Yield ways in which the entries of units may lie, for axes of which a unit owns several."""
    choices: dict[str, tuple[Layout, ...]] = {}
    if candidate.kind == "ffn":
        moved = movement(trial.config, trial.auto_class, candidate.tie)
        axes = moved.axes if moved else {}
        choices = {axis_key(axis): ("blocks", "runs") for axis in axes if moved and moved.per_unit(axis) > 1}
    elif candidate.kind == "kv_head":
        choices = {axis_key(axis): ("runs", "query|key|value") for axis in _fused(candidate, trial)}
    for chosen in islice(product(*choices.values()), MOST_LAYOUTS):
        yield {axis: layout for axis, layout in zip(choices, chosen, strict=True) if layout != "runs"}


def _fused(candidate: Offer, trial: CutTrial) -> Iterator[Axis]:
    """Yield axes that may hold queries, keys and values: as long as all three together."""
    heads = Heads(candidate, trial.config)
    twice = heads.stated(2 * heads.kv, heads.per_kv)
    moved = compared(trial.config, trial.auto_class, twice, heads.explicit_size)
    together = (heads.queries + 2 * heads.kv) * heads.size
    return (axis for axis, (before, _) in moved.items() if before == together)
