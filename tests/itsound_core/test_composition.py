"""The product of experts: who votes, with what weight."""

import math

import pytest
import torch

from itsound_core.composition import Expert, compose, mixing_weights
from itsound_core.views import HALVES_END_TO_END


class Constant:
    """Predicts one value and counts its calls."""

    def __init__(self, value):
        self.value = value
        self.calls = 0

    def __call__(self, latents, time):
        self.calls += 1
        return torch.full_like(latents, self.value)


LATENTS = torch.zeros(2, 4, 4, 8)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.2, 0.8), (3.0, 1.0, 0.5), (1.0, 0.0, 2.0, 0.1)])
@pytest.mark.parametrize("time", [1000.0, 700.0, 0.0])
def test_weights_of_any_number_of_experts_sum_to_one(weights, time):
    starts = [1000.0, 900.0, 600.0, 100.0]
    experts = [Expert(Constant(0.0), weight, start) for weight, start in zip(weights, starts, strict=False)]
    assert math.isclose(sum(mixing_weights(experts, time)), 1.0)


def test_audio_weight_takes_over_after_the_warm_start():
    image, audio = Expert(Constant(1.0), 0.3, 900.0), Expert(Constant(0.0), 0.7, 1000.0)
    assert mixing_weights([image, audio], 901.0) == [0.0, 1.0]
    assert mixing_weights([image, audio], 900.0) == [0.3, 0.7]


def test_an_expert_does_not_run_before_its_start():
    image, audio = Constant(1.0), Constant(3.0)
    experts = [Expert(image, 0.5, 900.0), Expert(audio, 0.5, 1000.0)]
    early = compose(experts, LATENTS, torch.tensor(951))
    assert image.calls == 0 and torch.equal(early, torch.full_like(LATENTS, 3.0))
    late = compose(experts, LATENTS, torch.tensor([891, 891]))
    assert image.calls == 1 and torch.equal(late, torch.full_like(LATENTS, 2.0))


def test_an_expert_of_weight_0_never_runs():
    silent = Constant(5.0)
    compose([Expert(Constant(1.0)), Expert(silent, weight=0.0)], LATENTS, torch.tensor(1))
    assert silent.calls == 0


def test_no_active_expert_is_an_error_that_shows_the_starts():
    with pytest.raises(ValueError, match=r"No expert votes at time 991: weights \[0.5, 0.5\], starts \[900.0, 800.0\]"):
        compose([Expert(Constant(0.0), 0.5, 900.0), Expert(Constant(0.0), 0.5, 800.0)], LATENTS, torch.tensor(991))


def test_the_mean_of_noise_is_the_mean_of_x0():
    noise = [torch.randn_like(LATENTS) for _ in range(3)]
    x, sigma = torch.randn_like(LATENTS), 3.0
    of_noise = compose([Expert(lambda *_, n=n: n, w) for n, w in zip(noise, (1, 2, 3), strict=True)], x, torch.tensor(sigma))
    of_x0 = compose([Expert(lambda *_, n=n: x - sigma * n, w) for n, w in zip(noise, (1, 2, 3), strict=True)], x, torch.tensor(sigma))
    assert torch.allclose(x - sigma * of_noise, of_x0, atol=1e-5)


def test_an_expert_sees_its_view_and_answers_on_the_canvas():
    canvas = torch.randn(1, 4, 16, 16)
    seen = []

    def predict(latents, time):
        seen.append(latents.shape)
        return 2 * latents

    result = compose([Expert(predict, view=HALVES_END_TO_END), Expert(lambda x, t: 4 * x)], canvas, torch.tensor(1))
    assert seen == [(1, 4, 8, 32)]
    assert torch.allclose(result, 3 * canvas)
