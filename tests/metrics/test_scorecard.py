import json
from dataclasses import replace

import numpy as np
import pytest

from sonosynth.core.errors import ClassError, FeatureError, LeakageError, SourceError
from sonosynth.data.encoding import encodings_to_columns
from sonosynth.data.imageset import ImageSet
from sonosynth.data.readers.base import Encoding
from sonosynth.metrics import scorecard as module
from sonosynth.metrics.comparison import BASELINE_DRAWS, Comparison, Space, comparisons
from sonosynth.metrics.distances import radiomics
from sonosynth.metrics.distances.frechet import frechet_distance, frechet_infinity, frechet_interval
from sonosynth.metrics.distances.kernel import cmmd, kernel_distance, kernel_interval, polynomial_kernel
from sonosynth.metrics.diversity.alpha_precision import alpha_precision
from sonosynth.metrics.diversity.precision_recall import prdc
from sonosynth.metrics.interpretation import interpret, with_baseline_rows
from sonosynth.metrics.metric import PARTS, list_metrics
from sonosynth.metrics.scorecard import score
from sonosynth.metrics.scores import AT_BASELINE, Score, read_scores
from sonosynth.metrics.sets import common_classes, compression_note
from sonosynth.phantoms.phantom import phantom

KEYS = {
    "metric", "features", "reference", "class", "value", "low", "high", "real_baseline", "real_baseline_n", "n_real",
    "n_synthetic",
    "note",
}  # fmt: skip


def image_set(
    counts: dict[str, int], seed: int, brightness: float = 90, synthetic: bool = False, per_group: int = 1, px: int = 8
) -> ImageSet:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    means = brightness + 20 * labels[:, None, None]
    pixels = np.clip(means + 25 * rng.standard_normal((len(labels), px, px)), 0, 255)
    groups = np.arange(len(labels)) // per_group
    names = tuple(str(i) for i in range(len(labels)))
    return ImageSet(pixels.astype(np.uint8), labels, tuple(counts), groups, names, synthetic)


def pixels_as_features(images, name="inception", cache=None, progress=None):
    if progress:
        progress(len(images), len(images))
    return images.images.reshape(len(images), -1).astype(np.float32) / 64


def pixel_moments(images: np.ndarray) -> np.ndarray:
    return np.stack([images.mean((1, 2)), images.std((1, 2)), images.max((1, 2)), images[:, 0, 0]], axis=1)


@pytest.fixture
def fast(monkeypatch):
    """Pixels instead of networks and of radiomic features: the scorecard's own work is the same."""
    monkeypatch.setattr(module, "embed", pixels_as_features)
    monkeypatch.setattr(radiomics, "radiomic_features", pixel_moments)


def scorecard(*sets, **how) -> list[Score]:
    return score(*sets, **how).scores


UNITS = [metric.name for metric in list_metrics("realism")]
COUNTS = {"benign": 60, "malignant": 40, "normal": 10}


def distances(*sets, **how) -> list[Score]:
    """Return the rows of the Fréchet and the kernel distance."""
    wanted = {"frechet_distance", "kernel_distance"}
    return [
        row for row in scorecard(*sets, parts=("distances",), **how) if row.metric.removesuffix(AT_BASELINE) in wanted
    ]


def rows_by_key(scores: list[Score]) -> dict[tuple[str, str, str], Score]:
    found = {(s.metric, s.reference, s.class_): s for s in scores}
    assert len(found) == len(scores)
    return found


