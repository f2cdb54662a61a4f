"""HiFi-GAN's generator (Kong, Kim, Bae, arXiv 2010.05646) as Auffusion stores it: `vocoder/config.json` beside its weights.

Any config of the family is read: residual blocks of both types, any rates, kernels, dilations and widths. Weight normalisation is folded
when the weights are loaded, so the module holds plain convolutions; it can be trained as it is.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from .mel_inversion import mel_to_magnitude
from .progress import OnStep
from .spectrogram import AUFFUSION, SpectrogramFormat, istft, stft
from .weights import require_fit, require_unpacked, shapes_of, unreadable

RESIDUAL_SLOPE = 0.1
LAST_SLOPE = 0.01
EDGE_KERNEL = 7
PIECE = 1024
"""Frames of log-mel at work at a time: the length that the models were trained on goes in one piece."""
CONFIG_FILE = "config.json"
WEIGHT_FILES = ("vocoder.safetensors", "vocoder.pt")
WEIGHT_NORM_PAIRS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))


class Vocoder(Protocol):
    """What makes sound of a log-mel. A new kind is a module with these two methods, and a loader that reads it."""

    def __call__(self, log_mel: Tensor, on_step: OnStep | None = None) -> Tensor:
        """Waveform (B, frames * hop) in -1..1 for a natural log-mel (B, n_mels, frames), low frequencies in row 0, on the same device.

        on_step is called with (steps done, steps in all) every second or so of a long sound; what it raises ends the work.
        """
        ...

    def activation_bytes(self, frames: int) -> int:
        """Memory in bytes that a log-mel (1, n_mels, frames) needs beside the weights."""
        ...


@dataclass(frozen=True)
class HiFiGANConfig:
    """Shape of a HiFi-GAN generator; the fields are the keys of its config.json. Raises ValueError where they contradict each other."""

    resblock: str
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    num_mels: int

    def __post_init__(self) -> None:
        if self.resblock not in ("1", "2"):
            raise ValueError(f'resblock is "{self.resblock}"; HiFi-GAN has types "1" and "2".')
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            raise ValueError(
                f"upsample_rates {self.upsample_rates} and upsample_kernel_sizes {self.upsample_kernel_sizes} must have the same length."
            )
        if any(rate < 2 or kernel < rate for rate, kernel in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=True)):
            raise ValueError(
                f"upsample_rates {self.upsample_rates} must be 2 or more, upsample_kernel_sizes {self.upsample_kernel_sizes} no smaller."
            )
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ValueError(
                f"resblock_kernel_sizes {self.resblock_kernel_sizes} and resblock_dilation_sizes {self.resblock_dilation_sizes} "
                "must have the same length."
            )
        if not self.resblock_kernel_sizes or any(kernel < 1 or kernel % 2 == 0 for kernel in self.resblock_kernel_sizes):
            raise ValueError(f"resblock_kernel_sizes {self.resblock_kernel_sizes} must be odd numbers, at least one.")
        if any(dilation < 1 for dilations in self.resblock_dilation_sizes for dilation in dilations):
            raise ValueError(f"resblock_dilation_sizes {self.resblock_dilation_sizes} must be 1 or more.")
        halvings = 2 ** len(self.upsample_rates)
        if self.upsample_initial_channel < halvings or self.upsample_initial_channel % halvings:
            raise ValueError(
                f"upsample_initial_channel is {self.upsample_initial_channel}; {len(self.upsample_rates)} stages halve it each, "
                f"so it must be a multiple of {halvings}."
            )
        if self.num_mels < 1:
            raise ValueError(f"num_mels is {self.num_mels}; it must be 1 or more.")

    @property
    def hop_length(self) -> int:
        """Samples of waveform for each frame of log-mel."""
        return math.prod(self.upsample_rates)

    @property
    def reach(self) -> int:
        """Frames of log-mel before and after its own that a frame of the waveform may depend on."""
        convolutions = 2 if self.resblock == "1" else 1  # with each dilation: the dilated one, and a plain one in type 1
        block = max(
            (kernel // 2) * (sum(dilations) + (convolutions - 1) * len(dilations))
            for kernel, dilations in zip(self.resblock_kernel_sizes, self.resblock_dilation_sizes, strict=True)
        )
        samples = EDGE_KERNEL // 2
        for rate, kernel in zip(reversed(self.upsample_rates), reversed(self.upsample_kernel_sizes), strict=True):
            samples = math.ceil((samples + block + kernel) / rate)
        return samples + EDGE_KERNEL // 2

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HiFiGANConfig:
        """Config from the parsed config.json; keys that only matter for training are ignored.

        Raises ValueError naming the key that is missing, of the wrong type, or in contradiction to others.
        """
        missing = [field.name for field in fields(cls) if field.name not in values]
        if missing:
            raise ValueError(f"the keys {', '.join(missing)} are missing.")
        return cls(
            resblock=str(values["resblock"]),
            upsample_rates=_integers(values, "upsample_rates"),
            upsample_kernel_sizes=_integers(values, "upsample_kernel_sizes"),
            upsample_initial_channel=_integer(values["upsample_initial_channel"], "upsample_initial_channel"),
            resblock_kernel_sizes=_integers(values, "resblock_kernel_sizes"),
            resblock_dilation_sizes=tuple(
                _integers({"resblock_dilation_sizes": row}, "resblock_dilation_sizes") for row in _list(values, "resblock_dilation_sizes")
            ),
            num_mels=_integer(values["num_mels"], "num_mels"),
        )


def _integer(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key} holds {value!r}; an integer is needed.")
    return value


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    if not isinstance(values[key], (list, tuple)):
        raise ValueError(f"{key} holds {values[key]!r}; a list is needed.")
    return values[key]


def _integers(values: Mapping[str, Any], key: str) -> tuple[int, ...]:
    return tuple(_integer(value, key) for value in _list(values, key))


def _same_conv(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)


class ResidualBlock1(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair with a skip."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same_conv(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same_conv(channels, kernel, 1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, RESIDUAL_SLOPE)), RESIDUAL_SLOPE))
        return x


class ResidualBlock2(nn.Module):
    """Single dilated convolutions, each with a skip."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_same_conv(channels, kernel, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated in self.convs:
            x = x + dilated(F.leaky_relu(x, RESIDUAL_SLOPE))
        return x


