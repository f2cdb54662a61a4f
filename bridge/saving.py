"""Files that a node writes into one of ComfyUI's folders."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui
from torch import Tensor

from ..itsound_core.media import encode_flac, encode_png
from .provenance import provenance, workflow_tags


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
