"""Weights by the density of the target: against scipy's filter, analytic values and properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from sklearn.utils.class_weight import compute_class_weight

from convnext.tasks.regress.density import LIMIT, DensityWeights, smooth


@pytest.mark.parametrize("kernel", [0.5, 2.0, 7.3])
def test_smoothing_is_scipys(kernel: float) -> None:
    """The kernel is scipy's Gaussian filter with reflected ends, and loses no picture."""
    counts = np.random.default_rng(0).integers(0, 50, 80).astype(float)
    assert smooth(counts, kernel) == pytest.approx(gaussian_filter1d(counts, kernel, mode="reflect"))
    assert smooth(counts, kernel).sum() == pytest.approx(counts.sum())
    assert smooth(counts, 0) is counts


def test_without_a_kernel_it_is_class_balance() -> None:
    """Values in as many bins as there are values weigh as scikit-learn's balanced classes of the same sizes do."""
    values = np.repeat(np.arange(4.0), [40, 10, 25, 20])
    weights = DensityWeights.of(values, 1.0, bins=4, kernel=0)
    wanted = compute_class_weight("balanced", classes=np.arange(4.0), y=values)
    assert weights(np.arange(4.0)) == pytest.approx(wanted)


def test_strength_is_a_power_of_the_density() -> None:
    """Two values, one three times as frequent: ratios of 1, sqrt(3) and 3."""
    values = np.repeat([0.0, 1.0], [30, 10])
    for strength, ratio in ((0.0, 1), (0.5, math.sqrt(3)), (1.0, 3)):
        few, many = DensityWeights.of(values, strength, bins=2, kernel=0)(np.array([1.0, 0.0]))
        assert few / many == pytest.approx(ratio)


def test_even_targets_get_even_weights() -> None:
    """Evenly spread values weigh 1 everywhere, at the ends of the range too."""
    values = np.linspace(0, 99.999, 5000)
    assert DensityWeights.of(values, 1.0)(values) == pytest.approx(np.ones(5000), abs=0.02)


def test_neighbours_lend_their_density() -> None:
    """A value that nobody has, amid many, is not rare; one far from all others is. Without the kernel both are."""
    values = np.concatenate([np.repeat(np.arange(40.0), 20), [99.0]])
    values = values[values != 20]
    lonely, gap, usual = DensityWeights.of(values, 0.5, bins=100)(np.array([99.0, 20.0, 10.0]))
    assert gap < 1.3 * usual
    assert lonely > 3 * usual


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=60),
    st.floats(0, 1),
    st.floats(0, 5),
)
@settings(deadline=None, max_examples=150)
def test_weights_are_bounded_and_of_mean_one(values: list[float], strength: float, kernel: float) -> None:
    """Whatever the targets: from 1 / 10 to 10, 1 on average over the known training values, 0 where one is missing."""
    column = np.array(values)
    found = DensityWeights.of(column, strength, kernel=kernel)(column)
    known = ~np.isnan(column)
    assert (found[~known] == 0).all()
    assert ((found[known] >= 1 / LIMIT - 1e-9) & (found[known] <= LIMIT + 1e-9)).all()
    assert not known.any() or found[known].mean() == pytest.approx(1, abs=1e-6)


def test_values_beyond_the_training_pictures() -> None:
    """They weigh as the outermost ones; an array keeps its shape."""
    values = np.repeat([0.0, 5.0, 10.0], [50, 30, 5])
    weights = DensityWeights.of(values, 1.0)
    assert weights(np.array([[-99.0, 0.0], [10.0, 99.0]])).shape == (2, 2)
    assert weights(np.array([-99.0, 99.0])).tolist() == weights(np.array([0.0, 10.0])).tolist()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5"),
        ({"strength": 1.0, "bins": 0}, "at least 1 bin"),
        ({"strength": 1.0, "kernel": -1.0}, "the kernel at least 0"),
        ({"strength": 1.0, "limit": 0.5}, "limit at least 1"),
    ],
)
def test_wrong_settings_are_refused(kwargs: dict[str, float], message: str) -> None:
    """Each says the value and its rule; an infinite target too."""
    with pytest.raises(ValueError, match=message):
        DensityWeights.of(np.arange(5.0), **kwargs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="infinite"):
        DensityWeights.of(np.array([1.0, math.inf]), 1.0)