def _upsampler(channels: int, rate: int, kernel: int) -> nn.ConvTranspose1d:
    """Halves the channels and makes exactly `rate` samples of each one, for an odd kernel - rate too."""
    surplus, odd = divmod(kernel - rate, 2)
    return nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=surplus + odd, output_padding=odd)


class HiFiGAN(nn.Module):
    """HiFi-GAN generator: log-mel (B, num_mels, frames) to waveform (B, frames * hop) in -1..1."""

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.upsample_initial_channel >> stage for stage in range(len(config.upsample_rates) + 1)]
        block = ResidualBlock1 if config.resblock == "1" else ResidualBlock2
        self.conv_pre = nn.Conv1d(config.num_mels, widths[0], EDGE_KERNEL, padding=EDGE_KERNEL // 2)
        self.ups = nn.ModuleList(
            _upsampler(width, rate, kernel)
            for width, rate, kernel in zip(widths[:-1], config.upsample_rates, config.upsample_kernel_sizes, strict=True)
        )
        self.resblocks = nn.ModuleList(
            block(width, kernel, dilations)
            for width in widths[1:]
            for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )
        self.conv_post = nn.Conv1d(widths[-1], 1, EDGE_KERNEL, padding=EDGE_KERNEL // 2)

    def forward(self, log_mel: Tensor, on_step: OnStep | None = None) -> Tensor:
        """Waveform (B, frames * hop) in -1..1 for a natural log-mel (B, num_mels, frames), low frequencies in row 0.

        It goes in pieces of PIECE frames, each with the neighbours that it depends on, so that memory does not grow with the length.
        on_step is called with (pieces done, pieces in all) after each; what it raises ends the work.
        """
        frames, hop, reach = log_mel.shape[-1], self.config.hop_length, self.config.reach
        starts = range(0, frames, PIECE)
        waveforms = []
        for done, start in enumerate(starts, 1):
            first = max(start - reach, 0)
            waveform = self._generate(log_mel[..., first : start + PIECE + reach])
            waveforms.append(waveform[:, (start - first) * hop : (start - first + PIECE) * hop])
            if on_step:
                on_step(done, len(starts))
        return torch.cat(waveforms, dim=-1)

    def activation_bytes(self, frames: int) -> int:
        """Memory of the widest stage in float32: the outputs of its residual blocks, their stack, and one block at work."""
        config = self.config
        frames = min(frames, PIECE + 2 * config.reach)
        lengths = [frames * math.prod(config.upsample_rates[: stage + 1]) for stage in range(len(config.upsample_rates))]
        widest = max((length * config.upsample_initial_channel) >> (stage + 1) for stage, length in enumerate(lengths))
        return 4 * widest * (2 * len(config.resblock_kernel_sizes) + 4)

    def _generate(self, log_mel: Tensor) -> Tensor:
        x = self.conv_pre(log_mel)
        parallel = len(self.config.resblock_kernel_sizes)
        for stage, upsample in enumerate(self.ups):
            x = upsample(F.leaky_relu(x, RESIDUAL_SLOPE))
            blocks = self.resblocks[stage * parallel : (stage + 1) * parallel]
            x = torch.stack([block(x) for block in blocks]).mean(0)
        return torch.tanh(self.conv_post(F.leaky_relu(x, LAST_SLOPE)))[:, 0]


def replace_magnitude(waveform: Tensor, mel: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Waveform (B, frames * hop) with the mel magnitude (B, n_mels, frames) that was meant and the phase of `waveform` (B, frames * hop).

    The official code's third way beside HiFi-GAN and Griffin-Lim: one inverse STFT of the meant magnitude with HiFi-GAN's phase.
    """
    return istft(torch.polar(mel_to_magnitude(mel, fmt), stft(waveform, fmt).angle()), fmt)


def fold_weight_norm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each weight-norm pair g, v by the weight g v / ||v|| (norm over all but the first dimension), in float32.

    A direction v of zeros gives weights of zero: training leaves some, and torch's own folding makes NaN of them.
    Reads both of torch's spellings: `weight_g`, `weight_v` and `parametrizations.weight.original0`, `.original1`.
    """
    folded = {key: tensor.float() for key, tensor in state_dict.items()}
    for gain, direction in WEIGHT_NORM_PAIRS:
        for layer in [key.removesuffix(gain) for key in state_dict if key.endswith(gain)]:
            if layer + direction in folded:
                g, v = folded.pop(layer + gain), folded.pop(layer + direction)
                norm = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
                folded[layer + "weight"] = torch.where(norm > 0, v * (g / norm), 0.0)
    return folded


def read_config(path: Path, fmt: SpectrogramFormat = AUFFUSION) -> HiFiGANConfig:
    """HiFi-GAN config of a config.json, checked against the spectrogram's mel bins and hop.

    Raises ValueError naming the file, the key, its value and the remedy.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist. A vocoder is a folder with {CONFIG_FILE} and {' or '.join(WEIGHT_FILES)}.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}). Download it again.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a JSON {type(values).__name__}, not the keys of a HiFi-GAN config. Download it again.")
    try:
        config = HiFiGANConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path} is not a config of a HiFi-GAN generator: {error} Download it again.") from error
    if config.num_mels != fmt.n_mels:
        raise ValueError(
            f"{path}: num_mels is {config.num_mels}, but the spectrogram has {fmt.n_mels} mel bins. "
            "Choose a vocoder trained on this spectrogram, such as Auffusion's."
        )
    if config.hop_length != fmt.hop_length:
        raise ValueError(
            f"{path}: upsample_rates {list(config.upsample_rates)} make {config.hop_length} samples a frame, "
            f"but the spectrogram has {fmt.hop_length}. Choose a vocoder trained on this spectrogram, such as Auffusion's."
        )
    return config


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        require_unpacked(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise unreadable(path, error) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("generator"), dict):
        held = ", ".join(map(str, list(checkpoint)[:5])) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ValueError(
            f"{path} has no weights under the key 'generator' (it holds {held}). Choose the generator's file, not the discriminator's."
        )
    return checkpoint["generator"]


def load_vocoder(folder: Path | str, fmt: SpectrogramFormat = AUFFUSION) -> HiFiGAN:
    """HiFi-GAN of a folder with config.json and vocoder.safetensors or vocoder.pt, in float32 on the CPU, in eval mode.

    `vocoder.pt` is a pickle of {"generator": state_dict}, read with weights_only=True. Raises ValueError naming file, culprit and remedy
    when a file is missing, truncated, not what its name says, or does not fit the config or the spectrogram.
    """
    folder = Path(folder)
    config = read_config(folder / CONFIG_FILE, fmt)
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder} has a {CONFIG_FILE} but neither {' nor '.join(WEIGHT_FILES)}. Download the vocoder's weights into it.")
    weights = _read_weights(path)
    with torch.device("meta"):
        vocoder = HiFiGAN(config)
    # without memory at first: one number of a pickle can stand for any count of weights
    folded = fold_weight_norm({name: tensor.to("meta") for name, tensor in weights.items()})
    require_fit(path, shapes_of(folded), shapes_of(vocoder.state_dict()))
    vocoder.load_state_dict(fold_weight_norm(weights), assign=True)
    return vocoder.eval().requires_grad_(False)
