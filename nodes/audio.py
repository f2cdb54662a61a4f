"""Nodes between picture and sound: the spectrogram made audible, a recording made visible, and how well the two agree."""

from __future__ import annotations

import comfy.utils
import numpy as np
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from PIL import Image, ImageDraw
from torch import Tensor

from ..bridge import audio_inputs, inputs, picture_inputs
from ..bridge.picture_format import HIDDEN, refuse_negative
from ..bridge.progress import interruptible, part
from ..bridge.vocoding import play, refuse_vocoder, sound, spectrogram_of
from ..itsound_core.colormap import apply_colormap
from ..itsound_core.cycle import change_level, cycle_consistency, level_db
from ..itsound_core.views import AS_IT_SOUNDS, FORMATS, VIEWS

CATEGORY = "Images that Sound/audio"
LABEL_HEIGHT = 24
# A difference of 6 dB is 4 % of the picture's range: shown as it is it could not be seen.
DIFFERENCE_GAIN = 4.0
# Smaller differences of level are within what Griffin-Lim leaves.
AUDIBLE_LEVEL_DB = 0.5


class SpectrogramToAudio(io.ComfyNode):
    """Picture to waveform, by HiFi-GAN or by Griffin-Lim (paper 4.1)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpectrogramToAudio",
            display_name="Spectrogram to Audio",
            category=CATEGORY,
            description="Plays a spectrogram picture: 100 columns are a second, the top row is 8 kHz. With a vocoder the sound is most "
            "natural; without one Griffin-Lim finds a waveform, slower and a little metallic, for any picture.",
            search_aliases=[
                "image to sound",
                "image to audio",
                "picture to sound",
                "picture to audio",
                "photo to music",
                "griffin lim",
                "hifi-gan",
                "vocoder decode",
                "sonify",
            ],
            inputs=[
                io.Image.Input(
                    "spectrogram",
                    tooltip="The spectrogram picture, 256 rows high (another view: 512), 100 columns a second. The mean of its colours is "
                    "what is played.",
                ),
                io.Custom("VOCODER").Input(
                    "vocoder", optional=True, tooltip="A HiFi-GAN from LoadVocoder. Left open, Griffin-Lim makes the sound."
                ),
                io.Int.Input(
                    "iterations",
                    default=48,
                    min=1,
                    max=1000,
                    optional=True,
                    tooltip="Rounds of Griffin-Lim; more come a little closer to the picture. Not used with a vocoder.",
                ),
                io.Combo.Input(
                    "magnitude",
                    options=["vocoder", "picture"],
                    default="vocoder",
                    optional=True,
                    tooltip="With a vocoder: keep its own loudness at each point (vocoder, the most natural), or take only its phase "
                    "and the loudness from the picture (picture, the best likeness). Not used with Griffin-Lim.",
                ),
                io.Boolean.Input(
                    "loop",
                    default=False,
                    optional=True,
                    tooltip="The picture is one turn of a loop: the sound's end goes on into its beginning without a click. For canvases "
                    "sampled with looped context windows.",
                ),
                picture_inputs.view_choice(
                    "What the picture is. none: Auffusion's spectrogram, 256 rows, black where it is silent. two-row square: that one's "
                    "halves below each other, 512 rows. Riffusion: 512 rows, white where it is silent; without a vocoder."
                ),
            ],
            outputs=[
                io.Audio.Output(
                    display_name="audio",
                    tooltip="The sound: mono, 16 kHz, 160 samples for each column. Where the picture is brighter than a sound can be loud, "
                    "it is turned down to a peak of 0.95, so that nothing clips. Riffusion's: 44.1 kHz, always at that peak.",
                )
            ],
            hidden=HIDDEN,
        )

    @classmethod
    def execute(cls, spectrogram, vocoder=None, iterations=48, magnitude="vocoder", loop=False, view="none") -> io.NodeOutput:
        node = "SpectrogramToAudio"
        inputs.in_range(cls, locals())
        fmt = FORMATS[view]
        pictures = VIEWS[view].view(picture_inputs.picture(spectrogram, node, view=view))
        refuse_vocoder(node, vocoder, view)
        refuse_negative(node, cls.hidden, view)
        progress = comfy.utils.ProgressBar(len(pictures))
        played = play(pictures, vocoder, iterations, magnitude == "picture", progress.update_absolute, loop, fmt)
        return io.NodeOutput(sound(played, fmt))


class AudioToSpectrogram(io.ComfyNode):
    """Waveform to picture (paper 4.1, Auffusion's convention)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AudioToSpectrogram",
            display_name="Audio to Spectrogram",
            category=CATEGORY,
            description="Shows a recording as the spectrogram picture that the models know: 256 mel bands up to 8 kHz, 100 columns a "
            "second. Any rate and number of channels is taken; the result is mono at 16 kHz.",
            search_aliases=["sound to image", "audio to image", "sound to picture", "audio to picture", "mel spectrogram", "encode audio"],
            inputs=[
                io.Audio.Input("audio", tooltip="The recording, of any sample rate and number of channels; channels are mixed to one."),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=3600.0,
                    step=0.01,
                    tooltip="Length of the picture: a longer recording is cut, a shorter one followed by silence. 0 takes all of it. "
                    "10.24 is what the models were trained on.",
                ),
                io.Boolean.Input(
                    "normalize",
                    default=True,
                    optional=True,
                    tooltip="Bring each recording to a peak of 0.95, on which the audio model was trained. Turn it off to compare levels.",
                ),
                io.Combo.Input(
                    "channels",
                    options=list(audio_inputs.MIXES),
                    default=audio_inputs.MIXES[0],
                    optional=True,
                    tooltip="How stereo becomes mono. mix: the mean, or the louder channel alone where they would cancel each other. left, "
                    "right: that channel alone. difference: what is heard on one side only.",
                ),
                picture_inputs.view_choice(
                    "For which model. none: Auffusion's spectrogram, 256 rows. two-row square: that one's halves below each other, "
                    "512 rows. Riffusion: 512 rows up to 10 kHz, white where it is silent; it keeps no loudness."
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="spectrogram", tooltip="The gray picture, 256 rows high; silence is black. Riffusion's: 512, white."
                )
            ],
        )

    @classmethod
    def execute(cls, audio, seconds, normalize=True, channels=audio_inputs.MIXES[0], view="none") -> io.NodeOutput:
        node = "AudioToSpectrogram"
        inputs.in_range(cls, locals())
        progress = comfy.utils.ProgressBar(1)
        rate, on_step = FORMATS[view].sample_rate, progress.update_absolute
        # held by no name, so that the waveform is let go of once it is levelled: a fifth of a GiB for an hour
        return io.NodeOutput(spectrogram_of(audio_inputs.mono(audio, node, channels, rate), seconds, normalize, on_step, view))


