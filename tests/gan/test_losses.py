import pytest
import torch
from torch import nn

from sonosynth.core.draws import Draws
from sonosynth.gan.recipe import Batch, Objective
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.stylegan2.networks import Discriminator, Generator

CPU = torch.device("cpu")
SMALL = {"channel_base": 512, "channel_max": 8, "w_dim": 8, "z_dim": 8, "batch": 4}


def objective(generator: nn.Module, discriminator: nn.Module, **settings) -> Objective:
    given = {"r1_gamma": 2.0, "r1_interval": 4, "path_length_weight": 3.0, "path_length_interval": 2}
    return make_recipe("stylegan2", **(SMALL | given | settings)).build_objective(generator, discriminator)


def make_networks() -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    recipe = make_recipe("stylegan2", **SMALL)
    return recipe.build_generator(32, 0), recipe.build_discriminator(32, 0)


class Linear(nn.Module):
    """D(x) = <a, x>, whose gradient is a everywhere."""

    def __init__(self, a: torch.Tensor):
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, images: torch.Tensor, labels: None) -> torch.Tensor:
        return (images * self.a).sum(dim=(1, 2, 3))


def test_r1_of_a_linear_discriminator_is_its_squared_norm():
    a = torch.randn(1, 32, 32)
    generator, _ = make_networks()
    game = objective(generator, Linear(a))
    loss, statistics = game.r1_loss(Batch(torch.randn(4, 1, 32, 32), None, None, Draws(0, "r1", 0, CPU)))
    squared = a.square().sum()
    torch.testing.assert_close(statistics["r1"], squared)
    torch.testing.assert_close(loss, squared * 2.0 / 2 * 4)
    loss.backward()
    torch.testing.assert_close(game.discriminator.a.grad, 2 * a * 2.0 / 2 * 4)


def test_path_length_gradient_agrees_with_finite_differences():
    generator, discriminator = make_networks()
    generator.double()
    game = objective(generator, discriminator)
    game.path_length_mean = torch.zeros([], dtype=torch.float64)
    weight = generator.layers[2].conv.weight
    batch = Batch(torch.zeros(4, 1, 32, 32), None, None, _DoubleDraws(0, "path_length", 0, CPU))

    def value() -> torch.Tensor:
        game.path_length_mean = torch.zeros([], dtype=torch.float64)
        return game.path_length_loss(batch_again())[0]

    def batch_again() -> Batch:
        return Batch(batch.real, None, None, _DoubleDraws(0, "path_length", 0, CPU))

    value().backward()
    analytic = float(weight.grad[0, 0, 1, 1])
    step = 1e-4
    with torch.no_grad():
        weight[0, 0, 1, 1] += step
    above = float(value().detach())
    with torch.no_grad():
        weight[0, 0, 1, 1] -= 2 * step
    below = float(value().detach())
    # ToGrey returns float32, which bounds the accuracy of a difference.
    assert analytic == pytest.approx((above - below) / (2 * step), rel=0.02)


class _DoubleDraws(Draws):
    def normal(self, *shape: int) -> torch.Tensor:
        return super().normal(*shape).double()


def test_path_length_mean_moves_by_a_hundredth():
    generator, discriminator = make_networks()
    game = objective(generator, discriminator)
    _, statistics = game.path_length_loss(Batch(torch.zeros(4, 1, 32, 32), None, None, Draws(0, "p", 0, CPU)))
    torch.testing.assert_close(game.path_length_mean, 0.01 * statistics["path_length"])


def test_phases_follow_the_weights():
    generator, discriminator = make_networks()
    names = [phase.name for phase in objective(generator, discriminator).phases()]
    assert names == ["generator", "path_length", "discriminator", "r1"]
    bare = objective(generator, discriminator, r1_gamma=0.0, path_length_weight=0.0)
    assert [phase.name for phase in bare.phases()] == ["generator", "discriminator"]


def test_style_mixing_of_zero_keeps_one_style_and_one_mixes():
    generator, discriminator = make_networks()
    batch = Batch(torch.zeros(6, 1, 32, 32), None, None, Draws(0, "s", 0, CPU))
    plain = objective(generator, discriminator, style_mixing=0.0)._styles(batch, 6, None)
    assert (plain == plain[:, :1]).all()
    mixed = objective(generator, discriminator, style_mixing=1.0)._styles(batch, 6, None)
    assert not any((style == style[:1]).all() for style in mixed)
