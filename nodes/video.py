"""The video of a picture with its sound and the playhead between them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction

import comfy.model_management
import comfy.utils
from comfy_api.latest import InputImpl, io
from PIL import ImageColor
from torch import Tensor

from ..bridge import audio_inputs, inputs, picture_inputs
from ..bridge.provenance import HIDDEN, provenance
from ..itsound_core.framing import GAP, SCREENS, Colour, Framed, bare, stack, with_captions
from ..itsound_core.media import AUDIO_CODECS, LARGEST_SIDE, AudioCodec, encode_mp4
from ..itsound_core.playhead import LINE_COLOUR, frame_count, playhead_frames, rows_of, spectrogram_seconds
from ..itsound_core.resampling import resample
from ..itsound_core.spectrogram import AUFFUSION
from ..itsound_core.views import FORMATS, VIEWS, canvas_rows

NODE = "PlayheadVideo"
LAYOUTS = ("captions", "picture", *(name for name, screen in SCREENS.items() if screen))
LINE_COLOUR_NAME = "#{:02x}{:02x}{:02x}".format(*LINE_COLOUR)
AAC_RATES = (44100, 48000)


class PlayheadVideo(io.ComfyNode):
    """Picture, moving line, sound: the form in which the paper shows its results (A.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=NODE,
            display_name="Playhead Video",
            category="Images that Sound/video",
            description="A video of the picture in which a line runs from left to right in step with the sound, with both prompts below. "
            "Long pictures turn pages. Batches are played one after the other. Connect it to Save Video.",
            search_aliases=["spectrogram video", "scrolling line", "audio visualizer"],
            inputs=[
                io.Image.Input("image", tooltip="The picture, of any size: the spectrogram itself or its coloured version."),
                io.Audio.Input(
                    "audio",
                    tooltip="The sound; the video is as long. A spectrogram, 256 rows high, is crossed at its own 100 columns a second, "
                    "any other picture once in the length of the sound. Stereo stays stereo.",
                ),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=60.0,
                    step=1.0,
                    tooltip="Frames a second: how smoothly the line moves.",
                ),
                io.String.Input(
                    "image_prompt",
                    default="",
                    multiline=True,
                    tooltip="What the picture was made to show: the left caption, and in the file's metadata.",
                ),
                io.String.Input(
                    "audio_prompt",
                    default="",
                    multiline=True,
                    tooltip="What the sound was made to be: the right caption, and in the file's metadata.",
                ),
                io.Image.Input(
                    "image_below",
                    optional=True,
                    tooltip="A second picture under the first, such as the coloured version under the gray one; the line crosses both. "
                    "It is scaled to the first one's width.",
                ),
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    default=LAYOUTS[0],
                    optional=True,
                    tooltip="captions: the picture at its own size with the prompts below. picture: nothing but the picture. "
                    "The others fill a screen of that size, for posting.",
                ),
                io.Color.Input(
                    "line_color",
                    default=LINE_COLOUR_NAME,
                    optional=True,
                    advanced=True,
                    tooltip="Colour of the line and of the captions' headings.",
                ),
                io.Combo.Input(
                    "audio_codec",
                    options=list(AUDIO_CODECS),
                    default=AUDIO_CODECS[0],
                    optional=True,
                    advanced=True,
                    tooltip="aac plays everywhere and changes the spectrogram by about 0.1 dB. flac keeps every sample, at 24 bits; "
                    "browsers and ComfyUI play it, some phones and sites do not.",
                ),
                picture_inputs.view_choice(
                    "two-row square: the 512 x 512 picture is crossed twice, its upper half and then its lower one, as it sounds. "
                    "Riffusion: its 512 rows are crossed at 100 columns a second.",
                ),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="MP4 with H.264, which Save Video stores as it is.")],
            hidden=HIDDEN,
        )

    @classmethod
    def execute(
        cls,
        image,
        audio,
        fps,
        image_prompt,
        audio_prompt,
        image_below=None,
        layout=LAYOUTS[0],
        line_color=LINE_COLOUR_NAME,
        audio_codec: AudioCodec = AUDIO_CODECS[0],
        view="none",
    ) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        colour = parse_colour(line_color)
        pictures = colours(image, "image")
        height, width = pictures.shape[1:3]
        row_count = canvas_rows(VIEWS[view])
        picture_inputs.view_height(height, NODE, "image", view)
        crossing, rows = spectrogram_seconds(height, width, row_count, FORMATS[view]), rows_of([height], row_count)
        if image_below is not None:
            pictures = stack(*inputs.pair(pictures, colours(image_below, "image_below"), NODE, ("image", "image_below")))
            rows = rows_of([height, pictures.shape[1] - height - GAP], row_count, GAP)
        samples, rate = playable(audio, audio_codec)
        pictures, samples = inputs.pair(pictures, samples, NODE, ("image", "audio"))
        seconds = samples.shape[2] / rate
        if crossing and abs(crossing - seconds) > AUFFUSION.seconds(1.5):
            logging.warning(
                f"{NODE}: image is {crossing:.2f} s wide at 100 columns a second, audio lasts {seconds:.2f} s. The line keeps to the "
                "picture's time. If they should be as long, cut both with TrimCanvas."
            )

        def frame(picture: Tensor) -> Framed:
            prompts = (image_prompt, audio_prompt)
            framed = bare(picture) if layout == "picture" else with_captions(picture, prompts, SCREENS[layout], colour)
            height, width = framed.pixels.shape[:2]
            if max(height, width) > LARGEST_SIDE:
                raise ValueError(
                    f"{NODE}: image makes a video of {width} x {height} pixels; H.264 holds {LARGEST_SIDE} a side. "
                    "Choose a layout that names its size, or scale the picture with ImageScale."
                )
            return framed

        frame_rate = Fraction(fps).limit_denominator(1001)
        progress = comfy.utils.ProgressBar(frame_count(len(pictures) * seconds, float(frame_rate)))

        def frames() -> Iterator[Tensor]:
            for pixels in playhead_frames(pictures, seconds, float(frame_rate), crossing, frame, colour, rows, height // row_count):
                comfy.model_management.throw_exception_if_processing_interrupted()
                yield pixels
                progress.update(1)

        samples = samples.movedim(0, 1).flatten(1)  # one item after the other
        tags = provenance(cls.hidden, ("image", "audio", "image_below"), image_prompt, audio_prompt).tags()
        # A file in memory: ComfyUI's own VIDEO reads, cuts and saves it without encoding it again, and holds no frame.
        return io.NodeOutput(InputImpl.VideoFromFile(encode_mp4(frames(), frame_rate, samples, rate, tags, audio_codec)))


def colours(image: Tensor, socket: str) -> Tensor:
    """Colours (B, H, W, 3) on the CPU of an IMAGE of 1, 3 or 4 channels; alpha is left out."""
    return picture_inputs.pixels(image, NODE, socket)[..., :3].cpu().expand(-1, -1, -1, 3)


def playable(audio: dict | None, codec: AudioCodec) -> tuple[Tensor, int]:
    """Samples (B, 1 or 2, T) of an AUDIO, at a rate that serves the codec well, and that rate."""
    samples, rate = audio_inputs.mono_or_stereo(audio, NODE)
    if codec == "aac" and rate not in AAC_RATES:
        return resample(samples, rate, AAC_RATES[-1]), AAC_RATES[-1]
    return samples, rate


def parse_colour(text: str) -> Colour:
    """Red, green and blue of "#rrggbb" or a name that CSS knows."""
    try:
        colour = ImageColor.getcolor(text, "RGB")[:3]
    except ValueError:
        colour = ()
    if not colour or not all(0 <= level <= 255 for level in colour):  # Pillow takes rgb(300, 0, 0) and 200 %
        raise ValueError(f"{NODE}: line_color is {text!r}; it must be a colour. Write one such as #ff4020 or white.")
    return colour


NODES = [PlayheadVideo]
