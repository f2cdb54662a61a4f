"""What a study is made of: the prompts file and a folder a method, checked before any work."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

from itsound_core.presets import PromptPair

from .clips import Clip, Still, StudyError, Video, readable

Samples = dict[PromptPair, list[str]]
"""Names of samples by what the questions call their picture and sound."""
COLUMNS = ("name", "image", "audio")


def read_prompts(path: Path) -> Samples:
    """The samples that shall be shown, from rows of name, image and audio: a CSV file with these columns, or a JSON list of such objects.

    Raises StudyError if a row lacks one of them, a name comes twice, or the prompt pairs differ in their number of samples.
    """
    with readable(path):
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines())) if path.suffix == ".csv" else json.loads(text)
    samples, seen = defaultdict(list), set()
    for row in rows if isinstance(rows, list) else [rows]:
        name, image, audio = (str((row if isinstance(row, dict) else {}).get(column) or "").strip() for column in COLUMNS)
        if not (name and image and audio):
            raise StudyError(f"{path}: every sample needs a name, an image and an audio prompt, which {row!r} has not.")
        if name in seen:
            raise StudyError(f"{path} has the name {name!r} twice: one file a sample, one line a file.")
        seen.add(name)
        samples[PromptPair(image, audio)].append(name)
    if len(set(map(len, samples.values()))) != 1:
        counts = ", ".join(f"{pair.image} / {pair.audio}: {len(names)}" for pair, names in samples.items())
        raise StudyError(f"{path}: every prompt pair needs the same number of samples, one at least ({counts or 'there are none'}).")
    return dict(samples)


def read_methods(folders: list[Path], samples: Samples) -> dict[str, dict[str, Clip]]:
    """Every method's clips by name, methods by their folders' names in the given order.

    All clips are videos where every folder has them all, else all are pictures with sounds: a method must not be known by its form. Raises
    StudyError if folders share a name, if a sample is missing, and if a file cannot be decoded.
    """
    prompts = {name: pair for pair, names in samples.items() for name in names}
    methods = {folder.resolve().name: folder for folder in folders}
    if len(methods) < len(folders):
        raise StudyError(f"The folders' names are the methods' names in the table: {', '.join(map(str, folders))} are not all different.")
    absent = []
    for form in (video, still):
        clips = {method: {name: form(folder, name, pair) for name, pair in prompts.items()} for method, folder in methods.items()}
        listed = [clip for group in clips.values() for clip in group.values()]
        missing = [path for clip in listed for path in clip.files if not path.is_file()]
        if not missing:
            for clip in listed:
                clip.check()
            return clips
        absent.append(f"{len(missing)} missing, as {missing[0]}")
    raise StudyError(
        f"Every folder needs every name of the prompts file, all as <name>.mp4 ({absent[0]}) or all as <name>.png with <name>.flac or "
        f"<name>.wav ({absent[1]})."
    )


def video(folder: Path, name: str, _prompts: PromptPair) -> Clip:
    return Video(folder / f"{name}.mp4")


def still(folder: Path, name: str, prompts: PromptPair) -> Clip:
    flac, wav = (folder / f"{name}{suffix}" for suffix in (".flac", ".wav"))
    return Still(folder / f"{name}.png", wav if wav.is_file() and not flac.is_file() else flac, prompts)
