"""How well pictures and sounds agree with their prompts: CLIP and CLAP scores as the paper computes them (METHOD.md "Evaluation")."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .resampling import resample
from .weights import ODD_CONTENT, require_held, require_unpacked

if TYPE_CHECKING:
    from transformers import ClapModel, ClapProcessor, CLIPModel, CLIPProcessor

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
VOCABULARY_FILE, MERGES_FILE = "vocab.json", "merges.txt"
MADE_ANEW = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")
"""Endings of tables that transformers makes anew, or of what only training reads: not every version saved them."""
END_OF_WORD = "</w>"
ORPHANS = 0.01
"""Share of a vocabulary that may come of no merge: RoBERTa's has four special tokens and some made-up words."""
MOST_FEATURES, MOST_OF_ANYTHING = 2**12, 10**7
"""Of a preprocessor's settings, several times those of the largest models published."""
CROP_STRIDES = 8
"""Square crops of a wide picture are H / 8 apart."""


@dataclass(frozen=True)
class Scores:
    """What a SCORES socket carries: two scores of each of N samples, in %, higher is better."""

    picture: Tensor
    """(N,), CLIP, -100..100."""
    sound: Tensor
    """(N,), CLAP, 0..100."""
    image_prompts: tuple[str, ...]
    """What each picture was to show, N."""
    audio_prompts: tuple[str, ...]
    """What each sound was to be, N."""

    def table(self) -> str:
        """A line for each sample and one for mean and standard deviation."""
        lines = [f"{'sample':>8}{'picture':>10}{'sound':>10}"]
        lines += [f"{i:8}{picture:10.1f}{sound:10.1f}" for i, (picture, sound) in enumerate(zip(self.picture, self.sound, strict=True))]
        if len(self.picture) > 1:
            lines += [
                f"{name:>8}{picture:10.1f}{sound:10.1f}"
                for name, picture, sound in (
                    ("mean", self.picture.mean(), self.sound.mean()),
                    ("st. dev.", self.picture.std(), self.sound.std()),
                )
            ]
        return "\n".join(lines)


class PictureScorer(nn.Module):
    """CLIP: 100 x cosine similarity of a picture and a prompt, the mean over square crops of the picture."""

    def __init__(self, model: CLIPModel, processor: CLIPProcessor) -> None:
        super().__init__()
        self.model, self.processor = model.eval().requires_grad_(False), processor

    @classmethod
    def load(cls, folder: Path) -> PictureScorer:
        """A local transformers folder. Raises ValueError naming what is wrong with it and what to do."""
        from transformers import CLIPModel, CLIPProcessor  # here, because it takes a second that ComfyUI's start should not

        return cls(*_load(folder, "clip", CLIPModel, CLIPProcessor))

    def embed(self, prompts: list[str]) -> Tensor:
        """Prompts as vectors (len(prompts), D) of length 1."""
        return _unit(_text_features(self.model, self.processor.tokenizer, prompts))

    def forward(self, picture: Tensor, texts: list[str] | Tensor) -> Tensor:
        """Scores (N,) in -100..100 of one gray picture (H, W) in 0..1, W >= H, for N prompts or what `embed` made of them, (N, D)."""
        texts = texts if isinstance(texts, Tensor) else self.embed(texts)
        pixels = (255 * picture).round().to(torch.uint8).cpu()
        crops = [crop[..., None].expand(-1, -1, 3).numpy() for crop in square_crops(pixels)]
        seen = self.processor.image_processor(crops, input_data_format="channels_last", return_tensors="pt").to(self.model.device)
        images = _unit(self.model.visual_projection(self.model.vision_model(**seen).pooler_output))
        return 100 * (texts @ images.T).mean(dim=1).float().cpu()


class SoundScorer(nn.Module):
    """CLAP: 100 x cosine similarity of a sound and a prompt, at least 0."""

    def __init__(self, model: ClapModel, processor: ClapProcessor) -> None:
        super().__init__()
        self.model, self.processor = model.eval().requires_grad_(False), processor

    @classmethod
    def load(cls, folder: Path) -> SoundScorer:
        """A local transformers folder. Raises ValueError naming what is wrong with it and what to do."""
        from transformers import ClapModel, ClapProcessor

        return cls(*_load(folder, "clap", ClapModel, ClapProcessor))

    def embed(self, prompts: list[str]) -> Tensor:
        """Prompts as vectors (len(prompts), D) of length 1."""
        return F.normalize(_text_features(self.model, self.processor.tokenizer, prompts), dim=-1)

    def forward(self, waveform: Tensor, rate: int, texts: list[str] | Tensor) -> Tensor:
        """Scores (N,) in 0..100 of one waveform (T,) at `rate` Hz, scaled to a peak of 1. texts: N prompts or their `embed`.

        Silence scores 0.
        """
        peak = float(waveform.abs().max())
        if peak == 0:
            return torch.zeros(len(texts))
        texts = texts if isinstance(texts, Tensor) else self.embed(texts)
        extractor = self.processor.feature_extractor
        heard = resample(waveform.cpu() / peak, rate, extractor.sampling_rate)
        windows = [window.numpy() for window in fixed_windows(heard, extractor.nb_max_samples)]
        inputs = extractor(windows, sampling_rate=extractor.sampling_rate, return_tensors="pt").to(self.model.device)
        sounds = F.normalize(self.model.audio_projection(self.model.audio_model(**inputs).pooler_output), dim=-1)
        return 100 * (texts @ sounds.T).mean(dim=1).clamp(min=0).float().cpu()


