import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.core.draws import Draws
from sonosynth.gan.networks.layers import stage_widths
from sonosynth.gan.r3gan.networks import GAIN, Discriminator, Generator, ResidualBlock
from sonosynth.gan.recipe import Batch, Objective
from sonosynth.gan.registry import make_recipe

CPU = torch.device("cpu")
NARROW = make_recipe("r3gan", channel_base=512, channel_max=32, z_dim=8, gamma=3.0, diffaugment=())


def test_widths_are_the_authors():
    assert stage_widths(256, 24576, 768) == [768, 768, 768, 768, 384, 192, 96]
    recipe = make_recipe("r3gan")
    generator = recipe.build_generator(64, 0)
    assert [stage[0].groups for stage in generator.stages] == [96, 96, 96, 96, 48]
    assert [recipe.gamma_at(size) for size in (64, 256)] == pytest.approx([2, 150])
    assert make_recipe("r3gan", gamma=0.5).gamma_at(256) == 0.5


@pytest.mark.parametrize("n_classes", [0, 3])
@pytest.mark.parametrize("size", [32, 64, 256])
def test_networks_fit_every_size_and_all_that_is_trained_gets_a_gradient(size, n_classes):
    generator, discriminator = Generator(size, n_classes, NARROW), Discriminator(size, n_classes, NARROW)
    for network in (generator, discriminator):
        for block in (module for module in network.modules() if isinstance(module, ResidualBlock)):
            nn.init.normal_(block.contract.weight, std=0.1)  # which is zero at first, and hides what comes before it
    labels = torch.arange(4) % n_classes if n_classes else None
    images = generator(torch.randn(4, 8), labels, torch.empty(4, generator.noise_length))
    assert (images.shape, images.dtype) == ((4, 1, size, size), torch.float32)
    logits = discriminator(images, labels)
    assert logits.shape == (4,)
    logits.sum().backward()
    assert all(p.grad.abs().sum() > 0 for network in (generator, discriminator) for p in network.parameters())


def test_a_block_begins_as_the_identity_and_computes_its_definition():
    torch.manual_seed(0)
    block, x = ResidualBlock(64, 16, n_blocks=10), torch.randn(2, 64, 5, 5)
    assert torch.equal(block(x), x)
    assert block.groups == 8
    for weight, fan_in in ((block.expand.weight, 64), (block.grouped_weight, 16 * 9)):
        assert float(weight.detach().std()) == pytest.approx(GAIN * 10**-0.25 / math.sqrt(fan_in), rel=0.05)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.2)
    y = F.leaky_relu(F.conv2d(x, block.expand.weight, block.bias_expanded), 0.2)
    y = F.leaky_relu(F.conv2d(y, block.grouped_weight, block.bias_grouped, padding=1, groups=8), 0.2)
    torch.testing.assert_close(block(x), x + F.conv2d(y, block.contract.weight))


def test_the_class_moves_images_and_logits():
    generator, discriminator = Generator(32, 2, NARROW), Discriminator(32, 2, NARROW)
    z, noise = torch.randn(1, 8).expand(2, -1), torch.empty(2, 0)
    first, second = generator(z, torch.tensor([0, 1]), noise)
    assert not torch.allclose(first, second)
    logits = discriminator(first.expand(2, 1, 32, 32), torch.tensor([0, 1]))
    assert not torch.allclose(logits[0], logits[1])
    assert generator(torch.randn(2, 8), torch.tensor([0, 0]), noise, truncation=0.0).diff(dim=0).abs().max() == 0


class Quadratic(nn.Module):
    """D(x) = a · the mean square of x, plus the class."""

    def __init__(self, a: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        score = self.a * images.square().mean(dim=(1, 2, 3))
        return score if labels is None else score + labels


def objective(discriminator: nn.Module, n_classes: int = 0) -> Objective:
    torch.manual_seed(1)
    return NARROW.build_objective(Generator(32, n_classes, NARROW), discriminator)


def test_the_loss_pairs_real_and_generated_images_and_penalises_both_gradients():
    losses, real = objective(Quadratic(2.0)), torch.randn(4, 1, 32, 32)
    draws = Draws(0, "d", 0, CPU)
    fake = losses._synthesise(draws.normal(4, 8), None, draws.normal(4, 0)).detach()
    loss, statistics = losses.discriminator_loss(Batch(real.clone(), None, None, Draws(0, "d", 0, CPU)))
    a, pixels = 2.0, 32 * 32
    scores = [a * x.square().mean(dim=(1, 2, 3)) for x in (real, fake)]
    r1, r2 = ((2 * a * x / pixels).square().sum(dim=(1, 2, 3)).mean() for x in (real, fake))
    torch.testing.assert_close(statistics["r1"], r1)
    torch.testing.assert_close(statistics["r2"], r2)
    torch.testing.assert_close(loss, F.softplus(scores[1] - scores[0]).mean() + 3.0 / 2 * (r1 + r2))
    loss, _ = losses.generator_loss(Batch(real.clone(), None, None, Draws(0, "d", 0, CPU)))
    torch.testing.assert_close(loss, F.softplus(scores[0] - scores[1]).mean())
    loss.backward()
    assert losses.generator.first.grad.abs().sum() > 0


def test_a_pair_is_of_one_class():
    losses = objective(Quadratic(0.0), n_classes=5)
    labels, others = torch.tensor([0, 4, 2, 3]), torch.tensor([1, 1, 1, 1])
    loss, _ = losses.discriminator_loss(Batch(torch.randn(4, 1, 32, 32), labels, others, Draws(0, "d", 0, CPU)))
    torch.testing.assert_close(loss, torch.tensor(math.log(2)))
