"""Parameters of phantoms that users fix: each does what it says, and nothing else."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonosynth.core.errors import PhantomError
from sonosynth.core.seeds import numpy_generator
from sonosynth.data.imageset import ImageSet
from sonosynth.data.scan import read_source
from sonosynth.phantoms.acoustics import simulate_envelope
from sonosynth.phantoms.birads import DESCRIPTORS, apply_descriptors, describe_lesion
from sonosynth.phantoms.grid import make_grid
from sonosynth.phantoms.parameters import Breast, Scan, draw_lesion, draw_parameters
from sonosynth.phantoms.phantom import phantom, phantom_with_masks, simulate, write_phantoms
from sonosynth.phantoms.settings import BANDWIDTH_CYCLES, LIMITS, SETTINGS, check_settings, parse_settings
from sonosynth.phantoms.tissue import Tissue

SIZE = 64
WORDS = [(name, word) for name, words in DESCRIPTORS.items() for word in words]


def shot(settings: dict[str, Any], name: str = "normal", size: int = 128, index: int = 0) -> np.ndarray:
    return simulate(name, index, size, 11, settings)[0].astype(float)


def neighbours(image: np.ndarray, axis: int, lag: int = 2) -> float:
    """Correlation of grey levels, less their slow part, with those `lag` pixels further."""
    lines = np.moveaxis(image, axis, 0)
    kernel = np.ones(9) / 9
    fine = lines - np.apply_along_axis(lambda v: np.convolve(v, kernel, "same"), 0, lines)
    fine = fine[8:-8]
    return float(np.corrcoef(fine[lag:].ravel(), fine[:-lag].ravel())[0, 1])


def uniform_envelope(density: float, size: int = 160) -> np.ndarray:
    """One noiseless look at even tissue: the rows around the focus."""
    middle = {parameter.name: sum(parameter.metadata["range"]) / 2 for parameter in fields(Scan)}
    even = {"looks": 1, "noise_db": -120.0, "tgc_error_db": 0.0, "tgc_wave_db": 0.0, "contact_db": 0.0}
    scan = Scan(**{**middle, **even, "frequency_mhz": 5.0})
    grid = make_grid(scan, size)
    flat = np.zeros((grid.z.size, grid.x.size), dtype=np.float32)
    tissue = Tissue(flat, flat, flat, scatterer_density=density)
    envelope = simulate_envelope(numpy_generator(0, "test"), grid, tissue, scan, flat)
    focus = int(np.abs(grid.z[:, 0] - scan.focus * scan.depth_mm).argmin())
    return envelope[focus - 60 : focus + 60, 20:-20].astype(float)


def nakagami(envelope: np.ndarray) -> float:
    power = envelope**2
    return float(power.mean() ** 2 / power.var())


# ---- numbers


def test_higher_frequency_and_fewer_cycles_narrow_the_speckle() -> None:
    low, high = (shot({"frequency_mhz": f, "cycles": 3}, size=192) for f in (3, 9))
    assert neighbours(low, axis=0) > neighbours(high, axis=0) + 0.1
    assert neighbours(low, axis=1) > neighbours(high, axis=1) + 0.1
    long, short = (shot({"frequency_mhz": 5, "cycles": cycles}, size=192) for cycles in (6, 1.5))
    assert neighbours(long, axis=0) > neighbours(short, axis=0) + 0.2
    assert neighbours(long, axis=1) < neighbours(short, axis=1) + 0.05


def test_bandwidth_is_another_word_for_cycles() -> None:
    np.testing.assert_array_equal(shot({"bandwidth": BANDWIDTH_CYCLES / 2.5}), shot({"cycles": 2.5}))


def test_larger_f_number_widens_the_speckle_across_alone() -> None:
    narrow, wide = (shot({"f_number": number, "frequency_mhz": 6}, size=192) for number in (1.5, 5))
    assert neighbours(wide, axis=1) > neighbours(narrow, axis=1) + 0.1
    assert neighbours(wide, axis=0) == pytest.approx(neighbours(narrow, axis=0), abs=0.1)


def test_dynamic_range_changes_contrast_alone() -> None:
    """Levels below white in dB are the same, where neither image clips."""
    narrow, wide = shot({"dynamic_range_db": 50}), shot({"dynamic_range_db": 100})
    inside = (narrow > 40) & (narrow < 200)
    assert inside.mean() > 0.2
    below_white = [(255 - image[inside]) * span for image, span in ((narrow, 50), (wide, 100))]
    assert np.abs(below_white[0] - below_white[1]).max() < 255 * 3
    assert np.corrcoef(*below_white)[0, 1] > 0.995
    assert np.abs(below_white[0] - below_white[1]).mean() < 50


def test_gain_adds_the_same_level_everywhere() -> None:
    quiet = {"dynamic_range_db": 60, "noise_db": -120}
    dark, light = shot(quiet | {"gain_db": 0}), shot(quiet | {"gain_db": 6})
    inside = (dark > 30) & (light < 225)
    assert (light - dark)[inside].mean() == pytest.approx(255 * 6 / 60, abs=0.5)


def test_attenuation_darkens_with_depth_and_frequency() -> None:
    """The gain stays; twice the way: 2 * 0.3 dB/cm/MHz * 5 MHz is 3 dB a cm."""
    fixed: dict[str, Any] = {"frequency_mhz": 5, "depth_mm": 40, "noise_db": -120, "dynamic_range_db": 120}
    less, more = (shot(fixed | {"attenuation": a, "gain_db": 10}) for a in (0.4, 0.7))
    lost = (less - more).mean(1) * 120 / 255
    depth = (np.arange(128) + 0.5) / 128 * 4
    deep = (depth > 0.5) & (depth < 3)
    slope = np.polyfit(depth[deep], lost[deep], 1)[0]
    assert slope == pytest.approx(3, abs=0.5)
    assert abs(lost[depth < 0.3]).max() < 1.5


def test_gain_curve_darkens_the_bottom() -> None:
    even, odd = (shot({"tgc_error_db": db}) for db in (0, 25))
    assert abs((even - odd)[:16].mean()) < 3
    assert (even - odd)[64:100].mean() > 20


def test_few_scatterers_lower_the_nakagami_parameter() -> None:
    """K-distribution: m is 1 / (1 + 2 / N) for N scatterers in a resolution cell."""
    measured = {density: nakagami(uniform_envelope(density)) for density in (1.0, 4.0, 20.0)}
    for density, m in measured.items():
        assert m == pytest.approx(1 / (1 + 2 / density), rel=0.2)
    assert nakagami(uniform_envelope(math.inf)) == pytest.approx(1, abs=0.07)


def test_many_scatterers_are_fully_developed_speckle() -> None:
    many, full = uniform_envelope(1000), uniform_envelope(math.inf)
    assert np.corrcoef(many.ravel(), full.ravel())[0, 1] > 0.98
    assert (many**2).mean() == pytest.approx((full**2).mean(), rel=0.05)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "values"),
    [("frequency_mhz", (8, 12)), ("f_number", (2, 3)), ("dynamic_range_db", (50, 60)), ("attenuation", (0.6, 0.7))],
)
def test_a_setting_leaves_the_breast_and_the_other_draws(name: str, values: tuple[float, float]) -> None:
    first, second = (phantom(1, SIZE, 5, settings={name: value}) for value in values)
    other = phantom(1, SIZE, 6, settings={name: values[0]})
    changed = {key for key in SETTINGS if first.extra[key] != second.extra[key]}
    assert changed == {name}
    for a, b, c in zip(first.images, second.images, other.images, strict=True):
        alike = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert alike > 0.9
        assert alike > np.corrcoef(a.ravel(), c.ravel())[0, 1] + 0.1


def test_what_is_recorded_makes_the_same_image_again() -> None:
    data = phantom(2, SIZE, 4)
    numbers = {key for key in LIMITS if key not in ("bandwidth", "scatterer_density")}
    again = simulate("malignant", 1, SIZE, 4, {key: data.extra[key][3] for key in numbers})[0]
    assert np.abs(again.astype(int) - data.images[3]).max() <= 2


@pytest.mark.parametrize("depth", [15, 80])
def test_one_breast_at_another_depth(depth: float) -> None:
    """The mass stays within the picture, and the skin and fat above it look alike at the same scale."""
    image, mask = simulate("benign", 2, 128, 3, {"depth_mm": depth})
    assert mask.any() and not mask[-1].any()
    assert image.std() > 10


def test_depth_shows_more_of_the_same_breast() -> None:
    shallow, deep = (shot({"depth_mm": depth}, size=size) for depth, size in ((26, 64), (52, 128)))
    deep = deep[:64].reshape(64, 64, 2).mean(2)
    kernel = np.ones((8, 8))
    blocks = [image.reshape(8, 8, 8, 8).transpose(0, 2, 1, 3) * kernel for image in (shallow, deep)]
    assert np.corrcoef(*(block.mean((2, 3)).ravel() for block in blocks))[0, 1] > 0.7


def test_ranges_are_drawn_from_evenly() -> None:
    data = phantom(40, 16, classes=("normal",), settings={"frequency_mhz": "3..5", "looks": (1, 2)})
    drawn = np.array(data.extra["frequency_mhz"], dtype=float)
    assert 3 <= drawn.min() < 3.3 and 4.7 < drawn.max() <= 5
    assert set(data.extra["looks"]) == {"1", "2"}


# ---- masses


@pytest.mark.parametrize(("name", "word"), WORDS)
def test_masses_are_as_they_were_asked_for(name: str, word: str) -> None:
    for kind in ("benign", "malignant"):
        for i in range(40):
            rng = numpy_generator(1, kind, i)
            scan, breast = draw_parameters(rng, Scan), draw_parameters(rng, Breast)
            lesion = draw_lesion(rng, kind, scan, breast)
            before = describe_lesion(lesion, breast)
            after = describe_lesion(
                apply_descriptors(lambda key, i=i: numpy_generator(2, i, key), lesion, breast, {name: word}), breast
            )
            assert after[name] == word
            assert {k: v for k, v in after.items() if k != name} == {k: v for k, v in before.items() if k != name}


def test_all_words_for_one_mass() -> None:
    wanted = {"shape": "oval", "orientation": "not parallel", "margin": "angular", "echo_pattern": "complex"}
    data = phantom(3, 32, classes=("benign", "malignant"), settings=wanted | {"posterior_features": "none"})
    for name, word in wanted.items():
        assert set(data.extra[name]) == {word}


def masked(settings: dict[str, Any], number: int = 12, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    data, masks = phantom_with_masks(number, size, 7, ("benign",), settings=settings)
    return data.images.astype(float), masks


@pytest.mark.long
def test_masks_show_orientation_and_shape() -> None:
    def ratio(mask: np.ndarray) -> float:
        return float(mask.any(0).sum() / mask.any(1).sum() * WIDTH / DEPTH)

    fixed = {"width_mm": (WIDTH := 40), "depth_mm": (DEPTH := 40), "margin": "circumscribed"}
    wide, tall, round_ = (
        np.array([ratio(mask) for mask in masked(fixed | wanted)[1]])
        for wanted in (
            {"shape": "oval", "orientation": "parallel"},
            {"shape": "oval", "orientation": "not parallel"},
            {"shape": "round"},
        )
    )
    assert (wide > 1).all() and (tall < 1).all()
    assert (np.abs(np.log(round_)) < 0.25).all()


@pytest.mark.long
def test_masks_show_the_margin() -> None:
    """Length of the outline over that of a circle of the same area."""

    def raggedness(margin: str) -> float:
        _, masks = masked({"shape": "oval", "margin": margin}, number=6, size=128)
        edges = [np.abs(np.diff(mask, axis=0)).sum() + np.abs(np.diff(mask, axis=1)).sum() for mask in masks]
        return float(np.mean([edge / np.sqrt(mask.sum()) for edge, mask in zip(edges, masks, strict=True)]))

    smooth = raggedness("circumscribed")
    assert raggedness("microlobulated") > 1.03 * smooth
    assert raggedness("angular") > 1.05 * smooth
    assert raggedness("spiculated") > 1.2 * smooth


@pytest.mark.long
def test_echo_patterns_are_in_order() -> None:
    levels = []
    for word in ("anechoic", "hypoechoic", "isoechoic", "hyperechoic"):
        images, masks = masked({"echo_pattern": word, "noise_db": -60, "posterior_features": "none"})
        levels.append(np.mean([image[mask].mean() for image, mask in zip(images, masks, strict=True)]))
    assert np.diff(levels).min() > 12
    images, masks = masked({"echo_pattern": "complex", "noise_db": -60})
    fluid = np.mean([(image[mask] < 20).mean() for image, mask in zip(images, masks, strict=True)])
    assert 0.15 < fluid < 0.7


def test_posterior_features_are_in_order() -> None:
    def beneath(word: str) -> float:
        images, masks = masked({"posterior_features": word, "echo_pattern": "hypoechoic", "tgc_error_db": 0})
        found = []
        for image, mask in zip(images, masks, strict=True):
            columns = np.flatnonzero(mask.any(0))
            quarter, bottom = len(columns) // 4, np.flatnonzero(mask.any(1))[-1] + 3
            found.append(image[bottom : bottom + 12, columns[quarter] : columns[-1 - quarter] + 1].mean())
        return float(np.nanmean(found))

    shadow, none, enhanced = (beneath(word) for word in ("shadowing", "none", "enhancement"))
    assert shadow + 20 < none < enhanced - 8


# ---- masks, workers, errors


def test_masks_are_those_of_the_images(tmp_path: Any) -> None:
    _, masks = phantom_with_masks(2, SIZE, 3)
    np.testing.assert_array_equal(masks[2], simulate("malignant", 0, SIZE, 3)[1])
    data, _ = write_phantoms(tmp_path / "out", 2, SIZE, 3, masks=True)
    assert len(list((tmp_path / "out").glob("*/*_mask.png"))) == 4
    assert not list((tmp_path / "out" / "normal").glob("*_mask.png"))
    again = ImageSet.load(tmp_path / "out")
    assert again.fingerprint() == data.fingerprint() and again.extra == dict(data.extra)
    (tmp_path / "out" / "manifest.csv").unlink()
    assert len(read_source(tmp_path / "out").items) == 6


@pytest.mark.long
def test_the_number_of_workers_changes_nothing() -> None:
    told: list[tuple[int, int]] = []
    alone = phantom(4, 32, 2)
    shared = phantom(4, 32, 2, workers=3, progress=lambda done, total: told.append((done, total)))
    assert shared.fingerprint() == alone.fingerprint() and shared.ids == alone.ids and shared.extra == alone.extra
    assert told == [(i, 12) for i in range(1, 13)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frequency": 9}, r"no phantom parameter 'frequency' .did you mean 'frequency_mhz'.*known: frequency_mhz, "),
        ({"frequency_mhz": 90}, "frequency_mhz 90 is outside 2 to 25"),
        ({"frequency_mhz": "9..7"}, "frequency_mhz 9..7 runs backwards"),
        ({"frequency_mhz": (7, 26)}, "is outside 2 to 25"),
        ({"frequency_mhz": "high"}, "cannot be 'high'; give a number from 2 to 25"),
        ({"frequency_mhz": "nan"}, "cannot be 'nan'"),
        ({"frequency_mhz": (7, 8, 9)}, "give a number"),
        ({"frequency_mhz": None}, "cannot be 'None'"),
        ({"looks": 2.5}, "looks 2.5 is not a whole number"),
        ({"shape": "ovall"}, "shape cannot be 'ovall' .did you mean 'oval'.*known: round, oval, irregular"),
        ({"shape": 3}, "shape cannot be '3'"),
        ({"cycles": 2, "bandwidth": 0.4}, "set one of them"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PhantomError, match=message) as told:
        phantom(1, 32, settings=settings)
    assert "\n" not in str(told.value)


def test_normal_images_have_no_shape() -> None:
    with pytest.raises(PhantomError, match="shape describes a mass"):
        phantom(1, 32, classes=("normal",), settings={"shape": "oval"})


def test_words_of_the_command_line() -> None:
    given = parse_settings(["frequency_mhz = 7..9", "orientation=not_parallel", "looks=3"])
    fixed = check_settings(given)
    assert fixed.as_json() == {"frequency_mhz": [7, 9], "looks": [3, 3], "orientation": "not parallel"}
    for words in (["shape"], ["=3"], ["looks=2", "looks=3"]):
        with pytest.raises(PhantomError, match=r"^--set "):
            parse_settings(words)


def test_the_page_on_phantoms_has_every_parameter_as_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "phantoms.md"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text("utf-8").splitlines() if line]
    table = {row[0].strip("`"): row for row in rows if row and row[0].startswith("`")}
    drawn = {parameter.name: parameter.metadata["range"] for parameter in fields(Scan)}
    for name, (low, high) in LIMITS.items():
        assert table[name][2] == f"{low:g} to {high:g}"
        if name in drawn:
            assert table[name][1] == "{:g} to {:g}".format(*drawn[name])
    for name, words in DESCRIPTORS.items():
        assert table[name][1] == ", ".join(words)


def test_every_parameter_of_the_scan_can_be_set() -> None:
    for parameter in fields(Scan):
        low, high = parameter.metadata["range"]
        least, most = LIMITS[parameter.name]
        assert least <= low < high <= most
        scan = draw_parameters(numpy_generator(0), Scan)
        assert replace(scan, **{parameter.name: low}) != replace(scan, **{parameter.name: high})
