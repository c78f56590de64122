from __future__ import annotations

import numpy as np
import pytest

from prunepolicy.envs.shaping import Outcomes, shapings
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

DENSE = np.linspace(5, 1, 16)
SPECTRAL = ("ks", "ks_inverse", "ks_scale_free", "log_spectrum", "wasserstein")


def of(*kept: np.ndarray) -> Outcomes:
    return Outcomes({"dense_spectrum": np.stack([DENSE] * len(kept)), "kept_spectrum": np.stack(kept)})


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_rewards_prefer_the_spectrum_that_changed_less(name: str) -> None:
    same, close, far = DENSE, DENSE - np.linspace(0, 0.4, 16), DENSE - np.linspace(0, 0.95, 16)
    rewards = shapings[name](of(same, close, far))
    assert rewards[0] > rewards[1] > rewards[2]


def test_scale_free_rewards_forgive_shrinking() -> None:
    shrunk = of(0.5 * DENSE)
    assert shapings["ks"](shrunk)[0] < -0.1
    assert shapings["ks_scale_free"](shrunk)[0] == pytest.approx(0)
    assert shapings["wasserstein"](shrunk)[0] == pytest.approx(0, abs=1e-12)
    assert shapings["log_spectrum"](shrunk)[0] == pytest.approx(np.log(0.5))


def test_the_published_reward_of_equal_spectra_is_its_constant() -> None:
    assert shapings["ks_inverse"](of(DENSE))[0] == 99_999


@pytest.mark.parametrize("name", SPECTRAL)
def test_vanished_singular_values_and_other_lengths_stay_finite(name: str) -> None:
    assert np.isfinite(shapings[name](of(np.append(DENSE[:6], 0.0)))).all()


def test_missing_columns_and_unknown_names_are_named() -> None:
    with pytest.raises(PrunePolicyError, match=r"output_error.*dense_spectrum"):
        shapings["function_aware"](of(DENSE))
    with pytest.raises(UsageError, match="function_aware"):
        shapings["function_awar"]


def test_a_reward_that_is_no_number_is_refused() -> None:
    with pytest.raises(PrunePolicyError, match="finite"):
        shapings["function_aware"](Outcomes({"output_error": np.array([0.1, np.nan])}))


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(PrunePolicyError, match="equally long"):
        Outcomes({"a": np.zeros(2), "b": np.zeros(3)})
