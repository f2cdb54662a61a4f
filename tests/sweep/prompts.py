"""Prompts over every node that works for long, as small or as long as is wanted, for a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from PIL import Image

Prompt = dict[str, dict[str, Any]]
PREFIX = "sweep/{name}"
MODELS = {"image_model_name": "embedded", "audio_model_name": "embedded", "weight_dtype": "default"}
SAMPLER = {"sampler_name": "ddim", "scheduler": "ddim_uniform"}
GUIDANCE = {"image_cfg": 10.0, "audio_cfg": 10.0, "t_image": 0.9, "t_audio": 1.0, "audio_weight": 0.5}
CHECKPOINT = "sweep"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def joint(seed: int) -> tuple[Prompt, dict[str, Any]]:
    """Loader, vocoder and texts, and what a joint guider or sampler is given of them."""
    prompt = {"L": node("LoadDualUNets", **MODELS), "W": node("LoadVocoder", vocoder_name="embedded")}
    texts = {
        "image_positive": (f"a castle, {seed}", 1),
        "image_negative": ("", 1),
        "audio_positive": ("bell", 3),
        "audio_negative": ("", 3),
    }
    prompt |= {name: node("CLIPTextEncode", text=text, clip=["L", output]) for name, (text, output) in texts.items()}
    return prompt, {"image_model": ["L", 0], "audio_model": ["L", 2]} | {name: [name, 0] for name in texts} | GUIDANCE


def canvas(seconds: float) -> dict[str, Any]:
    return node("EmptySpectrogramLatent", seconds=seconds, batch_size=1, view="none")


def saved(name: str, image: list[Any], audio: list[Any]) -> dict[str, Any]:
    return node("SaveImageThatSounds", image=image, audio=audio, filename_prefix=PREFIX.format(name=name))


def ksampler(seed: int, size: int) -> Prompt:
    prompt, given = joint(seed)
    sampler = node("MultimodalKSampler", **given, latent_image=["E", 0], seed=seed, steps=2 + 4 * size, denoise=1.0, **SAMPLER)
    return prompt | {
        "E": canvas(1.28),
        "K": sampler,
        "D": node("VAEDecode", samples=["K", 0], vae=["L", 4]),
        "A": node("SpectrogramToAudio", spectrogram=["D", 0], vocoder=["W", 0]),
        "O": saved("ksampler", ["D", 0], ["A", 0]),
        "P": node("PlayImage", image=["D", 0], audio=["A", 0]),
    }


def guider(seed: int, size: int) -> Prompt:
    """A guider with a third expert under core's sampler."""
    prompt, given = joint(seed)
    more = node(
        "AddExpert",
        guider=["G", 0],
        model=["L", 0],
        positive=["audio_positive", 0],
        negative=["image_negative", 0],
        cfg=3.0,
        t=0.9,
        weight=0.2,
    )
    return prompt | {
        "G": node("MultimodalGuider", **given),
        "H": more,
        "E": canvas(0.64),
        "N": node("RandomNoise", noise_seed=seed),
        "S": node("KSamplerSelect", sampler_name="euler"),
        "Z": node("BasicScheduler", model=["L", 0], scheduler="normal", steps=2 + 5 * size, denoise=1.0),
        "K": node("SamplerCustomAdvanced", noise=["N", 0], guider=["H", 0], sampler=["S", 0], sigmas=["Z", 0], latent_image=["E", 0]),
        "D": node("VAEDecode", samples=["K", 0], vae=["L", 4]),
        "A": node("SpectrogramToAudio", spectrogram=["D", 0], iterations=8),
        "T": node("TrimCanvas", spectrogram=["D", 0], audio=["A", 0], columns=8),
        "R": node("RenormalizeSpectrogram", spectrogram=["T", 0], colormap="magma"),
        "O": saved("guider", ["R", 0], ["T", 1]),
    }


