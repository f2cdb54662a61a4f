"""Files that a node writes into one of ComfyUI's folders."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import comfy.utils
import folder_paths
from comfy_api.latest import io, ui
from torch import Tensor

from ..itsound_core.media import encode_flac, encode_png
from ..itsound_core.progress import OnStep
from .progress import interruptible, part
from .provenance import provenance, workflow_tags

COUNTED = "_00001_.flac.part"
"""The longest that follows a prefix in the name of a file while it is written."""
WRITTEN_AT_ONCE = 2**20
"""Bytes: a second of a slow network folder's time; the files of an hour take some minutes there."""


def save_pairs(
    pictures: Tensor, samples: Tensor, rate: int, prefix: str, place: io.FolderType, hidden: io.HiddenHolder | None, node: str
) -> list[tuple[ui.SavedResult, ui.SavedResult]]:
    """Write pictures (B, H, W, C) and samples (B, 1 or 2, T), each two as a PNG and a FLAC of one name, into one of ComfyUI's folders.

    Both files say what they are, as far as the graph tells upstream of the node's `image` and `audio`. Nothing is written before all of
    them are encoded, and of each pair both files appear or none. Shows progress, and stops when the user cancels. Raises ValueError naming
    `node` where they cannot be written.
    """
    graph, seen, heard = workflow_tags(hidden), provenance(hidden, ("image",)), provenance(hidden, ("audio",))
    texts = {name.capitalize(): text for name, text in seen.tags().items()} | graph  # PNG's own keywords are Title, Comment, Software
    progress, files_in_all = comfy.utils.ProgressBar(1), 2 * len(pictures)

    def watched(file: int) -> OnStep:
        return interruptible(part(progress.update_absolute, file, files_in_all))

    encoded = [
        {
            "png": encode_png(picture, texts, seen.xmp(), watched(2 * item)),
            "flac": encode_flac(sound, rate, heard.tags() | graph, watched(2 * item + 1)),
        }
        for item, (picture, sound) in enumerate(zip(pictures, samples, strict=True))
    ]
    height, width = pictures.shape[1:3]
    root = folder_paths.get_directory_by_type(place.value)
    subfolder, _, name = _filled_in(prefix, width, height).rpartition("/")
    try:
        # Asked of the sub-folder itself: of a link in it, to another disk, newer versions would say that it leads out of their folder.
        folder, name, counter, *_ = folder_paths.get_save_image_path(name, os.path.abspath(os.path.join(root, subfolder)), width, height)
        # The underscore after the number is what lets every version of ComfyUI count on from it.
        stems = [f"{name.replace('%batch_num%', str(index))}_{counter + index:05}_" for index in range(len(encoded))]
        for stem, files in zip(stems, encoded, strict=True):
            write_together({Path(folder, f"{stem}.{suffix}"): data for suffix, data in files.items()}, interruptible())
    except OSError as error:
        raise ValueError(
            f"{node}: cannot write to {error.filename or root} ({error.strerror or error}). Of an unfinished pair nothing was left. Make "
            f"room or give ComfyUI the right to write there, and run it again; or start ComfyUI with --{place.value}-directory elsewhere."
        ) from error

    def saved(stem: str, suffix: str) -> ui.SavedResult:
        return ui.SavedResult(f"{stem}.{suffix}", subfolder, place)

    return [(saved(stem, "png"), saved(stem, "flac")) for stem in stems]


def _filled_in(prefix: str, width: int, height: int) -> str:
    """A prefix with ComfyUI's variables in it filled in; what else stands between % stays."""
    now = time.localtime()
    values = {"width": width, "height": height, "year": now.tm_year, "month": f"{now.tm_mon:02}", "day": f"{now.tm_mday:02}"}
    values |= {"hour": f"{now.tm_hour:02}", "minute": f"{now.tm_min:02}", "second": f"{now.tm_sec:02}"}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", str(value))
    return prefix


def write_together(files: Mapping[Path, bytes], on_step: OnStep | None = None) -> None:
    """Write files whole and all, or none of them: each under a temporary name first. Raises OSError as writing does.

    on_step is called after each WRITTEN_AT_ONCE of a file; what it raises ends the writing and leaves nothing.
    """
    partial = {path: path.with_name(f"{path.name}.part") for path in files}
    finished: list[Path] = []
    try:
        for path, data in files.items():
            with partial[path].open("wb") as file:
                for begin in range(0, len(data), WRITTEN_AT_ONCE):
                    file.write(memoryview(data)[begin : begin + WRITTEN_AT_ONCE])
                    if on_step:
                        on_step(min(begin + WRITTEN_AT_ONCE, len(data)), len(data))
        for path in files:
            os.replace(partial[path], path)
            finished.append(path)
    except BaseException:
        for path in (*partial.values(), *finished):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise
