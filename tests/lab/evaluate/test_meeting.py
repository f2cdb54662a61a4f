"""Experts that meet in pixels: equal ones as if they shared latents, unlike ones on one gray; tables, and runs that go on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from itsound_core.composition import Expert, compose
from itsound_core.sampling import STABLE_DIFFUSION, ddim
from lab.evaluate import pixels
from lab.evaluate.meeting import LatentSide, PixelSide, meet, met_in_pixels, resized
from lab.evaluate.pixels import Made, Way

FINE, COARSE = (16, 32), (4, 8)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def towards(target: Tensor, alphas: Tensor = STABLE_DIFFUSION.alphas_cumprod) -> Expert:
    """An expert that is sure of one x0, and more so at weak noise."""

    def predict(latents: Tensor, timestep: Tensor) -> Tensor:
        alpha = float(alphas[round(float(timestep))])
        x0 = target + 0.1 * (1 - alpha) * latents
        return (latents - alpha**0.5 * x0) / (1 - alpha) ** 0.5

    return Expert(predict)


def gray_side(expert: Expert, encode=lambda pixels: pixels[:, :1]) -> LatentSide:
    """Latents that are the gray picture itself."""
    return LatentSide(expert, lambda x0: x0.expand(-1, 3, -1, -1), encode, FINE)


def never(latents: Tensor, timestep: Tensor) -> Tensor:
    raise AssertionError("asked before it has a say")


def test_equal_models_of_one_noise_that_meet_at_every_step_are_the_joint_sampling():
    first, second = (towards(0.2 * picture(1, 1, *FINE, seed=seed)) for seed in (1, 2))
    experts = [replace(first, weight=0.7), replace(second, weight=0.3, start=900)]
    start = 0.1 * noise(1, 1, *FINE)  # weak, so that no gray is clamped
    met = meet([gray_side(expert) for expert in experts], [start, start], 10)
    # The last sample of the joint sampling still has the noise of the first training step.
    x0 = []
    ddim(partial(compose, experts), start, 10, callback=lambda step, estimate, latents: x0.append(estimate))
    for own in met.x0:
        assert torch.allclose(own, x0[-1], atol=2e-4)
    assert torch.equal(met.after[0], met.after[1])


def test_what_a_vae_loses_does_not_pile_up():
    """Sides that want the same are left alone, however coarse their encoder; sides that differ are moved by the difference alone."""
    target = 0.2 * picture(1, 1, *FINE)
    start = 0.1 * noise(1, 1, *FINE)
    alone = meet([gray_side(towards(target))], [start], 10)
    lossy = [gray_side(towards(target), lambda pixels: pixels[:, :1].round(decimals=1)) for _ in range(2)]
    together = meet(lossy, [start, start], 10)
    assert torch.allclose(together.x0[0], alone.x0[0], atol=1e-6)


def test_a_side_without_a_say_is_not_asked_and_takes_the_others_picture():
    target = 0.2 * picture(1, 1, *FINE)
    late = gray_side(Expert(never, start=0))
    met = meet([gray_side(towards(target)), late], [0.1 * noise(1, 1, *FINE), noise(1, 1, *FINE, seed=1)], 4, every=3)
    assert torch.allclose(met.x0[1], met.x0[0], atol=1e-6)
    assert met.before[1] is None
    with pytest.raises(ValueError, match="No expert votes"):
        meet([late], [noise(1, 1, *FINE)], 4)


@pytest.mark.parametrize(("every", "meetings"), [(1, 8), (3, 4), (100, 2)])
def test_sides_meet_at_the_first_step_at_every_so_manieth_and_at_the_last(every: int, meetings: int):
    asked = []

    def decode(x0: Tensor) -> Tensor:
        asked.append(x0)
        return x0.expand(-1, 3, -1, -1)

    sides = [replace(gray_side(towards(picture(1, 1, *FINE, seed=seed))), decode=decode) for seed in (1, 2)]
    meet(sides, [noise(1, 1, *FINE)] * 2, 8, every)
    assert len(asked) == 2 * meetings


def test_a_correction_is_held_between_meetings():
    """Sides that are sure of two pictures are corrected alike at every step: held, that is as good as meeting at each."""
    start = [0.1 * noise(1, 1, *FINE, seed=seed) for seed in (1, 2)]

    def seen_at_the_end(*how) -> Tensor:
        seen = []

        def predict(latents: Tensor, timestep: Tensor) -> Tensor:
            seen.append(latents)
            alpha = float(STABLE_DIFFUSION.alphas_cumprod[round(float(timestep))])
            return (latents - alpha**0.5 * 0.2) / (1 - alpha) ** 0.5

        meet([gray_side(Expert(predict)), gray_side(towards(-0.3 * torch.ones(1, 1, *FINE)))], start, 8, *how)
        return seen[-1]

    always, held, free = seen_at_the_end(1), seen_at_the_end(4, True), seen_at_the_end(4, False)
    assert (held - always).abs().max() < 0.2 * (free - always).abs().max()


def test_a_colour_picture_has_the_gray_of_the_sounds_picture_and_stays_in_its_gamut():
    alphas = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    color = PixelSide(towards(3 * picture(1, 3, *COARSE, seed=3), alphas), alphas, COARSE)
    sound = gray_side(towards(picture(1, 1, *FINE, seed=4)))
    met = meet([sound, color], [noise(1, 1, *FINE), noise(1, 3, *COARSE, seed=5)], 10)
    shown = met.x0[1]
    assert shown.abs().max() <= 1 + 1e-6
    assert torch.allclose(shown.mean(1, keepdim=True), met.after[1], atol=1e-6)
    assert (shown - met.after[1]).abs().max() > 0.1
    assert pixels.correlation(resized(met.after[0], COARSE), met.after[1]) > 0.9
    assert pixels.correlation(resized(met.before[0], COARSE), met.before[1]) < 0.5  # type: ignore[arg-type]


def test_a_coarse_side_moves_no_fine_detail():
    fine = 0.2 * picture(1, 1, *FINE)
    detail = fine - resized(resized(fine, COARSE), FINE)
    flat = torch.full((1, 3, *COARSE), 0.4)
    alphas = STABLE_DIFFUSION.alphas_cumprod
    met = met_in_pixels([gray_side(towards(fine)), PixelSide(towards(flat), alphas, COARSE)], [fine, flat], [0.5, 0.5])
    lifted = met.after[0] - resized(resized(met.after[0], COARSE), FINE)
    assert torch.corrcoef(torch.stack([detail.flatten(), lifted.flatten()]))[0, 1] > 0.9
    assert met.after[1].mean() == pytest.approx(0.5 * float(fine.mean()) + 0.2, abs=1e-3)


def record(way: Way, index: int, picture: bool, sound: bool, score: float) -> dict:
    return {
        "set": "test",
        "way": way.name,
        "index": index,
        "picture": {"right": picture},
        "sound": {"right": sound},
        "clip": score,
        "clap": 50.0,
        "before": None if way.method == "shared" else 0.5,
        "seconds": 1.0,
    }


def test_ways_are_compared_with_shared_latents_sample_by_sample():
    met = Way("meet", every=3)
    records = [record(Way(), index, True, index < 2, 50.0) for index in range(4)]
    records += [record(met, index, index > 0, True, 52.0) for index in range(5)]
    shared, paired = pixels.table(records), pixels.against(records)
    assert shared[2].startswith("| shared | 4 | 100 (51 to 100) | 50 (15 to 85) | 50 (15 to 85) | 50.0 (50.0 to 50.0) | ")
    assert "| 0.50 (0.50 to 0.50) | - | - | - | 1 (1 to 1) |" in shared[3]
    assert paired[2].startswith("| meet every=3 | 4 | -25.0 (")
    assert paired[2].endswith("| 2.0 (2.0 to 2.0) | 0.0 (0.0 to 0.0) | 2, 1 |")


def test_a_run_makes_only_what_is_not_there_and_saves_what_is_seen_and_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = []

    class Quick:
        def make(self, way: Way, sample) -> Made:
            made.append((way.name, sample.index, sample.seed))
            colors = 3 if way.method == "color" else 1
            return Made(torch.rand(1, colors, 8, 16), torch.rand(1, 32, 64), 0.5)

    class Deaf:
        def __init__(self, folders) -> None:
            self.folders = folders

        def __call__(self, row, pictures, batch):
            return [{"clip": 1.0, "clap": 1.0, "cycle_db": 1.0, "picture": {"right": True}, "sound": {"right": False}}]

    monkeypatch.setattr(pixels, "Maker", Quick)
    monkeypatch.setattr(pixels, "Examiner", Deaf)
    ways = [Way(), Way("color", every=3)]
    pixels.run("development", ways, tmp_path, 0, 2, tmp_path)
    pixels.run("development", ways, tmp_path, 1, 2, tmp_path)
    seeds = {0: 1_000_000, 1: 1_000_001, 2: 1_000_002}
    assert sorted(made) == sorted((way.name, index, seeds[index]) for way in ways for index in seeds)
    assert (tmp_path / "development" / "color every=3" / "002.heard.png").exists()
    assert not (tmp_path / "development" / "shared" / "002.heard.png").exists()
    found = [entry for entry in pixels.read(tmp_path) if entry["way"] == "color every=3"]
    assert len(found) == 3
    assert all(-1 <= entry["correlation"] <= 1 and entry["chroma"] > 0 for entry in found)
    assert pixels.sheet(tmp_path / "development", ways[1], [0, 2]).size == (1024, 256)
