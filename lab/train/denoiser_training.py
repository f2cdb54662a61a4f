"""Training of a noise predictor within a budget of wall-clock minutes, resumed from its checkpoint: the UNets' and the colour model's.

AdamW with a short warm-up, gradients clipped to norm 1, and an exponential moving average of the weights, which is what is exported.
`<folder>/checkpoint.pt` is written every five minutes, `<folder>/log.csv` every half minute. A run that was stopped goes on from its
checkpoint as if it had never been: same batches, same weights to the bit, on one thread of the same machine.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

TRAINING_STEPS = 1000
SAVE_EVERY, LOG_EVERY = 300.0, 30.0  # seconds

Loss = Callable[[Callable, float, torch.Generator], tuple[Tensor, int]]
"""(noise predictor, share of the budget that is spent, generator) -> the loss of one batch, and its columns for the log."""

Rate = Callable[[int, float, int | None], float]
"""(step, share of the budget that is spent, step at which the last phase began or None) -> factor of the learning rate; 0 ends the run."""

Watch = Callable[[UNet2DConditionModel, int], None]
"""(the averaged model, step): looks how good it is. Called before the first step and at intervals."""


def falling_with_the_budget(step: int, done: float, decay_began: int | None) -> float:
    """Falls linearly to 2 % in the last four fifths of the budget."""
    return min(1.0, 0.02 + 1.25 * (1.0 - done))


def constant_then_falling(decay_steps: int) -> Rate:
    """Constant, whatever the budget, until a last phase of `decay_steps` steps begins, in which it falls linearly to 0."""

    def rate(step: int, done: float, decay_began: int | None) -> float:
        return 1.0 if decay_began is None else max(0.0, 1.0 - (step - decay_began) / decay_steps)

    return rate


def add_arguments(parser: argparse.ArgumentParser, minutes: float) -> None:
    """The options that all trainings of this kind share."""
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--minutes", type=float, default=minutes, help="wall-clock budget, earlier runs counted in")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--null-share", type=float, default=0.1, help="share of empty prompts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile: steps take some 0.7 of the time; needs a C++ compiler")


def add_window_arguments(parser: argparse.ArgumentParser, full_share: float) -> None:
    """The options of a training on windows of one width, and on the whole width in its last share."""
    parser.add_argument("--batch", type=int, default=8, help="windows a step; fewer as they get larger")
    parser.add_argument("--window", type=int, default=32, help="columns of a window")
    parser.add_argument("--full-share", type=float, default=full_share, help="last share of the budget, trained at full width")


def draw_timesteps(batch: int, density: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One timestep from each of `batch` equally likely strata of `density` (1000,), so that every batch spans the schedule.

    On the density's device, by that device's own generator where none is given.
    """
    at = density.device
    quantile = (torch.arange(batch, device=at) + torch.rand(batch, generator=generator, device=at)) / batch
    return torch.searchsorted(density.cumsum(0) / density.sum(), quantile).clamp(max=TRAINING_STEPS - 1)


def diffuse(clean: Tensor, alphas_cumprod: Tensor, timestep: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy (B, C, H, W) at timesteps (B,), and the noise in it."""
    noise = torch.randn(clean.shape, generator=generator)
    alpha = alphas_cumprod[timestep].view(-1, 1, 1, 1)
    return alpha.sqrt() * clean + (1.0 - alpha).sqrt() * noise, noise


def train(
    unet: UNet2DConditionModel,
    folder: Path,
    batch_loss: Loss,
    args: argparse.Namespace,
    *,
    rate: Rate = falling_with_the_budget,
    last_phase: bool = False,
    longest_average: float = 0.999,
    watch: Watch | None = None,
    watch_every: int = 500,
) -> None:
    """Train `unet` by `batch_loss` until `args.minutes` are spent or the rate is 0.

    Args:
        last_phase: begin the last phase of the rate at this run's first step, if the checkpoint is not in it already.
        longest_average: decay of the moving average, once there have been steps enough.

    Raises:
        RuntimeError: the loss is no longer finite.
    """
    torch.set_num_threads(args.threads)
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(args.seed)
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer = torch.optim.AdamW(unet.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    step, spent, decay_began = 0, 0.0, None
    if args.resume:
        checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
        unet.load_state_dict(checkpoint["unet"])
        average.load_state_dict(checkpoint["average"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        generator.set_state(checkpoint["generator"])
        step, spent, decay_began = checkpoint["step"], checkpoint["seconds"], checkpoint.get("decay_began")
    if last_phase and decay_began is None:
        decay_began = step
    predict = torch.compile(unet, dynamic=False) if args.compile else unet
    print(f"{sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters", flush=True)

    def save(seconds: float) -> None:
        state = {"unet": unet.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"generator": generator.get_state(), "step": step, "seconds": seconds, "decay_began": decay_began}
        torch.save(state, folder / "checkpoint.part")
        (folder / "checkpoint.part").replace(folder / "checkpoint.pt")

    budget = 60.0 * args.minutes
    began = time.monotonic() - spent
    saved = logged = spent
    seconds = spent
    losses: list[float] = []
    if watch and step == 0:
        watch(average, step)
    with (folder / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while (seconds := time.monotonic() - began) < budget:
            factor = rate(step, seconds / budget, decay_began)
            if factor == 0.0:
                break
            lr = args.lr * min(1.0, (step + 1) / 50) * factor
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss, columns = batch_loss(predict, seconds / budget, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            step += 1
            decay = min(longest_average, (1.0 + step) / (20.0 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1.0 - decay)

            losses.append(loss.item())
            if watch and step % watch_every == 0:
                watch(average, step)
            if seconds - logged > LOG_EVERY:
                mean = sum(losses) / len(losses)
                row = [step, round(seconds), columns, round(mean, 4), f"{lr:.1e}"]
                log.writerow(row)
                file.flush()
                print(*row, flush=True)
                logged, losses = seconds, []
                if not math.isfinite(mean):
                    raise RuntimeError(f"training diverged at step {step}: resume with a smaller --lr than {args.lr}")
            if seconds - saved > SAVE_EVERY:
                save(seconds)
                saved = seconds
    save(min(seconds, budget))


def trained(unet: UNet2DConditionModel, folder: Path) -> UNet2DConditionModel:
    """`unet` with the averaged weights of the folder's checkpoint, to sample or to export; it says how long they were trained."""
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    unet.load_state_dict(checkpoint["average"])
    print(f"{folder.name}: {checkpoint['step']} steps, {checkpoint['seconds'] / 60:.0f} minutes of training")
    return unet.eval()
