from math import isnan

import numpy as np
import pytest

from sonosynth.core.errors import SonosynthError
from sonosynth.metrics.interpretation import (
    NO_DIFFERENCE,
    at_baseline_size,
    format_value,
    interpret,
    with_baseline_rows,
)
from sonosynth.metrics.memorisation.near_copies import copy_threshold
from sonosynth.metrics.metric import get_metric, list_metrics
from sonosynth.metrics.scores import Score
from sonosynth.statistics.scores import Interval

PERCENT = "\N{NO-BREAK SPACE}%"
EVERY = list(dict.fromkeys(metric.name for metric in list_metrics()))
MEMORY = ("near_copies", "nearest_distance_ratio", "membership_auc", "data_copying")
COMPARED = [name for name in EVERY if name not in (*MEMORY, "frechet_distance_infinity")]


def row(metric, value, low=None, high=None, baseline=None, at_m=None, reference="held-out", m=100, n=200, note=""):
    """Return a row of a scorecard and the one at the size of its real baseline, whose interval is as long."""
    real_baseline_n = None if baseline is None else m
    values = (metric, "inception", reference, "all", value, low, high, baseline, real_baseline_n, n, n, note)
    score = Score(**dict(zip(Score.model_fields, values, strict=True)))
    if at_m is None:
        return score, None
    ends = {} if low is None else {"low": low + at_m - value, "high": high + at_m - value}
    return score, score.model_copy(update={"metric": f"{metric}_at_baseline_n", "value": at_m, "n_real": m} | ends)


def read(*arguments, **named):
    found = interpret(*row(*arguments, **named))
    return found.state, found.text


class TestDistances:
    def test_frechet_is_told_in_multiples_of_the_baseline(self):
        assert read("frechet_distance", 30, 28, 32, 40, 41) == (
            "similar",
            f"{NO_DIFFERENCE}; up to 1.07 times as far is possible",
        )
        assert read("frechet_distance", 80, 75, 85, 40, 90) == (
            "worse",
            "2.2 times as far from held-out images as other real images",
        )
        assert read("frechet_distance", 700, 690, 710, 40, 800)[1].startswith("20 times as far")
        assert read("frechet_distance", 41.5, 41, 42, 40, 41.5)[1].startswith("1.04 times as far")

    def test_the_comparison_is_at_the_size_of_the_baseline(self):
        # 30 is below the baseline of 40, yet at the baseline's size the distance is 50.
        assert read("frechet_distance", 30, 28, 32, 40, 50)[0] == "worse"
        assert read("frechet_distance", 50, 48, 52, 40, 40.5)[0] == "similar"

    def test_how_far_an_interval_reaches_is_told(self):
        assert read("frechet_distance", 40, 5, 75, 40, 40)[1].endswith("; up to 1.9 times as far is possible")
        assert read("frechet_distance", 40, -70, 150, 40, 40) == (
            "unclear",
            "too few images to say: 0.0 to 3.8 times the real baseline",
        )

    def test_closer_than_real_images_is_no_praise_beside_training_images(self):
        closer = "closer to {} than other real images"
        assert read("frechet_distance", 10, 8, 12, 40, 11, "train") == (
            "better",
            closer.format("training images") + "; look for copies",
        )
        assert read("kernel_distance", -0.05, -0.06, -0.04, 0.0, -0.05) == ("better", closer.format("held-out images"))

    def test_kernel_distances_have_no_multiples_since_their_baseline_is_about_zero(self):
        close = f"{NO_DIFFERENCE}; up to 0.00400 is possible (other real images {{}})"
        found = read("kernel_distance", 0.001, -0.002, 0.004, -0.0001, 0.001)
        assert found == ("similar", close.format("-0.000100"))
        assert read("cmmd", 0.001, -0.002, 0.004, 0.0001, 0.001) == ("similar", close.format("0.000100"))
        far = ("worse", "farther from held-out images than other real images")
        assert read("kernel_distance", 0.04, 0.03, 0.05, -0.0001, 0.04) == far
        assert read("kernel_distance", 0.04, 0.03, 0.05, 0.0001, 0.04) == far
        assert read("kernel_distance", 0.001, -0.002, 0.004, 0.0, 0.001, m=30) == (
            "unclear",
            "too few images to say: 30 images a side",
        )
        assert read("kernel_distance", 0.04, 0.03, 0.05, 0.0, 0.04, m=30) == far  # so few still show what is plain

    def test_realism_names_what_differs(self):
        assert read("axial_width_distance", 0.6, 0.5, 0.7, 0.2, 0.6) == (
            "worse",
            "the axial width of speckle differs from held-out images 3.0 times as much as that of other real images",
        )
        assert read("speckle_contrast_distance", 0.3, 0.05, 0.55, 0.3, 0.3, "train") == (
            "similar",
            f"{NO_DIFFERENCE}; up to 1.8 times as much is possible",
        )
        assert read("depth_profile_distance", 0.1, 0.05, 0.15, 0.3, 0.1)[0] == "better"
        assert "many times" in read("nakagami_distance", 0.1, 0.05, 0.15, 0.0, 0.1)[1]


