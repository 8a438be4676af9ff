import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from sonosynth.core.device import autocast
from sonosynth.core.draws import Draws
from sonosynth.core.errors import RecipeError
from sonosynth.gan.augment.ada import (
    PUBLISHED,
    SYM2,
    AdaController,
    AdaPolicy,
    _band_matrices,
    ada_augment,
    scaled_ada_kimg,
)
from sonosynth.gan.augment.resampling import SYM6, move_pixels, resample

CPU = torch.device("cpu")
OFF = {
    "x_flip": False,
    "integer_translation": 0.0,
    "isotropic_scaling": 0.0,
    "rotation_degrees": 0.0,
    "anisotropic_scaling": 0.0,
    "fractional_translation": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
}
ON = {
    "x_flip": True,
    "y_flip": True,
    "rot90": True,
    "integer_translation": 0.125,
    "isotropic_scaling": 0.2,
    "rotation_degrees": 180.0,
    "anisotropic_scaling": 0.2,
    "fractional_translation": 0.125,
    "brightness": 0.2,
    "contrast": 0.5,
    "luma_flip": True,
    "filtering": 1.0,
    "noise": 0.1,
    "cutout": 0.5,
}
GEOMETRY = list(ON)[:8]
EVERYTHING = AdaPolicy(**ON)


def only(*names: str) -> AdaPolicy:
    return AdaPolicy(**(OFF | {name: ON[name] for name in names}))


def draws(step: int = 0) -> Draws:
    return Draws(0, "test", step, CPU)


class FixedDraws(Draws):
    """Every draw has the same known value; a uniform of 0 opens every gate."""

    def __init__(self, normal: float = 1.0, uniform: float = 0.0, integer: int = 1):
        self.values = normal, uniform, integer

    def normal(self, *shape):
        return torch.full(shape, self.values[0])

    def uniform(self, *shape):
        return torch.full(shape, self.values[1])

    def integers(self, low, high, *shape):
        return torch.full(shape, self.values[2])


def noise_images(n: int = 4, height: int = 16, width: int = 16, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, height, width, generator=generator, dtype=dtype) * 2 - 1


