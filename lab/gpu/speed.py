"""How fast, and how close to what the card's arithmetic allows: joint sampling at SD 1.5's size with random weights; sound and colour."""

from __future__ import annotations

import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from itsound_core.embedded import AUDIO_FOLDER
from itsound_core.griffin_lim import griffin_lim
from itsound_core.imprint import imprint_recording
from itsound_core.sampling import STABLE_DIFFUSION
from itsound_core.spectrogram import AUFFUSION, waveform_to_picture
from itsound_core.vocoder import load_vocoder
from lab.benchmarks import joint_sampling as benchmark
from lab.benchmarks.joint_sampling import DEVICE, SIDES, START, Inside, Sampler, apart, measure, now

from .comfyui import Pack
from .correctness import Runner, tf32
from .records import FAILED, HELD, MEASURED, SKIPPED, Record
from .scale import Scale

JOINT = "joint sampling, random UNets"
AIM_OVER_FLOOR, AIM_OVER_PLAIN, AIM_READS = 1.5, 1.3, 1
MOST_ROUNDS = 9
Left = Callable[[], float]
"""Seconds until the run should end."""


class Bench:
    """Two random UNets as diffusers' and as ComfyUI's modules, and the ways of sampling with them."""

    def __init__(self, pack: Pack, scale: Scale, scratch: Path):
        self.scale = scale
        self.dtype = torch.float16 if DEVICE.type == "cuda" else torch.float32
        folders = benchmark.folders(scale.unet, scratch, self.dtype)
        unets = [
            UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=self.dtype).to(DEVICE).eval().requires_grad_(False)
            for folder in folders
        ]
        self.width = unets[0].config["cross_attention_dim"]
        prompts, steps = benchmark.embeddings(self.width, self.dtype), scale.timed_steps
        load_unet, guider = (pack.module(f"bridge.{name}") for name in ("unet_folder", "guider"))
        self.models = [load_unet.load_unet(folder, {"dtype": self.dtype}) for folder in folders]
        self.unet, self.native = unets[0], [model.model.diffusion_model for model in self.models]
        self.joint = lambda steps: benchmark.guider(self.models, prompts, steps, guider)
        self.alone = lambda steps: core_guiders(self.models, prompts, steps)
        self.ways: dict[str, Sampler] = {
            "plain loop": benchmark.plain_loop([*unets], prompts, steps),
            "core's CFGGuider, each model alone": self.alone(steps),
            "joint guider": self.joint(steps),
        }
        self.compiled = benchmark.compiled(self.joint(steps), self.native)
        self.channels_last = benchmark.in_channels_last(benchmark.compiled(self.joint(steps), self.native), self.native)
        self.inside = Inside([*unets, *self.native])
        self.compiling, self.compile_seconds = "not in this process", 0.0
        """What kept it from compiling, or nothing; what compiling took."""
        self.floor = float("nan")
        """Seconds of a run's arithmetic for one canvas at the card's measured rate."""
        self.unfused = float("nan")
        """The same with what moves through memory beside products, at the measured rate: the floor of what fuses nothing."""

    def noise(self, batch: int) -> Tensor:
        shape = (batch, 4, 32, self.scale.columns)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(DEVICE, self.dtype)


def core_guiders(models: list, prompts: dict[str, tuple[Tensor, Tensor]], steps: int) -> Sampler:
    """ComfyUI's own CFGGuider under its ddim, one model after the other over the steps at which each takes part; the last one's latents."""
    import comfy.samplers  # pyright: ignore[reportMissingImports]

    @torch.inference_mode()
    def sample(latents: Tensor) -> Tensor:
        for side, model in zip(SIDES, models, strict=True):
            levels = model.get_model_object("model_sampling")
            sigmas = comfy.samplers.calculate_sigmas(levels, "ddim_uniform", steps)
            if side == "image":
                sigmas = sigmas[sigmas <= float(levels.percent_to_sigma(1 - START / 999)) * 1.00001]
            guider = comfy.samplers.CFGGuider(model)
            guider.set_conds(*([[text.cpu().float(), {}]] for text in prompts[side]))
            guider.set_cfg(benchmark.GUIDANCE)
            noise = latents.cpu().float()
            sampled = guider.sample(
                noise, torch.zeros_like(noise), comfy.samplers.sampler_object("ddim"), sigmas, disable_pbar=True, seed=0
            )
        return sampled

    return sample


def prepare(pack: Pack, scale: Scale, scratch: Path, with_compiled: bool) -> Bench:
    """The bench, with models loaded and compiled for the first batch: while others may use the card too."""
    bench = Bench(pack, scale, scratch)
    if with_compiled:
        began = now()
        try:
            bench.compiled(bench.noise(scale.batches[0]))
            bench.compiling = ""
        except Exception as error:  # no C compiler, say: the rest goes on  # noqa: BLE001
            bench.compiling = f"{type(error).__name__}: {error}"
        bench.compile_seconds = now() - began
    return bench


