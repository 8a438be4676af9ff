import math

import pytest
import torch

from sonosynth.core.device import autocast
from sonosynth.gan.networks.layers import (
    EqualConv2d,
    ModulatedConv2d,
    downsample,
    filter_by_products,
    minibatch_standard_deviation,
    upsample,
)
from sonosynth.gan.networks.layers import resample_filter as binomial
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.stylegan2.networks import Discriminator, Generator


def narrow(**settings):
    return make_recipe("stylegan2", **({"channel_base": 512, "channel_max": 16, "z_dim": 16, "w_dim": 16} | settings))


@pytest.mark.parametrize(
    ("size", "channel_base", "generator", "discriminator"),
    [
        (32, 16384, 19_943_435, 21_506_049),
        (64, 2048, 6_755_630, 9_085_409),
        (64, 16384, 22_238_990, 23_406_849),
        (128, 2048, 6_795_425, 9_092_849),
    ],
)
def test_parameter_counts_are_those_of_the_published_architecture(size, channel_base, generator, discriminator):
    recipe = make_recipe("stylegan2", channel_base=channel_base)
    assert recipe.parameter_counts(size, 0) == (generator, discriminator)


def test_modulated_convolution_equals_per_sample_weights():
    torch.manual_seed(0)
    layer = ModulatedConv2d(5, 7, 3, 11).double()
    x, w, added = torch.randn(3, 5, 8, 8).double(), torch.randn(3, 11).double(), torch.randn(3, 1, 8, 8).double()
    styles = layer.affine(w)
    weight = layer.weight[None] * styles[:, None, :, None, None]  # equations 1 and 3 of the paper
    weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    expected = torch.cat([torch.nn.functional.conv2d(x[i : i + 1], weight[i], padding=1) for i in range(3)])
    torch.testing.assert_close(layer(x, w, added), expected + added)


def test_upsampling_convolution_equals_zero_insertion_convolution_and_filter():
    torch.manual_seed(0)
    layer = ModulatedConv2d(3, 4, 3, 6, up=True).double()
    x, w, added = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 6).double(), torch.randn(2, 1, 8, 8).double()
    styles = layer.affine(w)
    demodulation = torch.rsqrt(styles.square() @ layer.weight.square().sum(dim=(2, 3)).t() + 1e-8)
    spread = torch.zeros(2, 3, 8, 8).double()
    spread[:, :, ::2, ::2] = x * styles[:, :, None, None]
    kernel = 4 * binomial().double()
    padded = torch.nn.functional.pad(spread, (3, 3, 3, 3))
    convolved = torch.nn.functional.conv2d(padded, layer.weight.flip(2, 3))
    filtered = torch.nn.functional.conv2d(convolved, kernel.expand(4, 1, 4, 4), groups=4)[:, :, :8, :8]
    torch.testing.assert_close(layer(x, w, added), filtered * demodulation[:, :, None, None] + added)


def test_resampling_keeps_a_constant_away_from_the_border():
    x = torch.full((1, 2, 8, 8), 3.0)
    assert torch.allclose(upsample(x, binomial())[:, :, 2:-2, 2:-2], torch.tensor(3.0))
    assert torch.allclose(downsample(x, binomial(1, 2, 1))[:, :, 1:-1, 1:-1], torch.tensor(3.0))


@pytest.mark.parametrize(("taps", "padding"), [((1, 3, 3, 1), 2), ((1, 3, 3, 1), 1), ((1, 2, 1), 1)])
def test_filtering_by_products_is_the_depthwise_convolution_and_its_derivatives(taps, padding):
    x, kernel = torch.randn(2, 3, 9, 8, dtype=torch.float64), 4 * binomial(*taps).double()

    def convolution(x):
        return torch.nn.functional.conv2d(x, kernel.expand(3, 1, *kernel.shape), padding=padding, groups=3)

    def products(x):
        return filter_by_products(x, kernel, padding)

    def curvature(filtered):
        return torch.func.hessian(lambda x: filtered(x).pow(3).sum())(x[:1, :, :5, :4])

    torch.testing.assert_close(products(x), convolution(x))
    torch.testing.assert_close(curvature(products), curvature(convolution))


