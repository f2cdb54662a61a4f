"""Picture-text and sound-text scorers: CLIP and CLAP in transformers' own classes, a hundredth of the size.

    python -m lab.train.train_scorers --side image --data data
    python -m lab.train.train_scorers --side audio --data data

Trained on the generators' training splits (`data/pictures`, `data/sounds`), never on `heldout`. Writes models/embedded-clip or
models/embedded-clap, which `CLIPModel` and `CLIPProcessor`, or `ClapModel` and `ClapProcessor`, load as they load the published models.
Inputs are computed once into data/scorers; training resumes from its checkpoint there. Some minutes and a quarter of an hour on one core.

The loss is CLIP's in both directions, with every item and prompt of one class a match. What is of no class (a spectrogram shown as a
picture, a drawing played as a sound, noise) matches the empty prompt, so it scores low with all others.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    RobertaTokenizer,
)

from itsound_core.griffin_lim import griffin_lim
from itsound_core.resampling import resample
from itsound_core.spectrogram import AUFFUSION, normalize_peak, picture_to_mel

from .muon import Muon
from .prompts import SUBJECTS, draw_prompt, words
from .train_text import byte_pair_merges, write_tokenizer
from .train_vocoder import REPOSITORY

FOLDERS = {"image": REPOSITORY / "models" / "embedded-clip", "audio": REPOSITORY / "models" / "embedded-clap"}
TEXT_LENGTH = 77
WIDTH = 128  # of the text towers and of the shared space
SIDE = 64  # pixels of a square crop, as CLIP sees it
COLUMNS = 992  # of a canvas that are scored: 9.92 s (METHOD.md, "Decoding")
RATE = 48000  # of the sound that CLAP takes
FRAMES = 248  # of CLAP's log-mel that hold 9.92 s; the rest of its ten seconds is padding
SILENCE = -100.0  # dB, the floor of ClapFeatureExtractor's log-mel
CLIPS = 120  # training sounds of each class
ROUND_TRIPS = 4  # of each class, how many are there once more through Griffin-Lim; and how many training canvases of each class
PER_CLASS = 4  # items of each class in a batch; twice as many of none
NOISE = 3  # of the latter, how many are noise, the last of them silence
LEARNING_RATE = 3e-3
STEPS = {"image": 1500, "audio": 600}  # what ships had fewer: see the model cards


# --- Models and processors ---------------------------------------------------------------------------------------------------------


def text_tower(tokens: int) -> dict[str, int]:
    """What CLIP's and CLAP's text encoders have in common."""
    return {
        "vocab_size": tokens,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }


def build_clip(tokens: int) -> CLIPModel:
    """ViT on 64 x 64 pixels in patches of 8, and a causal text encoder that is read at the end token, the last of `tokens`."""
    text = {
        **text_tower(tokens),
        "max_position_embeddings": TEXT_LENGTH,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
        "pad_token_id": tokens - 1,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 8,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))
    start_local(model)
    return model


@torch.no_grad()
def start_local(model: CLIPModel) -> None:
    """Let the vision tower begin by attending to what is near and alike: sines for positions, and keys that equal the queries.

    After "Mimetic initialization of self-attention layers" (Trockman, Kolter, ICML 2023): a small ViT need not learn that from little data.
    """
    vision = model.vision_model
    side = SIDE // model.config.vision_config.patch_size
    phases = torch.arange(side)[:, None] * torch.logspace(0.2, -1, WIDTH // 4)
    waves = torch.cat([phases.sin(), phases.cos()], dim=1)
    grid = torch.cat([waves[:, None].expand(side, side, -1), waves[None].expand(side, side, -1)], dim=2)
    vision.embeddings.position_embedding.weight[1:] = 0.3 * grid.flatten(0, 1)
    for layer in vision.encoder.layers:
        torch.nn.init.normal_(layer.self_attn.q_proj.weight, std=0.8 * WIDTH**-0.5)
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)


def build_clap(tokens: int) -> ClapModel:
    """HTSAT on 64 mels x 256 frames, folded to 128 x 128 and cut in patches of 8, and a RoBERTa of two layers."""
    # RoBERTa counts positions from the padding token's id plus one.
    text = {**text_tower(tokens), "max_position_embeddings": TEXT_LENGTH + 2}
    audio = {
        "num_mel_bins": 64,
        "spec_size": 128,
        "patch_size": 8,
        "patch_stride": [8, 8],
        "window_size": 4,
        "patch_embeds_hidden_size": 48,
        "depths": [2, 2, 1],
        "num_attention_heads": [2, 4, 8],
        "hidden_size": 192,
        "num_hidden_layers": 3,
    }
    return ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=WIDTH))


def build_image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def build_feature_extractor() -> ClapFeatureExtractor:
    """Log-mel of 64 bands to 8 kHz, 40 ms a frame; nothing is random up to ten seconds."""
    return ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=RATE,
        hop_length=1920,
        fft_window_size=4096,
        frequency_min=50,
        frequency_max=8000,
        truncation="rand_trunc",
        padding="pad",
    )


def write_roberta_tokenizer(vocabulary: list[str], folder: Path) -> None:
    """RoBERTa's byte-level BPE with merges that make every word of `vocabulary`, small or capitalised, one token."""
    cased = sorted({*vocabulary, *(word.capitalize() for word in vocabulary)})
    merges = byte_pair_merges([["Ġ", *word] for word in cased])  # the byte-level letter for a space begins each word
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(dict.fromkeys(tokens))}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    config = {"tokenizer_class": "RobertaTokenizer", "model_max_length": TEXT_LENGTH, "add_prefix_space": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "words.json").write_text(json.dumps(vocabulary, indent=0) + "\n")