def joint_sampling(bench: Bench, left: Left) -> Iterator[Record]:
    """One record a way and batch, the batches of the scale in turn as long as there is time."""
    rate = benchmark.matrix_rate(bench.dtype)
    flops = benchmark.forward_flops(bench.unet, bench.width, bench.dtype, bench.scale.columns)
    steps = bench.scale.timed_steps
    joint_steps = sum(timestep <= START for timestep in STABLE_DIFFUSION.timesteps(steps))
    memory = benchmark.memory_rate()
    moved = benchmark.forward_traffic(bench.unet, bench.width, bench.dtype, columns=bench.scale.columns)
    passes = 2 * (steps + joint_steps)
    bench.floor = passes * flops / rate
    bench.unfused = bench.floor + passes * moved / memory
    values = {"matrices, TFLOP/s": rate / 1e12, "forward pass, TFLOP": flops / 1e12, "passes in a step": passes / steps}
    values |= {"memory, TB/s": memory / 1e12, "moved beside products in a pass, GB": moved / 1e9}
    yield Record("ceilings", "counted and measured", MEASURED, values | {"dtype": str(bench.dtype), "tf32": tf32()})
    if bench.compiling:
        yield Record(JOINT, "joint guider, compiled", SKIPPED, {}, bench.compiling)
    took = 0.0
    for number, batch in enumerate(bench.scale.batches):
        if left() < 1.3 * took:
            yield Record(JOINT, f"batch {batch}", SKIPPED, {}, f"{left():.0f} s left, about {took:.0f} needed")
            continue
        with_compiled = not bench.compiling and number == 0
        began = time.perf_counter()
        yield from _rows(bench, bench.ways | ({"joint guider, compiled": bench.compiled} if with_compiled else {}), batch)
        took = time.perf_counter() - began  # the batches after it are smaller


def other_batches_compiled(bench: Bench, left: Left) -> Iterator[Record]:
    """Each shape is compiled anew."""
    for batch in bench.scale.batches[1:]:
        if bench.compiling or left() < 1.2 * bench.compile_seconds:
            yield Record(JOINT, f"joint guider, compiled, batch {batch}", SKIPPED, {}, bench.compiling or f"{left():.0f} s left")
        else:
            yield from _rows(bench, {"plain loop": bench.ways["plain loop"], "joint guider, compiled": bench.compiled}, batch)


def compiled_in_channels_last(bench: Bench, left: Left) -> Iterator[Record]:
    """The first batch once more, in the memory format that the card's convolutions work in (ComfyUI's --force-channels-last)."""
    name = "joint guider, compiled, channels last"
    if bench.compiling or left() < 1.3 * bench.compile_seconds:
        yield Record(JOINT, name, SKIPPED, {}, bench.compiling or f"{left():.0f} s left")
    else:
        yield from _rows(bench, {"plain loop": bench.ways["plain loop"], name: bench.channels_last}, bench.scale.batches[0])


