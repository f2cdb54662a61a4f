"""Muon on convolutions: each is one matrix, and its step knows the gradient's directions but not their strengths."""

import copy

import pytest
import torch
from torch import nn

from lab.train.muon import Muon

RATE = 0.01


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (6, 5, 2, 4)])
def test_a_step_keeps_the_directions_of_a_gradient_and_loses_their_strengths(shape):
    flat = (shape[0], torch.Size(shape).numel() // shape[0])
    scale = torch.logspace(0, 1, min(flat))
    scale = scale[:, None] if flat[0] <= flat[1] else scale
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = (torch.randn(flat, generator=torch.Generator().manual_seed(0)) * scale).view(shape)
    Muon([weight], RATE).step()
    step = -weight.detach().view(flat) / RATE
    strengths = torch.linalg.svdvals(step) / (0.2 * max(flat) ** 0.5)
    assert strengths.min() > 0.5 and strengths.max() < 1.3
    assert torch.sum(step * weight.grad.view(flat)) > 0


def test_a_resumed_training_goes_on_as_an_unbroken_one():
    torch.manual_seed(0)
    convolution, inputs = nn.Conv2d(3, 8, 3), torch.randn(2, 3, 8, 8)

    def trained(module: nn.Conv2d, optimizer: Muon, steps: int) -> nn.Conv2d:
        for _ in range(steps):
            optimizer.zero_grad()
            (module(inputs) - 1).square().mean().backward()
            optimizer.step()
        return module

    first = Muon([convolution.weight], RATE)
    halfway = copy.deepcopy(trained(convolution, first, 3))
    state = copy.deepcopy(first.state_dict())
    second = Muon([halfway.weight], RATE)
    second.load_state_dict(state)
    assert torch.equal(trained(convolution, first, 3).weight, trained(halfway, second, 3).weight)
