"""Score distillation: its gradient, its random numbers, and going on from a saved state."""

import gc

import pytest
import torch
from accounting import Accounting
from torch import nn

from itsound_core.canvas import FourierCanvas, LatentCanvas
from itsound_core.sampling import STABLE_DIFFUSION
from itsound_core.sds import Critic, Distillation, latents_by, square_crops, surrogate, whole

ALPHAS = STABLE_DIFFUSION.alphas_cumprod


def canvas(**sizes):
    return FourierCanvas(**({"height": 16, "width": 48, "frequencies": 8, "hidden": 16, "seed": 3} | sizes))


def network(channels, seed):
    torch.manual_seed(seed)
    return nn.Conv2d(channels, channels, 3, padding=1).requires_grad_(False)


def pixel_critic(**given):
    model = network(3, 1)
    return Critic(**({"predict_noise": lambda x, t: model(x) / (1 + t), "alphas_cumprod": ALPHAS, "sight": square_crops(4, 8)} | given))


def latent_critic(**given):
    model = network(4, 2)
    torch.manual_seed(5)
    encoder = nn.Conv2d(3, 8, 8, stride=8).requires_grad_(False)
    return Critic(**({"predict_noise": lambda x, t: model(x), "alphas_cumprod": ALPHAS, "sight": latents_by(encoder, 0.18215)} | given))


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


@pytest.mark.parametrize("make", [pixel_critic, latent_critic])
def test_the_gradient_is_the_residual_pulled_back_through_the_sight_alone(make):
    """In double precision, against the vector-Jacobian product of the sight with lambda w(t) (eps - noise), computed apart."""
    critic, picture_of = make(weight=0.4), canvas().double()
    for part in (critic.sight, critic.predict_noise):
        for cell in part.__closure__ or ():
            if isinstance(cell.cell_contents, nn.Module):
                cell.cell_contents.double()
    loss, _ = surrogate(critic, critic.sight(picture_of(), torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1))
    loss.backward()
    ours = gradients(picture_of)

    picture_of.zero_grad()
    seen = critic.sight(picture_of(), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    timestep = int(torch.randint(20, 981, (), generator=generator))
    noise = torch.randn(seen.shape, generator=generator).double()
    alpha = ALPHAS[timestep]
    estimate = critic.predict_noise(alpha.sqrt() * seen.detach() + (1 - alpha).sqrt() * noise, timestep)
    seen.backward(0.4 * (1 - alpha) * (estimate - noise) / len(seen))
    torch.testing.assert_close(ours, gradients(picture_of), rtol=1e-9, atol=1e-15)


def test_the_surrogate_s_gradient_equals_its_finite_differences():
    """The residual is held fixed, as the surrogate holds it: d/dx of <w (eps - noise), x>."""
    critic = pixel_critic()
    picture = torch.rand(1, 1, 16, 48, dtype=torch.double, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch_model = network(3, 1).double()
    critic = pixel_critic(predict_noise=lambda x, t: torch_model(x))
    seen = critic.sight(picture, torch.Generator().manual_seed(0))
    loss, _ = surrogate(critic, seen, torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(loss, picture)

    generator = torch.Generator().manual_seed(1)
    timestep = int(torch.randint(20, 981, (), generator=generator))
    noise = torch.randn(seen.shape, generator=generator).double()
    alpha = ALPHAS[timestep]
    fixed = (1 - alpha) * (torch_model(alpha.sqrt() * seen.detach() + (1 - alpha).sqrt() * noise) - noise)

    def value(pixels):
        return float((fixed * critic.sight(pixels, torch.Generator().manual_seed(0))).sum() / len(seen))

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

    critic = pixel_critic(predict_noise=perfect)
    sight = critic.sight
    critic = pixel_critic(predict_noise=perfect, sight=lambda p, g: drawn.setdefault("seen", sight(p, g)))
    picture_of = canvas()
    loss, residual = surrogate(critic, critic.sight(picture_of(), torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1))
    loss.backward()
    assert residual < 1e-9 and gradients(picture_of).abs().max() < 1e-4


def test_crops_are_squares_of_the_picture_s_height_at_random_places():
    ramp = torch.arange(48.0).expand(1, 1, 16, 48) / 47
    crops = square_crops(64, 16)(ramp, torch.Generator().manual_seed(0))
    assert crops.shape == (64, 3, 16, 16)
    lefts = ((crops[:, 0, 0, 0] + 1) / 2 * 47).round()
    assert lefts.min() == 0 and lefts.max() == 32 and len(lefts.unique()) > 20
    torch.testing.assert_close((crops[:, 0, 0, -1] + 1) / 2 * 47, lefts + 15, atol=1e-3, rtol=0)


def test_before_its_start_a_critic_has_no_say_and_is_not_asked():
    asked = []
    image = pixel_critic(start=2, predict_noise=lambda x, t: asked.append(t) or torch.zeros_like(x))
    run = Distillation(canvas(), [image, latent_critic()])
    assert [run.step()[0] is None for _ in range(3)] == [True, True, False] and len(asked) == 1
    with pytest.raises(ValueError, match="No critic"):
        Distillation(canvas(), [image]).step()


def test_critics_that_share_a_sight_see_the_same():
    seen = []
    shared = latent_critic()
    critics = [
        Critic(lambda x, t: torch.zeros_like(x), ALPHAS, lambda p, g, sight=shared.sight: seen.append(1) or sight(p, g)) for _ in range(1)
    ] * 2
    Distillation(canvas(), critics).step()
    assert len(seen) == 1


def test_a_run_that_is_saved_and_resumed_goes_on_to_the_bit(tmp_path):
    whole = Distillation(canvas(), [pixel_critic(start=1), latent_critic()], learning_rate=1e-2, seed=9)
    for _ in range(6):
        whole.step()
    first = Distillation(canvas(), [pixel_critic(start=1), latent_critic()], learning_rate=1e-2, seed=9)
    for _ in range(3):
        first.step()
    torch.save(first.state_dict(), tmp_path / "run.pt")
    second = Distillation(canvas(), [pixel_critic(start=1), latent_critic()], learning_rate=1e-2, seed=1)
    second.load_state_dict(torch.load(tmp_path / "run.pt", weights_only=True))
    for _ in range(3):
        second.step()
    assert second.iteration == 6 and torch.equal(whole.picture(), second.picture())


def test_a_long_run_holds_no_more_than_a_short_one():
    run = Distillation(canvas(), [pixel_critic(), latent_critic()])
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


def test_latents_move_towards_what_a_critic_of_latents_expects():
    def ones(noisy, timestep):
        alpha = float(ALPHAS[timestep])
        return (noisy - alpha**0.5) / (1 - alpha) ** 0.5

    run = Distillation(LatentCanvas(4, 8, seed=1), [latent_critic(predict_noise=ones, sight=whole)], learning_rate=0.1)
    assert abs(float(run.picture().std()) - 0.1) < 0.02 and run.picture().shape == (1, 4, 4, 8)
    for _ in range(60):
        run.step()
    assert (run.picture() - 1).abs().mean() < 0.1


def test_a_canvas_moves_towards_what_a_critic_expects():
    """A denoiser that expects white pixels everywhere makes the canvas white."""

    def white(noisy, timestep):
        alpha = float(ALPHAS[timestep])
        return (noisy - alpha**0.5 * 1.0) / (1 - alpha) ** 0.5

    run = Distillation(canvas(), [pixel_critic(predict_noise=white)], learning_rate=1e-2)
    before = float(run.picture().mean())
    for _ in range(60):
        run.step()
    assert float(run.picture().mean()) > max(before + 0.2, 0.8)
