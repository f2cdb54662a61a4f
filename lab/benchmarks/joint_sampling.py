"""Joint sampling three ways on the same weights, in turns: a plain loop as the research code does it, our core, and our guider in ComfyUI.

    COMFYUI_PATH=... python -m lab.benchmarks.joint_sampling                                        # the embedded models
    COMFYUI_PATH=... python -m lab.benchmarks.joint_sampling --size small --batch 1 4 16            # random UNets, a quarter of full width
    COMFYUI_PATH=... python -m lab.benchmarks.joint_sampling --size full --steps 2 --repeats 2      # random UNets of SD 1.5's size
    COMFYUI_PATH=... python -m lab.benchmarks.joint_sampling --size full --dtype float16 --steps 100 --batch 1 4 16 --compile    # on a GPU
    python -m lab.benchmarks.joint_sampling --size full --count    # what a pass takes, counted without running it

Without COMFYUI_PATH the guider is left out. With --compile, core and guider run a second time through torch.compile (as ComfyUI's
TorchCompileModel does it), with --channels-last in that memory format, weights brought into it and back within its time; the plain loop
never does. It runs on the GPU if there is one. A sample has 10.24 s, classifier-free guidance on both sides and t_image 0.9. Ratios are
those of one round each (the plain loop's time over the other's), as median and range over the rounds.

"outside" is the share of the time in which no UNet was running: samplers, guidance and bookkeeping. Peak memory is what sampling took
beyond what was in use before, which is mainly weights (on a CPU the process's resident memory, on Linux only). The floor is the arithmetic
of the UNets' forward passes alone, counted on the real modules, at the rate at which this device multiplies large matrices of the same
number format. "apart" is the relative difference of the latents from the plain loop's.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

REPO = Path(__file__).resolve().parents[2]
from itsound_core.composition import Expert, compose  # noqa: E402
from itsound_core.sampling import STABLE_DIFFUSION, ddim, guided  # noqa: E402
from tools.comfyui import import_comfyui, load_pack  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIDES = ("image", "audio")
WIDTHS = {"tiny": (32, 32, 64, 64), "small": (96, 160, 320, 320), "full": (320, 640, 1280, 1280)}
CONTEXT = {"tiny": 32, "small": 256, "full": 768}
T_IMAGE, GUIDANCE, AUDIO_WEIGHT = 0.9, 10.0, 0.5
START = T_IMAGE * 1000
"""Timestep from which on the image model takes part."""
LATENT = (4, 32, 128)
TOKENS = 77

Sampler = Callable[[Tensor], Tensor]
"""Unit noise (B, 4, 32, 128) to latents of the same shape."""


# Models ------------------------------------------------------------------------------------------------------------------------------


def folders(size: str, scratch: Path, dtype: torch.dtype) -> list[Path]:
    """Diffusers folders of the two sides: the embedded ones, or random UNets that are written here."""
    if size == "embedded":
        return [REPO / "models" / f"embedded-{side}" for side in SIDES]
    for seed, side in enumerate(SIDES):
        torch.manual_seed(seed)
        with DEVICE:  # a graphics card draws a billion numbers in no time
            unet = random_unet(size)
        unet.to(dtype).save_pretrained(scratch / side / "unet")
        schedule().save_pretrained(scratch / side / "scheduler")
    return [scratch / side for side in SIDES]


def random_unet(size: str) -> UNet2DConditionModel:
    attention = ("CrossAttnDownBlock2D",) * 3, ("CrossAttnUpBlock2D",) * 3
    return UNet2DConditionModel(
        block_out_channels=WIDTHS[size],
        down_block_types=(*attention[0], "DownBlock2D"),
        up_block_types=("UpBlock2D", *attention[1]),
        cross_attention_dim=CONTEXT[size],
        attention_head_dim=8,
    )


def schedule() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def embeddings(width: int, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """(prompt, null prompt) of each side, random: the arithmetic is the same whatever they say."""
    generator = torch.Generator().manual_seed(0)
    return {side: tuple(torch.randn(2, 1, TOKENS, width, generator=generator).to(DEVICE, dtype).unbind()) for side in SIDES}


# The three ways ----------------------------------------------------------------------------------------------------------------------


def plain_loop(unets: list[nn.Module], prompts: dict[str, tuple[Tensor, Tensor]], steps: int) -> Sampler:
    """Two UNets one after the other, each with its guidance as one batch of two, and diffusers' own DDIM."""
    scheduler = schedule()

    @torch.no_grad()
    def sample(latents: Tensor) -> Tensor:
        scheduler.set_timesteps(steps, device=DEVICE)
        texts = [torch.cat([null.expand(len(latents), -1, -1), prompt.expand(len(latents), -1, -1)]) for prompt, null in prompts.values()]
        for timestep in scheduler.timesteps:
            noises = []
            for side in SIDES if timestep <= START else SIDES[1:]:
                inputs = scheduler.scale_model_input(torch.cat([latents] * 2), timestep)
                null, text = unets[SIDES.index(side)](inputs, timestep, texts[SIDES.index(side)]).sample.chunk(2)
                noises.append(null + GUIDANCE * (text - null))
            noise = noises[0] if len(noises) == 1 else (1 - AUDIO_WEIGHT) * noises[0] + AUDIO_WEIGHT * noises[1]
            latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
        return latents

    return sample