class TestShares:
    def test_below_at_and_above_the_baseline(self):
        assert read("recall", 0.4, 0.3, 0.5, 0.9, 0.42) == (
            "worse",
            f"part of the variety of held-out images is missing: 42{PERCENT} of it is reached, by other real images "
            f"90{PERCENT}",
        )
        assert read("coverage", 0.95, 0.9, 0.97, 0.96, 0.96) == (
            "similar",
            f"{NO_DIFFERENCE}; as little as 91{PERCENT} is possible (other real images 96{PERCENT})",
        )
        assert read("precision", 0.97, 0.95, 0.99, 0.8, 0.97)[0] == "better"
        assert "look for copies" in read("authenticity", 0.5, 0.45, 0.55, 0.7, 0.5, "train")[1]
        assert (
            f"(50{PERCENT}) than other real images do (30{PERCENT})"
            in (read("authenticity", 0.5, 0.45, 0.55, 0.7, 0.5, "train")[1])
        )

    def test_more_than_real_images_is_no_praise_beside_training_images(self):
        more = f"more {{}} lie among synthetic images (97{PERCENT}) than would among other real ones (80{PERCENT})"
        assert read("recall", 0.97, 0.95, 0.99, 0.8, 0.97) == ("better", more.format("held-out images"))
        copies = more.format("training images") + "; look for copies"
        assert read("recall", 0.97, 0.95, 0.99, 0.8, 0.97, "train") == ("better", copies)
        assert read("authenticity", 0.97, 0.95, 0.99, 0.8, 0.97, "train")[1].startswith("fewer images lie too near")
        assert "copies" not in read("authenticity", 0.97, 0.95, 0.99, 0.8, 0.97, "train")[1]

    def test_full_sets_may_be_below_a_baseline_that_is_met_at_its_size(self):
        assert read("beta_recall", 0.38, 0.31, 0.46, 0.48, 0.48)[0] == "similar"

    def test_crowding_is_a_fault_too(self):
        assert read("density", 1.6, 1.5, 1.7, 1.0, 1.6) == (
            "worse",
            "crowded at what is typical of held-out images (1.60, other real images 1.00)",
        )
        assert read("density", 0.3, 0.2, 0.4, 1.0, 0.3)[0] == "worse"

    def test_how_low_an_interval_reaches_is_told(self):
        assert f"as little as 75{PERCENT} is possible" in read("precision", 0.85, 0.75, 0.92, 0.9, 0.85)[1]
        assert read("density", 1.0, 0.9, 1.2, 1.05, 1.0)[1].endswith("; 0.90 to 1.20, other real images 1.05")
        assert read("precision", 0.7, 0.4, 0.95, 0.9, 0.7) == (
            "unclear",
            f"too few images to say: 40{PERCENT} to 95{PERCENT}, other real images 90{PERCENT}",
        )

    def test_the_interval_is_that_at_the_size_of_the_baseline(self):
        score, at_baseline = row("coverage", 1.0, 0.86, 1.0, 0.98, 0.976)
        assert at_baseline_size(score, None) == Interval(1.0, 0.86, 1.0)
        at_baseline = at_baseline.model_copy(update={"low": 0.94, "high": 1.0})
        assert at_baseline_size(score, at_baseline) == Interval(0.976, 0.94, 1.0)
        assert interpret(score, at_baseline).state == "similar"  # although the interval of the full sets ends at 1
        assert isnan(at_baseline_size(score, at_baseline.model_copy(update={"low": None})).low)


