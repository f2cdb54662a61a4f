"""Nodes that darken a sound by a picture: a spectrogram (the paper's baseline), or a recording that keeps its own phase."""

from __future__ import annotations

from functools import partial

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io

from ..bridge import audio_inputs, inputs, picture_inputs
from ..bridge.vocoding import spectrogram_of
from ..itsound_core.colormap import apply_colormap
from ..itsound_core.imprint import FITS, SCALES, WHOLE, Area, Fit, Scale, imprint, imprint_recording
from ..itsound_core.spectrogram import AUFFUSION
from ..itsound_core.views import AS_IT_SOUNDS, FORMATS

COLUMN = AUFFUSION.seconds(1)
"""Seconds of a column of a spectrogram, of any format."""

SHORTEST_SECONDS = 0.1
"""Less of a recording holds too few whole windows to show anything."""


def image_input() -> io.Image.Input:
    return io.Image.Input(
        "image",
        tooltip="Any picture, in any size; colours count by their mean. Its dark parts quieten the sound; transparent ones (a fourth "
        "channel) do not. LoadImage gives transparency as a mask: bring it back with JoinImageWithAlpha.",
    )


def rho_input() -> io.Float.Input:
    return io.Float.Input(
        "rho",
        default=0.5,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="How strongly the picture darkens. More makes the picture clearer and the sound worse; the paper uses 0.5.",
    )


def fit_input(**options) -> io.Combo.Input:
    return io.Combo.Input(
        "fit",
        options=list(FITS),
        default=FITS[0],
        tooltip="How the picture meets its place in the sound. cover: fill it and crop what sticks out. contain: show the whole picture, "
        "leave the sound beside it alone. stretch: distort the picture. tile: repeat it from left to right.",
        **options,
    )


def area_inputs(highest: float, top: str = "", **options) -> list[io.Float.Input]:
    """Place of the picture in time and frequency, up to `highest` Hz; `top` is what else there is to say of its upper edge."""

    def number(name: str, default: float, largest: float, step: float, tooltip: str) -> io.Float.Input:
        return io.Float.Input(name, default=default, min=0.0, max=largest, step=step, tooltip=tooltip, **options)

    return [
        number("start", WHOLE.start, 86400.0, 0.01, "Where the picture begins, in seconds from the beginning of the sound."),
        number("seconds", WHOLE.seconds, 86400.0, 0.01, "How long the picture is, in seconds. 0: to the end of the sound."),
        number("low_hz", WHOLE.low_hz, highest, 1.0, "Lower edge of the picture, in Hz. What is lower sounds as before."),
        number("high_hz", WHOLE.high_hz, highest, 1.0, f"Upper edge of the picture, in Hz. What is higher sounds as before.{top}"),
    ]


def invert_input(**options) -> io.Boolean.Input:
    return io.Boolean.Input(
        "invert",
        default=False,
        tooltip="Quieten the bright parts of the picture instead of the dark ones: for white on black, or to see a negative.",
        **options,
    )