def core(unets: list[nn.Module], prompts: dict[str, tuple[Tensor, Tensor]], steps: int) -> Sampler:
    image, audio = (guided(unet, *prompts[side], GUIDANCE) for unet, side in zip(unets, SIDES, strict=True))
    experts = [Expert(image, 1 - AUDIO_WEIGHT, START), Expert(audio, AUDIO_WEIGHT)]
    return lambda latents: ddim(partial(compose, experts), latents, steps)


def guider(models: list, prompts: dict[str, tuple[Tensor, Tensor]], steps: int, module) -> Sampler:
    """JointGuider under ComfyUI's ddim on ddim_uniform, from empty latents; start noise and last sigma as in the other two ways."""
    import comfy.samplers  # pyright: ignore[reportMissingImports]

    experts = [
        module.ModelExpert("benchmark", side, model, *([[text.cpu().float(), {}]] for text in prompts[side]), GUIDANCE, t, weight)
        for side, model, t, weight in zip(SIDES, models, (T_IMAGE, 1.0), (1 - AUDIO_WEIGHT, AUDIO_WEIGHT), strict=True)
    ]
    model_sampling = models[0].get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, "ddim_uniform", steps)
    start = (1 + sigmas[0] ** 2).sqrt() / sigmas[0]
    sigmas[-1] = model_sampling.sigma_min

    @torch.inference_mode()
    def sample(latents: Tensor) -> Tensor:
        noise = start * latents.cpu().float()
        sampler = comfy.samplers.sampler_object("ddim")
        latents = module.JointGuider(experts).sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=0)
        return models[0].model.process_latent_in(latents) / (1 + sigmas[-1] ** 2).sqrt()

    return sample


def compiled(sample: Sampler, modules: list[nn.Module]) -> Sampler:
    """The same with the modules' forward passes compiled, for as long as it samples: the modules serve the other ways too."""
    # As TorchCompileModel: ComfyUI's transformer_options are new at each step, and would have everything compiled anew.
    options = {"guard_filter_fn": lambda guards: ["transformer_options" not in guard.name for guard in guards]}
    forwards = [torch.compile(module.forward, dynamic=False, options=options) for module in modules]

    def sample_compiled(latents: Tensor) -> Tensor:
        for module, forward in zip(modules, forwards, strict=True):
            module.forward = forward
        try:
            return sample(latents)
        finally:
            for module in modules:
                del module.forward

    return sample_compiled


def in_channels_last(sample: Sampler, modules: list[nn.Module]) -> Sampler:
    """The same with the modules' convolutions in channels-last memory format, for as long as it samples."""

    def sample_so(latents: Tensor) -> Tensor:
        for module in modules:
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        try:
            return sample(latents.to(memory_format=torch.channels_last))
        finally:
            for module in modules:
                module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]

    return sample_so


# Measuring ---------------------------------------------------------------------------------------------------------------------------


