"""Score distillation: its gradient, its random numbers, and going on from a saved state."""

import gc

import pytest
import torch
from accounting import Accounting
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from itsound_core.canvas import FourierCanvas, LatentParameters
from itsound_core.sampling import STABLE_DIFFUSION
from itsound_core.sds import DiffusionPrior, Distillation, full_canvas, latents_by, random_crops, surrogate

ALPHAS = STABLE_DIFFUSION.alphas_cumprod


def canvas(**sizes):
    return FourierCanvas(**({"height": 16, "width": 48, "frequencies": 8, "hidden": 16, "seed": 3} | sizes))


def network(channels, seed):
    torch.manual_seed(seed)
    return nn.Conv2d(channels, channels, 3, padding=1).requires_grad_(False)


def pixel_prior(**given):
    model = network(3, 1)
    return DiffusionPrior(
        **({"predict_noise": lambda x, t: model(x) / (1 + t), "alphas_cumprod": ALPHAS, "render": random_crops(4, 8)} | given)
    )


def latent_prior(**given):
    model = network(4, 2)
    torch.manual_seed(5)
    encoder = nn.Conv2d(3, 8, 8, stride=8).requires_grad_(False)
    return DiffusionPrior(
        **({"predict_noise": lambda x, t: model(x), "alphas_cumprod": ALPHAS, "render": latents_by(encoder, 0.18215)} | given)
    )


def gradients(module):
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def test_the_canvas_is_a_picture_that_its_seed_decides():
    picture = canvas()()
    assert picture.shape == (1, 1, 16, 48) and picture.min() > 0 and picture.max() < 1
    torch.rand(3)
    assert torch.equal(picture, canvas()()) and not torch.equal(picture, canvas(seed=4)())
    before = torch.random.get_rng_state()
    canvas()
    assert torch.equal(before, torch.random.get_rng_state())


