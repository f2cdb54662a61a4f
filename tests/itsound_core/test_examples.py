"""The exact denoiser of some examples: its limits in sigma, its places, and the sum that it is."""

import math

import pytest
import torch

from itsound_core import examples as module
from itsound_core.examples import EDGE, ExampleDenoiser, Gaussian

CHANNELS, ROWS = 2, 3
BLACK = torch.full((CHANNELS, ROWS), -1.0)
OPEN = Gaussian(torch.linspace(-0.5, 0.5, CHANNELS * ROWS).view(CHANNELS, ROWS), 2.0)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some(number: int, width: int, seed: int = 0) -> torch.Tensor:
    return noise(number, CHANNELS, ROWS, width, seed=seed)


def at(sigma: float) -> torch.Tensor:
    return torch.tensor(sigma)


def placements(groups, columns, whole, repeat, gap, space):
    """Each example in each place: its canvas (C, H, columns) in double precision and which columns it covers."""
    for example in [example.double() for group in groups for example in group]:
        width = example.shape[-1]
        if repeat:
            starts = range(width + gap)
        else:
            starts = range(min(0, columns - width), max(0, columns - width) + 1) if whole else range(1 - width, columns)
        for start in starts:
            canvas, covered = torch.zeros(CHANNELS, ROWS, columns, dtype=torch.float64), torch.zeros(columns, dtype=torch.bool)
            for column in range(columns):
                place = (column - start) % (width + gap) if repeat else column - start
                if 0 <= place < width:
                    canvas[..., column], covered[column] = example[..., place], True
                elif space is EDGE:
                    before = place < 0 or (repeat and place - width >= gap - gap // 2)
                    canvas[..., column], covered[column] = example[..., 0 if before else -1], True
                elif isinstance(space, torch.Tensor):
                    canvas[..., column], covered[column] = space, True
            yield canvas, covered


def brute_force(z, sigma, groups, window, repeat, gap, space, temperature):
    """The definition, one canvas (C, H, W) and place at a time."""
    z, columns = z.double(), z.shape[-1]
    whole = window == 0 or window >= columns
    energies, estimates = [], []
    for canvas, covered in placements(groups, columns, whole, repeat, gap, space):
        energy = (z - canvas).square().sum((0, 1)) / (2 * sigma**2)
        estimate = canvas.clone()
        if isinstance(space, Gaussian):
            mean, total = space.mean.double()[..., None], space.variance + sigma**2
            elsewhere = (z - mean).square().sum((0, 1)) / (2 * total) + CHANNELS * ROWS / 2 * math.log(total / sigma**2)
            energy = torch.where(covered, energy, elsewhere)
            estimate = torch.where(covered, canvas, mean + space.variance / total * (z - mean))
        radius = columns if whole else window // 2
        energies.append(torch.stack([energy[max(0, c - radius) : c + radius + 1].sum() for c in range(columns)]))
        estimates.append(estimate)
    weights = torch.softmax(-torch.stack(energies) / temperature, dim=0)
    return torch.einsum("kc,kdhc->dhc", weights, torch.stack(estimates)).float()


@pytest.mark.parametrize("space", [BLACK, EDGE, OPEN], ids=["black", "edge", "open"])
@pytest.mark.parametrize("window", [0, 1, 5, 100])
@pytest.mark.parametrize(("repeat", "gap"), [(True, 0), (True, 3), (False, 0)])
def test_the_estimate_is_the_sum_over_all_examples_and_places(space, window, repeat, gap, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 20_000)  # several blocks
    groups, z = [some(3, 4), some(2, 7, seed=1), some(1, 14, seed=2)], noise(2, CHANNELS, ROWS, 11, seed=3)
    for sigma, temperature in ((0.05, 1.0), (0.7, 1.0), (3.0, 0.5), (30.0, 1.0)):
        found = ExampleDenoiser(groups, window, repeat, gap, space, temperature)(z, at(sigma))
        expected = torch.stack([brute_force(item, sigma, groups, window, repeat, gap, space, temperature) for item in z])
        assert (found - expected).abs().max() < 1e-5, (sigma, temperature)


@pytest.mark.parametrize("window", [0, 5])
def test_at_little_noise_an_example_in_its_place_is_what_it_was(window):
    example = some(1, 6)
    denoise = ExampleDenoiser([some(4, 6, seed=1), example], window, gap=2, space=BLACK)
    canvas = torch.cat([example, BLACK[None, ..., None].expand(-1, -1, -1, 2)], -1).repeat(1, 1, 1, 3).roll(3, -1)
    assert torch.allclose(denoise(canvas + 0.01 * noise(*canvas.shape), at(0.01)), canvas, atol=1e-5)


@pytest.mark.parametrize("window", [0, 5])
def test_at_all_noise_the_estimate_is_the_mean_of_all_examples_and_places(window):
    group = some(3, 6)
    estimate = ExampleDenoiser([group], window)(1e6 * noise(1, CHANNELS, ROWS, 9), at(1e6))
    assert torch.allclose(estimate, group.mean((0, 3))[None, ..., None].expand_as(estimate), atol=1e-3)


def test_one_example_on_the_whole_canvas_is_template_matching():
    example, z = some(1, 5), noise(1, CHANNELS, ROWS, 20, seed=1)
    estimate = ExampleDenoiser([example], repeat=False, space=BLACK)(z, at(0.01))
    canvases = [canvas.float() for canvas, _ in placements([example], 20, True, False, 0, BLACK)]
    best = min(canvases, key=lambda canvas: float((z[0] - canvas).square().sum()))
    assert torch.allclose(estimate[0], best, atol=1e-5)


@pytest.mark.parametrize("repeat", [True, False])
def test_away_from_the_borders_a_shifted_canvas_gives_the_shifted_estimate(repeat):
    z, shift, window = noise(1, CHANNELS, ROWS, 40), 7, 9
    denoise = ExampleDenoiser([some(2, 6, seed=1)], window, repeat, 2 if repeat else 0, BLACK)
    found, shifted = denoise(z, at(0.8)), denoise(z.roll(shift, -1), at(0.8))
    inside = slice(window // 2 + (0 if repeat else 6), -shift - window // 2 - (0 if repeat else 6))
    assert torch.allclose(found[..., inside], shifted.roll(-shift, -1)[..., inside], atol=1e-6)


def test_where_a_repeated_example_closes_on_the_canvas_its_place_is_as_free_as_on_a_circle():
    z = noise(1, CHANNELS, ROWS, 24)
    denoise = ExampleDenoiser([some(3, 6, seed=1)], gap=2, space=EDGE)
    for shift in (1, 9):
        assert torch.allclose(denoise(z, at(1.5)).roll(shift, -1), denoise(z.roll(shift, -1), at(1.5)), atol=1e-6)


def test_each_item_of_a_batch_has_its_own_estimate_and_noise_level():
    z, denoise = noise(3, CHANNELS, ROWS, 12), ExampleDenoiser([some(3, 5, seed=1)], 5, space=OPEN, gap=2)
    sigmas = torch.tensor([0.3, 1.0, 5.0])
    together = denoise(z, sigmas)
    for item, sigma, estimate in zip(z, sigmas, together, strict=True):
        assert torch.allclose(denoise(item[None], sigma)[0], estimate, atol=1e-6)


def test_a_higher_temperature_mixes_more_examples():
    z, group = noise(1, CHANNELS, ROWS, 12), some(5, 5, seed=1)
    spread = [ExampleDenoiser([group], 5, temperature=t)(z, at(0.7)).var() for t in (0.5, 1.0, 4.0, 100.0)]
    assert spread == sorted(spread, reverse=True)


def test_a_window_without_its_examples_says_the_same_at_any_size_of_block(monkeypatch):
    z, group = noise(1, CHANNELS, ROWS, 12), some(20, 5, seed=1)
    denoise, calls = ExampleDenoiser([group], 5), []
    at_once = denoise(z, at(0.7), lambda: calls.append(1))
    assert len(calls) == 1
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    assert torch.allclose(denoise(z, at(0.7), lambda: calls.append(1)), at_once, atol=1e-6)
    assert len(calls) == 1 + 20


def test_half_precision_comes_back_as_half_precision():
    assert ExampleDenoiser([some(1, 5)])(noise(1, CHANNELS, ROWS, 8).half(), at(1.0)).dtype == torch.float16