@pytest.mark.long
def test_rows_sizes_and_values_are_those_of_the_metrics(fast):
    train, held_out = image_set(COUNTS, 0), image_set({"benign": 30, "malignant": 15, "normal": 10}, 1)
    synthetic = image_set({"benign": 50, "malignant": 45, "normal": 30}, 2, brightness=100, synthetic=True)
    found = rows_by_key(distances(train, synthetic, held_out))
    metrics = [f"{kind}_distance{size}" for kind in ("frechet", "kernel") for size in ("", "_at_baseline_n")]
    # 10 normal training images and 15 malignant held-out images are too few for rows of their own.
    expected = [
        ("train", "all"),
        ("train", "benign"),
        ("train", "malignant"),
        ("held-out", "all"),
        ("held-out", "benign"),
    ]
    assert set(found) == {(metric, *where) for metric in metrics for where in expected}

    for (_, reference, class_), row in found.items():
        real = train if reference == "train" else held_out
        parts = [part if class_ == "all" else part.of_class(class_) for part in (real, synthetic)]
        if row.metric.endswith("_at_baseline_n"):
            assert row.n_real == row.n_synthetic == row.real_baseline_n
            assert row.low < row.value < row.high
            continue
        assert (row.n_real, row.n_synthetic) == (len(parts[0]), len(parts[1]))
        x, y = map(pixels_as_features, parts)
        distance = frechet_distance if row.metric.startswith("frechet") else kernel_distance
        assert row.value == pytest.approx(distance(x, y), rel=1e-6)
        assert row.low < row.value < row.high
    kernel = found["kernel_distance", "train", "benign"]
    x, y = pixels_as_features(train.of_class("benign")), pixels_as_features(synthetic.of_class("benign"))
    c = Comparison.of_features(x, y)
    matrix = polynomial_kernel(c.space.gram, x.shape[1])
    assert (kernel.low, kernel.high) == pytest.approx(kernel_interval(c, matrix, kernel.value), rel=0.4)
    frechet = found["frechet_distance", "train", "benign"]
    width = np.diff(frechet_interval(frechet.value, c, c.units, 0))[0]
    assert frechet.high - frechet.low == pytest.approx(width, rel=0.4)


@pytest.mark.long
def test_baseline_sizes_follow_the_protocol(fast):
    train, held_out = image_set({"a": 100}, 0), image_set({"a": 30}, 1)

    def real_baseline_n(synthetic_n: int, held: ImageSet | None, reference: str = "train") -> int | None:
        rows = rows_by_key(distances(train, image_set({"a": synthetic_n}, 2), held))
        return rows["frechet_distance", reference, "all"].real_baseline_n

    assert real_baseline_n(200, None) == 50
    assert real_baseline_n(200, held_out) == 65
    assert real_baseline_n(200, held_out, "held-out") == 30
    assert real_baseline_n(25, held_out) == 25
    assert real_baseline_n(19, held_out) is None


def test_without_a_baseline_there_is_no_row_at_its_size(fast):
    rows = distances(image_set({"a": 30}, 0), image_set({"a": 30}, 1))
    assert {row.metric for row in rows} == {"frechet_distance", "kernel_distance"}
    assert all(row.real_baseline is None and row.real_baseline_n is None for row in rows)


@pytest.mark.long
def test_the_baseline_is_met_by_images_of_the_same_kind_and_not_by_others(fast):
    train, held_out = image_set({"a": 120}, 0), image_set({"a": 120}, 1)
    for metric in ("frechet_distance_at_baseline_n", "kernel_distance_at_baseline_n"):
        alike = rows_by_key(distances(train, image_set({"a": 100}, 2), held_out))[metric, "held-out", "all"]
        other = rows_by_key(distances(train, image_set({"a": 100}, 2, 110), held_out))[metric, "held-out", "all"]
        full = rows_by_key(distances(train, image_set({"a": 100}, 2, 110), held_out))[
            "frechet_distance", "train", "all"
        ]
        assert alike.real_baseline == other.real_baseline
        assert abs(alike.value - alike.real_baseline) < 0.2 * (other.value - other.real_baseline)
        assert full.real_baseline_n == 100
        if metric.startswith("frechet"):
            assert alike.value == pytest.approx(alike.real_baseline, rel=0.1)


def draws_of(train: ImageSet, synthetic: ImageSet, held_out: ImageSet | None = None) -> tuple[Space, list, list]:
    """Return the space of these images, their comparisons, and the draws of the real baseline of each."""
    sets = {"train": train, "synthetic": synthetic}
    if held_out is not None:
        sets = {"train": train, "held-out": held_out, "synthetic": synthetic}
    whole = ImageSet.concatenate(sets.values())
    space = Space("pixels", np.empty((len(whole), 0)), whole.groups, sets, labels=whole.labels)
    found = comparisons(space, ())
    return space, found, [c.baseline_draws() for c in found]