def search(seed: int, size: int) -> Prompt:
    prompt, given = joint(seed)
    found = {"seed": seed, "candidates": 1 + size, "keepers": 1, "budget": float(1 + size), "steps": 3, **SAMPLER}
    found |= {"image_prompt": f"a castle, {seed}", "audio_prompt": "bell", "latent_image": ["E", 0], "vocoder": ["W", 0]}
    return prompt | {
        "G": node("MultimodalGuider", **given),
        "E": canvas(0.64),
        "S": node("LoadScorers", picture_scorer_name="embedded", sound_scorer_name="embedded"),
        "K": node("KeeperSearch", guider=["G", 0], vae=["L", 4], scorer=["S", 0], **found),
        "O": saved("search", ["K", 1], ["K", 2]),
    }


def sds(seed: int, size: int, checkpoint: str = "") -> Prompt:
    prompt, given = joint(seed)
    models = {
        name: given[name] for name in ("audio_model", "audio_positive", "audio_negative", "image_model", "image_positive", "image_negative")
    }
    run = {"iterations": 2 + 4 * size, "warm_start": 1, "lambda_sds": 0.4, "image_cfg": 60.0, "audio_cfg": 10.0, "crops": 1}
    run |= {"learning_rate": 0.02, "seed": seed, "checkpoint_name": checkpoint, "seconds": 1.28, "hidden": 16, "canvas": "latents"}
    return prompt | {
        "K": node("SDSBaseline", vae=["L", 4], **models, **run),
        "A": node("SpectrogramToAudio", spectrogram=["K", 0], vocoder=["W", 0]),
        "O": saved("sds", ["K", 0], ["A", 0]),
    }


def kept_sds(seed: int, size: int) -> Prompt:
    return sds(seed, size, f"{CHECKPOINT}-{seed}-{size}")


def colour(seed: int, size: int) -> Prompt:
    return {
        "I": node("EmptyImage", width=64, height=256, batch_size=1, color=0x808080 + seed % 100),
        "M": node("LoadColorModel", color_model_name="embedded"),
        "C": node("CLIPTextEncode", text=f"a castle, {seed}", clip=["M", 1]),
        "N": node("CLIPTextEncode", text="", clip=["M", 1]),
        "K": node(
            "FactorizedColorize", spectrogram=["I", 0], model=["M", 0], positive=["C", 0], negative=["N", 0],
            seed=seed, steps=3 + 4 * size, cfg=3.0, start_step=1, **SAMPLER,
        ),
        "O": node("SaveImage", images=["K", 0], filename_prefix=PREFIX.format(name="colour")),
    }  # fmt: skip


def recording(seconds: float) -> Prompt:
    """A recording, twice the one that comes with the templates, cut."""
    trimmed = node("TrimAudioDuration", audio=["B", 0], start_index=0.0, duration=seconds)
    prompt = {"B0": node("LoadAudio", audio="rain.ogg"), "B": node("AudioConcat", audio1=["B0", 0], audio2=["B0", 0], direction="after")}
    return prompt | {"R": trimmed}


def song(seed: int, size: int) -> Prompt:
    """A picture in a recording, seen and heard again."""
    return recording(1.0 + 2 * size) | {
        "I": node("LoadImage", image="rocket.jpg"),
        "K": node(
            "ImprintRecording", image=["I", 0], audio=["R", 0], rho=0.3 + seed % 7 / 10, start=0.0, seconds=0.0, low_hz=0.0,
            high_hz=8000.0, fit="cover", invert=False,
        ),
        "O": saved("song", ["K", 1], ["K", 0]),
    }  # fmt: skip


def spectrogram(seed: int, size: int) -> Prompt:
    """A recording's spectrogram made sound again, by Griffin-Lim and by the vocoder, and both compared."""
    return recording(0.5 + seed % 7 / 50 + size) | {
        "S": node("AudioToSpectrogram", audio=["R", 0], seconds=0.0),
        "K": node("SpectrogramToAudio", spectrogram=["S", 0], iterations=4 + 8 * size),
        "W": node("LoadVocoder", vocoder_name="embedded"),
        "V": node("SpectrogramToAudio", spectrogram=["S", 0], vocoder=["W", 0]),
        "C": node("CycleConsistency", spectrogram=["S", 0], audio=["K", 0]),
        "O": saved("spectrogram", ["S", 0], ["V", 0]),
        "O2": saved("cycle", ["C", 0], ["K", 0]),
    }