def write_processor(side: str, folder: Path) -> CLIPProcessor | ClapProcessor:
    """Tokenizer and preprocessor configuration, written to `folder` and loaded from there.

    A tokenizer of the same words is kept: weights go with its order of merges, and that of the shipped ones was drawn by chance.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "words.json"
    if not known.exists() or json.loads(known.read_text()) != words(side):
        (write_tokenizer if side == "image" else write_roberta_tokenizer)(words(side), folder)
    if side == "image":
        build_image_processor().save_pretrained(folder)
        return CLIPProcessor(CLIPImageProcessor.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder))
    build_feature_extractor().save_pretrained(folder)
    return ClapProcessor(ClapFeatureExtractor.from_pretrained(folder), RobertaTokenizer.from_pretrained(folder))


# --- Training inputs ---------------------------------------------------------------------------------------------------------------


def classes_of(manifest: Path) -> list[str]:
    return [entry["class"] for entry in json.loads(manifest.read_text())]


def cached(target: Path, *sources: Path) -> bool:
    """Whether `target` is younger than all it is made from."""
    return target.exists() and all(target.stat().st_mtime > source.stat().st_mtime for source in sources)


def small_canvases(data: Path, name: str) -> Tensor:
    """Training canvases (N, 64, 256), 0..1, at the scale at which CLIP sees square crops of them."""
    source, target = data / name / "train.npy", data / "scorers" / f"{name}.npy"
    if not cached(target, source):
        canvases = np.load(source, mmap_mode="r")
        small = np.empty((len(canvases), SIDE, canvases.shape[2] * SIDE // canvases.shape[1]), np.uint8)
        for start in range(0, len(canvases), 100):
            part = torch.from_numpy(canvases[start : start + 100].astype(np.float32))[:, None]
            resized = F.interpolate(part, small.shape[1:], mode="bicubic", antialias=True)
            small[start : start + 100] = resized[:, 0].clamp(0, 255).round().numpy()
        np.save(target, small)
    return torch.from_numpy(np.load(target)).float() / 255


def scored_waveform(waveform: Tensor) -> Tensor:
    """What CLAP hears of a waveform (B, T) at 16 kHz: 9.92 s at 48 kHz, peak normalised (METHOD.md, "Evaluation")."""
    return resample(normalize_peak(waveform[:, : COLUMNS * AUFFUSION.hop_length]), AUFFUSION.sample_rate, RATE)


def log_mels(extractor: ClapFeatureExtractor, waveform: Tensor) -> np.ndarray:
    """(B, frames, mels) in dB."""
    heard = list(scored_waveform(waveform).numpy())
    return np.concatenate(extractor(heard, sampling_rate=RATE, return_tensors="np")["input_features"])


def played(pictures: np.ndarray, iterations: int = 48) -> Tensor:
    """Waveforms of uint8 pictures (B, 256, 1024) by Griffin-Lim."""
    return griffin_lim(picture_to_mel(torch.from_numpy(pictures.astype(np.float32)) / 255), iterations=iterations)


def training_sounds(data: Path) -> tuple[Tensor, Tensor]:
    """Log-mels (N, frames, mels) in dB, and the class index of each, that of no class being the last.

    The training clips, some of them once more through Griffin-Lim, and training canvases played as sounds, which are of no class.
    """
    sources = [data / "sounds" / "train_waves.npy", data / "pictures" / "train.npy"]
    manifest, target = data / "sounds" / "train.json", data / "scorers" / "sounds-heard.npy"
    labels = list(SUBJECTS["audio"])
    once, again = CLIPS * len(labels), ROUND_TRIPS * len(labels)
    if not cached(target, *sources):
        extractor = build_feature_extractor()
        waves, pictures = (np.load(source, mmap_mode="r") for source in sources)
        spectrograms = np.load(data / "sounds" / "train.npy", mmap_mode="r")
        heard = [log_mels(extractor, torch.from_numpy(waves[i : i + 10].astype(np.float32) / 32767)) for i in range(0, once, 10)]
        for shown in (spectrograms, pictures):  # by a short Griffin-Lim: its errors are to be part of what is learned
            heard += [log_mels(extractor, played(shown[i : i + 4], iterations=8)) for i in range(0, again, 4)]
        np.save(target, np.concatenate(heard).astype(np.float16))
    indices = [labels.index(name) for name in classes_of(manifest)]
    return torch.from_numpy(np.load(target)).float(), torch.tensor(indices[:once] + indices[:again] + [len(labels)] * again)


def between(low: float, high: float, count: int) -> Tensor:
    return low + (high - low) * torch.rand(count)


def at_times(share: float, low: float, high: float, count: int, otherwise: float = 0.0) -> Tensor:
    """(count, 1, 1): for a share of the items a value between low and high, `otherwise` for the rest."""
    return torch.where(torch.rand(count) < share, between(low, high, count), otherwise)[:, None, None]


def rolled(items: Tensor) -> Tensor:
    """Items (B, T, ...), each rolled along T by a random shift."""
    positions = (torch.arange(items.shape[1]) + torch.randint(items.shape[1], (len(items), 1))) % items.shape[1]
    return items[torch.arange(len(items))[:, None], positions]


def random_rows(items: Tensor, count: int) -> Tensor:
    return items[torch.randint(len(items), (count,))]


def smooth_noise(count: int, height: int, width: int) -> Tensor:
    """(count, height, width) in 0..1, of one random coarseness."""
    cells = 2 ** int(torch.randint(1, 7, ()))
    return F.interpolate(torch.rand(count, 1, cells, cells), (height, width), mode="bilinear")[:, 0]


class Pictures:
    """Square crops of the training canvases with their class, and of what is no picture of a class."""

    def __init__(self, data: Path) -> None:
        canvases = small_canvases(data, "pictures")
        self.spectrograms = small_canvases(data, "sounds")
        names = np.array(classes_of(data / "pictures" / "train.json"))
        self.classes = [canvases[torch.from_numpy(names == label)] for label in SUBJECTS["image"]]

    def draw(self) -> tuple[dict[str, Tensor], Tensor]:
        """CLIP's pixel_values (B, 3, 64, 64) and the class indices (B,); an index past the last class is of no class."""
        wide = [random_rows(canvases, PER_CLASS) for canvases in self.classes] + [random_rows(self.spectrograms, 2 * PER_CLASS)]
        labels = torch.arange(len(wide)).repeat_interleave(torch.tensor([len(items) for items in wide]))
        shown = augmented_crops(torch.cat(wide))
        shown[-NOISE:] = smooth_noise(NOISE, SIDE, SIDE)
        shown[-1] = 0
        return {"pixel_values": (self._altered(shown) * 2 - 1)[:, None].expand(-1, 3, -1, -1)}, labels

    def _altered(self, shown: Tensor) -> Tensor:
        """Levels, blur and noise; and a spectrogram's texture, since a picture that sounds is drawn with one."""
        count = len(shown)
        texture = augmented_crops(random_rows(self.spectrograms, count))
        texture = texture / texture.amax(dim=(1, 2), keepdim=True).clamp(min=0.1)
        shown = shown * (1 - at_times(0.5, 0.1, 0.8, count) * (1 - texture))
        shown = torch.maximum(shown, at_times(0.3, 0.1, 0.5, count) * texture)
        shown = shown.lerp(F.avg_pool2d(shown[:, None], 3, 1, 1)[:, 0], at_times(0.3, 0.3, 1.5, count))
        shown = shown.clamp(0, 1) ** at_times(0.5, 0.5, 2.0, count, otherwise=1.0)
        shown = shown * at_times(0.5, 0.4, 1.0, count, otherwise=1.0) + at_times(0.2, 0.0, 0.3, count)
        shown = (shown - at_times(0.05, 1.0, 1.0, count)).abs()  # inverted
        return (shown + at_times(0.3, 0.02, 0.2, count) * torch.randn(shown.shape)).clamp(0, 1)


