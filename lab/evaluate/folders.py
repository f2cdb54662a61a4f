"""Where the models are that samples are made, heard, scored and judged by, and what of them a row depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from itsound_core import embedded

from .rows import Row


@dataclass(frozen=True)
class Folders:
    """Folders as diffusers and transformers save them, a HiFi-GAN's, and the folder with the judges' two files; None: no judges."""

    image: Path = embedded.IMAGE_FOLDER
    audio: Path = embedded.AUDIO_FOLDER
    vae: Path = embedded.IMAGE_FOLDER / "vae"
    vocoder: Path = embedded.VOCODER_FOLDER
    clip: Path = embedded.CLIP_FOLDER
    clap: Path = embedded.CLAP_FOLDER
    judges: Path | None = None

    def files(self, row: Row) -> dict[str, str]:
        """Digests of the weights that samples of a row depend on, by what they are.

        Raises FileNotFoundError for a folder without weights.
        """
        used = {side: [self.of(side) / part for part in ("unet", "text_encoder")] for side in ("image", "audio") if _takes_part(row, side)}
        used |= {name: [self.of(name)] for name in ("vae", "clip", "clap")}
        if row.vocoder != Row.vocoder:
            used["vocoder"] = [self.vocoder]
        if self.judges is not None:
            used["judges"] = [self.judges / "picture.pt", self.judges / "sound.pt"]
        return {name: digest(_weights(parts)) for name, parts in used.items()}

    def of(self, name: str) -> Path:
        return getattr(self, name)


def _takes_part(row: Row, side: str) -> bool:
    return getattr(row, f"{side}_guidance") is not None


def _weights(parts: list[Path]) -> list[Path]:
    found = []
    for part in parts:
        files = [part] if part.is_file() else [path for suffix in ("safetensors", "bin", "pt") for path in part.glob(f"*.{suffix}")]
        if not files:
            raise FileNotFoundError(f"{part} has no weights. Name the model's folder as diffusers or transformers saves it.")
        found += files
    return found


def digest(paths: Iterable[Path]) -> str:
    """Short sha256 of files' contents."""
    return hashlib.sha256(b"".join(_sha256(path) for path in sorted(paths))).hexdigest()[:16]


def _sha256(path: Path) -> bytes:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.digest()