def ramp(height: int = 40, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x and y of every pixel, from the centre."""
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    return x.expand(1, 1, height, width), y[:, None].expand(1, 1, height, width)


def interior(image: torch.Tensor) -> torch.Tensor:
    return image[..., 12:-12, 10:-10]


# The whole


@pytest.mark.parametrize("policy", [AdaPolicy(), PUBLISHED, EVERYTHING])
@pytest.mark.parametrize("p", [0.0, torch.tensor(0.0), torch.tensor(0.0, dtype=torch.float64)])
def test_probability_zero_changes_no_bit(policy, p):
    for x in (noise_images(), noise_images(3, 24, 17, torch.float64)):
        y = ada_augment(x, p, policy, draws())
        assert torch.equal(y, x)
        assert y.dtype == x.dtype


@pytest.mark.parametrize("policy", [AdaPolicy(), PUBLISHED, EVERYTHING])
def test_probability_one_changes_every_image(policy):
    x = noise_images(64)
    y = ada_augment(x, 1.0, policy, draws())
    assert ((y - x).abs().amax(dim=(1, 2, 3)) > 0.01).all()


def test_every_image_has_draws_of_its_own_and_the_same_step_repeats():
    x = noise_images(1).expand(16, -1, -1, -1)
    y = ada_augment(x, 1.0, AdaPolicy(), draws())
    assert len({float(image.sum()) for image in y}) == 16
    assert torch.equal(y, ada_augment(x, 1.0, AdaPolicy(), draws()))
    assert not torch.equal(y, ada_augment(x, 1.0, AdaPolicy(), draws(1)))


CHANGED = {"x_flip": 1 / 2, "y_flip": 1 / 2, "rot90": 3 / 4, "integer_translation": 15 / 16, "luma_flip": 1 / 2}


@pytest.mark.parametrize("name", list(ON))
def test_each_transform_is_applied_with_probability_p(name):
    n, p = 1500, 0.4
    x = noise_images(n)
    changed = ada_augment(x, torch.tensor(p), only(name), draws()).ne(x).flatten(1).any(dim=1).double().mean()
    # Shifts by up to 2 of 16 pixels round to zero in both directions for a sixteenth of the draws. The gains of the
    # four bands are drawn independently.
    expected = 1 - (1 - p) ** 4 if name == "filtering" else p * CHANGED.get(name, 1.0)
    assert abs(changed - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_transforms_are_applied_independently():
    n, p = 4000, 0.2
    x = noise_images(n, 16, 16)
    untouched = ada_augment(x, p, AdaPolicy(), draws()).eq(x).flatten(1).all(dim=1).double().mean()
    expected = (1 - p) ** 6 * (1 - p / 2) * (1 - p * 15 / 16)
    assert abs(untouched - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


@pytest.mark.long
def test_leaving_a_transform_out_keeps_the_draws_of_the_others():
    x = noise_images(8)
    without = ada_augment(x, 1.0, only("brightness"), draws()) - x
    together = ada_augment(x, 1.0, only("x_flip", "brightness"), draws())
    flipped = ada_augment(x, 1.0, only("x_flip"), draws())
    torch.testing.assert_close(together - flipped, without)


def test_autocast_does_not_reach_inside():
    x = noise_images()
    with autocast(CPU):
        y = ada_augment(x, 1.0, EVERYTHING, draws())
    assert torch.equal(y, ada_augment(x, 1.0, EVERYTHING, draws()))


@pytest.mark.long
def test_the_host_never_reads_a_value():
    """Fake tensors have no values, so anything that needs one raises."""
    ada_augment(noise_images(), 0.5, EVERYTHING, draws())  # fills the caches of constants with real tensors
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        x, p = (mode.from_tensor(t) for t in (noise_images(), torch.tensor(0.5)))
        y = ada_augment(x, p, EVERYTHING, draws())
        controller = AdaController(4)
        controller.update(y.mean(dim=(1, 2, 3)))
    assert y.shape == x.shape


# Derivatives


@pytest.mark.parametrize("name", list(ON))
def test_first_and_second_derivatives(name):
    x = noise_images(2, 4, 5, torch.float64).requires_grad_()

    def augment(images):
        return ada_augment(images, 1.0, only(name), draws())

    assert torch.autograd.gradcheck(augment, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda images: augment(images).pow(3), x, fast_mode=True)


def test_r1_of_a_linear_discriminator():
    x = noise_images(1, 8, 8, torch.float64).requires_grad_()
    a = torch.randn(64, dtype=torch.float64, requires_grad=True)
    policy = AdaPolicy(rotation_degrees=180.0)

    def augment(images):
        return ada_augment(images.reshape(1, 1, 8, 8), 1.0, policy, draws(3)).flatten()

    (gradient,) = torch.autograd.grad(augment(x) @ a, x, create_graph=True)
    gradient.square().sum().backward()
    jacobian = torch.autograd.functional.jacobian(augment, x.detach().flatten())
    assert not torch.allclose(jacobian, torch.eye(64, dtype=torch.float64))
    torch.testing.assert_close(a.grad, 2 * jacobian @ jacobian.T @ a.detach())


# Geometry


def test_flips_and_quarter_turns_are_exact():
    x = noise_images(height=12, width=20)
    assert torch.equal(ada_augment(x, 1.0, only("x_flip"), FixedDraws()), x.flip(3))
    assert torch.equal(ada_augment(x, 1.0, only("y_flip"), FixedDraws()), x.flip(2))
    square = noise_images()
    for quarter in range(4):
        turned = ada_augment(square, 1.0, only("rot90"), FixedDraws(integer=quarter))
        assert torch.equal(turned, torch.rot90(square, -quarter, (2, 3)))


def test_whole_pixel_shifts_are_exact_and_reflect():
    x = noise_images(height=24, width=16)
    moved = ada_augment(x, 1.0, only("integer_translation"), FixedDraws(uniform=0.0))  # the largest: 3 up, 2 left
    assert torch.equal(moved, F.pad(x, (0, 2, 0, 3), mode="reflect")[:, :, 3:, 2:])
    moved = ada_augment(x, 1.0, only("integer_translation"), FixedDraws(uniform=0.75))  # half of it, other way
    assert torch.equal(moved, F.pad(x, (1, 0, 2, 0), mode="reflect")[:, :, :24, :16])


def test_a_flip_is_undone_before_a_shift():
    x = noise_images(height=24, width=16)
    moved = ada_augment(x, 1.0, only("x_flip", "integer_translation"), FixedDraws())
    assert torch.equal(moved, F.pad(x.flip(3), (0, 2, 0, 3), mode="reflect")[:, :, 3:, 2:])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("isotropic_scaling", lambda x, y: (x * 2**-0.2, y * 2**-0.2)),
        ("anisotropic_scaling", lambda x, y: (x * 2**-0.2, y * 2**0.2)),
        ("fractional_translation", lambda x, y: (x - 0.125 * 32, y - 0.125 * 40)),
    ],
)
def test_affine_transforms_keep_ramps_straight_and_in_place(name, expected):
    x, y = ramp()
    for image, wanted in zip((x, y), expected(x, y), strict=True):
        moved = ada_augment(image, 1.0, only(name), FixedDraws())
        torch.testing.assert_close(interior(moved), interior(wanted), atol=1e-6, rtol=0)


def test_transforms_are_composed_in_the_order_of_the_paper():
    x, y = ramp()
    names = "integer_translation", "isotropic_scaling", "fractional_translation"
    for image, shift_by in ((x, 4), (y, 5)):  # whole pixels back, magnified, then a fractional shift forwards
        moved = ada_augment(image, 1.0, only(*names), FixedDraws())
        wanted = (image - shift_by) * 2**-0.2 + shift_by
        torch.testing.assert_close(interior(moved), interior(wanted), atol=1e-5, rtol=0)


def test_rotations_add_up_to_at_most_ten_degrees_by_default():
    x, y = ramp()
    policy = AdaPolicy(**(OFF | {"rotation_degrees": AdaPolicy().rotation_degrees}))
    angle = math.radians(-10)  # a uniform draw of 0 gives the limit, twice
    turned = ada_augment(x, 1.0, policy, FixedDraws())
    wanted = math.cos(angle) * x + math.sin(angle) * y
    torch.testing.assert_close(interior(turned), interior(wanted), atol=1e-6, rtol=0)


@pytest.mark.parametrize("names", [(name,) for name in GEOMETRY] + [tuple(GEOMETRY)])
def test_nothing_moves_in_from_outside(names):
    strong = {name: 4 * ON[name] for name in names if name.endswith(("scaling", "translation"))}
    policy = AdaPolicy(**(OFF | {name: ON[name] for name in names} | strong))
    ones = torch.ones(32, 1, 16, 16)
    torch.testing.assert_close(ada_augment(ones, 1.0, policy, draws()), ones, atol=1e-5, rtol=0)


def shift(x: float, y: float) -> torch.Tensor:
    matrix = torch.eye(3, dtype=torch.float64)[None].clone()
    matrix[0, 0, 2], matrix[0, 1, 2] = x, y
    return matrix


def test_resampling_by_the_identity_is_the_identity():
    for size in (7, 16, 33):
        x = noise_images(1, size, size + 2, torch.float64)
        torch.testing.assert_close(resample(x, shift(0, 0)), x, atol=1e-12, rtol=0)
        x = x.float()
        torch.testing.assert_close(resample(x, shift(0, 0).float()), x, atol=2e-5, rtol=0)


def test_resampling_reflects_like_moving_pixels_however_far():
    x, y = ramp()
    smooth = torch.cos(3 * math.pi * (x / 31 + 0.5)) + torch.cos(4 * math.pi * (y / 39 + 0.5))  # no kinks at mirrors
    for inverse in (shift(5, -3), shift(-31, 39), shift(70, 100)):
        torch.testing.assert_close(resample(smooth, inverse), move_pixels(smooth, inverse), atol=0.01, rtol=0)


def test_shrinking_does_not_alias():
    x, _ = ramp(128, 128)
    stripes = torch.sin(2 * math.pi * 0.42 * x)
    half = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64))[None]
    assert resample(stripes, half)[..., 48:80].abs().max() < 0.01


@pytest.mark.parametrize(("taps", "moments"), [(SYM6, 6), (SYM2, 2)])
def test_wavelet_filters_are_orthonormal_and_their_wavelets_have_vanishing_moments(taps, moments):
    h = torch.from_numpy(taps)
    assert float(h.sum()) == pytest.approx(math.sqrt(2), abs=1e-12)
    for shift_by in range(len(h) // 2):
        overlap = (h[: len(h) - 2 * shift_by] * h[2 * shift_by :]).sum()
        assert float(overlap) == pytest.approx(float(shift_by == 0), abs=1e-12)
    k = torch.arange(len(h), dtype=torch.float64)
    for order in range(moments):
        assert abs(float(((-1) ** k * k**order * h).sum())) < 1e-9


# Colour and corruption


def test_brightness_and_contrast_by_hand():
    x = noise_images()
    torch.testing.assert_close(ada_augment(x, 1.0, only("brightness"), FixedDraws(normal=1.5)), x + 0.3)
    torch.testing.assert_close(ada_augment(x, 1.0, only("contrast"), FixedDraws(normal=-2.0)), x / 2)
    both = ada_augment(x, 1.0, only("brightness", "contrast"), FixedDraws(normal=2.0))
    torch.testing.assert_close(both, (x + 0.4) * 2)
    assert torch.equal(ada_augment(x, 1.0, only("luma_flip"), FixedDraws()), -x)


def test_bands_add_up_and_separate_octaves():
    bands = _band_matrices(128, torch.float64, CPU)
    torch.testing.assert_close(bands.sum(dim=0), torch.eye(128, dtype=torch.float64))
    position = torch.arange(128, dtype=torch.float64)
    for band, frequency in enumerate((0.0, 3 / 16, 3 / 8, 3 / 4)):  # in units of π a pixel, amid each band
        wave = torch.cos(math.pi * frequency * position)
        power = (bands @ wave)[:, 32:96].square().sum(dim=1)
        assert power.argmax() == band
        assert power[band] / wave[32:96].square().sum() > 0.5


def test_filtering_keeps_the_expected_power_and_neutral_gains_do_nothing():
    x = noise_images(dtype=torch.float64)
    unchanged = ada_augment(x, 1.0, only("filtering"), FixedDraws(normal=0.0))
    torch.testing.assert_close(unchanged, x)
    power = torch.tensor([10, 1, 1, 1]) / 13
    gains = torch.ones(4)
    for band in range(4):  # each band in turn twice as strong, normalised
        own = torch.ones(4)
        own[band] = 2
        gains = gains * own / (power * own.square()).sum().sqrt()
    ones = torch.ones(1, 1, 16, 16)
    filtered = ada_augment(ones, 1.0, only("filtering"), FixedDraws())
    torch.testing.assert_close(filtered, ones * gains[0] ** 2)  # rows and columns are filtered alike


def test_noise_is_half_normal_in_its_strength():
    noise = ada_augment(torch.zeros(4000, 1, 8, 8), 1.0, only("noise"), draws())
    assert float(noise.square().mean()) == pytest.approx(0.01, rel=0.1)
    strength = noise.std(dim=(1, 2, 3))
    assert float(strength.mean()) == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.05)
    assert abs(float(noise.mean())) < 0.002


def test_cutout_removes_a_square_of_half_the_side():
    ones = torch.ones(500, 1, 16, 16)
    corner = ada_augment(ones, 1.0, only("cutout"), FixedDraws(uniform=0.0))
    assert (corner[:, :, :4, :4] == 0).all()
    assert corner.sum() == 500 * (256 - 16)
    removed = (ada_augment(ones, 1.0, only("cutout"), draws()) == 0).sum(dim=(1, 2, 3))
    assert removed.max() == 64
    assert removed.min() >= 16


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"brightness": -0.1}, "'brightness' = -0.1: must be 0 or more"),
        ({"contrast": math.nan}, "'contrast'"),
        ({"rotation_degrees": 200.0}, "'rotation_degrees' = 200.0: must be between 0 and 180"),
        ({"cutout": 1.5}, "'cutout'"),
    ],
)
def test_impossible_strengths_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        AdaPolicy(**settings)


def test_defaults_leave_depth_pointing_down():
    policy = AdaPolicy()
    assert not (policy.y_flip or policy.rot90 or policy.luma_flip)
    assert policy.rotation_degrees <= 5
    assert policy.filtering == policy.noise == policy.cutout == 0


# Control


def run(controller: AdaController, sign: float, steps: int) -> float:
    for _ in range(steps):
        controller.update(torch.full((16,), sign))
    return float(controller.p)


def test_p_moves_by_one_in_ada_kimg():
    controller = AdaController(16, ada_kimg=6.4)  # 400 steps
    assert run(controller, 2.0, 200) == pytest.approx(0.5)
    assert run(controller, -2.0, 100) == pytest.approx(0.25)
    assert run(controller, 2.0, 3) == pytest.approx(0.25)  # not due yet
    assert run(controller, 2.0, 1) == pytest.approx(0.26)


def test_p_stays_within_zero_and_one():
    controller = AdaController(16, ada_kimg=1.0)
    assert run(controller, -1.0, 40) == 0.0
    assert run(controller, 1.0, 400) == 1.0


def test_the_target_divides_up_from_down():
    for positive, moves in ((12, -1), (13, 1)):  # of 16: r_t is 0.5 or 0.625
        controller = AdaController(16, p=0.5, ada_kimg=64.0)
        for _ in range(4):
            controller.update(torch.cat([torch.ones(positive), -torch.ones(16 - positive)]))
        assert float(controller.p) == pytest.approx(0.5 + moves * 0.001)


def test_the_mean_is_over_the_interval_not_the_last_batch():
    controller = AdaController(2, p=0.5, interval_steps=2)
    controller.update(torch.tensor([1.0, 1.0]))
    controller.update(torch.tensor([1.0, -1.0]))  # r_t = 0.5, below 0.6
    assert float(controller.p) < 0.5


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 7])
def test_resuming_is_exact(stop):
    logits = torch.randn(20, 16, generator=torch.Generator().manual_seed(0)) + 1.0
    whole, first, second = (AdaController(16, p=0.5, ada_kimg=1.0) for _ in range(3))
    for step in range(20):
        whole.update(logits[step])
    for step in range(stop):
        first.update(logits[step])
    state = first.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    first.update(logits[0])  # must not reach into the saved state
    second.load_state_dict(state)
    for step in range(stop, 20):
        second.update(logits[step])
    assert 0 < whole.p < 1
    assert whole.p != 0.5
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_p_is_one_tensor_for_life():
    controller = AdaController(16, ada_kimg=1.0)
    p = controller.p
    run(controller, 1.0, 4)
    assert p is controller.p
    assert p > 0


def test_short_runs_adjust_faster():
    assert scaled_ada_kimg(25000) == 500
    assert scaled_ada_kimg(300) == 75