def test_baseline_draws_take_one_image_per_group():
    train, synthetic = image_set({"a": 200}, 0, per_group=4), image_set({"a": 80}, 1, synthetic=True)
    space, _, [found] = draws_of(train, synthetic)
    assert found.m == 25 and len(found.draws) == BASELINE_DRAWS
    for draw in found.draws:
        real = np.concatenate([draw.real.real, draw.real.synthetic])
        assert len(draw.real.real) == len(draw.real.synthetic) == len(draw.synthetic.synthetic) == 25
        assert len(np.unique(space.groups[real])) == len(real) == 50
        assert (draw.synthetic.real == draw.real.real).all()
        assert real.max() < 200 <= draw.synthetic.synthetic.min()
        like_real, like_synthetic = (one.synthetic for one in draw.redealt)
        assert not set(like_real) & set(like_synthetic)
        assert all((one.real == draw.real.real).all() for one in draw.redealt)
    assert any(draw.redealt[0].synthetic.max() >= 200 for draw in found.draws)
    assert len({tuple(draw.real.real) for draw in found.draws}) > 1


def test_baseline_draws_have_the_classes_of_the_sets_that_they_stand_for():
    train, held_out = image_set({"a": 40, "b": 20}, 0), image_set({"a": 60, "b": 60}, 1)
    synthetic = image_set({"a": 80, "b": 40}, 2, synthetic=True)
    space, found, draws = draws_of(train, synthetic, held_out)

    def share(images: np.ndarray) -> float:
        return float((space.labels[images] == 0).mean())

    for c, of_reference in zip(found, draws, strict=True):
        expected = 2 / 3 if c.reference == "train" else 1 / 2
        for draw in of_reference.draws:
            assert share(draw.real.real) == pytest.approx(expected, abs=1 / of_reference.m)
            for other in (draw.real, draw.synthetic, *draw.redealt):
                assert share(other.synthetic) == pytest.approx(2 / 3, abs=1 / of_reference.m)


def test_a_wrong_class_mix_stays_visible_beside_the_baseline(fast):
    train, held_out = image_set({"a": 60, "b": 60}, 0), image_set({"a": 60, "b": 60}, 1)
    synthetic = image_set({"a": 110, "b": 10}, 2, synthetic=True)
    found = rows_by_key(distances(train, synthetic, held_out))["kernel_distance_at_baseline_n", "held-out", "all"]
    assert found.low > found.real_baseline


def test_few_groups_give_no_interval(fast):
    train = image_set({"a": 60}, 0, per_group=20)
    for row in distances(train, image_set({"a": 60}, 1)):
        assert row.low is None and row.high is None


def test_a_seed_repeats_and_features_are_scored_one_after_the_other(fast):
    train, synthetic = image_set({"a": 50}, 0), image_set({"a": 50}, 1)
    steps = []
    first = distances(train, synthetic, seed=1, progress=lambda done, total, _: steps.append((done, total)))
    assert distances(train, synthetic, seed=1) == first
    assert distances(train, synthetic, seed=2) != first
    assert steps == [(50, 100), (100, 100)]


