"""The player in the node: its files, and what its front end (web/js) must know of them."""

from __future__ import annotations

import uuid

from comfy_api.latest import io

from ..bridge import audio_inputs, inputs, picture_inputs
from ..bridge.provenance import HIDDEN
from ..bridge.saving import save_pairs
from ..itsound_core.playhead import spectrogram_seconds
from ..itsound_core.spectrogram import band_frequencies
from ..itsound_core.views import FORMATS, VIEWS, canvas_rows

NODE = "PlayImage"


class PlayImage(io.ComfyNode):
    """Picture and sound with a playhead between them, played by the front end."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=NODE,
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
                picture_inputs.view_choice(
                    "two-row square: the line runs over the upper half of the 512 x 512 picture and then over the lower one. "
                    "Riffusion: its 512 rows reach up to 10 kHz.",
                ),
            ],
            hidden=HIDDEN,
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image, audio, view="none") -> io.NodeOutput:
        inputs.in_range(cls, locals())
        pictures = picture_inputs.pixels(image, NODE, "image")[..., :3].cpu()
        samples, rate = audio_inputs.mono_or_stereo(audio, NODE)
        pictures, samples = inputs.pair(pictures, samples, NODE, ("image", "audio"))

        (height, width), rows, fmt = pictures.shape[1:3], canvas_rows(VIEWS[view]), FORMATS[view]
        picture_inputs.view_height(height, NODE, "image", view)
        seconds, crossing = samples.shape[2] / rate, spectrogram_seconds(height, width, rows, fmt)
        shared = {"seconds": seconds, "sample_rate": rate, "picture_seconds": crossing or seconds, "is_spectrogram": crossing is not None}
        shared["rows"] = rows
        # A name that is never used again, so that no browser shows an older run from its cache.
        pairs = save_pairs(pictures, samples, rate, f"images-that-sound/{uuid.uuid4().hex}", io.FolderType.temp, cls.hidden, NODE)
        items = [{"picture": picture, "sound": sound, **shared} for picture, sound in pairs]
        # Keys of our own: under "images" and "audio" the front end would add its own previews. Frequencies from the top row down.
        return io.NodeOutput(ui={"player": items, "row_hertz": [band_frequencies(fmt).flip(0).round(decimals=1).tolist()]})


NODES = [PlayImage]
