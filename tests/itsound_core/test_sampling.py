"""DDIM and guidance against their formulas and against diffusers' own scheduler."""

from functools import partial
from itertools import pairwise

import pytest
import torch

from itsound_core.composition import Expert, compose
from itsound_core.sampling import STABLE_DIFFUSION, ddim, ddim_step, dpm_solver_2m, guided


def linear_noise(latents, timestep):
    """A predictor with some structure, cheap and exact."""
    return 0.3 * latents.roll(1, -1) + torch.sin(latents + timestep / 300)


def test_100_steps_are_991_to_1():
    timesteps = STABLE_DIFFUSION.timesteps(100)
    assert timesteps[:3] == [991, 981, 971] and timesteps[-1] == 1 and len(timesteps) == 100


@pytest.mark.parametrize("steps", [0, 1000])
def test_step_counts_outside_the_schedule_are_refused(steps):
    with pytest.raises(ValueError, match=f"{steps} steps"):
        STABLE_DIFFUSION.timesteps(steps)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [10, 30])
def test_ddim_equals_diffusers_scheduler(steps, eta):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False, clip_sample=False
    )
    scheduler.set_timesteps(steps)
    noise = torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(0))
    theirs, generator = noise, torch.Generator().manual_seed(1)
    for timestep in scheduler.timesteps:
        theirs = scheduler.step(linear_noise(theirs, timestep), timestep, theirs, eta=eta, generator=generator).prev_sample
    ours = ddim(linear_noise, noise, steps, eta=eta, generator=torch.Generator().manual_seed(1))
    assert scheduler.timesteps.tolist() == STABLE_DIFFUSION.timesteps(steps)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_with_the_true_noise_x0_is_exact_and_the_last_step_keeps_the_first_alpha():
    clean, noise = torch.randn(1, 4, 4, 8), torch.randn(1, 4, 4, 8)
    alpha, first = STABLE_DIFFUSION.alpha(501), STABLE_DIFFUSION.alpha(-9)
    following, x0 = ddim_step(alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise, noise, alpha, first)
    torch.testing.assert_close(x0, clean, rtol=1e-4, atol=1e-5)
    assert first < 1
    torch.testing.assert_close(following, first**0.5 * clean + (1 - first) ** 0.5 * noise, rtol=1e-4, atol=1e-5)


def test_callback_gets_step_x0_and_latents():
    seen = []
    result = ddim(linear_noise, torch.randn(1, 4, 4, 8), 5, callback=lambda step, x0, latents: seen.append((step, x0, latents)))
    assert [step for step, _, _ in seen] == [0, 1, 2, 3, 4]
    assert torch.equal(seen[-1][2], result) and seen[-1][1].shape == result.shape


def test_guidance_is_eq_2_from_one_batched_call():
    batches = []

    def model(latents, timestep, embeddings):
        batches.append(len(latents))
        return latents * embeddings.mean(dim=(1, 2))[:, None, None, None]

    latents = torch.randn(3, 4, 4, 8)
    prompt, null = torch.full((1, 7, 5), 2.0), torch.full((3, 7, 5), 1.0)
    result = guided(model, prompt, null, 10.0)(latents, torch.tensor(1))
    assert batches == [6]
    torch.testing.assert_close(result, latents * (1.0 + 10.0 * (2.0 - 1.0)))


def test_guidance_scale_1_does_not_evaluate_the_null_prompt():
    batches = []

    def model(latents, timestep, embeddings):
        batches.append(len(latents))
        return latents

    guided(model, torch.ones(1, 7, 5), torch.zeros(1, 7, 5), 1.0)(torch.randn(3, 4, 4, 8), torch.tensor(1))
    assert batches == [3]


def test_the_image_expert_runs_in_90_of_100_steps_at_the_papers_settings():
    calls = []
    image = Expert(lambda x, t: calls.append(int(t)) or x, 0.5, start=0.9 * STABLE_DIFFUSION.training_steps)
    audio = Expert(linear_noise, 0.5, start=1.0 * STABLE_DIFFUSION.training_steps)
    ddim(partial(compose, [image, audio]), torch.randn(1, 4, 4, 8), steps=100)
    assert calls == list(range(891, 0, -10))


def test_item_of_a_batch_equals_its_own_run():
    noise = torch.randn(3, 4, 4, 8)
    together = ddim(linear_noise, noise, 10)
    torch.testing.assert_close(together[1:2], ddim(linear_noise, noise[1:2], 10), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("steps", [15, 30])
def test_dpm_solver_equals_diffusers_scheduler(steps):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", final_sigmas_type="sigma_min", lower_order_final=False
    )
    scheduler.set_timesteps(timesteps=STABLE_DIFFUSION.timesteps(steps))
    noise = theirs = torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(0))
    for timestep in scheduler.timesteps:
        theirs = scheduler.step(linear_noise(theirs, timestep), timestep, theirs).prev_sample
    seen = []
    ours = dpm_solver_2m(linear_noise, noise, steps, callback=lambda step, x0, latents: seen.append((step, latents)))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert [step for step, _ in seen] == list(range(steps)) and torch.equal(seen[-1][1], ours)


def test_dpm_solver_comes_nearer_to_the_exact_solution_than_ddim():
    """For data from a Gaussian the best predictor is known, and so is where the process ends."""
    deviation, steps = 0.2, 20

    def spread(timestep):
        alpha = STABLE_DIFFUSION.alpha(int(timestep))
        return alpha * deviation**2 + 1 - alpha

    def best_noise(latents, timestep):
        return (1 - STABLE_DIFFUSION.alpha(int(timestep))) ** 0.5 / spread(timestep) * latents

    noise = torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(0))
    exact = noise * (spread(0) / spread(STABLE_DIFFUSION.timesteps(steps)[0])) ** 0.5
    error = {solver: (solver(best_noise, noise, steps) - exact).abs().max() for solver in (ddim, dpm_solver_2m)}
    assert error[dpm_solver_2m] < 0.5 * error[ddim]


def test_a_draft_goes_through_some_of_the_timesteps_of_the_full_sample_from_its_first_to_its_end():
    full, draft = STABLE_DIFFUSION.intervals(100), STABLE_DIFFUSION.draft(100, range(0, 101, 5))
    assert len(draft) == 20 and draft[0][0] == full[0][0] and draft[-1][1] == full[-1][1]
    assert {timestep for timestep, _ in draft} < {timestep for timestep, _ in full}
    assert all(following == timestep for (_, following), (timestep, _) in pairwise(draft))
    assert STABLE_DIFFUSION.draft(30, range(31)) == STABLE_DIFFUSION.intervals(30)