class TestClasses:
    def test_rows_cover_the_common_classes_in_any_order(self, fast):
        train = image_set({"benign": 40, "malignant": 40}, 0)
        synthetic = replace(image_set({"malignant": 30, "odd": 30}, 1), synthetic=True)
        classes, notes = common_classes(train, synthetic)
        assert classes == ("malignant",)
        assert "real images have classes that not all sets have, left out: benign (40 images)" in notes[0]
        assert "left out: odd (30 images)" in notes[1]
        rows = rows_by_key(distances(train, synthetic))
        assert {row.class_ for row in rows.values()} == {"all", "malignant"}
        assert all(row.n_synthetic == 30 for key, row in rows.items() if "baseline" not in key[0])
        value = rows["frechet_distance", "train", "all"].value
        expected = frechet_distance(
            *map(pixels_as_features, (train.of_class("malignant"), synthetic.of_class("malignant")))
        )
        assert value == pytest.approx(expected, rel=1e-6)

    def test_an_empty_class_is_not_common(self):
        train = image_set({"benign": 40, "malignant": 40}, 0)
        assert common_classes(train, train.of_class("benign"))[0] == ("benign",)

    def test_without_a_common_class_all_images_are_compared(self, fast):
        train, synthetic = image_set({"benign": 40, "normal": 20}, 0), image_set({"unknown": 50}, 1, synthetic=True)
        classes, notes = common_classes(train, synthetic)
        assert classes == () and "no class in common" in notes[0]
        rows = distances(train, synthetic)
        assert {row.class_ for row in rows} == {"all"}
        assert (rows[0].n_real, rows[0].n_synthetic) == (60, 50)

    def test_other_proportions_are_told(self):
        train, equal = image_set({"a": 60, "b": 30}, 0), image_set({"a": 40, "b": 20}, 1)
        assert common_classes(train, equal) == (("a", "b"), ())
        _, notes = common_classes(train, image_set({"a": 20, "b": 40}, 2))
        assert "class proportions of the synthetic images (a 33 %, b 67 %)" in notes[0]


class TestMistakes:
    def test_too_few_images(self):
        with pytest.raises(ClassError, match="the synthetic set has 1 image to compare; a distance needs at least 2"):
            distances(image_set({"a": 5}, 0), image_set({"a": 1}, 1))

    def test_an_unknown_network_is_told_before_any_work(self, monkeypatch):
        monkeypatch.setattr(module, "embed", lambda *_: pytest.fail("worked first"))
        with pytest.raises(FeatureError, match="no feature network 'vgg'"):
            distances(image_set({"a": 5}, 0), image_set({"a": 5}, 1), features=("inception", "vgg"))


class TestFile:
    def test_written_as_promised_and_read_back(self, fast, tmp_path):
        card = score(image_set(COUNTS, 0), image_set(COUNTS, 1, synthetic=True), parts=("distances",))
        path = card.to_json(tmp_path / "score.json")
        assert read_scores(path) == card.scores
        rows = json.loads(path.read_text())
        assert all(set(row) == KEYS for row in rows)
        assert {row["class"] for row in rows} == {"all", "benign", "malignant"}

    @pytest.mark.parametrize("text", ["", "{}", '[{"metric": "x"}]', '[{"class_": "all"}]', "[3]", '{"a": 1}'])
    def test_other_files_are_refused(self, tmp_path, text):
        path = tmp_path / "score.json"
        path.write_text(text)
        with pytest.raises(SourceError, match="is not a score file"):
            read_scores(path)

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(SourceError, match="sonosynth score --out"):
            read_scores(tmp_path / "none.json")


@pytest.mark.long
def test_with_the_real_network_and_its_cache(tmp_path):
    train, synthetic = image_set({"a": 6}, 0, px=32), image_set({"a": 7}, 1, 150, synthetic=True, px=32)
    first = distances(train, synthetic, cache=tmp_path)
    assert [(row.metric, row.features, row.n_real, row.n_synthetic) for row in first] == [
        ("frechet_distance", "inception", 6, 7),
        ("kernel_distance", "inception", 6, 7),
    ]
    assert first[0].value > 10
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["inception"] * 2 + ["radiomics"] * 2
    assert distances(train, synthetic, cache=tmp_path) == first


