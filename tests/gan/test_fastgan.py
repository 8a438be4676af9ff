import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.core.device import autocast
from sonosynth.core.draws import Draws
from sonosynth.gan.fastgan.networks import (
    FastGANDiscriminator,
    FastGANGenerator,
    Features,
    Projection,
    cut_quadrant,
    shrink,
    small_size,
)
from sonosynth.gan.networks.blocks import GatedConv2d, SkipLayerExcitation, SpectralConv2d, UpBlock, gated
from sonosynth.gan.networks.layers import convolve_enlarged, enlarging_taps
from sonosynth.gan.recipe import Batch, Objective
from sonosynth.gan.registry import make_recipe

CPU = torch.device("cpu")


def of_width(width: int, **settings):
    return make_recipe("fastgan", **({"ngf": width, "ndf": width, "z_dim": 16, "perceptual": "l1"} | settings))


def make_networks(
    size: int = 32, n_classes: int = 0, width: int = 4, seed: int = 0
) -> tuple[FastGANGenerator, FastGANDiscriminator]:
    torch.manual_seed(seed)
    recipe = of_width(width)
    return recipe.build_generator(size, n_classes), recipe.build_discriminator(size, n_classes)


def objective(generator: nn.Module, discriminator: nn.Module, **settings) -> Objective:
    return of_width(4, **settings).build_objective(generator, discriminator)


def batch(size: int = 32, n_classes: int = 0, n: int = 4, step: int = 0) -> Batch:
    real = Draws(0, "real", step, CPU).uniform(n, 1, size, size) * 2 - 1
    labels = torch.arange(n) % n_classes if n_classes else None
    return Batch(real, labels, labels, Draws(0, "phase", step, CPU))


def latents(generator: FastGANGenerator, n: int) -> tuple[Tensor, Tensor]:
    draws = Draws(1, "latents", 0, CPU)
    return draws.normal(n, generator.z_dim), draws.normal(n, generator.noise_length)


# Counted by hand from the published table of widths and kinds of blocks, with one image channel instead of three. The
# published discriminator has no form below 256 px: the counts there hold the generalisation in place.
@pytest.mark.parametrize(
    ("size", "width", "generator", "discriminator"),
    [
        (64, 16, 3_338_180, 674_880),
        (64, 64, 28_208_900, 10_692_864),
        (128, 64, 28_958_406, 11_313_504),
        (256, 64, 29_127_142, 11_523_120),
        (512, 64, 29_173_976, 11_523_232),
    ],
)
def test_parameter_counts(size, width, generator, discriminator):
    assert of_width(width, z_dim=256).parameter_counts(size, 0) == (generator, discriminator)


@pytest.mark.long
@pytest.mark.parametrize("n_classes", [0, 3])
@pytest.mark.parametrize("size", [32, 64, 128, 256, 512])
def test_shapes_and_links_at_every_size(size, n_classes):
    generator, discriminator = make_networks(size, n_classes)
    z, noise = latents(generator, 2)
    labels = torch.tensor([0, 2]) if n_classes else None
    image, small = generator.both_sizes(z, labels, noise)
    side = small_size(size)
    assert side == {32: 16, 64: 32, 128: 64, 256: 128, 512: 128}[size]
    assert (image.shape, small.shape) == ((2, 1, size, size), (2, 1, side, side))
    features = discriminator.features(image, small)
    assert (features.middle.shape[2], features.last.shape[2], features.small.shape[2]) == (16, 8, 8)
    assert discriminator.logits(features, labels).shape == (2, 50)
    parts = discriminator.reconstruct(features, torch.tensor([0, 3]))
    assert [part.shape for part in parts] == [(2, 1, side, side)] * 3
    assert list(generator.excitations) == [str(r) for r in (64, 128, 256, 512) if r <= size]
    assert list(discriminator.excitations) == [str(r) for r in (32, 16, 8) if 8 * r <= min(size, 256)]
    assert generator.noise_length == sum(2 * r * r for r in (8, 32, 128, 512) if r <= size)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_precisions_agree_and_a_gradient_reaches_every_parameter(n_classes):
    generator, discriminator = make_networks(64, n_classes, width=8)
    for module in generator.modules():
        if isinstance(module, GatedConv2d) and module.noise_strength is not None:
            nn.init.constant_(module.noise_strength, 0.1)
    z, noise = latents(generator, 8)
    labels = torch.arange(8) % 3 if n_classes else None
    images, logits = {}, {}
    for low_precision in (True, False):
        with autocast(CPU, low_precision):
            pair = generator.both_sizes(z, labels, noise)
            features = discriminator.features(*pair)
            logits[low_precision] = discriminator.logits(features, labels)
            parts = discriminator.reconstruct(features, torch.arange(8) % 4)
        images[low_precision] = pair[0]
        assert {x.dtype for x in (*pair, *parts, logits[low_precision])} == {torch.float32}
        assert (features.last.dtype == torch.bfloat16) == low_precision
    assert F.l1_loss(images[True], images[False]) < 0.05 * images[False].std()
    assert F.l1_loss(logits[True], logits[False]) < 0.1 * logits[False].std()
    (logits[False].sum() + sum(part.square().sum() for part in parts)).backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("side", [8, 2])  # the weight is divided, or what comes out
