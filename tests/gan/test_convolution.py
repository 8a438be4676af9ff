"""Convolutions that may be differentiated twice, against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from sonosynth.gan.networks import convolution
from sonosynth.gan.registry import make_recipe


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Return a function that lets the convolutions of full precision be what they are on a GPU."""
    return lambda: monkeypatch.setattr(convolution, "_may_be_differentiated_twice", lambda x: True)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("conv2d", {}),
        ("conv2d", {"padding": 1}),
        ("conv2d", {"stride": 2}),
        ("conv2d", {"stride": 2, "padding": 1}),
        ("conv_transpose2d", {"stride": 2}),
    ],
)
@pytest.mark.parametrize("kernel", [1, 3])
def test_all_derivatives_to_the_second_are_those_of_the_convolution(name, settings, kernel, as_on_a_gpu):
    torch.manual_seed(0)
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, kernel, kernel, dtype=torch.float64, requires_grad=True)
    weight = weight if name == "conv_transpose2d" else weight.detach().transpose(0, 1).requires_grad_()
    as_on_a_gpu()

    def own(x, weight):
        return getattr(convolution, name)(x, weight, **settings)

    torch.testing.assert_close(own(x, weight), getattr(F, name)(x, weight, **settings))
    assert torch.autograd.gradcheck(own, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(own, (x, weight), fast_mode=True)


@pytest.mark.parametrize("phase", ["_path_lengths", "_image_gradient"])
def test_what_is_trained_through_a_gradient_has_the_same_gradients(phase, as_on_a_gpu):
    torch.manual_seed(0)
    recipe = make_recipe("stylegan2", channel_base=512)
    generator, discriminator = recipe.build_generator(32, 0).double(), recipe.build_discriminator(32, 0).double()
    objective = recipe.build_objective(generator, discriminator)
    if phase == "_path_lengths":
        noise, direction = torch.randn(2, generator.noise_length), torch.randn(2, 1, 32, 32)
        arguments = (torch.randn(2, generator.n_layers, 512).double(), noise.double(), direction.double())
        parameters = list(generator.layers.parameters())
    else:
        arguments, parameters = (torch.randn(2, 1, 32, 32).double(), None), list(discriminator.parameters())

    def gradients():
        value = getattr(objective, phase)(*arguments)
        return value, torch.autograd.grad(value.square().sum(), parameters, allow_unused=True)

    expected = gradients()
    as_on_a_gpu()
    torch.testing.assert_close(gradients(), expected)