def test_every_metric_is_that_of_its_own_function(fast):
    train, synthetic = image_set({"a": 60}, 0, px=16), image_set({"a": 50}, 1, 100, synthetic=True, px=16)
    rows = {row.metric: row for row in scorecard(train, synthetic) if row.features == "inception"}
    x, y = pixels_as_features(train), pixels_as_features(synthetic)
    own = {"cmmd": cmmd(x, y), **prdc(x, y), "authenticity": alpha_precision(x, y)["authenticity"]}
    for name, value in own.items():
        assert rows[name].value == pytest.approx(value, rel=1e-6), name
        assert rows[name].low <= rows[name].value <= rows[name].high
    limit = rows["frechet_distance_infinity"]
    assert limit.value is None and "need 512 images" in limit.note and limit.real_baseline is None
    for name in ("membership_auc", "nearest_distance_ratio", "data_copying"):
        assert rows[name].value is None and "held-out images" in rows[name].note
    small = scorecard(train, synthetic, parts=("realism",))
    assert small and all(row.value is None and "too small" in row.note for row in small)


@pytest.mark.long
def test_the_parts_make_up_the_whole_in_one_order(fast):
    sets = image_set({"a": 40}, 0, px=32), image_set({"a": 45}, 1, px=32), image_set({"a": 50}, 2, px=32)
    whole = scorecard(*sets)
    of_parts = [row for part in PARTS for row in scorecard(*sets, parts=(part,))]
    assert sorted(map(repr, whole)) == sorted(map(repr, of_parts))
    names = [(metric.space, metric.name) for metric in list_metrics()]
    spaces = ["pixels" if row.features == "pixels" else "features" for row in whole]
    rows = [(space, row.metric.removesuffix(AT_BASELINE)) for space, row in zip(spaces, whole, strict=True)]
    order = [(space == "pixels", names.index((space, name))) for space, name in rows]
    assert order == sorted(order)
    assert set(rows) == set(names)
    assert {row.reference for row in whole if row.metric == "authenticity"} == {"train"}


def test_a_generator_that_repeats_a_few_images_is_not_acquitted(fast):
    """Equal images of a folder are one group, as are those of a patient; here they are the fault to be found."""
    train, held_out, few = phantom(30, 32, seed=1), phantom(30, 32, seed=2), phantom(4, 32, seed=3)
    copies = [replace(few, ids=tuple(f"{k}-{name}" for name in few.ids)) for k in range(10)]
    repeated = replace(ImageSet.concatenate(copies), groups=np.resize(few.groups, 120))
    card = score(train, repeated, held_out, ["random-conv"], parts=["diversity"])
    assert "of 120 synthetic images, 12 are distinct; others repeat them exactly" in card.notes
    states = {
        (row.metric, row.reference): interpret(row, there).state for row, there in with_baseline_rows(card.scores)
    }
    assert states["recall", "train"] == states["recall", "held-out"] == "worse"


def test_copies_of_training_images_are_found(fast):
    train, held_out = image_set({"a": 60}, 0, px=32), image_set({"a": 60}, 1, px=32)
    fresh = replace(image_set({"a": 40}, 2, px=32), synthetic=True)
    mirrored = replace(train.subset(np.arange(10)), images=train.images[:10, :, ::-1], synthetic=True)
    card = score(train, ImageSet.concatenate([fresh, mirrored]), held_out, parts=("memorisation",))
    [row] = [row for row in card.scores if row.metric == "near_copies" and row.class_ == "all"]
    assert row.value == pytest.approx(0.2) and row.real_baseline == 0
    assert card.near_copies.copied.tolist() == [False] * 40 + [True] * 10
    assert card.near_copies.training.nearest[40:].tolist() == list(range(10))


