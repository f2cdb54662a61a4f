"""The spectrogram that is also a picture: waveform, mel magnitude and picture, in Auffusion's convention or in Riffusion's.

Three quantities with one shape, (B, n_mels, frames):

- *mel magnitude*: linear, row 0 is the lowest band; in Riffusion's format relative to the loudest point, where it is 1;
- *log-mel*: ln(max(mel, log_floor)), row 0 is the lowest band, what HiFi-GAN takes;
- *picture*: 0..1 and flipped, row 0 is the highest band, what an image model sees. Auffusion's is log-mel, black where it is silent;
  Riffusion's is 1 - mel ** 0.25, white where it is silent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import scipy.fft
import torch
import torch.nn.functional as F
from torch import Tensor

from .progress import OnStep

MelScale = Literal["slaney", "htk"]


@dataclass(frozen=True)
class SpectrogramFormat:
    """Analysis of a sound and curve of its picture; the defaults are Auffusion's (paper section 4.1): log-mel in 0..1."""

    sample_rate: int = 16000
    n_fft: int = 2048
    win_length: int = 1024
    hop_length: int = 160
    n_mels: int = 256
    f_min: float = 0.0
    f_max: float = 8000.0
    power_floor: float = 1e-9
    log_floor: float = 1e-5
    log_ceiling: float = 200.0
    peak: float = 0.95
    mel_scale: MelScale = "slaney"
    equal_area: bool = True
    """Mel filters have equal areas (Slaney's norm); else each has a peak of 1."""
    centred: bool = False
    """Frame k is centred on sample k x hop, the last one on the waveform's end; else half a hop later."""
    exponent: float | None = None
    """Of the picture 1 - (mel / loudest point) ** exponent, which keeps no loudness; None: the picture is log-mel, black in silence."""

    @property
    def padding(self) -> int:
        """Samples reflected before the waveform: not centred, so many that frames x hop is exactly its length."""
        return self.n_fft // 2 if self.centred else (self.n_fft - self.hop_length) // 2

    @property
    def padding_after(self) -> int:
        """Samples reflected after the waveform: as many as before, and not centred one more where the hop is odd."""
        return self.n_fft // 2 if self.centred else self.n_fft - self.hop_length - self.padding

    @property
    def log_range(self) -> float:
        """Nepers between picture value 0 and 1."""
        return math.log(self.log_ceiling) - math.log(self.log_floor)

    @property
    def decibels_per_level(self) -> float:
        """Decibels between neighbouring levels of an 8-bit picture."""
        return 20.0 * self.log_range / math.log(10.0) / 255.0

    @property
    def silence(self) -> float:
        """Picture value of silence."""
        return 0.0 if self.exponent is None else 1.0

    @property
    def shortest(self) -> int:
        """Frames below which the windows cannot be reflected at the edges."""
        return self.padding // self.hop_length + 1 + self.centred

    def frames(self, seconds: float) -> int:
        """Columns of a canvas for `seconds` of sound, rounded to the nearest one."""
        return round(seconds * self.sample_rate / self.hop_length)

    def frames_of(self, samples: int) -> int:
        """Frames that the analysis of so many samples has."""
        return samples // self.hop_length + self.centred

    def samples(self, frames: int) -> int:
        """Samples of the sound that `frames` frames hold; centred, a hop less than one for each frame."""
        return (frames - self.centred) * self.hop_length

    def seconds(self, frames: float) -> float:
        """Length of the sound that `frames` frames hold, in seconds."""
        return (frames - self.centred) * self.hop_length / self.sample_rate


SILENCE = 2.0**-17
"""Largest magnitude of a waveform that is none: half a step of 16 bits."""

AUFFUSION = SpectrogramFormat()

RIFFUSION = SpectrogramFormat(
    sample_rate=44100,
    n_fft=17640,
    win_length=4410,
    hop_length=441,
    n_mels=512,
    f_max=10000.0,
    power_floor=0.0,
    log_floor=1e-6,
    log_ceiling=1.0,
    mel_scale="htk",
    equal_area=False,
    centred=True,
    exponent=0.25,
)
"""Riffusion's 512 rows; log_floor, below which differences in decibels do not count, is ours."""

