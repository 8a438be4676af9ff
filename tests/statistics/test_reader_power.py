"""Power of reader studies, against simulation by the model that it assumes."""

import numpy as np
import pytest
from scipy import stats

from sonosynth.statistics.reader_power import (
    ReaderModel,
    auc_variance,
    average_error,
    detection_power,
    equivalence_power,
)


def test_the_variance_of_an_auc_is_the_example_of_hanley_and_mcneil():
    # Their section on the example of 51 abnormal and 58 normal images: area 0.893, standard error 0.032.
    assert auc_variance(0.893, 58, 51) ** 0.5 == pytest.approx(0.032, abs=0.0015)


def test_without_an_effect_the_power_is_the_level():
    assert detection_power(0.5, 5, 50) == pytest.approx(0.05)


def test_power_grows_with_readers_and_images_and_shrinks_with_reader_variance():
    assert detection_power(0.6, 3, 40) < detection_power(0.6, 6, 40) < detection_power(0.6, 6, 100)
    assert equivalence_power(0.15, 4, 40) < equivalence_power(0.15, 8, 100)
    assert detection_power(0.6, 5, 60, ReaderModel(reader_sd=0.1)) < detection_power(0.6, 5, 60)


@pytest.mark.parametrize(("auc", "margin"), [(0.5, 0.12), (0.58, 0.15)])
def test_power_is_that_of_simulated_averages(auc, margin):
    r, n, model = 6, 50, ReaderModel()
    error, df = average_error(auc, r, n, model)
    rng = np.random.default_rng(0)
    value = auc + error * rng.standard_normal(100_000)
    shown = error * np.sqrt(rng.chisquare(df, 100_000) / df)
    detected = np.abs(value - 0.5) / shown > stats.t.ppf(0.975, df)
    equal = (margin - np.abs(value - 0.5)) / shown > stats.t.ppf(0.95, df)
    assert detection_power(auc, r, n, model) == pytest.approx(detected.mean(), abs=0.01)
    assert equivalence_power(margin, r, n, model, auc) == pytest.approx(equal.mean(), abs=0.03)


def test_one_reader_is_refused():
    with pytest.raises(ValueError, match="two of each"):
        average_error(0.5, 1, 50)