def now() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Inside:
    """The time that modules spend in their forward passes; on a GPU between events, so that nothing waits for it."""

    def __init__(self, modules: list[nn.Module]):
        self.spans: list[tuple] = []
        self.begun: list = []
        for module in modules:
            module.register_forward_pre_hook(lambda *_: self.begun.append(self._mark()))
            module.register_forward_hook(lambda *_: self.spans.append((self.begun.pop(), self._mark())))

    def _mark(self):
        if DEVICE.type == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def take(self) -> tuple[float, int]:
        """Seconds and forward passes since the last call."""
        spans, self.spans = self.spans, []
        if DEVICE.type == "cpu":
            return sum(end - begin for begin, end in spans), len(spans)
        torch.cuda.synchronize()
        return sum(begin.elapsed_time(end) for begin, end in spans) / 1000, len(spans)


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Appends how many bytes more than before were in use at most; nothing where that cannot be read."""
    peak: list[float] = []
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        peak.append(torch.cuda.max_memory_allocated() - before)
    elif reset.exists():

        def kilobytes(key: str) -> int:
            return int(next(line for line in status.read_text().splitlines() if line.startswith(key)).split()[1])

        ctypes.CDLL(None).malloc_trim(0)  # else memory that an earlier run gave back is still resident
        reset.write_text("5")  # sets the high-water mark back to what is resident now
        before = kilobytes("VmRSS")
        yield peak
        peak.append(1024 * (kilobytes("VmHWM") - before))
    else:
        yield peak


def matrix_rate(dtype: torch.dtype) -> float:
    """FLOP/s of one large matrix product, the best of six."""
    n = 8192 if DEVICE.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
    taken = []
    for _ in range(6):
        began = now()
        torch.mm(a, b)
        taken.append(now() - began)
    return 2 * n**3 / min(taken)


@torch.no_grad()
def forward_flops(unet: nn.Module, width: int, dtype: torch.dtype, columns: int = LATENT[-1]) -> int:
    """FLOP of one forward pass of one canvas, so many latents wide."""
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # a CPU's fused attention is not counted
        latents, text = torch.zeros(1, *LATENT[:-1], columns), torch.zeros(1, TOKENS, width)
        unet(latents.to(DEVICE, dtype), 1, text.to(DEVICE, dtype))
    return counter.get_total_flops()


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, each from memory to memory; views touch none, and products are left out."""

    PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "convolution"})

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not (func.is_view or name in self.PRODUCTS or name.startswith(("empty", "new_empty", "detach", "_unsafe_view"))):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


@torch.no_grad()
def forward_traffic(unet: nn.Module, width: int, dtype: torch.dtype, device: torch.device = DEVICE, columns: int = LATENT[-1]) -> int:
    """Bytes that norms, activations, sums and copies of one forward pass of one canvas move, unfused; products and attention left out."""
    latents, text = torch.zeros(1, *LATENT[:-1], columns), torch.zeros(1, TOKENS, width)
    attention = mock.patch.object(F, "scaled_dot_product_attention", lambda query, *_, **__: torch.empty_like(query))
    with attention, Traffic() as traffic:
        unet(latents.to(device, dtype), 1, text.to(device, dtype))
    return traffic.bytes


