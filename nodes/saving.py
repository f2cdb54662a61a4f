"""The work itself on disk: the picture and its sound as a pair of lossless files under one name."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..itsound_core.media import encode_flac, encode_png
from . import checks
from .provenance import HIDDEN, provenance, workflow_tags

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
        pictures = checks.pixels(image, NODE, "image").cpu()
        samples, rate = checks.mono_or_stereo(audio, NODE)
        pictures, samples = checks.pair(pictures, samples, NODE, ("image", "audio"))
        if not filename_prefix.strip(" ./\\"):
            raise ValueError(f"{NODE}: filename_prefix is {filename_prefix!r}; give the files a name, such as images-that-sound/bells.")

        graph, seen, heard = workflow_tags(cls.hidden), provenance(cls.hidden, ("image",)), provenance(cls.hidden, ("audio",))
        texts = {name.capitalize(): text for name, text in seen.tags().items()} | graph  # PNG's own keywords are Title, Comment, Software
        files = [
            (encode_png(picture, texts, seen.xmp()), encode_flac(sound, rate, heard.tags() | graph))
            for picture, sound in zip(pictures, samples, strict=True)
        ]
        height, width = pictures.shape[1:3]
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
        saved: dict[str, list[ui.SavedResult]] = {"images": [], "audio": []}
        for index, pair in enumerate(files):
            # The underscore after the number is what lets every version of ComfyUI count on from it.
            stem = f"{name.replace('%batch_num%', str(index))}_{counter + index:05}_"
            for kind, suffix, data in zip(saved, ("png", "flac"), pair, strict=True):
                Path(folder, f"{stem}.{suffix}").write_bytes(data)
                saved[kind].append(ui.SavedResult(f"{stem}.{suffix}", subfolder, io.FolderType.output))
        return io.NodeOutput(ui=saved)


NODES = [SaveImageThatSounds]