class TestTold:
    def test_another_size_is_resized(self, fast):
        train, synthetic = image_set({"a": 30}, 0), image_set({"a": 30}, 1, px=16)
        card = score(train, synthetic, parts=("distances",))
        assert any(
            "the synthetic images, 16 × 16 pixels (height × width), are resized to 8 × 8" in n for n in card.notes
        )
        expected = frechet_distance(pixels_as_features(train), pixels_as_features(synthetic.resized(8)))
        assert card.scores[0].value == pytest.approx(expected, rel=1e-6)

    def test_a_set_against_itself(self, fast):
        train = image_set({"a": 30}, 0)
        card = score(train, train, parts=("distances",))
        assert any("30 of 30 synthetic images are exact copies of training images: this is" in n for n in card.notes)

    def test_shared_held_out_images_are_refused_or_marked(self, fast):
        train, synthetic = image_set({"a": 30}, 0), image_set({"a": 30}, 1)
        held_out = ImageSet.concatenate([train.subset(np.arange(3)), image_set({"a": 27}, 2)])
        with pytest.raises(LeakageError, match=r"3 held-out images are also training images: .*'0' = '0-0'.*--allow"):
            scorecard(train, synthetic, held_out)
        card = score(train, synthetic, held_out, parts=("distances", "diversity"), allow_shared=True)
        assert all("3 of 30 held-out images are also training images" in row.note for row in card.scores)

    def test_few_images_have_a_smaller_k(self, fast):
        rows = scorecard(image_set({"a": 4}, 0), image_set({"a": 30}, 1), parts=("diversity",))
        assert next(row for row in rows if row.metric == "recall").note.startswith("k = 3, since sets of 4 and 30")

    def test_images_without_speckle_have_no_realism(self, fast):
        train = image_set({"a": 30}, 0, px=32)
        black = replace(train, images=np.zeros_like(train.images), synthetic=True)
        rows = scorecard(train, black, parts=("realism",))
        assert rows and all(row.value is None and "speckle" in row.note and row.low is None for row in rows)

    def test_those_without_speckle_among_others_are_left_out_and_counted(self, fast):
        train, synthetic = (image_set({"a": 50}, seed, px=32) for seed in (0, 1))
        pixels = synthetic.images.copy()
        pixels[:20] = 0
        rows = scorecard(train, replace(synthetic, images=pixels), parts=("realism",))
        # To rounding: how a transform is divided over vector registers depends on the images measured with it.
        for row, other in zip(
            rows, scorecard(train, synthetic.subset(np.arange(20, 50)), parts=("realism",)), strict=True
        ):
            for name, value in vars(other).items():
                exact = not isinstance(value, float)
                assert name == "note" or getattr(row, name) == (value if exact else pytest.approx(value, rel=1e-6))
        assert {(row.n_synthetic, row.real_baseline_n) for row in rows if row.metric in UNITS} == {(30, 25)}
        note = "20 of 50 synthetic images have no speckle that can be measured, left out"
        assert {(row.metric in UNITS, row.note) for row in rows} == {(True, note), (False, "")}


def test_the_seed_reaches_the_draws_of_the_limit(fast):
    train, synthetic = image_set({"a": 130}, 0), image_set({"a": 130}, 1, 100, synthetic=True)
    x, y = (pixels_as_features(part).astype(float) for part in (train, synthetic))
    limits = []
    for seed in (0, 3):
        rows = scorecard(train, synthetic, parts=("distances",), seed=seed)
        limits.append(next(row.value for row in rows if row.metric == "frechet_distance_infinity"))
        c = replace(Comparison.of_features(x, y), root_seed=seed)
        assert limits[-1] == pytest.approx(frechet_infinity(c).value, rel=1e-6)
    assert limits[0] != limits[1]


def stored(part: ImageSet, encodings: list[Encoding]) -> ImageSet:
    return replace(part, extra=encodings_to_columns([encodings[k % len(encodings)] for k in range(len(part))]))


JPEG, JPEG_30, PNG = Encoding("JPEG", True, 75, 8), Encoding("JPEG", True, 30, 8), Encoding("PNG", False, None, 8)