class TrimCanvas(io.ComfyNode):
    """Drops the dark edge that Auffusion leaves, from picture and sound alike (official code: 32 columns, 10.24 s to 9.92 s)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrimCanvas",
            display_name="Trim Canvas",
            category=CATEGORY,
            description="Cuts columns off the right edge of a spectrogram and the matching time off its sound. The audio model was trained "
            "on clips padded to 10.24 s and leaves a dark edge there.",
            search_aliases=["crop spectrogram", "cut audio"],
            inputs=[
                io.Image.Input("spectrogram", tooltip="The spectrogram picture, 256 rows high, gray or coloured."),
                io.Audio.Input("audio", tooltip="Its sound, which starts at the picture's left edge."),
                io.Int.Input("columns", default=32, min=0, max=16384, tooltip="Columns to cut off; 32 are 0.32 s."),
                picture_inputs.view_choice(
                    "What the picture is: none, 256 rows, or Riffusion's 512 rows. That model leaves no dark edge.", AS_IT_SOUNDS
                ),
            ],
            outputs=[
                io.Image.Output(display_name="spectrogram", tooltip="The picture without the columns."),
                io.Audio.Output(display_name="audio", tooltip="The sound as long as the picture, in its own rate and channels."),
            ],
        )

    @classmethod
    def execute(cls, spectrogram, audio, columns, view="none") -> io.NodeOutput:
        node = "TrimCanvas"
        inputs.in_range(cls, locals())
        fmt, width = FORMATS[view], picture_inputs.picture(spectrogram, node, view=view).shape[2]
        spectrogram = picture_inputs.pixels(spectrogram, node, "spectrogram")
        samples, rate = audio_inputs.waveform(audio, node)
        inputs.pair(spectrogram, samples, node, ("spectrogram", "audio"))
        kept = width - columns
        if kept < fmt.shortest:
            raise ValueError(
                f"{node}: columns is {columns}, but the spectrogram is {width} columns wide and {fmt.shortest} must stay. "
                f"Set columns to {width - fmt.shortest} or less."
            )
        length = round(fmt.samples(kept) * rate / fmt.sample_rate)
        return io.NodeOutput(spectrogram[:, :, :kept], {"waveform": samples[..., :length], "sample_rate": rate})


class CycleConsistency(io.ComfyNode):
    """Re-encodes the waveform and compares it with the spectrogram that was meant (paper Fig. 6, 7)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CycleConsistency",
            display_name="Cycle Consistency",
            category=CATEGORY,
            description="Checks that a sound really contains its picture: makes the spectrogram of the sound and compares it with the "
            "one that was meant, as loud as it is and, where its level differs, at the picture's level.",
            search_aliases=["compare spectrograms", "round trip", "verify"],
            inputs=[
                io.Image.Input("spectrogram", tooltip="The spectrogram that was meant, 256 rows high."),
                io.Audio.Input("audio", tooltip="The sound made from it."),
                picture_inputs.view_choice(
                    "What the picture is, as set where it was played. none: 256 rows. two-row square: its halves are the sound. "
                    "Riffusion: 512 rows; it keeps no loudness, and 120 dB below its loudest point nothing is compared."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="comparison", tooltip="Meant, heard, and their difference, one below the other."),
                io.String.Output(display_name="report", tooltip="Mean difference in decibels and correlation, a line for each item."),
            ],
        )

    @classmethod
    def execute(cls, spectrogram, audio, view="none") -> io.NodeOutput:
        node = "CycleConsistency"
        inputs.in_range(cls, locals())
        fmt = FORMATS[view]
        meant = VIEWS[view].view(picture_inputs.picture(spectrogram, node, view=view).cpu())
        meant, waveform = inputs.pair(meant, audio_inputs.mono(audio, node, target=fmt.sample_rate), node, ("spectrogram", "audio"))
        # The sound may be shorter than its picture, or have been cut: what is missing counts as silence.
        waveform = F.pad(waveform, (0, fmt.samples(meant.shape[2]) - waveform.shape[1]))
        progress = comfy.utils.ProgressBar(1).update_absolute
        first, second, third = (interruptible(part(progress, index, 3)) for index in range(3))
        cycle = cycle_consistency(meant, waveform, fmt, first)
        levels = level_db(meant, waveform, fmt, second)
        shown = torch.where(levels.abs() > AUDIBLE_LEVEL_DB, levels, 0.0)
        levelled = cycle_consistency(meant, change_level(waveform, -shown), fmt, third) if shown.any() else cycle
        scale = f"white is {fmt.decibels_per_level * 255 / DIFFERENCE_GAIN:.0f} dB" if fmt.exponent is None else f"x {DIFFERENCE_GAIN:g}"
        rows = {
            "meant": meant,
            "heard" + (", at the picture's level" if shown.any() else ""): levelled.picture,
            f"difference ({scale})": ((levelled.picture - meant).abs() * DIFFERENCE_GAIN).clamp(max=1.0),
        }
        comparison = torch.cat([strip for text, pictures in rows.items() for strip in (label(text, pictures), pictures)], dim=1)
        report = []
        for index, level in enumerate(shown.tolist()):
            line = f"{index}: mean difference {cycle.error_db[index]:.2f} dB, correlation {cycle.correlation[index]:.3f}"
            if level:
                line += f"; {abs(level):.1f} dB {'louder' if level > 0 else 'quieter'} than the picture, at its level "
                line += f"{levelled.error_db[index]:.2f} dB, correlation {levelled.correlation[index]:.3f}"
            report.append(line)
        return io.NodeOutput(apply_colormap(comparison, "gray"), "\n".join(report))


def label(text: str, picture: Tensor) -> Tensor:
    """Strip (B, LABEL_HEIGHT, W) with white text on black, as wide as the picture (B, H, W)."""
    strip = Image.new("L", (picture.shape[2], LABEL_HEIGHT))
    ImageDraw.Draw(strip).text((6, 6), text, fill=255)
    return torch.from_numpy(np.asarray(strip, dtype=np.float32) / 255.0).expand(len(picture), -1, -1)


NODES = [SpectrogramToAudio, AudioToSpectrogram, TrimCanvas, CycleConsistency]
