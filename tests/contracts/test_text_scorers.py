"""What every text scorer must hold, on invented texts of a few domains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prunepolicy.policy.text_scores import KnownText, KnownTexts, TextScorer, text_scorers
from prunepolicy.policy.text_scores.agreement import lost_energy
from prunepolicy.pruning.statistics.text_energy import TextEnergy

SIZES = {"layers.0.ffn": 48, "layers.1.ffn": 64}
DOMAINS, TEXTS = 6, 5


def energies(generator: torch.Generator, around: dict[str, Tensor], tokens: int) -> TextEnergy:
    """What so many tokens show of energies: a gamma variable per channel, of that mean."""
    seen = {}
    for name, mean in around.items():
        drawn = torch.randn(tokens, len(mean), generator=generator)
        seen[name] = mean * drawn.square().mean(0)
    return TextEnergy(tokens, seen)


def invented(seed: int = 0) -> tuple[KnownTexts, list[KnownText]]:
    """Known texts, and a text of each of a few domains that aren't among them."""
    generator = torch.Generator().manual_seed(seed)
    base = {name: torch.randn(size, generator=generator).exp() for name, size in SIZES.items()}
    known: list[KnownText] = []
    others: list[KnownText] = []
    for domain in range(2 * DOMAINS):
        shift = {name: torch.randn(size, generator=generator) for name, size in SIZES.items()}
        around = {name: base[name] * (0.4 * shift[name]).exp() for name in SIZES}
        for _ in range(TEXTS):
            pieces = [energies(generator, around, count) for count in (4, 8, 400)]
            shown = (pieces[0], TextEnergy.pooled(pieces[:2]))
            (known if domain < DOMAINS else others).append(KnownText(domain, shown, pieces[2]))
    norms = {name: torch.rand(size, generator=generator) + 0.5 for name, size in SIZES.items()}
    generic = TextEnergy(8192, {name: base[name] * 1.2 for name in SIZES})
    return KnownTexts(generic, norms, known), others


def fitted(name: str) -> TextScorer:
    scorer = text_scorers[name]()
    scorer.fit(invented()[0])
    return scorer


@pytest.mark.parametrize("name", text_scorers)
def test_one_finite_score_per_unit_that_depends_on_the_text_alone(name: str) -> None:
    known, others = invented()
    scorer = fitted(name)
    for few in others[0].shown:
        before = {group: energy.clone() for group, energy in few.energy.items()}
        first, again = (scorer.scores(few, known.norms) for _ in range(2))
        assert list(first) == list(SIZES)
        for group, size in SIZES.items():
            assert first[group].shape == (size,)
            assert torch.isfinite(first[group]).all()
            assert torch.equal(first[group], again[group])
            assert torch.equal(few.energy[group], before[group])


@pytest.mark.parametrize("name", text_scorers)
def test_what_was_learned_is_tensors_that_restore_the_scorer(name: str) -> None:
    known, others = invented()
    scorer, restored = fitted(name), text_scorers[name]()
    assert all(torch.isfinite(numbers).all() for numbers in scorer.numbers.values())
    restored.numbers = {key: numbers.clone() for key, numbers in scorer.numbers.items()}
    few = others[0].shown[-1]
    first, again = (one.scores(few, known.norms) for one in (scorer, restored))
    assert all(torch.equal(first[group], again[group]) for group in SIZES)


@pytest.mark.parametrize("name", text_scorers)
def test_fitting_twice_gives_the_same_numbers(name: str) -> None:
    first, again = fitted(name).numbers, fitted(name).numbers
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", text_scorers)
def test_a_channel_that_is_silent_everywhere_goes_first(name: str) -> None:
    known, others = invented()
    silent = {group: torch.arange(size) < 3 for group, size in SIZES.items()}

    def without(text: TextEnergy) -> TextEnergy:
        return TextEnergy(
            text.tokens, {group: e.masked_fill(silent[group], 0.0) for group, e in text.energy.items()}
        )

    texts = [KnownText(t.domain, tuple(map(without, t.shown)), without(t.rest)) for t in known.texts]
    scorer = text_scorers[name]()
    scorer.fit(KnownTexts(without(known.generic), known.norms, texts))
    scores = scorer.scores(without(others[0].shown[0]), known.norms)
    for values in scores.values():
        assert set(values.topk(3, largest=False).indices.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("name", ["blend", "blend_per_layer", "low_rank"])
def test_what_shrinks_loses_less_on_unknown_domains_than_either_end(name: str) -> None:
    known, others = invented()

    def lost(name: str) -> float:
        scorer = fitted(name)
        return sum(lost_energy(scorer.energy(text.shown[1]), text.rest, known.norms) for text in others)

    assert lost(name) < min(lost("plain"), lost("generic"))


def test_an_estimate_that_is_right_loses_the_least_there_is() -> None:
    known, others = invented()
    rest = others[0].rest
    assert lost_energy(rest.energy, rest, known.norms) == pytest.approx(1.0)
    reversed_order = {group: 1 / energy for group, energy in rest.energy.items()}
    assert lost_energy(reversed_order, rest, known.norms) > 2