@pytest.mark.long
@pytest.mark.parametrize(
    ("train", "synthetic", "held_out", "told"),
    [
        ([JPEG], [PNG], None, "JPEG in 100 % of the training images (quality about 75), 0 % of the synthetic images;"),
        ([PNG], [JPEG], None, "JPEG in 0 % of the training images, 100 % of the synthetic images (quality about 75);"),
        (
            [JPEG],
            [JPEG],
            [PNG],
            "JPEG in 100 % of the training images (quality about 75), 0 % of the held-out images, 100 % of the "
            "synthetic images (quality about 75);",
        ),
        (
            [JPEG],
            [JPEG_30],
            None,
            "JPEG in 100 % of the training images (quality about 75), 100 % of the synthetic images (quality about 30)",
        ),
        ([JPEG, PNG], [PNG], None, "JPEG in 50 % of the training images (quality about 75), 0 % of the synthetic"),
        (
            [Encoding("DICOM JPEG 2000 Image Compression", True), JPEG],
            [PNG],
            None,
            "lossy compression in 100 % of the training images (quality about 75), 0 % of the synthetic",
        ),
        ([JPEG], [JPEG], [JPEG], ""),
        ([JPEG, PNG], [PNG, JPEG], [PNG, JPEG, PNG], ""),
        ([PNG], [Encoding("TIFF (LZW)", False)], [Encoding("BMP", False)], ""),
    ],
)
def test_sets_that_differ_in_compression_are_told(fast, train, synthetic, held_out, told):
    sets = [stored(image_set(COUNTS, k), how) if how else None for k, how in enumerate((train, synthetic, held_out))]
    card = score(*sets, parts=("distances",))
    notes = [note for note in card.notes if note.startswith("the sets differ in compression: ")]
    assert len(notes) == bool(told) and all(told in note for note in notes)
    assert all(("the sets differ in compression" in row.note) == bool(told) for row in card.scores)


@pytest.mark.long
def test_generated_png_images_of_a_set_that_was_jpeg_are_the_ordinary_case(fast):
    train, held_out = stored(image_set(COUNTS, 0), [JPEG]), stored(image_set(COUNTS, 1), [JPEG])
    made = image_set(COUNTS, 2, synthetic=True)
    for synthetic in (made, stored(made, [PNG])):
        card = score(train, synthetic, held_out, parts=("distances",))
        assert not any("compression" in text for text in (*card.notes, *(row.note for row in card.scores)))
    other = score(train, made, stored(image_set(COUNTS, 1), [PNG]), parts=("distances",))
    (note,) = [note for note in other.notes if "compression" in note]
    assert "0 % of the held-out images" in note and "synthetic" not in note
    sent_as_jpeg = score(held_out, stored(made, [JPEG_30]), parts=("distances",))
    assert any("synthetic images (quality about 30)" in note for note in sent_as_jpeg.notes)


def test_chance_differences_in_compression_are_not_told(fast):
    rng = np.random.default_rng(0)
    mixed = [Encoding("JPEG", True, quality, 8) for quality in (60, 75, 90)] + [PNG] * 3
    told = 0
    for _ in range(100):
        parts = [image_set({"a": 40}, k) for k in range(3)]
        encoded = [replace(p, extra=encodings_to_columns([mixed[k] for k in rng.integers(0, 6, 40)])) for p in parts]
        told += bool(compression_note(dict(zip(("train", "synthetic", "held-out"), encoded, strict=True))))
    assert told <= 6  # six comparisons at 0.01 each, of which three are conditional on a difference of 10 in quality


@pytest.mark.long
def test_sets_without_record_are_not_judged(fast):
    train = stored(image_set(COUNTS, 0), [JPEG])
    assert not any("compression" in note for note in score(train, image_set(COUNTS, 2)).notes)


def test_images_are_not_embedded_for_measures_of_pixels_alone(monkeypatch):
    monkeypatch.setattr(module, "embed", lambda *_: pytest.fail("embedded"))
    card = score(image_set({"a": 30}, 0, px=32), image_set({"a": 30}, 1, px=32), parts=("realism",))
    assert {row.features for row in card.scores} == {"pixels"} and not card.features


def test_held_out_images_have_a_baseline_where_no_training_image_can_be_measured():
    train, held_out = image_set({"a": 30}, 0), image_set({"a": 60}, 1)
    space, found, _ = draws_of(train, image_set({"a": 40}, 2, synthetic=True), held_out)
    usable = np.arange(len(space.groups)) >= len(train)
    of_train, of_held_out = (c.restricted(usable).baseline_draws() for c in found)
    assert of_train is None and of_held_out is not None and of_held_out.m == 30