FRAMES_AT_A_TIME = 4096
"""Frames of Auffusion's analysis; of another, so many that they take as much memory."""


def format_at(rate: int) -> SpectrogramFormat:
    """Auffusion's analysis of a recording at `rate` Hz: its windows and hops in seconds, its mel bands and more of them up to rate / 2.

    Windows and hops are even numbers of samples, as `istft` needs them; a hop is 10 ms and less than two samples more. At 16 kHz it is
    AUFFUSION but for rounding in f_max.
    """
    ratio = rate / AUFFUSION.sample_rate
    half_window = round(AUFFUSION.win_length * ratio / 2)
    nyquist, top = hz_to_mel(torch.tensor([rate / 2, AUFFUSION.f_max], dtype=torch.float64))
    spacing = top / (AUFFUSION.n_mels + 1)
    n_mels = int(nyquist / spacing + 1e-6) - 1
    return replace(
        AUFFUSION,
        sample_rate=rate,
        n_fft=2 * scipy.fft.next_fast_len(2 * half_window, real=True),  # pyright: ignore[reportOperatorIssue]
        win_length=2 * half_window,
        hop_length=2 * math.ceil(AUFFUSION.hop_length * ratio / 2),
        n_mels=n_mels,
        f_max=float(_mel_to_hz((n_mels + 1) * spacing)),
    )


def hz_to_mel(hz: Tensor, scale: MelScale = "slaney") -> Tensor:
    """Slaney's mel scale, linear to 1 kHz and logarithmic above, or HTK's, 2595 log10(1 + hz / 700)."""
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    linear = 3.0 * hz / 200.0
    logarithmic = 15.0 + torch.log(hz.clamp(min=1e-9) / 1000.0) * (27.0 / math.log(6.4))
    return torch.where(hz < 1000.0, linear, logarithmic)


def _mel_to_hz(mel: Tensor, scale: MelScale = "slaney") -> Tensor:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return torch.where(mel < 15.0, 200.0 * mel / 3.0, 1000.0 * torch.exp((mel - 15.0) * (math.log(6.4) / 27.0)))


def _band_edges(fmt: SpectrogramFormat) -> Tensor:
    """(n_mels + 2,) float64 Hz, equally far apart in mel: band k rises from edge k to edge k + 1 and falls to edge k + 2."""
    limits = hz_to_mel(torch.tensor([fmt.f_min, fmt.f_max], dtype=torch.float64), fmt.mel_scale)
    return _mel_to_hz(torch.linspace(float(limits[0]), float(limits[1]), fmt.n_mels + 2, dtype=torch.float64), fmt.mel_scale)


def band_frequencies(fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Hz at which each mel band is most sensitive, (n_mels,) float64, rising."""
    return _band_edges(fmt)[1:-1]


def bin_frequencies(fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Hz of each bin of the Fourier transform, (n_fft / 2 + 1,) float64, rising."""
    return torch.linspace(0.0, fmt.sample_rate / 2, fmt.n_fft // 2 + 1, dtype=torch.float64)


def mel_filters(fmt: SpectrogramFormat = AUFFUSION, device: torch.device | str = "cpu") -> Tensor:
    """Triangular mel filter bank of the format's scale and norm, (n_mels, n_fft / 2 + 1), float32."""
    bins = bin_frequencies(fmt)
    edges = _band_edges(fmt)
    ramps = edges[:, None] - bins[None, :]
    widths = edges.diff()[:, None]
    triangles = torch.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]).clamp(min=0.0)
    if fmt.equal_area:
        triangles = triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return triangles.float().to(device)


def analysis_window(fmt: SpectrogramFormat = AUFFUSION, device: torch.device | str = "cpu") -> Tensor:
    """Periodic Hann window of win_length samples, centred by torch.stft in n_fft."""
    return torch.hann_window(fmt.win_length, device=device)


