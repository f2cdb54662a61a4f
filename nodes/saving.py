"""The work itself on disk: the picture and its sound as a pair of lossless files under one name."""

from __future__ import annotations

from comfy_api.latest import io

from ..bridge import audio_inputs, inputs, picture_inputs
from ..bridge.files import checked_name
from ..bridge.provenance import HIDDEN
from ..bridge.saving import COUNTED, save_pairs

NODE = "SaveImageThatSounds"


class SaveImageThatSounds(io.ComfyNode):
    """A PNG and a FLAC of one name, each with its workflow and with what it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=NODE,
            display_name="Save Image that Sounds",
            category="Images that Sound/save",
            description="Saves a picture and its sound as a pair, a PNG and a FLAC of one name, in ComfyUI's output folder. Both carry the "
            "workflow, and say whether they are AI-generated and from which prompts, seeds and models.",
            search_aliases=["save picture and sound", "save image", "save audio", "export png flac"],
            inputs=[
                io.Image.Input("image", tooltip="The picture, gray or coloured. Read from the PNG again, it gives the same sound."),
                io.Audio.Input("audio", tooltip="Its sound, of any rate; stereo stays stereo, more channels are mixed to one."),
                io.String.Input(
                    "filename_prefix",
                    default="images-that-sound/sounding",
                    tooltip="Beginning of both names; a number follows. It may name sub-folders, and hold %year%, %month%, %day%, %width%.",
                ),
            ],
            hidden=HIDDEN,
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image, audio, filename_prefix) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        pictures = picture_inputs.pixels(image, NODE, "image").cpu()
        samples, rate = audio_inputs.mono_or_stereo(audio, NODE)
        pictures, samples = inputs.pair(pictures, samples, NODE, ("image", "audio"))
        prefix = checked_name(NODE, "filename_prefix", filename_prefix, COUNTED)
        pairs = save_pairs(pictures, samples, rate, prefix, io.FolderType.output, cls.hidden, NODE)
        return io.NodeOutput(ui={"images": [picture for picture, _ in pairs], "audio": [sound for _, sound in pairs]})


NODES = [SaveImageThatSounds]
