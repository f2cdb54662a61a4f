"""Names of model files and folders as the loaders' lists show them, always with /, and errors that name the choice that led to them."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.model_management
import folder_paths
from safetensors import SafetensorError

EMBEDDED = "embedded"
LONGEST_NAME = 255
"""Bytes of a file's name that every common file system takes."""
SHOWN = 60
"""Characters of a name that an error shows."""
RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *(f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³")}
"""Names of devices on Windows, whatever their ending."""
UNREADABLE = (ValueError, RuntimeError, OSError, EOFError, KeyError, AttributeError, SafetensorError, struct.error, pickle.UnpicklingError)


def register_folder(key: str, extensions: Collection[str]) -> None:
    """Make `key` a folder of models/, beside those that an extra_model_paths.yaml may have declared for it.

    A key that add_model_folder_path alone creates lists files of every kind.
    """
    folder_paths.add_model_folder_path(key, os.path.join(folder_paths.models_dir, key))
    folder_paths.folder_names_and_paths[key][1].update(extensions)


def file_names(key: str) -> list[str]:
    return [name.replace(os.sep, "/") for name in folder_paths.get_filename_list(key)]


def folder_names(key: str, *markers: str) -> list[str]:
    """Names of the folders, at any depth under a key's own, that hold one of the files `markers`."""
    names = []
    for root in folder_paths.get_folder_paths(key):
        for folder, _, _ in os.walk(root, followlinks=True):
            if folder != root and any(os.path.isfile(os.path.join(folder, marker)) for marker in markers):
                names.append(os.path.relpath(folder, root).replace(os.sep, "/"))
    return sorted(set(names))


def folder_path(key: str, name: str) -> Path:
    candidates = [Path(root) / name for root in folder_paths.get_folder_paths(key)]
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


def model_path(name: str, embedded_folder: Path) -> Path:
    """Of "embedded", or of a name with its key before it: a folder under models/diffusers, else a file."""
    if name == EMBEDDED:
        return embedded_folder
    key, _, file = name.partition("/")
    return folder_path(key, file) if key == "diffusers" else Path(folder_paths.get_full_path_or_raise(key, file))


def stamp(path: Path) -> str:
    """A digest, because ComfyUI writes it into the metadata of saved files, where nobody's folders belong."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    state = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()]
    return hashlib.sha256(repr(state).encode()).hexdigest()


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
        shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
        raise ValueError(f"{node}: {socket} is {shown!r}, which {wrong}. Give a plain name, such as bells-1.")
    return plain


def _wrong_in(part: str) -> str | None:
    """What is wrong with one part of a path, as it follows "which"."""
    refused = [character for character in part if character in '<>:"|?*' or ord(character) < 32 or "\ud800" <= character <= "\udfff"]
    if refused:
        return f"holds {refused[0]!r}; Windows refuses it in file names"
    if not part.strip(" ."):
        return "leaves a name empty"
    if part != part.rstrip(" ."):
        return "has a space or a dot at the end of a name; Windows drops it"
    if part.split(".")[0].rstrip().upper() in RESERVED:
        return f"uses {part.split('.')[0]}, a device's name on Windows"
    if len(part.encode()) > LONGEST_NAME:
        return f"is longer than the {LONGEST_NAME} bytes of a file's name"
    return None


@contextmanager
def naming(node: str, socket: str, name: str) -> Iterator[None]:
    """Give a file's error the node, the input and the choice that led to it."""
    try:
        yield
    except comfy.model_management.OOM_EXCEPTION:
        raise  # ComfyUI makes room when it sees this one
    except UNREADABLE as error:
        raise ValueError(f'{node}: {socket} is "{name}". {error}') from error
