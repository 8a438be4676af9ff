import numpy as np
import pytest
import torch

from sonosynth.gan.lecam import LeCam


def logits(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits ``[steps, 6, 5]`` of real and of generated images, which overlap."""
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, steps, 6, 5, generator=generator)
    return real + 0.5, fake - 0.5


def averages(values: torch.Tensor, decay: float) -> np.ndarray:
    """Return the weighted mean of all mean logits so far, after each of ``values [steps, N, positions]``."""
    means = values.double().numpy().mean(axis=(1, 2))
    ages = [np.arange(t, -1, -1) for t in range(len(means))]
    return np.array([np.average(means[: len(age)], weights=decay**age) for age in ages])


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.99])
def test_the_loss_is_that_of_a_direct_computation_from_the_first_step_on(decay):
    real, fake = logits(20)
    lecam = LeCam(0.3, decay)
    average_real, average_fake = averages(real, decay), averages(fake, decay)
    for t in range(20):
        x, y = real[t].double().numpy(), fake[t].double().numpy()
        penalty = (np.maximum(x - average_fake[t], 0) ** 2).mean() + (np.maximum(average_real[t] - y, 0) ** 2).mean()
        loss, statistics = lecam(torch.tensor(1.5), real[t], fake[t])
        assert float(statistics["lecam"]) == pytest.approx(penalty, rel=1e-4)
        assert float(loss) == pytest.approx(1.5 + 0.3 * penalty, rel=1e-4)


def test_logits_beyond_the_average_of_the_other_kind_are_pulled_back_and_no_other():
    lecam = LeCam(0.5)
    lecam(torch.zeros([]), torch.tensor([2.0]), torch.tensor([-1.0]))
    real = torch.tensor([3.0, 1.0, -4.0], requires_grad=True)
    fake = torch.tensor([-3.0, 0.0, 6.0], requires_grad=True)
    loss, _ = lecam(torch.zeros([]), real, fake)
    loss.backward()
    average_real, average_fake = ((0.99 * a + 0.0) / 1.99 for a in (2.0, -1.0))  # this step's means: 0 and 1
    average_fake += 1 / 1.99
    expected_real = [0.5 * 2 * max(x - average_fake, 0) / 3 for x in (3.0, 1.0, -4.0)]
    expected_fake = [-0.5 * 2 * max(average_real - y, 0) / 3 for y in (-3.0, 0.0, 6.0)]
    torch.testing.assert_close(real.grad, torch.tensor(expected_real))
    torch.testing.assert_close(fake.grad, torch.tensor(expected_fake))
    assert (real.grad > 0).tolist() == [True, True, False]
    assert (fake.grad < 0).tolist() == [True, True, False]


def test_restored_averages_go_on_exactly():
    real, fake = logits(8)
    whole, first, second = (LeCam(0.3, 0.9) for _ in range(3))
    expected = [whole(torch.zeros([]), x, y)[0] for x, y in zip(real, fake, strict=True)]
    for t in range(3):
        first(torch.zeros([]), real[t], fake[t])
    state = first.state_dict()
    first(torch.zeros([]), real[0], fake[0])  # must not reach into the saved state
    second.load_state_dict(state)
    for t in range(3, 8):
        assert torch.equal(second(torch.zeros([]), real[t], fake[t])[0], expected[t])


def test_a_weight_of_zero_changes_nothing_and_keeps_nothing():
    (real,), (fake,) = logits(1)
    lecam, loss = LeCam(0.0), torch.tensor(1.5)
    regularised, statistics = lecam(loss, real, fake)
    assert regularised is loss
    assert statistics == lecam.state_dict() == {}
    lecam.load_state_dict({})
