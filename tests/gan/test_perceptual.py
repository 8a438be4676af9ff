import pytest
import torch
import torch.nn.functional as F

from sonosynth.core.draws import Draws
from sonosynth.gan.fastgan.perceptual import FrozenFeatureDistance, l1_pyramid
from sonosynth.phantoms.phantom import phantom

CPU = torch.device("cpu")


def test_perceptual_gradients_are_those_of_full_precision():
    sharp = torch.tensor(phantom(2, 64).images)[:, None].float() / 127.5 - 1
    gradients = []
    for low_precision in (False, True):
        blurred = F.avg_pool2d(sharp, 3, 1, 1).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
            value = FrozenFeatureDistance(CPU)(blurred, sharp)
        gradients.append(torch.autograd.grad(value, blurred)[0].flatten())
    assert F.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize("name", ["efficientnet-lite0", "l1"])
@pytest.mark.parametrize("side", [16, 64])
def test_perceptual_distance_is_zero_for_equal_images_grows_and_sends_gradients(name, side):
    distance = l1_pyramid if name == "l1" else FrozenFeatureDistance(CPU)
    draws = Draws(0, "perceptual", 0, CPU)
    target = F.interpolate(draws.uniform(2, 1, 4, 4) * 2 - 1, size=(side, side), mode="bilinear")
    noise = draws.normal(2, 1, side, side)
    assert float(distance(target, target)) == 0
    near, far = (target + scale * noise for scale in (0.05, 0.5))
    far.requires_grad_()
    assert 0 < float(distance(near, target)) < float(distance(far, target).detach())
    distance(far, target).backward()
    assert far.grad is not None and far.grad.abs().amax(dim=(1, 2, 3)).min() > 0