def augmented_crops(wide: Tensor) -> Tensor:
    """(B, 64, 64) of canvases (B, 64, 256) that close on themselves: anywhere along them, mirrored, zoomed and turned a little."""
    count = len(wide)
    window = rolled(wide.mT).mT[:, None, :, : 2 * SIDE]
    zoom, angle, mirror = between(0.75, 1.3, count), between(-0.15, 0.15, count), torch.randint(2, (count,)) * 2 - 1
    across = torch.stack([0.5 * zoom * angle.cos() * mirror, -0.5 * zoom * angle.sin(), torch.zeros(count)], dim=1)
    down = torch.stack([zoom * angle.sin() * mirror, zoom * angle.cos(), between(-0.1, 0.1, count)], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), [count, 1, SIDE, SIDE], align_corners=False)
    return F.grid_sample(window, grid, align_corners=False)[:, 0]


class Sounds:
    """Log-mels of the training clips with their class, and of what is no sound of a class."""

    def __init__(self, data: Path) -> None:
        heard, labels = training_sounds(data)
        self.classes = [heard[labels == label] for label in range(len(SUBJECTS["audio"]) + 1)]
        self.canvases = small_canvases(data, "pictures")

    def draw(self) -> tuple[dict[str, Tensor], Tensor]:
        """CLAP's input_features (B, 1, frames, mels) and the class indices (B,); an index past the last class is of no class."""
        *classes, others = self.classes
        drawn = [random_rows(items, PER_CLASS) for items in classes] + [random_rows(others, 2 * PER_CLASS)]
        labels = torch.arange(len(drawn)).repeat_interleave(torch.tensor([len(items) for items in drawn]))
        heard = torch.cat(drawn)
        heard[-NOISE:, :FRAMES] = 60 * smooth_noise(NOISE, FRAMES, heard.shape[2]) - 40
        heard[-1] = SILENCE
        heard[:, :FRAMES] = self._altered(heard[:, :FRAMES])
        return {"input_features": heard[:, None]}, labels

    def _altered(self, heard: Tensor) -> Tensor:
        """Time, level, tilt, pitch, noise; gaps in time and frequency; and the shape of a drawing, since a sound that is seen has one."""
        count, frames, mels = heard.shape
        slope = torch.linspace(-1, 1, mels)
        heard = rolled(heard).roll(int(torch.randint(-2, 3, ())), dims=2)
        heard = heard + at_times(0.8, -6, 6, count) + at_times(0.5, -10, 10, count) * slope

        shapes = F.interpolate(random_rows(self.canvases, count).flip(1).mT[:, None], (frames, mels), mode="bilinear")[:, 0]
        heard = heard - at_times(0.4, 10, 50, count) * (1 - shapes)
        for size, longest, along in ((frames, 50, (-1, 1)), (mels, 12, (1, -1))):
            start, length = torch.randint(size, (count, 1)), torch.randint(longest, (count, 1)) * (torch.rand(count, 1) < 0.4)
            position = torch.arange(size)
            gap = (position >= start) & (position < start + length)
            heard = heard.masked_fill(gap.view(count, *along), SILENCE)

        # Other sounds and hiss add up in power. Played drawings are the other sounds: what a joint sample's picture does to its sound.
        others = rolled(random_rows(self.classes[-1], count)[:, :frames]) + at_times(0.3, -40, -8, count, otherwise=SILENCE)
        hiss = between(SILENCE, -25, count)[:, None, None] + at_times(1, -15, 15, count) * slope + 3 * torch.randn(heard.shape)
        power = 10 ** (torch.stack([heard, others, hiss]) / 10)
        return 10 * power.sum(dim=0).log10()