def test_spectral_convolution_is_that_of_torch_and_is_exact_for_a_known_matrix(side):
    torch.manual_seed(0)
    ours = SpectralConv2d(3, 5, 3, padding=1)
    theirs = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    theirs.weight = nn.Parameter(ours.weight.detach().clone())
    torch.nn.utils.parametrizations.spectral_norm(theirs)
    normalisation = theirs.parametrizations.weight[0]
    normalisation._u.copy_(ours.norm.u)
    normalisation._v.copy_(ours.norm.v)
    x = torch.randn(2, 3, side, side)
    for _ in range(2):
        torch.testing.assert_close(ours(x), theirs(x))
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.parametrizations.weight.original.grad, rtol=1e-4, atol=1e-4)
    diagonal = SpectralConv2d(2, 2, 1)
    with torch.no_grad():
        diagonal.weight.copy_(torch.diag(torch.tensor([3.0, 0.5]))[:, :, None, None])
    for _ in range(10):
        y = diagonal(torch.ones(1, 2, 1, 1))
    torch.testing.assert_close(y.flatten(), torch.tensor([1.0, 0.5 / 3]))


def test_spectral_vectors_move_in_training_mode_only():
    torch.manual_seed(0)
    layer = SpectralConv2d(3, 5, 3).eval()
    with torch.no_grad():
        layer.weight.normal_()
    before = layer.norm.u.clone()
    layer(torch.randn(1, 3, 4, 4))
    assert torch.equal(layer.norm.u, before)
    layer.train()(torch.randn(1, 3, 4, 4))
    assert not torch.equal(layer.norm.u, before)


