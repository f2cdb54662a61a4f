"""The survey as one page that needs nothing else, and its key."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .clips import StudyError
from .material import Samples

PAGE = Path(__file__).with_name("survey.html")
LARGEST = 300_000_000
"""Bytes of video that browsers still open as one page."""


@dataclass(frozen=True)
class Study:
    """`pairs` by id: image, audio, against, and samples as {name, ours, baseline} with the ids of their clips. `clips`: MP4s by id."""

    ours: str
    pairs: dict[str, dict]
    clips: dict[str, bytes]

    @property
    def id(self) -> str:
        """Follows from prompts and clips: the same survey, built again, has the same."""
        listed = {name: hashlib.sha256(clip).hexdigest() for name, clip in self.clips.items()}
        return digest([self.pairs, listed])[:12]

    def key(self) -> dict:
        return {"study": self.id, "ours": self.ours, "pairs": self.pairs}

    def questions(self) -> dict:
        """What the page knows: nothing about methods and files."""
        return {
            "id": self.id,
            "pairs": [
                {
                    "id": name,
                    "image": pair["image"],
                    "audio": pair["audio"],
                    "samples": [sorted((sample["ours"], sample["baseline"])) for sample in pair["samples"]],
                }
                for name, pair in self.pairs.items()
            ],
        }


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def compose(samples: Samples, methods: Mapping[str, Mapping[str, bytes]]) -> Study:
    """Every sample of the first method beside that of each other method.

    Clips and pairs are numbered in the order of their hashes, which tells nothing about where they are from. Raises StudyError if two clips
    are the same.
    """
    owners: dict[str, tuple[str, str]] = {}
    for method, clips in methods.items():
        for name, clip in clips.items():
            owner = owners.setdefault(hashlib.sha256(clip).hexdigest(), (method, name))
            if owner != (method, name):
                raise StudyError(f"{'/'.join(owner)} and {method}/{name} are the same: nobody could choose between them.")
    numbers = {owners[key]: f"clip-{number:03}" for number, key in enumerate(sorted(owners), start=1)}
    ours, *baselines = methods
    pairs = [
        {
            "image": prompts.image,
            "audio": prompts.audio,
            "against": baseline,
            "samples": [{"name": name, "ours": numbers[ours, name], "baseline": numbers[baseline, name]} for name in names],
        }
        for prompts, names in samples.items()
        for baseline in baselines
    ]
    return Study(
        ours,
        {f"pair-{number:02}": pair for number, pair in enumerate(sorted(pairs, key=digest), start=1)},
        {number: methods[method][name] for (method, name), number in sorted(numbers.items(), key=lambda item: item[1])},
    )


def page(study: Study) -> str:
    """The survey's HTML. Its policy lets it run its own script and play its own clips, and reach nothing else."""
    size = sum(map(len, study.clips.values()))
    if size > LARGEST:
        raise StudyError(f"The clips have {size / 1e6:.0f} MB, too much for one page: show fewer samples, or give pictures with sounds.")
    style, script = (PAGE.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js"))
    policy = [
        "default-src 'none'",
        f"style-src '{source(style)}'",
        f"script-src '{source(script)}'",
        "media-src blob:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    clips = [f'<script type="text/plain" id="{name}">{base64.b64encode(clip).decode()}</script>' for name, clip in study.clips.items()]
    parts = {
        "policy": "; ".join(policy),
        "style": style,
        "script": script,
        "study": json.dumps(study.questions()).replace("<", "\\u003c"),  # no prompt can end the element that it stands in
        "clips": "\n".join(clips),
    }
    return re.sub(r"{{(\w+)}}", lambda name: parts[name[1]], PAGE.read_text(encoding="utf-8"))


def source(text: str) -> str:
    """A content-security policy's name for an inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