def video(seed: int, size: int) -> Prompt:
    prompts = {"image_prompt": f"castle {seed}", "audio_prompt": "bell"}
    return recording(0.5 + size) | {
        "I": node("LoadImage", image="chelsea.png"),
        "K": node("PlayheadVideo", image=["I", 0], audio=["R", 0], fps=10.0, **prompts),
        "O": node("SaveVideo", video=["K", 0], filename_prefix=PREFIX.format(name="video"), format="auto", codec="auto"),
    }


def examples(seed: int, size: int) -> Prompt:
    """A photo as model, in core's sampler."""
    return {
        "L": node("LoadDualUNets", **MODELS),
        "I": node("LoadImage", image="lighthouse.png"),
        "J": node("ImageScale", image=["I", 0], upscale_method="bilinear", width=256, height=256, crop="center"),
        "M": node("ExamplesAsModel", examples=["J", 0], vae=["L", 4], coherence=0.3, sizes="1", mirror=False),
        "E": canvas(1.28),
        "K": node(
            "KSampler", model=["M", 0], positive=["M", 1], negative=["M", 1], latent_image=["E", 0], seed=seed, steps=2 + 8 * size,
            cfg=1.0, denoise=1.0, **SAMPLER,
        ),
        "D": node("VAEDecode", samples=["K", 0], vae=["L", 4]),
        "O": node("SaveImage", images=["D", 0], filename_prefix=PREFIX.format(name="examples")),
    }  # fmt: skip


def scores(seed: int, size: int) -> Prompt:
    return recording(0.5 + size / 4) | {
        "S": node("LoadScorers", picture_scorer_name="embedded", sound_scorer_name="embedded"),
        "I": node("LoadImage", image="chelsea.png"),
        "J": node("RepeatImageBatch", image=["I", 0], amount=2 + 2 * size),
        "T": node("ScoreImageAndSound", scorer=["S", 0], images=["J", 0], audio=["R", 0], image_prompt=f"cat, {seed}", audio_prompt="rain"),
        "K": node("KeepBest", scores=["T", 0], count=1, rule="rank product", images=["J", 0]),
        "O": node("SaveImage", images=["K", 0], filename_prefix=PREFIX.format(name="scores")),
    }


def mistake(seed: int, size: int) -> Prompt:
    """What a node refuses: a picture of other rows than a spectrogram's."""
    image = node("EmptyImage", width=64, height=100 + seed % 50, batch_size=1, color=0)
    return {"I": image, "K": node("SpectrogramToAudio", spectrogram=["I", 0], iterations=2), "O": saved("mistake", ["I", 0], ["K", 0])}


def other() -> Prompt:
    """After which ComfyUI keeps nothing of what ran before."""
    image = node("EmptyImage", width=8, height=8, batch_size=1, color=0)
    return {"I": image, "O": node("SaveImage", images=["I", 0], filename_prefix="other")}


MAKERS: dict[str, Callable[[int, int], Prompt]] = {
    function.__name__: function
    for function in (ksampler, guider, search, sds, kept_sds, colour, song, spectrogram, video, examples, scores)
}
"""By name, of a seed and a size: 0 is done in a second or two, and time grows with the size."""
REFUSED = "mistake"


def digest(path: Path) -> str:
    """Of what a file shows and sounds like, without its metadata."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            parts = [np.asarray(picture).tobytes()]
    elif path.suffix == ".flac":
        parts = [soundfile.read(path, dtype="int32")[0].tobytes()]
    else:
        with av.open(path) as film:
            parts = [bytes(packet) for packet in film.demux() if packet.size]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
