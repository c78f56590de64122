from __future__ import annotations

import pytest
import yaml

from prunepolicy.agents.thinking.lm.health import ALARMS, AlarmRecipe, HealthMonitor
from prunepolicy.pruning.errors import PrunePolicyError

HEALTHY = {
    "think": 0.5,
    "zero_variance": 0.2,
    "reward": 0.3,
    "clipped_length": 0.0,
    "verifier_errors": 0.0,
    "kl": 0.1,
    "unfinished": 0.1,
}
SICK = {
    "mode_collapse": {"think": 1.0},
    "dead_reward": {"zero_variance": 1.0},
    "length_explosion": {"clipped_length": 0.9},
    "unfinished_thoughts": {"unfinished": 0.8},
    "drift": {"kl": 3.0},
    "verifier_errors": {"verifier_errors": 0.4},
}


def test_every_alarm_has_a_setting_and_a_way_to_be_raised() -> None:
    assert set(SICK) == set(ALARMS) == set(AlarmRecipe.model_fields) - {"patience"}


@pytest.mark.parametrize("name", SICK)
def test_an_alarm_waits_speaks_once_and_begins_anew(name: str) -> None:
    watch = HealthMonitor(AlarmRecipe(patience=2, **{**dict.fromkeys(ALARMS, "off"), name: "warn"}))
    sick = {**HEALTHY, **SICK[name]}
    said = [watch.check(row) for row in (sick, HEALTHY, sick, sick, sick, HEALTHY, sick, sick)]
    assert [len(sentences) for sentences in said] == [0, 0, 0, 1, 0, 0, 0, 1]
    assert said[3][0].endswith(".")


def test_an_alarm_that_stops_says_how_to_go_on() -> None:
    watch = HealthMonitor(AlarmRecipe(patience=1))
    with pytest.raises(PrunePolicyError, match=r"nothing is learned.*alarms\.dead_reward=off"):
        watch.check({**HEALTHY, **SICK["dead_reward"]})


def test_steps_that_do_not_measure_change_nothing() -> None:
    watch = HealthMonitor(AlarmRecipe(patience=2))
    between = {name: value for name, value in HEALTHY.items() if name != "kl"}
    far = {**HEALTHY, "kl": 3.0}
    assert [len(watch.check(row)) for row in (far, between, between, far)] == [0, 0, 0, 1]


def test_the_word_off_may_stand_bare_in_yaml() -> None:
    assert AlarmRecipe.model_validate(yaml.safe_load("{dead_reward: off, drift: 'off'}")).dead_reward == "off"