def _rows(bench: Bench, ways: dict[str, Sampler], batch: int) -> Iterator[Record]:
    # Small batches wait for the host, whose times scatter; and they cost little.
    repeats = min(MOST_ROUNDS, bench.scale.repeats * max(bench.scale.batches) // batch)
    figures = measure(ways, bench.inside, bench.noise(batch), max(repeats, bench.scale.repeats))
    plain = figures["plain loop"]
    for name, way in figures.items():
        seconds = statistics.median(way.seconds)
        over_plain = sorted(a / b for a, b in zip(plain.seconds, way.seconds, strict=True))
        values: dict[str, Any] = {
            "batch": batch,
            "s a step": seconds / bench.scale.timed_steps,
            "plain loop over it": statistics.median(over_plain),
            "range": f"{over_plain[0]:.2f} to {over_plain[-1]:.2f}",
            "times the floor": seconds / (bench.floor * batch),
            "times the unfused floor": seconds / (bench.unfused * batch),
            "outside the UNets": statistics.median(way.outside),
            "memory, MiB": way.peak / 2**20,
            "rounds, s": " ".join(f"{round_:.3g}" for round_ in way.seconds),
        }
        assert way.latents is not None and plain.latents is not None
        if "joint" in name:
            values["apart from the plain loop"] = apart(way.latents, plain.latents)
        state = MEASURED
        if DEVICE.type == "cuda" and name.startswith("joint guider, compiled"):
            reached = values["plain loop over it"] >= AIM_OVER_PLAIN and (batch < 16 or values["times the floor"] <= AIM_OVER_FLOOR)
            state = HELD if reached else FAILED
        yield Record(JOINT, f"{name}, batch {batch}", state, values, "" if state != FAILED else "slower than the aim")


# Waiting for the card ----------------------------------------------------------------------------------------------------------------


def reads_and_kernels(bench: Bench, left: Left) -> Iterator[Record]:
    """How often the host waits for the card in a step, and how many kernels a step starts, above those of each model alone."""
    if DEVICE.type != "cuda":
        yield Record("a step", "host reads and kernels", SKIPPED, {}, "there is no card")
        return
    counts: dict[str, tuple[float, float]] = {}
    lengths = (5, 10)  # their difference has no beginning and no end in it
    for name, way in (("joint", bench.joint), ("alone", bench.alone)):
        seen = [_counted(way(steps), bench.noise(1)) for steps in lengths]
        counts[name] = tuple((after - before) / (lengths[1] - lengths[0]) for before, after in zip(*seen, strict=True))  # pyright: ignore[reportArgumentType]
    (reads, kernels), (reads_alone, kernels_alone) = counts["joint"], counts["alone"]
    values = {"host reads": reads, "of both models alone": reads_alone, "kernels": kernels, "of both models alone, kernels": kernels_alone}
    held = reads <= AIM_READS + reads_alone / 2 and kernels <= kernels_alone + 10
    yield Record("a step", "host reads and kernels", HELD if held else FAILED, values)


def _counted(sample: Sampler, noise: Tensor) -> tuple[int, int]:
    """Synchronising calls and kernels of one run, after one that warms up."""
    sample(noise)
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            sample(noise)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    reads = sum("synchronizing" in str(warning.message) for warning in caught)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        sample(noise)
        torch.cuda.synchronize()
    kernels = sum(
        event.device_type == torch.autograd.DeviceType.CUDA and not event.name.startswith("Mem") for event in profile.events() or ()
    )
    return reads, kernels


# Sound and colour --------------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def sound_and_colour(pack: Pack, scale: Scale) -> Iterator[Record]:
    """Each on the card and on the CPU: seconds, and how far apart what comes out is."""
    generator = torch.Generator().manual_seed(3)
    frames = AUFFUSION.frames(scale.seconds)
    mel = torch.rand(1, AUFFUSION.n_mels, frames, generator=generator) ** 4 * 20
    vocoder = load_vocoder(AUDIO_FOLDER / "vocoder")
    recording = torch.randn(2, int(44100 * scale.recording), generator=generator) * 0.1
    picture = torch.rand(256, frames, generator=generator)
    work: dict[str, Callable[[torch.device], Tensor]] = {
        "Griffin-Lim": lambda device: waveform_to_picture(griffin_lim(mel.to(device), iterations=scale.iterations)),
        "vocoder": lambda device: vocoder.to(device)(mel.clamp(min=1e-5).log().to(device)),
        "imprint": lambda device: imprint_recording(picture[None].to(device), recording.to(device), 44100),
    }
    for name, run in work.items():
        yield _on_both(name, run)
    runner = Runner(pack, scale)
    runner.load()
    seconds = []
    for _ in range(2):
        began = now()
        runner.values(
            "FactorizedColorize",
            spectrogram=picture[None, :, :, None].expand(-1, -1, -1, 3),
            model=runner.got["color_model"],
            positive=runner.got["color_positive"],
            negative=runner.got["color_negative"],
            vae=None,
            steps=30 if scale.unet == "full" else 3,
            start_step=1,
        )
        seconds.append(now() - began)
    yield Record("sound and colour", "colour, embedded model", MEASURED, {"s on the card": seconds[-1], "the first time": seconds[0]})


def _on_both(name: str, run: Callable[[torch.device], Tensor]) -> Record:
    cpu = torch.device("cpu")
    taken: dict[str, list[float]] = {}
    results: dict[str, Tensor] = {}
    try:
        for device in dict.fromkeys((DEVICE, cpu)):
            moments = [now()]
            for _ in range(2 if device == cpu else 4):
                result = run(device)
                moments.append(now())
            taken[device.type] = [after - before for before, after in pairwise(moments)][1:]
            results[device.type] = result.float().cpu()
    except Exception:  # noqa: BLE001
        return Record("sound and colour", name, FAILED, {}, traceback.format_exc(limit=-5))
    values: dict[str, Any] = {"s on the card": min(taken[DEVICE.type]), "s on the CPU": min(taken["cpu"])}
    values["CPU over card"] = values["s on the CPU"] / values["s on the card"]
    values["apart"] = apart(results[DEVICE.type], results["cpu"])
    finite = bool(results[DEVICE.type].isfinite().all())
    return Record("sound and colour", name, MEASURED if finite else FAILED, values)
