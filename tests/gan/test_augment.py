import pytest
import torch

from sonosynth.core.draws import Draws
from sonosynth.gan.augment.diffaugment import ALL_OPERATIONS, OPERATIONS, cutout, diffaugment, translation


def draws(step: int = 0) -> Draws:
    return Draws(0, "test", step, torch.device("cpu"))


def test_translation_shifts_whole_pixels_and_fills_with_mid_grey():
    x = torch.rand(16, 1, 16, 16) + 0.5
    moved = translation(x, draws())
    for before, after in zip(x[:, 0], moved[:, 0], strict=True):
        candidates = [
            (dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if torch.equal(_shifted(before, dy, dx), after)
        ]
        assert len(candidates) == 1
    assert not torch.equal(moved, x)


def _shifted(image: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    out = torch.zeros_like(image)
    h, w = image.shape
    out[max(0, -dy) : h - max(0, dy), max(0, -dx) : w - max(0, dx)] = image[
        max(0, dy) : h - max(0, -dy), max(0, dx) : w - max(0, -dx)
    ]
    return out


def test_cutout_zeroes_at_most_a_quarter_and_never_nothing():
    cut = cutout(torch.ones(64, 1, 16, 16), draws())
    removed = (cut == 0).sum(dim=(1, 2, 3))
    assert removed.max() <= 64
    assert removed.min() >= 16


def test_the_square_that_cutout_hides_has_the_side_that_is_asked_for():
    cut = diffaugment(torch.ones(64, 1, 16, 16), ("cutout",), draws(), cutout_ratio=0.2)
    assert (cut == 0).sum(dim=(1, 2, 3)).max() == 3 * 3


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_gradients_are_right_and_exist_twice(name):
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda images: OPERATIONS[name](images, draws()), x)
    assert torch.autograd.gradgradcheck(lambda images: OPERATIONS[name](images, draws()).pow(3), x)
    (gradient,) = torch.autograd.grad(OPERATIONS[name](x, draws()).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_contrast_and_shifts_of_mid_grey_leave_a_constant_image_its_mean():
    grey = torch.full((6, 1, 16, 16), 0.25)
    assert torch.allclose(OPERATIONS["contrast"](grey, draws()), grey)
    for name in ("translation", "cutout"):
        assert torch.equal(OPERATIONS[name](torch.zeros_like(grey), draws()), torch.zeros_like(grey))


def test_every_image_has_draws_of_its_own_and_the_same_step_repeats():
    x = torch.zeros(8, 1, 16, 16)
    first = diffaugment(x, ALL_OPERATIONS, draws())
    assert torch.equal(first, diffaugment(x, ALL_OPERATIONS, draws()))
    assert not torch.equal(first, diffaugment(x, ALL_OPERATIONS, draws(1)))
    assert len({float(image.max()) for image in diffaugment(x, ("brightness",), draws())}) == 8


def test_empty_policy_is_the_identity():
    x = torch.rand(4, 1, 8, 8)
    assert diffaugment(x, (), draws()) is x