class TestMemorisation:
    def copies(self, count, real=0, n=200, real_baseline_n=100):
        low, high = max(0, count / n - 0.02), count / n + 0.02
        return read(
            "near_copies", count / n, low, high, real / real_baseline_n, reference="train", m=real_baseline_n, n=n
        )

    def test_copies_are_counted_and_held_against_real_images(self):
        assert self.copies(10) == (
            "worse",
            "10 of 200 are near-copies of training images; of 100 real images, 0 are: look at them",
        )
        # A threshold set on a hundred images may let one in a thousand through.
        assert self.copies(1) == (
            "unclear",
            "1 of 200 is a near-copy of a training image; of 100 real images, 0 are: look at it",
        )
        assert self.copies(2)[0] == "worse"
        assert (self.copies(3, n=1000)[0], self.copies(4, n=1000)[0]) == ("unclear", "worse")
        assert self.copies(20, 10)[0] == "similar"
        assert self.copies(24, 10)[0] == "unclear"
        assert self.copies(60, 10)[0] == "worse"
        assert self.copies(0) == (
            "similar",
            f"no near-copy of a training image among 200; up to 2.0{PERCENT} is possible",
        )
        assert read("near_copies", 0.0, 0.0, 0.16, 0.0, reference="train", n=20)[0] == "unclear"

    @pytest.mark.parametrize("n_real", [20, 50])
    def test_thresholds_set_on_few_images_call_nobody_a_copier_too_often(self, n_real):
        def state(planted):
            limit = copy_threshold(rng.gumbel(0.3, 0.02, n_real))
            copies = int((rng.gumbel(0.3, 0.02, 500 - planted) > limit).sum()) + planted
            return self.copies(copies, n=500, real_baseline_n=n_real)[0]

        rng = np.random.default_rng(0)
        assert sum(state(0) == "worse" for _ in range(400)) < 0.025 * 400
        assert {state(25) for _ in range(50)} == {"worse"}

    def test_membership(self):
        def auc(value, low, high, baseline=None):
            return read("membership_auc", value, low, high, baseline, reference="train")

        found = f"no attack better than chance found; right in up to 57{PERCENT} of pairs is possible"
        assert auc(0.52, 0.47, 0.57) == ("similar", found)
        assert auc(0.62, 0.55, 0.69) == (
            "worse",
            f"an attacker tells training images from others, right in 62{PERCENT} of pairs (chance: 50{PERCENT})",
        )
        assert "differ (real baseline 0.65)" in auc(0.62, 0.55, 0.69, 0.65)[1]
        assert "differ" not in auc(0.62, 0.55, 0.69, 0.55)[1]
        assert auc(0.4, 0.32, 0.48)[0] == "similar"
        assert auc(0.55, 0.3, 0.8)[0] == "unclear"

    def test_ratio_of_nearest_distances(self):
        def ratio(value, low, high, baseline=1.0):
            return read("nearest_distance_ratio", value, low, high, baseline, value, "train")

        found = f"not found nearer to training images than to held-out ones; 9.5{PERCENT} nearer is possible"
        assert ratio(0.95, 0.905, 1.01) == ("similar", found)
        assert ratio(0.9, 0.86, 0.94)[0] == "worse"
        assert f"10{PERCENT} nearer" in ratio(0.9, 0.86, 0.94)[1] and "baseline" not in ratio(0.9, 0.86, 0.94)[1]
        assert "real baseline 1.10" in ratio(0.9, 0.86, 0.94, 1.1)[1]
        assert ratio(1.1, 1.05, 1.15)[0] == "similar"
        assert ratio(0.9, 0.6, 1.2)[0] == "unclear"

    def test_data_copying(self):
        def c_t(value, low, high):
            return read("data_copying", value, low, high, 0.0, value, "train")

        assert c_t(-4.0, -5.0, -2.5)[0] == "worse"
        found = "no copying found (C_T above −3); as low as −4.9 is possible"
        assert c_t(-2.9, -4.9, -0.9) == ("unclear", found)
        assert c_t(-0.9, -2.9, 1.1)[0] == "similar"
        assert c_t(4.0, 2.0, 6.0)[0] == "better"
        assert c_t(-3.4, -8.0, 1.2) == ("unclear", "too few images to say: −8.0 to 1.2, and 0 is no copying")
        assert c_t(3.4, -1.2, 8.0)[0] == "unclear"
        assert (
            c_t(-3.4, None, None) == c_t(3.4, None, None) == ("unclear", "too few images to say: C_T has no interval")
        )