@pytest.mark.parametrize("side", [4, 5])  # up to 4 pixels are enlarged before the convolution
def test_convolution_of_an_enlarged_image_and_its_derivatives(side):
    torch.manual_seed(0)
    x = torch.randn(2, 3, side, side + 1, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    taps = enlarging_taps().double()
    found = convolve_enlarged(x, weight, taps)
    expected = F.conv2d(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), weight, padding=1)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(found)
    pairs = zip(*(torch.autograd.grad(y, (x, weight), direction) for y in (found, expected)), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def test_gated_linear_unit_halves_channels_and_keeps_the_memory_format():
    x = torch.randn(2, 6, 4, 4).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(gated(x), F.glu(x, dim=1))
    assert gated(x).is_contiguous(memory_format=torch.channels_last)
    assert GatedConv2d(3, 5)(torch.randn(2, 3, 8, 8)).shape == (2, 5, 8, 8)


def test_excitation_equals_a_computation_by_hand():
    torch.manual_seed(0)
    layer = SkipLayerExcitation(3, 2).eval()
    small, large = torch.randn(1, 3, 8, 8), torch.randn(1, 2, 16, 16)
    pooled = small.reshape(3, 4, 2, 4, 2).mean(dim=(2, 4))
    first, second = (c.weight.detach() / c.norm(c.weight).detach() for c in (layer.conv, layer.gate))
    hidden = (first * pooled).sum(dim=(1, 2, 3))
    hidden = hidden / (1 + torch.exp(-hidden))
    gate = 1 / (1 + torch.exp(-(second[:, :, 0, 0] @ hidden)))
    expected = torch.stack([large[0, 0] * gate[0], large[0, 1] * gate[1]])[None]
    torch.testing.assert_close(layer(small, large), expected)


def test_noise_comes_from_the_argument_scaled_by_a_learned_strength():
    torch.manual_seed(0)
    block = UpBlock(4, 4, noisy=True)
    assert len(block.layers) == 2 and len(UpBlock(4, 4).layers) == 1
    x, noises = torch.randn(2, 4, 4, 4), list(torch.randn(2, 2, 1, 8, 8))
    still = block(x, noises)
    torch.testing.assert_close(block(x, [-n for n in noises]), still)  # the strength begins at zero
    nn.init.ones_(block.layers[0].noise_strength)
    assert (block(x, noises) - still).abs().max() > 0.01


def test_equal_draws_give_equal_images_and_truncation_scales_the_latent():
    generator, _ = make_networks(n_classes=2)
    generator.eval()
    z, noise = latents(generator, 4)
    labels = torch.tensor([0, 1, 0, 1])
    full = generator(z, labels, noise)
    assert torch.equal(generator(z, labels, noise), full)
    torch.testing.assert_close(generator(z, labels, noise, truncation=0.5), generator(z / 2, labels, noise))
    none = generator(z, labels, noise, truncation=0.0)
    torch.testing.assert_close(none[0], none[2])
    assert not torch.allclose(none[0], none[1])  # classes remain apart
    assert not torch.allclose(full[0], full[2])


def test_latents_outweigh_classes_at_the_start():
    torch.manual_seed(0)
    generator = of_width(4, z_dim=256).build_generator(32, 3)
    z, noise = latents(generator, 48)
    images = generator(z, torch.arange(48) % 3, noise).reshape(16, 3, -1)
    assert images.std(dim=0).mean() > 3 * images.mean(dim=0).std(dim=0).mean() > 0


def test_an_image_does_not_depend_on_its_batch_in_evaluation_mode():
    generator, _ = make_networks()
    z, noise = latents(generator, 8)
    generator(z, None, noise)
    generator.eval()
    torch.testing.assert_close(generator(z[:2], None, noise[:2]), generator(z, None, noise)[:2])


def test_classes_change_logits_by_the_projection():
    torch.manual_seed(0)
    layer = Projection(3, 4).eval()
    x, labels = torch.randn(2, 4, 5, 5), torch.tensor([2, 0])
    table = layer.weight.detach() / layer.norm(layer.weight).detach()
    expected = torch.stack([(table[2] * x[0].mean(dim=(1, 2))).sum(), (table[0] * x[1].mean(dim=(1, 2))).sum()])
    torch.testing.assert_close(layer(x, labels)[:, 0], expected)
    _, discriminator = make_networks(n_classes=3)
    discriminator.eval()
    images, small = torch.randn(1, 1, 32, 32), torch.randn(1, 1, 16, 16)
    difference = discriminator(images, small, torch.tensor([0])) - discriminator(images, small, torch.tensor([1]))
    assert difference.abs().min() > 0
    assert difference[0, :25].std() < 1e-5 and difference[0, 25:].std() < 1e-5  # the same at every position


def test_quadrants_and_shrinking():
    x = torch.arange(16.0).reshape(1, 1, 4, 4).expand(4, -1, -1, -1)
    cut = cut_quadrant(x, torch.tensor([0, 1, 2, 3]))
    assert cut[:, 0, 0, 0].tolist() == [0, 2, 8, 10]
    assert cut[3, 0].tolist() == [[10, 11], [14, 15]]
    assert shrink(x[:1], 2)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


class _Fixed(nn.Module):
    """Generator and discriminator whose answers are given."""

    size, z_dim, noise_length = 32, 2, 3

    def __init__(self, real: list[float], fake: list[float]):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros([]))
        self.real, self.fake = (torch.tensor(x)[:, None] for x in (real, fake))

    def both_sizes(self, z: Tensor, labels: None, noise: Tensor) -> tuple[Tensor, Tensor]:
        assert z.shape == (len(z), 2) and noise.shape == (len(z), 3)
        return torch.zeros(len(z), 1, 32, 32), torch.zeros(len(z), 1, 16, 16)

    def features(self, images: Tensor, small: Tensor) -> Features:
        torch.testing.assert_close(small, F.avg_pool2d(images, 2))
        return Features(images, images, images)

    def logits(self, features: Features, labels: None) -> Tensor:
        return self.real

    def forward(self, images: Tensor, small: Tensor, labels: None) -> Tensor:
        assert not images.any()
        return self.fake

    def reconstruct(self, features: Features, quadrant: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        target = F.avg_pool2d(features.last, 2)
        return target + 0.25, target - 0.5, cut_quadrant(features.last, quadrant)


def test_losses_of_given_logits():
    fixed = _Fixed(real=[2.0, 0.5, -1.0, 1.0], fake=[-2.0, -0.5, 1.0, 0.0])
    game = objective(fixed, fixed, diffaugment=())
    loss, statistics = game.discriminator_loss(batch())
    hinge = (0 + 0.5 + 2 + 0) / 4 + (0 + 0.5 + 2 + 1) / 4
    assert float(statistics["loss_d"]) == pytest.approx(hinge)
    assert float(statistics["reconstruction"]) == pytest.approx(0.25 + 0.5 + 0, abs=1e-6)
    assert float(loss) == pytest.approx(hinge + 8 * 0.75)
    assert float(statistics["sign_real"]) == pytest.approx(0.5)
    assert float(game.generator_loss(batch())[0]) == pytest.approx(1.5 / 4)


def test_margins_of_the_hinge_loss_may_be_drawn():
    fixed = _Fixed(real=[2.0, 0.5, -1.0, 1.0], fake=[-2.0, -0.5, 1.0, 0.0])
    loss = objective(fixed, fixed, diffaugment=(), smallest_margin=0.8).discriminator_loss(batch())[1]["loss_d"]
    least, most = (0 + 0.3 + 1.8 + 0 + 0 + 0.3 + 1.8 + 0.8) / 4, (0 + 0.5 + 2 + 0 + 0 + 0.5 + 2 + 1) / 4
    assert least < float(loss) < most


def test_phases_train_one_player_each_and_repeat_under_equal_draws():
    generator, discriminator = make_networks(n_classes=2)
    phases = objective(generator, discriminator).phases()
    assert [(phase.name, phase.network, phase.interval) for phase in phases] == [
        ("discriminator", "discriminator", 1),
        ("generator", "generator", 1),
    ]
    start = copy.deepcopy((generator.state_dict(), discriminator.state_dict()))
    for phase in phases:
        seen = []
        for _ in range(2):
            generator.load_state_dict(start[0])
            discriminator.load_state_dict(start[1])
            for network, name in ((generator, "generator"), (discriminator, "discriminator")):
                network.zero_grad()
                network.requires_grad_(name == phase.network)
            loss, _ = phase.loss(batch(n_classes=2))
            loss.backward()
            grads = [p.grad for network in (generator, discriminator) for p in network.parameters()]
            seen.append((loss.detach(), [g.clone() for g in grads if g is not None]))
        trained = {"generator": generator, "discriminator": discriminator}[phase.network]
        # The decoders see real images alone, which is the discriminator's step: it trains all of its parameters.
        assert len(seen[0][1]) == len(list(trained.parameters()))
        assert torch.equal(seen[0][0], seen[1][0])
        assert all(torch.equal(a, b) for a, b in zip(seen[0][1], seen[1][1], strict=True))


def _train(networks: tuple[nn.Module, nn.Module], optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    game = objective(*networks)
    for step in steps:
        for phase, optimizer, trained in zip(game.phases(), optimizers, networks[::-1], strict=True):
            for network in networks:
                network.requires_grad_(network is trained)
            phase.loss(batch(step=step))[0].backward()
            optimizer.step()
            optimizer.zero_grad()


def test_a_restored_game_goes_on_bit_for_bit():
    def make() -> tuple[tuple[nn.Module, nn.Module], list[torch.optim.Optimizer]]:
        networks = make_networks()
        return networks, [torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in networks[::-1]]

    straight, straight_optimizers = make()
    _train(straight, straight_optimizers, range(4))
    cut, cut_optimizers = make()
    _train(cut, cut_optimizers, range(2))
    saved = copy.deepcopy([x.state_dict() for x in (*cut, *cut_optimizers)])
    resumed = make_networks(seed=9)
    optimizers = [torch.optim.Adam(n.parameters(), lr=1.0) for n in resumed[::-1]]
    for part, state in zip((*resumed, *optimizers), saved, strict=True):
        part.load_state_dict(state)
    _train(resumed, optimizers, range(2, 4))
    for a, b in zip(straight, resumed, strict=True):
        first, second = a.state_dict(), b.state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert objective(*straight).state_dict() == {}


@pytest.mark.long
def test_reconstruction_teaches_the_discriminator_to_encode_images():
    generator, discriminator = make_networks(width=8)
    game = objective(generator, discriminator, diffaugment=())
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    ramp = torch.linspace(-0.9, 0.9, 32)
    real = torch.stack([ramp.expand(32, 32), ramp.flip(0).expand(32, 32), ramp[:, None].expand(32, 32), -ramp.abs()[
        :, None
    ].expand(32, 32)])[:, None]  # fmt: skip
    distances = []
    for step in range(30):
        loss, statistics = game.discriminator_loss(Batch(real, None, None, Draws(0, "d", step, CPU)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        distances.append(float(statistics["reconstruction"]))
    assert distances[-1] < 0.5 * distances[0]
