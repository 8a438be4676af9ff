from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from sonosynth.core.errors import ClassError, SonosynthError
from sonosynth.core.seeds import numpy_generator
from sonosynth.phantoms.acoustics import simulate_envelope
from sonosynth.phantoms.grid import make_grid, smooth_noise
from sonosynth.phantoms.parameters import Breast, Scan, draw_lesion, draw_parameters
from sonosynth.phantoms.phantom import CLASSES, phantom, simulate
from sonosynth.phantoms.settings import SETTINGS
from sonosynth.phantoms.tissue import Tissue

SIZE = 64
NUMBER = 40


@pytest.fixture(scope="module")
def masses() -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    return {name: [simulate(name, i, SIZE, seed=3) for i in range(NUMBER)] for name in ("benign", "malignant")}


def median_parameters(kind: type) -> dict[str, float]:
    return {parameter.name: sum(parameter.metadata["range"]) / 2 for parameter in fields(kind)}


@pytest.fixture(scope="module")
def scan() -> Scan:
    values = median_parameters(Scan)
    return Scan(**{**values, "looks": 1, "noise_db": -120.0, "tgc_error_db": 0.0, "tgc_wave_db": 0.0})


def uniform_envelope(scan: Scan, size: int = 128) -> np.ndarray:
    grid = make_grid(scan, size)
    flat = np.zeros((grid.z.size, grid.x.size), dtype=np.float32)
    envelope = simulate_envelope(numpy_generator(0, "test"), grid, Tissue(flat, flat, flat), scan, flat)
    return envelope[grid.margin : -grid.margin, grid.margin : -grid.margin]


def test_set_is_well_formed() -> None:
    data = phantom(3, size=SIZE)
    assert data.images.shape == (9, SIZE, SIZE)
    assert data.images.dtype == np.uint8
    assert data.classes == CLASSES
    assert data.class_counts == {"benign": 3, "malignant": 3, "normal": 3}
    assert len(set(data.groups)) == 9
    assert data.ids[:2] == ("benign-0001", "benign-0002")
    assert not data.synthetic
    assert data.extra["origin"] == ("phantom",) * 9
    assert set(data.extra) == {"origin", *SETTINGS}


def test_same_arguments_give_the_same_set_and_another_seed_another() -> None:
    first = phantom(2, size=32, seed=5)
    assert first.fingerprint() == phantom(2, size=32, seed=5).fingerprint()
    assert first.fingerprint() != phantom(2, size=32, seed=6).fingerprint()


def test_an_image_depends_on_seed_class_and_index_alone() -> None:
    small = phantom(2, size=32, seed=1)
    large = phantom(4, size=32, seed=1, classes=("normal", "benign"))
    for name in ("benign", "normal"):
        np.testing.assert_array_equal(small.of_class(name).images, large.of_class(name).images[:2])
    assert len({image.tobytes() for image in large.images}) == 8


def test_one_breast_at_two_sizes() -> None:
    """Only speckle differs: reduced to the same size, the pictures agree."""
    coarse = simulate("malignant", 0, 64, seed=2)[0]
    fine = simulate("malignant", 0, 128, seed=2)[0].reshape(64, 2, 64, 2).mean((1, 3))
    other = simulate("malignant", 1, 64, seed=2)[0]
    alike = np.corrcoef(coarse.ravel(), fine.ravel())[0, 1]
    assert alike > 0.8
    assert alike > np.corrcoef(other.ravel(), fine.ravel())[0, 1] + 0.1


