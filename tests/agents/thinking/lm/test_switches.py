from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from prunepolicy.agents.thinking.lm.switches import Switch, SwitchObservation, switches
from prunepolicy.agents.thinking.lm.switches.sasr import Sasr
from prunepolicy.envs.thinking.settings import built
from prunepolicy.pruning.errors import UsageError


@pytest.mark.parametrize("name", switches)
def test_every_switch_divides_steps_and_continues_from_its_state(name: str) -> None:
    switch: Switch = built(switches, {"name": name})
    for norm in (1.0, 0.5):
        switch.observe(SwitchObservation(norm, warm_up=True))
    switch.observe(SwitchObservation(0.4, 0.1))
    for step in (0, 10, 500):
        for chance in (0.0, 0.5, 0.999):
            mixture = switch.mixture(step, chance)
            assert 0 <= mixture.probability <= 1
            assert mixture.imitation + mixture.reinforcement == pytest.approx(1)
    again: Switch = built(switches, {"name": name})
    again.restore(json.loads(json.dumps(switch.state())))
    assert again.mixture(3, 0.4) == switch.mixture(3, 0.4)
    assert again.state() == switch.state()


def test_the_share_of_imitation_follows_its_probability_and_that_the_gradient() -> None:
    switch, chances = Sasr(probe=5), np.random.default_rng(0)
    for _ in range(12):
        switch.observe(SwitchObservation(2.0, warm_up=True))
    assert switch.probability == pytest.approx(0.5)
    wanted, drawn, norms = [], [], np.linspace(2.0, 0.05, 600)
    for step, norm in enumerate(norms):
        mixture = switch.mixture(step, float(chances.random()))
        wanted.append(mixture.probability)
        drawn.append(mixture.imitation)
        seen = mixture.imitation or switch.wants_probe(step)
        switch.observe(SwitchObservation(float(norm) if seen else None))
    assert np.mean(drawn) == pytest.approx(np.mean(wanted), abs=0.05)
    first, last = np.array_split(wanted, 3)[0], np.array_split(wanted, 3)[2]
    assert last.mean() < 0.5 * first.mean()
    assert all(before + 1e-9 >= after for before, after in pairwise(wanted[20:]))
    assert np.mean(np.array_split(drawn, 3)[2]) < np.mean(np.array_split(drawn, 3)[0])


def test_without_probes_a_switch_that_no_longer_imitates_would_never_look_again() -> None:
    switch = Sasr(probe=3)
    switch.observe(SwitchObservation(1.0, warm_up=True))
    looks = []
    for step in range(8):
        looks.append(switch.wants_probe(step))
        switch.observe(SwitchObservation(0.1 if looks[-1] else None))
    assert looks == [False, False, False, True, False, False, False, True]
    assert switch.probability < 0.2


def test_drift_from_the_start_pulls_back_to_imitation() -> None:
    switch = Sasr(pull=0.2, drift=0.5)
    switch.observe(SwitchObservation(1.0, warm_up=True))
    before = switch.probability
    switch.observe(SwitchObservation(None, divergence=1.5))
    assert switch.probability == pytest.approx(before + 0.2)


def test_schedules_fall_and_both_losses_of_chord_count() -> None:
    cosine, chord = (built(switches, {"name": name, "steps": 100}) for name in ("cosine", "chord"))
    probabilities = [cosine.mixture(step, 0.5).probability for step in range(0, 120, 10)]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[0] == pytest.approx(0.95)
    assert probabilities[-1] == pytest.approx(0.02)
    assert chord.mixture(0, 0.99).imitation == pytest.approx(0.9)
    assert chord.mixture(100, 0.0).reinforcement == pytest.approx(0.95)


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(UsageError, match=r"switch sasr: unknown setting 'gama'.*gamma"):
        built(switches, {"name": "sasr", "gama": 1})