# --- Training ----------------------------------------------------------------------------------------------------------------------


def roughened(prompt: str, rng: random.Random) -> str:
    """The prompt as people type it: capitalised at times, at times with a word that is not known."""
    parts = prompt.split(" ")
    if rng.random() < 0.15:
        parts.insert(rng.randrange(len(parts) + 1), "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))))
    prompt = " ".join(parts)
    return prompt.capitalize() if rng.random() < 0.15 else prompt


def draw_prompts(side: str, rng: random.Random) -> tuple[list[str], Tensor]:
    """Two prompts of each class and the empty one, with their class indices."""
    labels = list(SUBJECTS[side])
    prompts = [roughened(draw_prompt(side, label, rng), rng) for label in labels for _ in range(2)]
    return [*prompts, ""], torch.tensor([i for i in range(len(labels)) for _ in range(2)] + [len(labels)])


def contrastive_loss(per_item: Tensor, per_prompt: Tensor, match: Tensor) -> Tensor:
    """Cross-entropy of scaled similarities (items, prompts) and (prompts, items) with all matches equally right."""
    return sum(
        -(F.log_softmax(logits, dim=1) * matches / matches.sum(dim=1, keepdim=True)).sum(dim=1).mean()
        for logits, matches in ((per_item, match.float()), (per_prompt, match.mT.float()))
    )


def train(side: str, data: Path, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    (data / "scorers").mkdir(parents=True, exist_ok=True)
    checkpoint = data / "scorers" / f"{side}.pt"
    folder = FOLDERS[side]
    processor = write_processor(side, folder)
    items = Pictures(data) if side == "image" else Sounds(data)
    model = (build_clip if side == "image" else build_clap)(len(processor.tokenizer))
    # A fixed temperature: left to itself it falls, and every match comes out near 1, however poor.
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("logit_scale"))
    learnt = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    matrices = [parameter for name, parameter in learnt if parameter.ndim > 1 and "embed" not in name and "bias_table" not in name]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for _, parameter in learnt if id(parameter) not in chosen]
    optimizers = [Muon(matrices, LEARNING_RATE), torch.optim.AdamW(others, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)]
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        step = state["step"]
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(processor.tokenizer)} tokens", flush=True)

    model.train()
    began, losses = time.monotonic(), []
    while step < steps:
        rate = LEARNING_RATE * min(1.0, (step + 1) / 50) * min(1.0, 1.5 * (1 - step / steps))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        torch.manual_seed(seed * steps + step)  # a resumed run draws what an unbroken one would
        inputs, labels = items.draw()
        prompts, meant = draw_prompts(side, random.Random(seed * steps + step))
        text = processor.tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
        output = model(**inputs, **text)
        per_item = output.logits_per_image if side == "image" else output.logits_per_audio
        loss = contrastive_loss(per_item, output.logits_per_text, labels[:, None] == meant)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([parameter for _, parameter in learnt], 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        losses.append(loss.item())
        if step % 50 == 0:
            right = (meant[per_item.argmax(dim=1)] == labels).float().mean()
            print(f"{step} {np.mean(losses):.4f} {right:.3f} {time.monotonic() - began:.0f} s", flush=True)
            losses.clear()
        if step % 100 == 0 or step == steps:
            state = {"model": model.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers], "step": step}
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    model.half().save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=SUBJECTS, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train(options.side, options.data, options.steps or STEPS[options.side], options.seed)