def test_drawing_the_canvas_leaves_the_generators_of_gpus_alone(monkeypatch):
    for device in (torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(device, name, lambda seed: pytest.fail("a GPU's generator was seeded"), raising=False)
    canvas()


@pytest.mark.parametrize("make", [pixel_prior, latent_prior])
def test_the_gradient_is_the_residual_pulled_back_through_the_renderer_alone(make):
    """In double precision, against the vector-Jacobian product of the render with lambda w(t) (eps - noise), computed apart."""
    prior, picture_of = make(weight=0.4), canvas().double()
    for part in (prior.render, prior.predict_noise):
        for cell in part.__closure__ or ():
            if isinstance(cell.cell_contents, nn.Module):
                cell.cell_contents.double()
    loss, _ = surrogate(prior, prior.render(picture_of(), torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1))
    loss.backward()
    ours = gradients(picture_of)

    picture_of.zero_grad()
    seen = prior.render(picture_of(), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    timestep = int(torch.randint(20, 981, (), generator=generator))
    noise = torch.randn(seen.shape, generator=generator).double()
    alpha = ALPHAS[timestep]
    estimate = prior.predict_noise(alpha.sqrt() * seen.detach() + (1 - alpha).sqrt() * noise, timestep)
    seen.backward(0.4 * (1 - alpha) * (estimate - noise) / len(seen))
    torch.testing.assert_close(ours, gradients(picture_of), rtol=1e-9, atol=1e-15)


def test_the_surrogate_s_gradient_equals_its_finite_differences():
    """The residual is held fixed, as the surrogate holds it: d/dx of <w (eps - noise), x>."""
    prior = pixel_prior()
    picture = torch.rand(1, 1, 16, 48, dtype=torch.double, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch_model = network(3, 1).double()
    prior = pixel_prior(predict_noise=lambda x, t: torch_model(x))
    seen = prior.render(picture, torch.Generator().manual_seed(0))
    loss, _ = surrogate(prior, seen, torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(loss, picture)

    generator = torch.Generator().manual_seed(1)
    timestep = int(torch.randint(20, 981, (), generator=generator))
    noise = torch.randn(seen.shape, generator=generator).double()
    alpha = ALPHAS[timestep]
    fixed = (1 - alpha) * (torch_model(alpha.sqrt() * seen.detach() + (1 - alpha).sqrt() * noise) - noise)

    def value(pixels):
        return float((fixed * prior.render(pixels, torch.Generator().manual_seed(0))).sum() / len(seen))

    for row, column in ((0, 5), (7, 20), (15, 47)):
        step = torch.zeros_like(picture)
        step[0, 0, row, column] = 1e-5
        difference = (value(picture.detach() + step) - value(picture.detach() - step)) / 2e-5
        assert difference == pytest.approx(float(gradient[0, 0, row, column]), rel=1e-6, abs=1e-9)


def test_a_perfect_prediction_leaves_the_canvas_alone():
    drawn = {}

    def perfect(noisy, timestep):
        alpha = float(ALPHAS[timestep])
        return (noisy - alpha**0.5 * drawn["seen"]) / (1 - alpha) ** 0.5

    prior = pixel_prior(predict_noise=perfect)
    render = prior.render
    prior = pixel_prior(predict_noise=perfect, render=lambda p, g: drawn.setdefault("seen", render(p, g)))
    picture_of = canvas()
    loss, residual = surrogate(prior, prior.render(picture_of(), torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1))
    loss.backward()
    assert residual < 1e-9 and gradients(picture_of).abs().max() < 1e-4


def test_crops_are_squares_of_the_picture_s_height_at_random_places():
    ramp = torch.arange(48.0).expand(1, 1, 16, 48) / 47
    crops = random_crops(64, 16)(ramp, torch.Generator().manual_seed(0))
    assert crops.shape == (64, 3, 16, 16)
    lefts = ((crops[:, 0, 0, 0] + 1) / 2 * 47).round()
    assert lefts.min() == 0 and lefts.max() == 32 and len(lefts.unique()) > 20
    torch.testing.assert_close((crops[:, 0, 0, -1] + 1) / 2 * 47, lefts + 15, atol=1e-3, rtol=0)


def test_crops_are_resized_without_antialiasing_as_in_the_official_code():
    """Every other row and column of the canvas lies between the samples: a canvas that is white there alone is black to the model."""
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::4, :] = stripes[..., 3::4, :] = 1
    torch.testing.assert_close(random_crops(1, 16)(stripes, torch.Generator()), -torch.ones(1, 3, 16, 16))


class NothingThatAppleGpusLack(TorchDispatchMode):
    """They have no float64 (the models' schedules, of one dimension, stay on the CPU), and no gradient of an antialiased resize."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        assert "upsample_bilinear2d_aa" not in func.name()
        assert not isinstance(out, torch.Tensor) or out.ndim < 2 or out.dtype != torch.float64, func.name()
        return out


def test_a_step_needs_nothing_that_apples_gpus_lack():
    run = Distillation(canvas(), [pixel_prior(), latent_prior()])
    with NothingThatAppleGpusLack():
        run.step()


def test_before_its_start_a_model_is_not_evaluated():
    asked = []
    image = pixel_prior(start=2, predict_noise=lambda x, t: asked.append(t) or torch.zeros_like(x))
    run = Distillation(canvas(), [image, latent_prior()])
    assert [run.step()[0] is None for _ in range(3)] == [True, True, False] and len(asked) == 1
    with pytest.raises(ValueError, match="No model is evaluated at iteration 0"):
        Distillation(canvas(), [image]).step()


def test_priors_with_one_renderer_get_the_same_rendering():
    seen = []
    shared = latent_prior()
    priors = [
        DiffusionPrior(lambda x, t: torch.zeros_like(x), ALPHAS, lambda p, g, render=shared.render: seen.append(1) or render(p, g))
        for _ in range(1)
    ] * 2
    Distillation(canvas(), priors).step()
    assert len(seen) == 1


def test_a_run_that_is_saved_and_resumed_goes_on_to_the_bit(tmp_path):
    whole = Distillation(canvas(), [pixel_prior(start=1), latent_prior()], learning_rate=1e-2, seed=9)
    for _ in range(6):
        whole.step()
    first = Distillation(canvas(), [pixel_prior(start=1), latent_prior()], learning_rate=1e-2, seed=9)
    for _ in range(3):
        first.step()
    torch.save(first.state_dict(), tmp_path / "run.pt")
    second = Distillation(canvas(), [pixel_prior(start=1), latent_prior()], learning_rate=1e-2, seed=1)
    second.load_state_dict(torch.load(tmp_path / "run.pt", weights_only=True))
    for _ in range(3):
        second.step()
    assert second.iteration == 6 and torch.equal(whole.picture(), second.picture())


@pytest.mark.parametrize("moment", ["the first model", "the second model", "the gradient"])
def test_a_step_that_is_interrupted_leaves_the_state_of_its_start(moment):
    """ComfyUI interrupts inside of a model, when noise was drawn already."""

    class Interrupted(BaseException):
        pass

    interrupting = False

    def interrupt(now):
        if interrupting and now == moment:
            raise Interrupted

    def interrupted_prior(make, name):
        predict = make().predict_noise
        return make(predict_noise=lambda x, t: (interrupt(name), predict(x, t))[1])

    def fresh():
        canvas_of = canvas()
        next(canvas_of.parameters()).register_hook(lambda _: interrupt("the gradient"))
        priors = [interrupted_prior(pixel_prior, "the first model"), interrupted_prior(latent_prior, "the second model")]
        return Distillation(canvas_of, priors, learning_rate=1e-2, seed=9)

    unbroken, resumed = fresh(), fresh()
    for run in (unbroken, resumed):
        run.step()
    interrupting = True
    with pytest.raises(Interrupted):
        resumed.step()
    interrupting = False
    for run in (unbroken, resumed):
        run.step()
    assert resumed.iteration == 2 and torch.equal(unbroken.picture(), resumed.picture())


def test_a_long_run_holds_no_more_than_a_short_one():
    run = Distillation(canvas(), [pixel_prior(), latent_prior()])
    held, peaks = [], []
    with Accounting() as accounting:
        for _ in range(3):
            accounting.peak = 0
            for _ in range(2):
                run.step()
            gc.collect()
            held.append(accounting.alive)
            peaks.append(accounting.peak)
    assert len(set(held)) == 1 and len(set(peaks[1:])) == 1 and peaks[1] > held[0]


def test_latents_move_towards_what_a_model_of_latents_expects():
    def ones(noisy, timestep):
        alpha = float(ALPHAS[timestep])
        return (noisy - alpha**0.5) / (1 - alpha) ** 0.5

    run = Distillation(LatentParameters(4, 8, seed=1), [latent_prior(predict_noise=ones, render=full_canvas)], learning_rate=0.1)
    assert abs(float(run.picture().std()) - 0.1) < 0.02 and run.picture().shape == (1, 4, 4, 8)
    for _ in range(60):
        run.step()
    assert (run.picture() - 1).abs().mean() < 0.1


def test_a_canvas_moves_towards_what_a_model_expects():
    """A denoiser that expects white pixels everywhere makes the canvas white."""

    def white(noisy, timestep):
        alpha = float(ALPHAS[timestep])
        return (noisy - alpha**0.5 * 1.0) / (1 - alpha) ** 0.5

    run = Distillation(canvas(), [pixel_prior(predict_noise=white)], learning_rate=1e-2)
    before = float(run.picture().mean())
    for _ in range(60):
        run.step()
    assert float(run.picture().mean()) > max(before + 0.2, 0.8)