class ImprintBaseline(io.ComfyNode):
    """The imprint baseline: a spectrogram darkened by a picture (paper A.1)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImprintBaseline",
            display_name="Imprint Baseline",
            category="Images that Sound/picture",
            description="Darkens a spectrogram where a picture is dark, so that the picture can be seen in the sound: "
            "spectrogram x (1 - rho x gray(1 - image)). Needs no diffusion model; the paper's baseline.",
            search_aliases=["hide image in sound", "hidden picture", "hidden image", "spectrogram art", "watermark"],
            inputs=[
                image_input(),
                io.Image.Input(
                    "spectrogram",
                    tooltip="The sound's spectrogram, 256 rows high, from AudioToSpectrogram or a VAE. Of a coloured one the mean counts.",
                ),
                rho_input(),
                fit_input(optional=True),
                *area_inputs(AUFFUSION.f_max, " 8000 stands for the top of the spectrogram, 10000 in Riffusion's view.", optional=True),
                invert_input(optional=True),
                picture_inputs.view_choice(
                    "What the spectrogram is: none, 256 rows, or Riffusion's 512. There white is silence, and the picture's bright parts "
                    "quieten, so that it is seen as it is.",
                    AS_IT_SOUNDS,
                ),
            ],
            outputs=[io.Image.Output(display_name="imprinted", tooltip="The darkened spectrogram, for SpectrogramToAudio.")],
        )

    @classmethod
    def execute(
        cls,
        image,
        spectrogram,
        rho,
        fit: Fit = FITS[0],
        start=WHOLE.start,
        seconds=WHOLE.seconds,
        low_hz=WHOLE.low_hz,
        high_hz=WHOLE.high_hz,
        invert=False,
        view="none",
    ) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        fmt = FORMATS[view]
        node, area = "ImprintBaseline", Area(start, seconds, low_hz, fmt.f_max if high_hz == WHOLE.high_hz else high_hz, fmt=fmt)
        picture = picture_inputs.picture(spectrogram, node, view=view)
        channels, picture = inputs.pair(picture_inputs.pixels(image, node, "image"), picture, node, ("image", "spectrogram"))
        check_area(area, node, "spectrogram", picture.shape[-1] * COLUMN, 2 * COLUMN, fmt.f_max)
        gray = imprint(channels.movedim(-1, 1).to(picture.device), picture, rho, fit, area, invert)  # BHWC -> BCHW
        return io.NodeOutput(apply_colormap(gray, "gray"))


class ImprintRecording(io.ComfyNode):
    """Imprint on the recording itself, which keeps its phase, rate and channels (beyond the paper)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImprintRecording",
            display_name="Imprint Recording",
            category="Images that Sound/audio",
            description="Hides a picture in a recording: quietens it where the picture is dark, at each moment and frequency. No vocoder: "
            "the sound stays the recording's, in stereo and at its own rate, and outside of the picture it is not touched at all.",
            search_aliases=[
                "hide image in sound",
                "hidden picture",
                "hidden image",
                "hide a picture in a song",
                "spectrogram art",
                "logo in song",
                "watermark",
                "steganography",
                "spectral filter",
            ],
            inputs=[
                image_input(),
                io.Audio.Input("audio", tooltip="The recording: a song, a clip, of any length, sample rate and number of channels."),
                rho_input(),
                *area_inputs(96000.0, " 8000 is the top of a spectrogram, or, of a recording that holds less, the top of that."),
                fit_input(),
                invert_input(),
                io.Combo.Input(
                    "scale",
                    options=list(SCALES),
                    default=WHOLE.scale,
                    optional=True,
                    tooltip="Frequency scale of the viewer that shall show the picture undistorted. mel: this pack's spectrograms, and "
                    "most editors' mel view. linear: viewers with as many Hz in each centimetre, often up to 20 kHz.",
                ),
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="The recording with the picture in it, at its own rate and channels."),
                io.Image.Output(
                    display_name="spectrogram",
                    tooltip="The result as AudioToSpectrogram shows it, where the picture is: mono, up to 8 kHz, 100 columns a second.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, audio, rho, start, seconds, low_hz, high_hz, fit: Fit, invert, scale: Scale = WHOLE.scale) -> io.NodeOutput:
        node = "ImprintRecording"
        inputs.in_range(cls, locals())
        samples, rate = audio_inputs.waveform(audio, node)
        # The default is the top of a spectrogram, or of what a recording of a lower rate holds.
        area = Area(start, seconds, low_hz, min(high_hz, rate / 2) if high_hz == WHOLE.high_hz else high_hz, scale)
        images, samples = inputs.pair(picture_inputs.pixels(image, node, "image").cpu(), samples, node, ("image", "audio"))
        check_area(area, node, "audio", samples.shape[-1] / rate, SHORTEST_SECONDS, rate / 2)

        progress = comfy.utils.ProgressBar(len(samples))

        def after_piece(item: int, done: int, pieces: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            progress.update_absolute(item * pieces + done, len(samples) * pieces)

        imprinted = [
            imprint_recording(picture.movedim(-1, 0), recording, rate, rho, fit, area, invert, partial(after_piece, item))
            for item, (picture, recording) in enumerate(zip(images, samples, strict=True))
        ]
        imprinted = torch.stack(imprinted) if len(imprinted) > 1 else imprinted[0][None]  # of an hour, a copy is a gigabyte
        first, last = area.span(samples.shape[-1], rate)
        result = {"waveform": imprinted, "sample_rate": rate}
        return io.NodeOutput(result, spectrogram_of(audio_inputs.mono({**result, "waveform": imprinted[..., first:last]}, node)))


def check_area(area: Area, node: str, socket: str, duration: float, shortest: float, nyquist: float) -> None:
    """Raise ValueError unless the area lies in a sound of `duration` seconds and frequencies up to `nyquist` Hz, `shortest` s or longer."""
    if area.low_hz >= nyquist:
        raise ValueError(
            f"{node}: low_hz is {area.low_hz:g}, but {socket} holds no frequencies above {nyquist:g} Hz (half its sample rate). "
            "Set low_hz to less, or use a recording at a higher rate."
        )
    if not 0.0 <= area.low_hz < area.high_hz:
        raise ValueError(
            f"{node}: low_hz is {area.low_hz:g} and high_hz {area.high_hz:g}; the picture lies between them. "
            "Set high_hz to more than low_hz."
        )
    if area.high_hz > nyquist:
        raise ValueError(
            f"{node}: high_hz is {area.high_hz:g}, but {socket} holds no frequencies above {nyquist:g} Hz (half its sample rate). "
            f"Set high_hz to {nyquist:g} or less."
        )
    if area.rows < 1:
        raise ValueError(
            f"{node}: low_hz {area.low_hz:g} to high_hz {area.high_hz:g} is narrower than one row of a picture. Set them further apart."
        )
    if not 0.0 <= area.start < duration:
        raise ValueError(
            f"{node}: start is {area.start:g} s, but {socket} is {duration:.2f} s long. Set it to less, or to 0 for the beginning."
        )
    # The widgets' hundredths may round a length up.
    if not 0.0 <= area.seconds <= duration - area.start + 0.01:
        raise ValueError(
            f"{node}: seconds is {area.seconds:g} from start {area.start:g}, but {socket} is only {duration:.2f} s long. "
            f"Set seconds to {duration - area.start:.2f} or less, or to 0 for all that is left, or use a longer recording."
        )
    length = min(area.seconds or duration, duration - area.start)
    if length < shortest:
        raise ValueError(
            f"{node}: the picture would have {length:.3f} s of {socket}; it needs {shortest:g} s or more. "
            "Raise seconds or lower start, or use a longer recording."
        )


NODES = [ImprintBaseline, ImprintRecording]
