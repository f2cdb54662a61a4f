"""Train a UNet on one GPU within minutes, with the data on the device: hundreds of windows a step where a CPU takes four.

    python -m lab.train.pack --unpack pack --data data &       # shards of latents, and embeddings of the prompts
    python -m lab.train.on_gpu --side image --data data --output data/gpu --minutes 6
    python -m lab.train.on_gpu --side audio --data data --output data/gpu --minutes 2 --init models/embedded-audio/unet

Data, noise and loss are `train_unet`'s. Shards that appear while it trains are taken up. It writes <output>/unet-<side>/, the averaged
weights in half precision as diffusers lays them out, every minute and at the end, and the loss by noise level beside them. The learning
rate is constant for two thirds of the budget and then falls linearly to 0.

`--check` takes a few steps of every window and says what one takes. Compiling takes two minutes of a cold machine, most of them spent on
one core, and counts in the budget: of six minutes on an H100, shared with the other side's training for two of them, 3.6 were steps, 2800
of 77 ms.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from .denoiser_training import draw_timesteps
from .noise_levels import NoiseLevels
from .prompts import PLUS
from .train_unet import alphas_cumprod, timestep_density, unet_of, window_sizes

WINDOWS = {"image": "128x128 64x256", "audio": "128x96 64x192"}
LEARNT = {"image": "learnt-000-*.pt", "audio": "learnt-sounds-train-*.pt"}  # shards that hold canvases of one thing
AVERAGE = 0.9995
LOOK_EVERY, READ_EVERY = 1000, 50  # steps


class Bank:
    """Latents and embeddings of prompts on one device, to draw windows from.

    Args:
        folder: shards as `pack.py` writes them, learnt-*.pt.
        text: {key: (prompts, 77, width)}, the empty prompt under "".
        emphasis: {class: how many times as often it is drawn}.
    """

    def __init__(self, folder: Path, text: dict[str, Tensor], emphasis: dict[str, float], device: torch.device):
        self.folder, self.emphasis, self.device = folder, emphasis, device
        self.null = text[""][0].half().to(device)
        keys = [key for key in text if key]
        counts = torch.tensor([len(text[key]) for key in keys])
        self.row = {key: index for index, key in enumerate(keys)}
        self.counts = counts.to(device)
        self.starts = (counts.cumsum(0) - counts).to(device)
        self.prompts = torch.cat([text[key].half() for key in keys]).to(device)
        self.taken: set[str] = set()
        self.latents = torch.empty(0, 4, 32, 128, dtype=torch.float16, device=device)
        self.keys = torch.empty(0, dtype=torch.long, device=device)
        self.weights = torch.empty(0, device=device)

    def take_up(self) -> int:
        """Read the shards that are new; how many canvases there are."""
        for file in sorted(self.folder.glob("learnt-*.pt")):
            if file.name in self.taken:
                continue
            shard = torch.load(file, weights_only=True)
            self.taken.add(file.name)
            weights = [max(self.emphasis.get(part, 1.0) for part in label.split(",")[0].split(PLUS)) for label in shard["labels"]]
            self.latents = torch.cat([self.latents, shard["latents"].to(self.device)])
            self.keys = torch.cat([self.keys, torch.tensor([self.row[label] for label in shard["labels"]], device=self.device)])
            self.weights = torch.cat([self.weights, torch.tensor(weights, device=self.device)])
        return len(self.latents)

    def draw(self, batch: int, width: int, null_share: float) -> tuple[Tensor, Tensor]:
        """(batch, 4, 32, width) latents, begun anywhere, and (batch, 77, 128) embeddings of a prompt of each, in half precision."""
        index = torch.multinomial(self.weights, batch, replacement=True)
        start = torch.randint(128, (batch, 1), device=self.device)
        columns = (start + torch.arange(width, device=self.device)) % 128
        latents = self.latents[index].gather(3, columns[:, None, None, :].expand(-1, 4, 32, -1))
        key = self.keys[index]
        chosen = (torch.rand(batch, device=self.device) * self.counts[key]).long()
        texts = self.prompts[self.starts[key] + chosen]
        empty = torch.rand(batch, device=self.device) < null_share
        return latents, torch.where(empty[:, None, None], self.null, texts)


def canvases_to_watch(folder: Path, text: dict[str, Tensor], pattern: str) -> tuple[Tensor, Tensor]:
    """The first canvas of every class in the first shard of that name, and the plainest prompt of each."""
    shard = torch.load(min(folder.glob(pattern)), weights_only=True)
    first = {label.split(",")[0]: i for i, label in reversed(list(enumerate(shard["labels"]))) if PLUS not in label}
    chosen = sorted(first.values())
    return shard["latents"][chosen].float(), torch.stack([text[shard["labels"][i]][0].float() for i in chosen])


def rate(done: float) -> float:
    """Factor of the learning rate by the share of the budget that is spent."""
    return min(1.0, 3.0 * (1.0 - done))


def save(average: UNet2DConditionModel, folder: Path) -> None:
    copy.deepcopy(average).half().save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=WINDOWS, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--output", type=Path, default=Path("data/gpu"))
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--warm-up", type=int, default=200, help="steps")
    parser.add_argument("--null-share", type=float, default=0.1, help="share of empty prompts")
    parser.add_argument("--windows", nargs="+", help="columns x windows of a step, such as 64x256; in turn")
    parser.add_argument("--emphasis", nargs="*", default=[], help="classes drawn more often, such as trumpet=2")
    parser.add_argument("--init", type=Path, help="folder of an exported UNet to begin with")
    parser.add_argument("--first", type=int, default=2000, help="canvases to wait for before it begins")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()

    began = time.monotonic()
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    device = torch.device(args.device)
    folder, target = args.data / f"latents-{args.side}", args.output / f"unet-{args.side}"
    target.mkdir(parents=True, exist_ok=True)
    text = torch.load(args.data / f"text-{args.side}" / "drawn.pt", weights_only=True)
    emphasis = {name: float(factor) for name, _, factor in (item.partition("=") for item in args.emphasis)}
    bank = Bank(folder, text, emphasis, device)
    while bank.take_up() < args.first:
        time.sleep(0.5)
    print(f"{len(bank.latents)} canvases after {time.monotonic() - began:.0f} s", flush=True)

    unet = (UNet2DConditionModel.from_pretrained(args.init, torch_dtype=torch.float32) if args.init else unet_of(args.side)).to(device)
    unet = unet.to(memory_format=torch.channels_last)
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer = torch.optim.AdamW(unet.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    predict = unet if args.no_compile else torch.compile(unet, dynamic=False)
    alphas = alphas_cumprod().to(device)
    snr = alphas / (1.0 - alphas)
    density, weight = timestep_density(snr), snr.rsqrt()
    patterns = {"": "apart*.pt", "-learnt": LEARNT[args.side]}
    watches = []
    for name, pattern in patterns.items():
        latents, texts = (part.to(device) for part in canvases_to_watch(folder, text, pattern))
        watches.append(NoiseLevels(latents, texts, alphas, args.output / f"levels{name}-{args.side}.csv", batch=len(latents)))
    windows = [window_sizes(item) for item in (args.windows or WINDOWS[args.side].split())]

    def loss_of(width: int, batch: int) -> Tensor:
        latent, texts = bank.draw(batch, width, args.null_share)
        timestep = draw_timesteps(batch, density)
        noise = torch.randn(latent.shape, device=device)
        alpha = alphas[timestep].view(-1, 1, 1, 1)
        noisy = (alpha.sqrt() * latent + (1.0 - alpha).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            predicted = predict(noisy, timestep, texts.to(torch.bfloat16)).sample
        return (weight[timestep] * (predicted.float() - noise).square().mean(dim=(1, 2, 3))).mean()

    def advance(step: int, done: float) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (step + 1) / args.warm_up) * rate(done)
        loss = loss_of(*windows[step % len(windows)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        decay = min(AVERAGE, (1.0 + step) / (20.0 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1.0 - decay)
        return loss.detach()

    budget = 60.0 * args.minutes
    if args.check:
        for width, batch in windows:
            windows[:] = [(width, batch)]
            for steps in (2, 20):
                start = time.monotonic()
                loss = [advance(step, 0.0) for step in range(steps)][-1].item()
                print(f"{width}x{batch}: {(time.monotonic() - start) / steps * 1e3:.1f} ms a step, loss {loss:.3f}", flush=True)
        return
    step, spent, saved, losses = 0, time.monotonic() - began, 0.0, []
    while spent < budget:
        losses.append(advance(step, spent / budget))
        step += 1
        if step % READ_EVERY == 0:
            mean = torch.stack(losses).mean().item()
            losses = []
            spent = time.monotonic() - began
            if step % (4 * READ_EVERY) == 0:
                print(step, f"{spent:.0f} s, loss {mean:.4f}, {bank.take_up()} canvases", flush=True)
            if step % LOOK_EVERY == 0:
                for watch in watches:
                    watch(average, step)
            if spent - saved > 60.0:
                save(average, target)
                saved = spent
            if mean != mean:
                raise RuntimeError(f"training diverged at step {step}: take a smaller --lr than {args.lr}")
    for watch in watches:
        watch(average, step)
    save(average, target)
    print(f"{step} steps, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