def test_progress_counts_every_image() -> None:
    told: list[tuple[int, int]] = []
    silent = phantom(2, size=16, classes=("benign", "normal"))
    told_of = phantom(2, size=16, classes=("benign", "normal"), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told_of.fingerprint() == silent.fingerprint()


@pytest.mark.parametrize("size", [16, 33, 100])
def test_any_size(size: int) -> None:
    images = phantom(1, size=size).images
    assert images.shape == (3, size, size)
    assert images.std() > 10


def test_grey_levels_are_those_of_an_ultrasound_image() -> None:
    images = phantom(12, size=SIZE).images.astype(float)
    assert 55 < images.mean() < 110
    assert 25 < images.std((1, 2)).mean() < 65
    assert images.mean((1, 2)).std() > 8
    assert images[:, SIZE // 10 : SIZE // 2].mean() > 1.3 * images[:, SIZE // 2 :].mean()


@pytest.mark.long
def test_masks_hold_the_mass(masses: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    assert not simulate("normal", 0, SIZE, seed=0)[1].any()
    for pairs in masses.values():
        share = [mask.mean() for _, mask in pairs]
        assert min(share) > 0.003
        assert max(share) < 0.4


@pytest.mark.long
@pytest.mark.parametrize("name", ["benign", "malignant"])
def test_masses_are_darker_than_what_surrounds_them(
    name: str, masses: dict[str, list[tuple[np.ndarray, np.ndarray]]]
) -> None:
    differences = [inside_less_beside(image, mask) for image, mask in masses[name]]
    assert np.mean(differences) < -30
    assert np.mean(np.array(differences) < 0) > 0.8


def test_shadow_beneath_malignant_and_enhancement_beneath_benign(
    masses: dict[str, list[tuple[np.ndarray, np.ndarray]]],
) -> None:
    benign, malignant = (
        np.array([beneath_less_beside(image, mask) for image, mask in masses[name]]) for name in ("benign", "malignant")
    )
    assert np.nanmean(benign) > 6
    assert np.nanmean(malignant) < -6


def test_benign_masses_are_wider_than_tall_more_often(masses: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    scan, breast = Scan(**median_parameters(Scan)), Breast(**median_parameters(Breast))
    wide = {}
    for name in masses:
        drawn = [draw_lesion(numpy_generator(0, name, i), name, scan, breast) for i in range(200)]
        wide[name] = np.mean([mass.width_mm > mass.height_mm for mass in drawn])
    assert wide["benign"] > 0.8
    assert wide["malignant"] < 0.65


def test_mean_brightness_alone_does_not_tell_the_classes_apart() -> None:
    data = phantom(30, size=32)
    means = data.images.mean((1, 2))
    best = max((((means > cut) == (data.labels == k)).mean()) for cut in means for k in range(3))
    assert best < 0.8


def test_one_look_is_fully_developed_speckle_and_compounding_calms_it(scan: Scan) -> None:
    """The envelope is Rayleigh: mean over standard deviation is 1.91, times the root of the number of looks."""
    quiet = replace(scan, contact_db=0.0)
    rows = slice(20, -20)
    single = uniform_envelope(quiet)[rows]
    assert single.mean() / single.std() == pytest.approx(1.91, abs=0.12)
    assert np.sqrt((single**2).mean()) == pytest.approx(1.0, abs=0.08)
    four = uniform_envelope(replace(quiet, looks=4))[rows]
    assert four.mean() / four.std() == pytest.approx(3.82, abs=0.3)


def test_speckle_is_wider_away_from_the_focus(scan: Scan) -> None:
    envelope = uniform_envelope(replace(scan, focus=0.15, f_number=2.0))

    def neighbours(rows: np.ndarray) -> float:
        return float(np.corrcoef(rows[:, 3:].ravel(), rows[:, :-3].ravel())[0, 1])

    assert neighbours(envelope[-50:]) > neighbours(envelope[20:60]) + 0.15


@pytest.mark.long
def test_speckle_contrast_of_images() -> None:
    """Median local deviation over mean in 5 × 5 windows of tissue: grain, neither flat nor salt and pepper."""
    images = phantom(6, size=128).images.astype(float)
    windows = np.lib.stride_tricks.sliding_window_view(images, (5, 5), axis=(1, 2))[:, ::5, ::5]
    mean, deviation = windows.mean((-2, -1)), windows.std((-2, -1))
    contrast = np.median((deviation / np.maximum(mean, 1))[mean > 40])
    assert 0.1 < contrast < 0.22


def test_smooth_noise_has_unit_variance_at_every_scale(scan: Scan) -> None:
    grid = make_grid(scan, 64)
    fields_ = [smooth_noise(numpy_generator(0, "noise", i), grid, 1.5, 3) for i in range(20)]
    assert np.std(fields_) == pytest.approx(1, abs=0.06)
    assert abs(np.mean(fields_)) < 0.1


def test_parameters_stay_in_their_ranges_and_vary() -> None:
    drawn = [asdict(draw_parameters(numpy_generator(0, i), Scan)) for i in range(200)]
    for parameter in fields(Scan):
        low, high = parameter.metadata["range"]
        values = [one[parameter.name] for one in drawn]
        assert low <= min(values) < low + 0.1 * (high - low) + 1e-9
        assert high - 0.1 * (high - low) - 1e-9 < max(values) <= high


def test_unknown_class_is_named_with_the_nearest() -> None:
    with pytest.raises(ClassError, match=r"'malignent' .did you mean 'malignant'"):
        phantom(1, size=32, classes=("benign", "malignent"))


@pytest.mark.parametrize("classes", [(), ("benign", "benign")])
def test_classes_must_be_named_once(classes: tuple[str, ...]) -> None:
    with pytest.raises(ClassError, match="each once"):
        phantom(1, size=32, classes=classes)


@pytest.mark.parametrize(
    ("per_class", "size", "field"), [(0, 32, "per_class"), (-1, 32, "per_class"), (1, 15, "size"), (1, 1025, "size")]
)
def test_senseless_numbers(per_class: int, size: int, field: str) -> None:
    with pytest.raises(SonosynthError, match=f"^{field}: "):
        phantom(per_class, size=size)


def inside_less_beside(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean grey level in the mass less that in the same rows outside it."""
    rows = mask.any(1)
    return float(image[mask].mean() - image[rows][~mask[rows]].mean())


def beneath_less_beside(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean grey level of a quarter of the image beneath the core of the mass less that beside it; NaN without room."""
    bottom, columns = np.flatnonzero(mask.any(1))[-1] + 3, np.flatnonzero(mask.any(0))
    quarter = (columns[-1] - columns[0]) // 4
    core = slice(columns[0] + quarter, columns[-1] - quarter + 1)
    strip = image[bottom : bottom + SIZE // 4].astype(float)
    beside = np.ones(SIZE, dtype=bool)
    beside[max(columns[0] - 3, 0) : columns[-1] + 4] = False
    return float(strip[:, core].mean() - strip[:, beside].mean()) if strip.size and beside.any() else float("nan")
