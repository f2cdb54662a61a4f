"""The player in the node: its files, and what its front end (web/js) must know of them."""

from __future__ import annotations

from comfy_api.latest import io, ui
from torch import Tensor

from ..itsound_core.colorize import LEVELS
from ..itsound_core.spectrogram import AUFFUSION, band_frequencies
from . import checks


class PlayImage(io.ComfyNode):
    """Picture and sound with a playhead between them, played by the front end."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlayImage",
            display_name="Play Image",
            category="Images that Sound/video",
            description="Plays the sound in the node while a line moves across its picture. Click into the picture to hear it from there; "
            "point at it to read time and frequency.",
            search_aliases=["player", "preview image and audio", "listen", "playhead", "spectrogram viewer"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The picture. 256 rows high it is read as a spectrogram, 100 columns a second; any other is stretched over "
                    "its sound.",
                ),
                io.Audio.Input("audio", tooltip="The sound: one for each picture, or one for all of them."),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image, audio) -> io.NodeOutput:
        node = "PlayImage"
        samples, rate = checks.waveform(audio, node)
        pictures, samples = checks.pair(checks.pixels(image, node, "image")[..., :3].cpu(), samples, node, ("image", "audio"))
        if samples.shape[1] > 2:
            samples = samples.mean(dim=1, keepdim=True)

        height, width = pictures.shape[1:3]
        seconds = samples.shape[2] / rate
        is_spectrogram = height == AUFFUSION.n_mels
        picture_seconds = width * AUFFUSION.hop_length / AUFFUSION.sample_rate if is_spectrogram else seconds
        picture_files = ui.PreviewImage(rounded(pictures), cls=cls).values
        sound_files = ui.PreviewAudio({"waveform": samples, "sample_rate": rate}, cls=cls).values
        shared = {"seconds": seconds, "sample_rate": rate, "picture_seconds": picture_seconds, "is_spectrogram": is_spectrogram}
        items = [{"picture": picture, "sound": sound, **shared} for picture, sound in zip(picture_files, sound_files, strict=True)]
        # Keys of our own: under "images" and "audio" the front end would add its own previews. Frequencies from the top row down.
        return io.NodeOutput(ui={"player": items, "row_hertz": [band_frequencies().flip(0).round(decimals=1).tolist()]})


def rounded(pictures: Tensor) -> Tensor:
    """Pictures (B, H, W, 1 or 3) as (B, H, W, 3) that core's PNG writer, which truncates, stores rounded."""
    return (((pictures * LEVELS).round() + 0.5) / LEVELS).expand(-1, -1, -1, 3)


NODES = [PlayImage]