def memory_rate() -> float:
    """Bytes a second, read and written, of one large copy, the best of six."""
    source = torch.zeros(2**30 if DEVICE.type == "cuda" else 2**26, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    taken = []
    for _ in range(6):
        began = now()
        target.copy_(source)
        taken.append(now() - began)
    return 2 * source.numel() / min(taken)


def count(size: str) -> None:
    """Print what a pass of a random UNet takes in half precision, without running it."""
    meta = torch.device("meta")
    with meta:
        unet = random_unet(size).half().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(torch.zeros(1, *LATENT).half(), 1, torch.zeros(1, TOKENS, CONTEXT[size]).half())
    moved = forward_traffic(unet, CONTEXT[size], torch.half, meta)
    print(f"one forward pass of one canvas: {counter.get_total_flops() / 1e12:.3f} TFLOP; beside products {moved / 1e9:.2f} GB of memory")


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


@dataclass
class Figures:
    """What a way of sampling took, one number a round. `peak` is bytes, NaN where it cannot be read."""

    seconds: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    """Share of each round's time in which no UNet was running."""
    passes: int = 0
    peak: float = float("nan")
    latents: Tensor | None = None


def measure(ways: Mapping[str, Sampler], inside: Inside, noise: Tensor, repeats: int) -> dict[str, Figures]:
    """Every way in turns on the same noise, after a round that compiles, allocates and loads."""
    figures = {name: Figures() for name in ways}
    for round_ in range(repeats + 1):
        for name, sample in ways.items():
            way = figures[name]
            with peak_memory() as peak:
                began = now()
                way.latents = sample(noise).float().cpu()
                seconds = now() - began
            within, way.passes = inside.take()
            if round_ == 0:
                continue
            way.seconds.append(seconds)
            way.outside.append(1 - within / seconds)
            way.peak = max(peak[0], way.peak) if peak and round_ > 1 else next(iter(peak), float("nan"))
    return figures


def apart(latents: Tensor, reference: Tensor) -> float:
    """Relative difference."""
    return float((latents - reference).norm() / reference.norm())


def show(figures: Mapping[str, Figures], batch: int, steps: int, floor: float) -> None:
    """Print one line a way; ratios are to the first."""
    first = next(iter(figures.values()))
    for name, way in figures.items():
        assert way.latents is not None and first.latents is not None
        ratios = [plain / ours for plain, ours in zip(first.seconds, way.seconds, strict=True)]
        seconds = statistics.median(way.seconds)
        print(
            f"{name:21}{batch:6}{way.passes:8}{seconds / steps:10.4f}{seconds / batch:10.3f}{batch / seconds:10.3f}"
            f"{100 * statistics.median(way.outside):9.1f} %{way.peak / 2**20:9.0f} MiB{seconds / (floor * batch):9.2f}"
            f"   {spread(ratios):22}{apart(way.latents, first.latents):.1e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("embedded", *WIDTHS), default="embedded")
    parser.add_argument("--steps", type=int, default=20, help="a divisor of 1000, or ComfyUI takes one step more")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="also core and guider with compiled UNets")
    parser.add_argument("--channels-last", action="store_true", help="also core and guider with the UNets in that memory format")
    parser.add_argument("--count", action="store_true", help="only count what a pass takes; not of the embedded models")
    args = parser.parse_args()
    if args.count:
        return count(args.size)
    dtype = getattr(torch, args.dtype)

    comfyui = os.environ.get("COMFYUI_PATH")
    if comfyui:
        import_comfyui(comfyui, ["--use-pytorch-cross-attention", *([] if DEVICE.type == "cuda" else ["--cpu"])])
    with tempfile.TemporaryDirectory() as scratch:
        places = folders(args.size, Path(scratch), dtype)
        unets = [
            UNet2DConditionModel.from_pretrained(place, subfolder="unet", torch_dtype=dtype).to(DEVICE).eval().requires_grad_(False)
            for place in places
        ]
        width = unets[0].config["cross_attention_dim"]
        prompts = embeddings(width, dtype)
        modules: list[nn.Module] = [*unets]
        ways = {"plain loop": plain_loop(unets, prompts, args.steps)}
        variants = {"compiled": compiled} if args.compile else {}
        variants |= {"channels last": in_channels_last} if args.channels_last else {}

        def add(name: str, sample: Sampler, of: list[nn.Module]) -> None:
            ways[name] = sample
            ways.update({f"{name}, {variant}": changed(sample, of) for variant, changed in variants.items()})

        add("core", core(unets, prompts, args.steps), [*unets])
        if comfyui:
            pack = load_pack(Path(scratch))
            load_unet = importlib.import_module(pack.__name__ + ".bridge.unet_folder").load_unet
            models = [load_unet(place, {"dtype": dtype}) for place in places]
            comfyui_unets = [model.model.diffusion_model for model in models]
            modules += comfyui_unets
            node = importlib.import_module(pack.__name__ + ".bridge.guider")
            add("guider", guider(models, prompts, args.steps, node), comfyui_unets)

        rate = matrix_rate(dtype)
        image, audio = (forward_flops(unet, width, dtype) for unet in unets)
        joint_steps = sum(timestep <= START for timestep in STABLE_DIFFUSION.timesteps(args.steps))
        flops = 2 * (audio * args.steps + image * joint_steps)
        floor = flops / rate
        device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        print(f"{args.size}, {args.dtype}, {device}, torch {torch.__version__}, {args.steps} steps, {args.repeats} rounds")
        print(
            f"forward pass of one canvas: {image / 1e9:.1f} and {audio / 1e9:.1f} GFLOP; a sample: {flops / 1e12:.3f} TFLOP; "
            f"matrices: {rate / 1e12:.3f} TFLOP/s; floor: {floor:.3f} s a sample"
        )
        print(
            f"{'':21}{'batch':>6}{'passes':>8}{'s/step':>10}{'s/sample':>10}{'samples/s':>10}{'outside':>11}{'peak':>13}{'x floor':>9}   "
            f"{'plain loop over it':22}apart"
        )
        inside = Inside(modules)
        for batch in args.batch:
            noise = torch.randn(batch, *LATENT, generator=torch.Generator().manual_seed(0)).to(DEVICE, dtype)
            show(measure(ways, inside, noise, args.repeats), batch, args.steps, floor)


if __name__ == "__main__":
    main()
