"""Names of model files and folders as the loaders' lists show them, always with /, and errors that name the choice that led to them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.model_management
import folder_paths
from safetensors import SafetensorError

from ..itsound_core.captions import clean
from ..itsound_core.weights import require_unpacked, told, unreadable

EMBEDDED, FROM_MODEL = "embedded", "from the model"
MODEL_INDEX, UNET_CONFIG = "model_index.json", "unet/config.json"
"""Files by which a diffusers folder is known."""
LONGEST_NAME = 255
"""Bytes of a file's name that every common file system takes."""
SHOWN = 60
"""Characters of a name that an error shows."""
RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *(f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³")}
"""Names of devices on Windows, whatever their ending."""
UNREADABLE = (
    *(ValueError, TypeError, LookupError, ArithmeticError, AssertionError, AttributeError, NameError),
    *(RuntimeError, OSError, EOFError, SafetensorError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What reading a damaged file can raise; NameError is ComfyUI's, of a CLIP of one layer. Not Exception: in older versions of ComfyUI the
interrupt is one."""


def register_folder(key: str, extensions: Collection[str]) -> None:
    """Make `key` a folder of models/, beside those that an extra_model_paths.yaml may have declared for it.

    A key that add_model_folder_path alone creates lists files of every kind.
    """
    folder_paths.add_model_folder_path(key, os.path.join(folder_paths.models_dir, key))
    folder_paths.folder_names_and_paths[key][1].update(extensions)


def file_names(key: str) -> list[str]:
    return [name.replace(os.sep, "/") for name in folder_paths.get_filename_list(key)]


def walk(root: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder under `root` (itself included) with its files' names; links are followed, but none into a folder that it is in."""
    above = {str(root): {os.path.realpath(root)}}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        inside = above.pop(folder)
        real = {os.path.join(folder, name): os.path.realpath(os.path.join(folder, name)) for name in subfolders}
        subfolders[:] = [os.path.basename(path) for path, target in real.items() if target not in inside]
        above |= {path: inside | {target} for path, target in real.items() if target not in inside}
        yield folder, names


def folder_names(key: str, *markers: str) -> list[str]:
    """Names of the folders, at any depth under a key's own, that hold one of the files `markers`."""
    names = set()
    for root in folder_paths.get_folder_paths(key):
        for folder, _ in walk(root):
            if folder != str(root) and any(os.path.isfile(os.path.join(folder, marker)) for marker in markers):
                names.add(os.path.relpath(folder, root).replace(os.sep, "/"))
    return sorted(names)


def folder_path(key: str, name: str) -> Path:
    """Path of a folder's name under a key, whether it is there or not. Raises ValueError for a name that leads out of the key's folders."""
    roots = [Path(root) for root in folder_paths.get_folder_paths(key)]
    if ".." in Path(name).parts or Path(name).is_absolute() or "\0" in name:
        raise ValueError(f"It is no folder under models/{key}. Choose one from the list.")
    return next((root / name for root in roots if os.path.isdir(root / name)), roots[0] / name)


def model_path(name: str, embedded_folder: Path | None = None) -> Path:
    """Of "embedded", or of a name with its key before it: a folder under models/diffusers, else a file."""
    if name == EMBEDDED and embedded_folder is not None:
        return embedded_folder
    key, _, file = name.partition("/")
    return folder_path(key, file) if key == "diffusers" else Path(folder_paths.get_full_path_or_raise(key, file))


def stamp(path: Path) -> str:
    """A digest, because ComfyUI writes it into the metadata of saved files, where nobody's folders belong."""
    files = sorted(Path(folder, name) for folder, names in walk(path) for name in names) if path.is_dir() else [path]
    state = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()]
    return hashlib.sha256(repr(state).encode()).hexdigest()


def stamp_of(find: Callable[[str], Path], name: str | None) -> str | None:
    """The stamp of what `find` finds under a loader's choice; None where a link brings the choice, which is not known when this is asked.

    Such a loader runs again when its choice changes, as ComfyUI's own loaders do, and not when a file was replaced.
    """
    return None if name is None else stamp(find(name))


def checked_name(node: str, socket: str, name: str, ending: str = "") -> str:
    """A user's name for a file of ours, stripped and with / between folders, if every common file system takes it, Windows' too.

    ending: the longest that will follow the name. Raises ValueError naming `node` and `socket`: for an empty name or part of a path, one
    that leads out of its folder, a character that Windows refuses, a device's name, and one longer than LONGEST_NAME with its ending.
    """
    plain = name.strip().replace("\\", "/")
    parts = plain.split("/")
    wrong = next(filter(None, (_wrong_in(part) for part in parts)), None)
    if plain.startswith("/") or ".." in parts:
        wrong = "leads out of the folder"
    elif not wrong and (over := len(f"{parts[-1]}{ending}".encode()) - LONGEST_NAME) > 0:
        wrong = f"is {over} bytes too long"
    if wrong:
        raise ValueError(f"{node}: {socket} is {_shown(name)!r}, which {wrong}. Give a plain name, such as bells-1.")
    return plain


def _wrong_in(part: str) -> str | None:
    """What is wrong with one part of a path, as it follows "which"."""
    refused = [character for character in part if character in '<>:"|?*' or ord(character) < 32 or "\ud800" <= character <= "\udfff"]
    if refused:
        return f"holds {refused[0]!r}; Windows refuses it in file names"
    if not clean(part).strip(" ."):
        return "leaves a name empty"
    if part != part.rstrip(" ."):
        return "has a space or a dot at the end of a name; Windows drops it"
    if part.split(".")[0].rstrip().upper() in RESERVED:
        return f"uses {part.split('.')[0]}, a device's name on Windows"
    if len(part.encode()) > LONGEST_NAME:
        return f"is longer than the {LONGEST_NAME} bytes of a file's name"
    return None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Refuse a file of weights that unpacks to more than it is, and tell of whatever a damaged one raises as a ValueError that names it."""
    try:
        require_unpacked(path)
        yield
    except comfy.model_management.OOM_EXCEPTION:
        raise  # ComfyUI makes room when it sees this one
    except UNREADABLE as error:
        raise unreadable(path, error) from error


@contextmanager
def naming(node: str, socket: str, name: str) -> Iterator[None]:
    """Give a file's error the node, the input and the choice that led to it."""
    try:
        yield
    except comfy.model_management.OOM_EXCEPTION:
        raise
    except UNREADABLE as error:
        reason = str(error)
        if not isinstance(error, (ValueError, OSError)) or isinstance(error, (json.JSONDecodeError, UnicodeError)):
            # These say what failed in the code, not in which file.
            reason = f"A file of it is damaged, or of another model. Copy it again from its source.{told(error)}"
        raise ValueError(f'{node}: {socket} is "{_shown(name)}". {reason}') from error


def _shown(name: str) -> str:
    return name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