class Embeddings(dict[str, Tensor]):
    """A scorer's vectors (1, D) of prompts, each made when it is first asked for: many samples have one prompt."""

    def __init__(self, scorer: PictureScorer | SoundScorer) -> None:
        super().__init__()
        self._scorer = scorer

    def __missing__(self, prompt: str) -> Tensor:
        self[prompt] = self._scorer.embed([prompt])
        return self[prompt]


def square_crops(picture: Tensor) -> list[Tensor]:
    """Squares (H, H) of a picture (H, W), W >= H, from left to right with a stride of H / 8; the last ends at the right edge."""
    height, width = picture.shape
    stride = max(1, height // CROP_STRIDES)
    starts = sorted({*range(0, width - height + 1, stride), width - height})
    return [picture[:, start : start + height] for start in starts]


def fixed_windows(waveform: Tensor, length: int) -> list[Tensor]:
    """As few windows (length,) as cover a waveform (T,), evenly spread from its start to its end; a shorter one is one window.

    Left to itself, CLAP's feature extractor takes a random window of what is longer than ten seconds.
    """
    extra = len(waveform) - length
    if extra <= 0:
        return [waveform]
    count = -(-len(waveform) // length)
    return [waveform[round(i * extra / (count - 1)) :][:length] for i in range(count)]


def _text_features(model: CLIPModel | ClapModel, tokenizer: Any, prompts: list[str]) -> Tensor:
    """(len(prompts), D), of any length."""
    tokens = tokenizer(prompts, padding=True, truncation=True, return_tensors="pt").to(model.device)
    return model.text_projection(model.text_model(**tokens).pooler_output)


def _unit(vectors: Tensor) -> Tensor:
    """As transformers' CLIP does it, to the last bit."""
    return vectors / vectors.square().sum(dim=-1, keepdim=True).sqrt()


def _load(folder: Path, kind: str, model_class: Any, processor_class: Any) -> tuple[Any, Any]:
    """Model in float32 and processor of transformers' two classes."""
    name = kind.upper()
    remedy = f"Copy a {name} model's whole folder, as transformers saves it: {CONFIG_FILE}, weights, tokenizer and preprocessor."
    config: dict[str, Any] = {}
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} cannot be read ({error}). {remedy}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG_FILE} is no config: it holds no object {{...}}. {remedy}")
    if config.get("model_type") != kind:
        raise ValueError(f"{folder} holds a model of the type {config.get('model_type')!r}, not {kind!r}. {remedy}")
    _require_sizes(folder / PREPROCESSOR_FILE, remedy)
    try:
        _require_merges(folder)
        _require_held(folder)
        model, report = model_class.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        processor = processor_class.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # what these loaders raise of a damaged file differs with every version of transformers
        said = f"{type(error).__name__}: {error}"
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in said:  # torch's own text advises to run the file's code
            said = "its weights are a pickle that is damaged or brings code, none of which was run"
        elif isinstance(error, ODD_CONTENT):
            said = "a setting in its JSON files is of another kind than is needed"
        raise ValueError(f"{folder} cannot be loaded as a {name} model ({said}). {remedy}") from error
    if missing := sorted(key for key in report["missing_keys"] if not key.endswith(MADE_ANEW)):
        raise ValueError(f"{folder} lacks {len(missing)} of the {name} model's weights, such as {missing[0]}. {remedy}")
    return model.float(), processor


def _require_sizes(path: Path, remedy: str) -> None:
    """No size of the preprocessor beyond what can be built: transformers fills a table of features x frequencies without asking.

    What cannot be read is left to transformers, which says so. Raises ValueError naming the key.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    for key, value in config.items() if isinstance(config, dict) else ():
        most = MOST_FEATURES if key == "feature_size" else MOST_OF_ANYTHING
        if isinstance(value, (int, float)) and not abs(value) <= most:
            raise ValueError(f"{path}: {key} is {value}; at most {most} is needed. {remedy}")


def _require_merges(folder: Path) -> None:
    """A cut list of merges loads without a word, and every prompt is spelt in letters then. Raises ValueError where one is cut."""
    if not all((folder / name).is_file() for name in (VOCABULARY_FILE, MERGES_FILE)):
        return
    vocabulary = json.loads((folder / VOCABULARY_FILE).read_text(encoding="utf-8"))
    made = {"".join(line.split()) for line in (folder / MERGES_FILE).read_text(encoding="utf-8").split("\n")}
    orphans = [
        token for token in vocabulary if len(token.removesuffix(END_OF_WORD)) > 1 and token not in made and not token.startswith("<")
    ]
    if len(orphans) > ORPHANS * len(vocabulary):
        raise ValueError(
            f"{MERGES_FILE} is cut off: nothing in it makes {len(orphans)} tokens of {VOCABULARY_FILE}, such as {orphans[0]!r}"
        )


def _require_held(folder: Path) -> None:
    """No weights in a pickle that need more memory than their file is long. Raises ValueError, and what torch raises of a damaged one."""
    if any(folder.glob("*.safetensors")):  # which transformers reads instead
        return
    for path in sorted(folder.glob("pytorch_model*.bin")):
        require_unpacked(path)
        require_held(torch.load(path, weights_only=True, map_location="meta", mmap=zipfile.is_zipfile(path)))