def stft(waveform: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Complex spectrum (B, n_fft / 2 + 1, frames) of a waveform (B, T), reflect-padded: `fmt.frames_of(T)` frames.

    Raises ValueError when the waveform is too short to be reflected.
    """
    _require_reflection(waveform, fmt)
    return _stft(F.pad(waveform.float()[:, None], (fmt.padding, fmt.padding_after), mode="reflect")[:, 0], fmt)


def _require_reflection(waveform: Tensor, fmt: SpectrogramFormat) -> None:
    if waveform.shape[-1] <= fmt.padding:
        shortest = (fmt.padding + 1) / fmt.sample_rate
        raise ValueError(
            f"The waveform has {waveform.shape[-1]} samples; the spectrogram needs more than {fmt.padding} "
            f"({shortest:.3f} s at {fmt.sample_rate} Hz). Use a longer recording or pad it with silence."
        )


def _reflected(waveform: Tensor, begin: int, end: int) -> Tensor:
    """Samples `begin` to `end` of a waveform (B, T) that goes on beyond both ends in its mirror image."""
    length = waveform.shape[-1]
    parts = [waveform[:, max(begin, 0) : end]]
    if begin < 0:
        parts.insert(0, waveform[:, 1 : 1 - begin].flip(-1))
    if end > length:
        parts.append(waveform[:, 2 * length - 1 - end : length - 1].flip(-1))
    return torch.cat(parts, dim=-1).float()


def _stft(padded: Tensor, fmt: SpectrogramFormat) -> Tensor:
    window = analysis_window(fmt, padded.device)
    return torch.stft(padded, fmt.n_fft, fmt.hop_length, fmt.win_length, window, center=False, return_complex=True)


def istft(spectrum: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Waveform (B, fmt.samples(frames)) of a complex spectrum (B, n_fft / 2 + 1, frames): overlap-add, the exact inverse of `stft`.

    torch.istft cannot do this: uncentred, it refuses a window that is zero where the first frame begins.
    """
    frames = spectrum.shape[-1]
    window = analysis_window(fmt, spectrum.device)
    start = (fmt.n_fft - fmt.win_length) // 2
    pieces = torch.fft.irfft(spectrum.mT, fmt.n_fft)[..., start : start + fmt.win_length] * window
    lead = fmt.padding - start
    inside = slice(lead, lead + fmt.samples(frames))
    envelope = _overlap_add(window.square()[None, None], frames, fmt)
    return _overlap_add(pieces, frames, fmt)[:, inside] / envelope[:, inside]


def _overlap_add(pieces: Tensor, frames: int, fmt: SpectrogramFormat) -> Tensor:
    """Sum of pieces (B, frames or 1, win_length), each a hop after the one before."""
    parts = pieces.split(fmt.hop_length, dim=-1)
    total = pieces.new_zeros(pieces.shape[0], frames + len(parts) - 1, fmt.hop_length)
    for hop, part in enumerate(parts):
        total[:, hop : hop + frames, : part.shape[-1]] += part
    return total.flatten(1)


def magnitude(spectrum: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """sqrt(re^2 + im^2 + power_floor) of a complex spectrum, same shape, real."""
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + fmt.power_floor)


def waveform_to_mel(waveform: Tensor, fmt: SpectrogramFormat = AUFFUSION, on_step: OnStep | None = None) -> Tensor:
    """Mel magnitude (B, n_mels, frames) of a waveform (B, T) at fmt.sample_rate, not yet relative to anything.

    It goes in pieces of FRAMES_AT_A_TIME frames, so that hours need little memory; on_step is called after each.
    """
    pieces = []
    count = -(-fmt.frames_of(waveform.shape[-1]) // _frames_at_a_time(fmt))
    for piece in _mel_pieces(waveform, fmt):
        pieces.append(piece)
        if on_step:
            on_step(len(pieces), count)
    return torch.cat(pieces, dim=-1)


def _frames_at_a_time(fmt: SpectrogramFormat) -> int:
    return max(1, FRAMES_AT_A_TIME * AUFFUSION.n_fft // max(fmt.n_fft, AUFFUSION.n_fft))


def _mel_pieces(waveform: Tensor, fmt: SpectrogramFormat) -> Iterator[Tensor]:
    _require_reflection(waveform, fmt)
    filters = mel_filters(fmt, waveform.device)
    step, beyond = _frames_at_a_time(fmt) * fmt.hop_length, fmt.n_fft - fmt.hop_length
    last = waveform.shape[-1] + fmt.padding_after
    for begin in range(-fmt.padding, last - fmt.n_fft + 1, step):
        yield filters @ magnitude(_stft(_reflected(waveform, begin, min(begin + step + beyond, last)), fmt), fmt)


def mel_to_log_mel(mel: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """ln(max(mel, log_floor)), same shape."""
    return mel.clamp(min=fmt.log_floor).log()


def log_mel_to_picture(log_mel: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Log-mel (..., n_mels, frames) to a picture of the same shape in 0..1, high frequencies at the top, black in silence."""
    return ((log_mel - math.log(fmt.log_floor)) / fmt.log_range).clamp(0.0, 1.0).flip(-2)


def mel_to_picture(mel: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Mel magnitude (..., n_mels, frames), with an exponent relative to 1, to a picture of the same shape in 0..1."""
    if fmt.exponent is None:
        return log_mel_to_picture(mel_to_log_mel(mel, fmt), fmt)
    return (1.0 - mel.clamp(min=0.0) ** fmt.exponent).clamp(0.0, 1.0).flip(-2)


def picture_to_log_mel(picture: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Picture (..., n_mels, frames) in 0..1 to log-mel of the same shape, low frequencies in row 0."""
    if fmt.exponent is None:
        return picture.flip(-2) * fmt.log_range + math.log(fmt.log_floor)
    return mel_to_log_mel(picture_to_mel(picture, fmt), fmt)


def picture_to_mel(picture: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Picture (..., n_mels, frames) in 0..1 to mel magnitude of the same shape, low frequencies in row 0."""
    if fmt.exponent is None:
        return picture_to_log_mel(picture, fmt).exp()
    return (1.0 - picture.flip(-2)) ** (1.0 / fmt.exponent)


def waveform_to_picture(waveform: Tensor, fmt: SpectrogramFormat = AUFFUSION, on_step: OnStep | None = None) -> Tensor:
    """Picture (B, n_mels, frames) in 0..1 of a waveform (B, T) at fmt.sample_rate.

    The level is taken as it is; with an exponent, relative to the waveform's own loudest point, and silence stays silence. It goes in
    pieces of FRAMES_AT_A_TIME frames, so that beside waveform and picture it needs little memory; on_step is called after each.
    """
    picture = waveform.new_empty(len(waveform), fmt.n_mels, fmt.frames_of(waveform.shape[-1]), dtype=torch.float32)
    pieces = picture.split(_frames_at_a_time(fmt), dim=-1)
    for done, (piece, mel) in enumerate(zip(pieces, _mel_pieces(waveform, fmt), strict=True), 1):
        piece.copy_(mel_to_picture(mel, fmt) if fmt.exponent is None else mel)
        if on_step:
            on_step(done, len(pieces))
    if fmt.exponent is not None:
        loudest = picture.amax((-2, -1), keepdim=True)
        silent = torch.linalg.vector_norm(waveform, math.inf, dim=-1)[:, None, None] <= SILENCE
        for piece in pieces:
            piece.copy_(mel_to_picture(torch.where(silent, 0.0, piece / loudest.clamp(min=SILENCE)), fmt))
    return picture


def normalize_peak(waveform: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Scale each waveform (B, T) to a largest magnitude of fmt.peak (0.95), as Auffusion's training clips were.

    Silence stays silence: what no 16-bit file could hold (SILENCE) is rounding, and lifted it would be a picture of noise.
    """
    peak = torch.linalg.vector_norm(waveform, math.inf, dim=-1, keepdim=True)
    return waveform * torch.where(peak > SILENCE, fmt.peak / peak.clamp(min=SILENCE), 1.0)


def limit_peak(waveform: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> Tensor:
    """Turn each waveform (B, T) that goes beyond full scale down to a peak of fmt.peak (0.95); others stay as they are.

    A bright picture means a sound louder than -1..1 can hold, and files and players would clip it.
    """
    return torch.where(waveform.abs().amax(dim=-1, keepdim=True) > 1.0, normalize_peak(waveform, fmt), waveform)
