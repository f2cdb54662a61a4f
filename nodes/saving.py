"""The work itself on disk: the picture and its sound as a pair of lossless files under one name."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui
from torch import Tensor

from ..bridge import inputs
from ..bridge.provenance import HIDDEN, provenance, workflow_tags
from ..itsound_core.media import encode_flac, encode_png

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
        pictures = inputs.pixels(image, NODE, "image").cpu()
        samples, rate = inputs.mono_or_stereo(audio, NODE)
        pictures, samples = inputs.pair(pictures, samples, NODE, ("image", "audio"))
        if not filename_prefix.strip(" ./\\"):
            raise ValueError(f"{NODE}: filename_prefix is {filename_prefix!r}; give the files a name, such as images-that-sound/bells.")

        pairs = save_pairs(pictures, samples, rate, filename_prefix, io.FolderType.output, cls.hidden)
        return io.NodeOutput(ui={"images": [picture for picture, _ in pairs], "audio": [sound for _, sound in pairs]})


def save_pairs(
    pictures: Tensor, samples: Tensor, rate: int, prefix: str, place: io.FolderType, hidden: io.HiddenHolder | None
) -> list[tuple[ui.SavedResult, ui.SavedResult]]:
    """Write pictures (B, H, W, C) and samples (B, 1 or 2, T), each two as a PNG and a FLAC of one name, into one of ComfyUI's folders.

    Both files say what they are, as far as the graph tells upstream of the node's `image` and `audio`. Nothing is written before all of
    them are encoded.
    """
    graph, seen, heard = workflow_tags(hidden), provenance(hidden, ("image",)), provenance(hidden, ("audio",))
    texts = {name.capitalize(): text for name, text in seen.tags().items()} | graph  # PNG's own keywords are Title, Comment, Software
    files = [
        (encode_png(picture, texts, seen.xmp()), encode_flac(sound, rate, heard.tags() | graph))
        for picture, sound in zip(pictures, samples, strict=True)
    ]
    height, width = pictures.shape[1:3]
    root = folder_paths.get_directory_by_type(place.value)
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)

    def write(stem: str, suffix: str, data: bytes) -> ui.SavedResult:
        Path(folder, f"{stem}.{suffix}").write_bytes(data)
        return ui.SavedResult(f"{stem}.{suffix}", subfolder, place)

    # The underscore after the number is what lets every version of ComfyUI count on from it.
    stems = [f"{name.replace('%batch_num%', str(index))}_{counter + index:05}_" for index in range(len(files))]
    return [(write(stem, "png", picture), write(stem, "flac", sound)) for stem, (picture, sound) in zip(stems, files, strict=True)]


NODES = [SaveImageThatSounds]
