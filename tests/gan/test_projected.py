import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.core.device import autocast
from sonosynth.core.draws import Draws
from sonosynth.core.errors import RecipeError
from sonosynth.gan.networks.blocks import SpectralConv2d
from sonosynth.gan.projected.networks import ConditionalNorm, FeatureProjection, ProjectedDiscriminator
from sonosynth.gan.recipe import Batch
from sonosynth.gan.registry import make_recipe

CPU = torch.device("cpu")


def narrow(**settings):
    return make_recipe("projected", **({"z_dim": 16, "ngf": 8, "ndf": 8, "feature_px": 128} | settings))


def make_networks(size: int = 32, n_classes: int = 0, seed: int = 0, **settings):
    torch.manual_seed(seed)
    recipe = narrow(**settings)
    return recipe.build_generator(size, n_classes), recipe.build_discriminator(size, n_classes)


def batch(step: int, n: int = 4, size: int = 32, n_classes: int = 0) -> Batch:
    draws = Draws(5, "test", step, CPU)
    real = draws.uniform(n, 1, size, size) * 2 - 1
    labels = draws.integers(0, n_classes, n) if n_classes else None
    return Batch(real, labels, labels, draws)


@pytest.fixture(scope="module")
def smooth_images() -> Tensor:
    """Eight smooth images with a bright blob each, 64 pixels, in [-1, 1]: more like ultrasound than noise is."""
    draws = Draws(0, "images", 0, CPU)
    coarse = draws.normal(8, 1, 16, 16)
    return F.interpolate(coarse, size=(64, 64), mode="bicubic").tanh()


@pytest.mark.long
@pytest.mark.parametrize("n_classes", [0, 3])
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_players_fit_every_size_and_all_that_is_trained_gets_a_gradient(size, n_classes):
    generator, discriminator = make_networks(size, n_classes)
    labels = torch.tensor([0, 2]) if n_classes else None
    images = generator(torch.randn(2, 16), labels, torch.zeros(2, generator.noise_length))
    assert images.shape == (2, 1, size, size)
    logits = discriminator(images, labels)
    assert logits.shape == (2, 4 if size < 256 else 4 * 25)
    assert images.dtype == logits.dtype == torch.float32
    logits.square().mean().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