def test_downsampling_is_the_filter_1331_and_every_second_pixel():
    x = torch.randn(2, 3, 8, 8)
    filtered = torch.nn.functional.conv2d(x, binomial().expand(3, 1, 4, 4), stride=2, padding=1, groups=3)
    torch.testing.assert_close(downsample(x, binomial(1, 2, 1)), filtered)


def test_down_convolution_halves_and_keeps_variance_near_one():
    torch.manual_seed(0)
    layer = EqualConv2d(64, 64, 3, activate=False)
    assert 0.8 < float(layer(torch.randn(4, 64, 16, 16)).detach().std()) < 1.2
    assert EqualConv2d(8, 8, 3, down=True)(torch.randn(2, 8, 16, 16)).shape == (2, 8, 8, 8)


def test_minibatch_deviation_is_zero_for_equal_images_in_contiguous_groups():
    same = torch.ones(8, 3, 4, 4)
    assert minibatch_standard_deviation(same, 4)[:, 3].abs().max() < 1e-3
    torch.manual_seed(0)
    x = torch.randn(8, 3, 4, 4)
    whole = minibatch_standard_deviation(x, 4)
    halves = torch.cat([minibatch_standard_deviation(x[:4], 4), minibatch_standard_deviation(x[4:], 4)])
    torch.testing.assert_close(whole, halves)
    by_hand = x[:4].var(dim=0, unbiased=False).add(1e-8).sqrt().mean()
    torch.testing.assert_close(whole[0, 3, 0, 0], by_hand)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_players_run_forwards_and_backwards_in_both_precisions(n_classes):
    torch.manual_seed(0)
    recipe = narrow(channel_max=32)
    generator, discriminator = Generator(32, n_classes, recipe), Discriminator(32, n_classes, recipe)
    z, noise = torch.randn(8, 16), torch.randn(8, generator.noise_length)
    labels = torch.arange(8) % 3 if n_classes else None
    logits = {}
    for low_precision in (False, True):
        with autocast(torch.device("cpu"), low_precision):
            images = generator(z, labels, noise)
            logits[low_precision] = discriminator(images, labels)
        assert images.shape == (8, 1, 32, 32)
        assert images.dtype == logits[low_precision].dtype == torch.float32
    torch.testing.assert_close(logits[True], logits[False], atol=0.1, rtol=0.1)
    logits[False].mean().backward()
    unused = {"layers.0.conv.weight"} - {name for name, p in generator.named_parameters() if p.grad is not None}
    assert not unused
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.parameters())


def test_truncation_moves_styles_towards_their_mean():
    torch.manual_seed(0)
    generator = Generator(32, 0, narrow())
    generator.mapping.update_mean(generator.styles(torch.randn(64, 16), None), decay=0.0)
    z, noise = torch.randn(4, 16), torch.randn(1, generator.noise_length).expand(4, -1)
    full, none = generator(z, None, noise), generator(z, None, noise, truncation=0.0)
    assert none.std(dim=0).max() < 1e-5 < full.std(dim=0).max()


def test_the_mean_style_begins_with_the_first_batch():
    torch.manual_seed(0)
    mapping = Generator(32, 0, narrow()).mapping
    first, second = torch.randn(2, 8, 16) + 3
    mapping.update_mean(first)
    torch.testing.assert_close(mapping.w_mean, first.mean(dim=0))
    mapping.update_mean(second, decay=0.75)
    torch.testing.assert_close(mapping.w_mean, 0.75 * first.mean(dim=0) + 0.25 * second.mean(dim=0))


def test_noise_length_counts_one_value_a_pixel_of_every_layer():
    assert Generator(32, 0, narrow()).noise_length == 16 + 2 * (64 + 256 + 1024)
    assert math.log2(Generator(64, 0, narrow()).resolutions[-1]) == 6