class TestNothingToSay:
    @pytest.mark.parametrize("metric", EVERY)
    def test_the_note_says_why_there_is_no_value(self, metric):
        assert read(metric, None, note="needs more images") == ("none", "needs more images")

    @pytest.mark.parametrize("metric", COMPARED)
    def test_without_a_baseline(self, metric):
        assert read(metric, 0.5, 0.4, 0.6) == ("none", "no real baseline to compare with: too few images to say")

    @pytest.mark.parametrize("metric", [*COMPARED, "nearest_distance_ratio", "membership_auc"])
    def test_without_an_interval(self, metric):
        state, text = read(metric, 0.5, None, None, 0.2, 0.5)
        assert state == "unclear" and ("too few images to say" in text or "score again" in text)

    def test_extrapolation_has_no_baseline(self):
        assert read("frechet_distance_infinity", 20.0)[0] == "none"

    def test_rows_that_are_not_to_be_read_are_refused(self):
        score, at_baseline = row("recall", 0.9, 0.8, 1.0, 0.9, 0.9)
        assert at_baseline is not None
        with pytest.raises(ValueError, match="'recall_at_baseline_n' is a row at the size of a real baseline"):
            interpret(at_baseline, None)
        with pytest.raises(SonosynthError, match=r"no metric 'recal' \(did you mean 'recall'\?\)"):
            interpret(score.model_copy(update={"metric": "recal"}), None)


@pytest.mark.parametrize("metric", EVERY)
def test_every_metric_has_words_for_every_case(metric):
    for value in (0.01, 0.5, 0.99):
        for reference in ("train", "held-out"):
            text = read(metric, value, value - 0.005, value + 0.005, 0.5, value, reference)[1]
            assert text and "{" not in text and "None" not in text and not text.endswith(".")


def test_rows_are_paired_by_all_that_names_them():
    score, at_baseline = row("recall", 0.9, 0.8, 1.0, 0.9, 0.91)
    assert at_baseline is not None
    others = [
        score.model_copy(update={"reference": "train"}),
        score.model_copy(update={"class_": "benign"}),
        score.model_copy(update={"features": "texture"}),
    ]
    assert with_baseline_rows([score, at_baseline, *others]) == [
        (score, at_baseline),
        *((other, None) for other in others),
    ]


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("recall", 0.98765, "0.988"),
        ("recall_at_baseline_n", 0.5, "0.500"),
        ("frechet_distance", 32.678, "32.7"),
        ("frechet_distance", 1234.5, "1234"),
        ("kernel_distance", -0.00012345, "-0.000123"),
        ("kernel_distance", 1.5e-9, "1.50e-09"),
        ("kernel_distance", 1.5e12, "1.50e+12"),
        ("kernel_distance", 0.0, "0"),
        ("kernel_distance", None, ""),
    ],
)
def test_numbers_for_a_table(metric, value, text):
    assert format_value(get_metric(metric), value) == text