def test_generator_has_the_published_number_of_parameters():
    widths = {4: 2048, 8: 1024, 16: 512, 32: 256, 64: 256, 128: 128, 256: 64}
    start = 256 * 2 * 2048 * 16 + 2 * 2 * 2048
    blocks = sum(9 * widths[s // 2] * 2 * widths[s] + 2 * 2 * widths[s] for s in (8, 16, 32, 64, 128, 256))
    gates = sum(
        16 * widths[small] * widths[large] + widths[large] ** 2 for small, large in ((4, 64), (8, 128), (16, 256))
    )
    with torch.device("meta"):
        generator = make_recipe("projected").build_generator(256, 0)
    assert sum(p.numel() for p in generator.parameters()) == start + blocks + gates + 9 * 64 + 1


def test_the_discriminator_has_only_trained_parameters_wherever_it_is_built():
    with torch.device("meta"):
        counted = make_recipe("projected").build_discriminator(64, 0)
    widths = [[64, 64, 128, 256, 512], [64, 128, 256, 512], [128, 256, 512], [256, 512]]
    blocks = sum(16 * i * o + 2 * o for scale in widths for i, o in pairwise(scale))
    assert sum(p.numel() for p in counted.parameters()) == blocks + 4 * 16 * 512


@pytest.mark.parametrize("feature_px", [128, 160, 224])
def test_every_scale_ends_at_stride_32_and_a_convolution_of_four_pixels(feature_px):
    discriminator = narrow(ndf=4, feature_px=feature_px).build_discriminator(32, 0)
    with torch.no_grad():
        maps = discriminator.features(torch.zeros(1, 1, feature_px, feature_px))
        logits = [judge(x, None) for judge, x in zip(discriminator.scales, maps, strict=True)]
    assert [x.shape[2] for x in maps] == [feature_px // stride for stride in (2, 4, 8, 16)]
    assert [x.shape for x in logits] == [(1, (feature_px // 32 - 3) ** 2)] * 4


@pytest.mark.parametrize(("feature_px", "wanted"), [(96, "greater than or equal to 128"), (200, "a multiple of 32")])
def test_sides_that_the_frozen_network_cannot_take_are_refused(feature_px, wanted):
    with pytest.raises(RecipeError, match=f"'feature_px' = {feature_px}: Input should be {wanted}"):
        narrow(feature_px=feature_px)


class Given(nn.Module):
    """Stands for the backbone: returns what it was given and remembers what it saw."""

    def __init__(self, maps: list[Tensor]):
        super().__init__()
        self.maps = maps

    def forward(self, pixels: Tensor) -> list[Tensor]:
        self.pixels = pixels
        return self.maps


def test_each_map_reaches_its_own_scale_and_all_finer_ones():
    torch.manual_seed(0)
    projection = FeatureProjection(4)
    sides = (16, 8, 4, 2)
    maps = [torch.randn(1, c, s, s) for c, s in zip((24, 40, 112, 320), sides, strict=True)]
    projection.backbone = Given(maps)
    before = projection(torch.zeros(1, 1, 64, 64))
    assert [tuple(x.shape[1:]) for x in before] == [(4, 32, 32), (4, 16, 16), (8, 8, 8), (16, 4, 4)]
    for changed in range(4):
        projection.backbone.maps = [x + 1 if i == changed else x for i, x in enumerate(maps)]
        after = projection(torch.zeros(1, 1, 64, 64))
        differs = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert differs == [scale <= changed for scale in range(4)]


def test_maps_are_mixed_after_they_are_enlarged_to_their_corners():
    torch.manual_seed(0)
    projection = FeatureProjection(4)
    maps = [torch.randn(1, c, s, s) for c, s in zip((24, 40, 112, 320), (16, 8, 4, 2), strict=True)]
    projection.backbone = Given(maps)
    found = projection(torch.zeros(1, 1, 64, 64))
    x = torch.zeros([])
    for scale in (3, 2, 1, 0):
        x = x + projection.across_channels[scale](maps[scale])
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        mixing = projection.across_scales[scale]
        x = torch.einsum("oi,nihw->nohw", mixing.weight[:, :, 0, 0], x) + mixing.bias[:, None, None]
        torch.testing.assert_close(found[scale], x)


def test_gain_and_bias_of_a_class_are_normalised_apart():
    torch.manual_seed(0)
    norm = ConditionalNorm(6, 5).eval()
    embedding, x = torch.randn(2, 5), torch.randn(2, 6, 3, 3)
    gain, bias = (embedding @ (of.weight / torch.linalg.matrix_norm(of.weight, 2)).t() + of.bias for of in norm.affine)
    expected = norm.norm(x) * (1 + gain)[:, :, None, None] + bias[:, :, None, None]
    torch.testing.assert_close(norm(x, embedding), expected, atol=0.05, rtol=0.05)  # after 15 steps of power iteration


@pytest.mark.parametrize("tanh", [False, True])
def test_images_are_bounded_where_that_is_asked_for(tanh):
    torch.manual_seed(0)
    generator = narrow(tanh=tanh).build_generator(32, 0)
    with torch.no_grad():
        generator.to_grey.bias += 5
    assert bool((generator(torch.randn(4, generator.z_dim), None, torch.zeros(4, 0)).abs() <= 1).all()) == tanh


def test_the_backbone_sees_pixels_normalised_as_it_was_trained():
    projection = FeatureProjection(4)
    projection.backbone = Given([torch.zeros(1, c, 1, 1) for c in (24, 40, 112, 320)])
    projection(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3))
    expected = (torch.tensor([0.0, 127.5, 255.0]) - 127) / 128
    assert projection.backbone.pixels.shape == (1, 3, 1, 3)
    torch.testing.assert_close(projection.backbone.pixels, expected.expand(1, 3, 1, 3))


@pytest.mark.long
def test_low_precision_keeps_logits_and_the_gradient_of_images(smooth_images):
    torch.manual_seed(0)
    discriminator = narrow(ndf=32).build_discriminator(64, 0).eval()
    logits, gradients = [], []
    for low_precision in (False, True):
        images = smooth_images.clone().requires_grad_()
        with autocast(CPU, low_precision):
            logits.append(discriminator(images))
        (gradient,) = torch.autograd.grad(logits[-1].mean(), images)
        gradients.append(gradient.flatten())
    torch.testing.assert_close(logits[1], logits[0], atol=0.1, rtol=0.1)
    assert F.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.95


def fixed(discriminator: ProjectedDiscriminator) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in discriminator.features.named_buffers()}


class Game:
    """Two networks, their optimisers and steps as the training loop takes them."""

    def __init__(self, seed: int, n_classes: int = 0, **settings):
        self.n_classes = n_classes
        self.generator, self.discriminator = make_networks(n_classes=n_classes, seed=seed, **settings)
        self.objective = narrow().build_objective(self.generator, self.discriminator)
        both = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimizers = {k: torch.optim.Adam(v.parameters(), lr=2e-3, betas=(0.0, 0.99)) for k, v in both.items()}

    def play(self, steps: range) -> None:
        for step in steps:
            for phase in self.objective.phases():
                self.generator.requires_grad_(phase.network == "generator")
                self.discriminator.requires_grad_(phase.network == "discriminator")
                loss, statistics = phase.loss(batch(step, n_classes=self.n_classes))
                assert all(value.isfinite() and not value.requires_grad for value in statistics.values())
                loss.backward()
                self.optimizers[phase.network].step()
                self.optimizers[phase.network].zero_grad()

    def parts(self) -> dict:
        parts = {"generator": self.generator, "discriminator": self.discriminator, "objective": self.objective}
        return parts | {f"optimizer of {name}": optimizer for name, optimizer in self.optimizers.items()}

    def state(self) -> dict:
        return copy.deepcopy({name: part.state_dict() for name, part in self.parts().items()})

    def restore(self, state: dict) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])


def test_training_moves_every_parameter_and_nothing_that_is_fixed():
    game = Game(seed=0)
    before = fixed(game.discriminator)
    parameters = copy.deepcopy(dict(game.discriminator.named_parameters()))
    game.play(range(2))
    after = fixed(game.discriminator)
    assert len(before) > 100
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(not torch.equal(parameters[name], p) for name, p in game.discriminator.named_parameters())


def test_projections_are_random_and_travel_in_the_state_but_the_backbone_does_not():
    (_, first), (_, second) = make_networks(seed=0), make_networks(seed=1)
    _, again = make_networks(seed=0)
    random = [name for name in first.state_dict() if name.startswith("features.")]
    assert len(random) == 2 * 8
    assert all(name.split(".")[1] in ("across_channels", "across_scales") for name in random)
    assert all(torch.equal(first.state_dict()[name], again.state_dict()[name]) for name in random)
    assert not any(torch.equal(first.state_dict()[name], second.state_dict()[name]) for name in random)
    second.load_state_dict(first.state_dict())
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(first.eval()(images), second.eval()(images))


@pytest.mark.long
@pytest.mark.parametrize(("n_classes", "lite"), [(0, False), (2, True)])
def test_a_game_restored_into_other_players_goes_on_exactly(n_classes, lite):
    straight = Game(seed=0, n_classes=n_classes, lite=lite)
    straight.play(range(2))
    resumed = Game(seed=1, n_classes=n_classes, lite=lite)
    resumed.restore(straight.state())
    straight.play(range(2, 4))
    resumed.play(range(2, 4))
    for network in ("generator", "discriminator"):
        a, b = straight.state()[network], resumed.state()[network]
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_generator_loss_passes_the_frozen_network_and_spares_the_discriminator():
    generator, discriminator = make_networks()
    discriminator.requires_grad_(False)
    loss, _ = narrow().build_objective(generator, discriminator).generator_loss(batch(0))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in generator.parameters())
    assert all(p.grad is None for p in discriminator.parameters())
    assert not any(x.requires_grad for x in discriminator.buffers())


def test_weights_are_normalised_to_a_largest_singular_value_of_one():
    for network, n_layers in zip(make_networks(n_classes=2), (3 + 1, 4 + 3 + 2 + 1 + 4), strict=True):
        layers = [layer for layer in network.eval().modules() if isinstance(layer, SpectralConv2d)]
        assert len(layers) == n_layers
        for layer in layers:
            weight = (layer.weight / layer.norm(layer.weight)).detach()
            largest = torch.linalg.matrix_norm(weight.flatten(1), 2)
            assert 0.95 < largest < 1.1
    x = torch.randn(2, 6, 8, 8)
    layer = SpectralConv2d(6, 5, 3, padding=1).eval()
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(100)
    torch.testing.assert_close(layer(x), before)


def test_initial_weights_are_those_of_an_ordinary_convolution():
    torch.manual_seed(0)
    ours = SpectralConv2d(6, 5, 3, bias=True, initial_std=None)
    torch.manual_seed(0)
    theirs = nn.Conv2d(6, 5, 3)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
    for network in make_networks():
        for layer in network.modules():
            if isinstance(layer, SpectralConv2d):
                limit = layer.weight[0].numel() ** -0.5
                assert 0.7 * limit < layer.weight.abs().max() <= limit


class Mean(nn.Module):
    """D(x) = the mean of x, plus the class; remembers what it judged."""

    def __init__(self):
        super().__init__()
        self.judged: list[Tensor] = []

    def forward(self, images: Tensor, labels: Tensor | None = None, sets: int = 1) -> Tensor:
        self.judged += images.detach().chunk(sets)
        logits = images.mean(dim=(1, 2, 3))[:, None]
        return logits if labels is None else logits + labels[:, None]


def test_losses_are_the_hinge_losses():
    generator, _ = make_networks()
    game = narrow(diffaugment=()).build_objective(generator.eval(), Mean())
    real = torch.tensor([-0.5, 0.5, 1.5, 3.0])[:, None, None, None].expand(4, 1, 32, 32)
    loss, statistics = game.discriminator_loss(Batch(real, None, None, Draws(0, "d", 0, CPU)))
    fake = game.discriminator.judged[0].mean(dim=(1, 2, 3))
    torch.testing.assert_close(loss, F.relu(1 + fake).mean() + torch.tensor([1.5, 0.5, 0.0, 0.0]).mean())
    assert statistics["sign_real"] == 0.5
    loss, _ = game.generator_loss(Batch(real, None, None, Draws(0, "d", 0, CPU)))
    torch.testing.assert_close(loss, -fake.mean())


def test_real_and_generated_images_are_augmented_and_keep_their_labels():
    generator, _ = make_networks(n_classes=4)
    game = narrow(diffaugment=("brightness",)).build_objective(generator, Mean())
    real = torch.zeros(3, 1, 32, 32)
    real_labels, fake_labels = torch.tensor([0, 0, 0]), torch.tensor([3, 3, 3])
    _, statistics = game.discriminator_loss(Batch(real, real_labels, fake_labels, Draws(0, "d", 0, CPU)))
    seen = game.discriminator.judged[1]
    assert seen.mean(dim=(1, 2, 3)).unique().numel() == 3
    torch.testing.assert_close(statistics["logit_real"], seen.mean())
    torch.testing.assert_close(statistics["logit_fake"], game.discriminator.judged[0].mean() + 3)


def test_two_sets_are_judged_together_as_they_are_alone():
    _, discriminator = make_networks(n_classes=2)
    discriminator.eval()  # fixes the singular values; the statistics of the batch count all the same
    images, labels = torch.randn(8, 1, 32, 32) * torch.linspace(0.1, 1, 8)[:, None, None, None], torch.arange(8) % 2
    together = discriminator(images, labels, sets=2)
    alone = torch.cat([discriminator(x, y) for x, y in zip(images.chunk(2), labels.chunk(2), strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together, discriminator(images, labels), atol=1e-2)


@pytest.mark.long
def test_classes_change_the_image_and_the_judgement():
    generator, discriminator = (network.eval() for network in make_networks(n_classes=2))
    z, noise = torch.randn(2, 16), torch.zeros(2, 0)
    images = generator(z, torch.tensor([0, 0]), noise)
    assert not torch.allclose(images, generator(z, torch.tensor([1, 1]), noise), atol=1e-3)
    zero, one = (discriminator(images, torch.full((2,), label)) for label in (0, 1))
    assert not torch.allclose(zero, one, atol=1e-3)


def test_truncation_draws_images_together():
    generator, _ = make_networks()
    generator(torch.randn(16, 16), None, torch.zeros(16, 0))  # a first estimate of the batch statistics
    generator.eval()
    z, noise = torch.randn(8, 16), torch.zeros(8, 0)
    spread = [float(generator(z, None, noise, psi).detach().std(dim=0).mean()) for psi in (0.0, 0.5, 1.0)]
    assert spread[0] < 1e-6 < spread[1] < spread[2]
    torch.testing.assert_close(generator(z, None, noise), generator(7 * z, None, noise))


def test_only_the_full_generator_takes_noise_and_uses_all_of_it():
    assert make_networks()[0].noise_length == 0
    generator, _ = make_networks(lite=False)
    assert generator.noise_length == 2 * (8**2 + 16**2 + 32**2)
    for block in generator.blocks:
        for layer in block.layers:
            nn.init.ones_(layer.noise_strength)
    z, noise = torch.randn(2, 16), torch.randn(2, generator.noise_length, requires_grad=True)
    generator(z, None, noise).square().sum().backward()
    assert (noise.grad != 0).float().mean() > 0.99
