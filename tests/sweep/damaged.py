"""Part: files that are damaged in each way, in every layout that a loader reads: one good error, nothing run, no memory taken."""

from __future__ import annotations

import json
import math
import os
import pickle
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .log import Log
from .oracle import RAW, SILENT, Outcome, judge

TITLE = "Damaged files"
LAYOUTS = ("diffusers", "checkpoint", "vocoder", "color", "deepfloyd", "picture_scorer", "sound_scorer")
MEMORY = 2**20
"""KiB that reading a damaged file may take beyond what was taken before: 1 GiB."""
HEADER = 8
ABSURD = (None, [], {}, "text", -1, 0, 10**9, math.nan, True)
"""What each key of a config is set to."""
EVERY = {"deepfloyd": 3}
"""A layout that takes a second to load: each key is set to one in so many of the absurd values, another one for the next key."""
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134\n"


class Payload:
    """Unpickled freely it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


def damages(file: Path, harm: Path, others: Sequence[Path] = (), every: int = 1) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names of ways to damage a file, and what does it; `others` are files that may stand in its place, `every` is as in EVERY."""
    whole = file.read_bytes()
    for other in others:
        if other.suffix == file.suffix and (content := other.read_bytes()) != whole:
            yield f"is {other.parent.name}/{other.name}", partial(file.write_bytes, content)
    yield from ((f"cut to {share:.0%}", partial(os.truncate, file, int(len(whole) * share))) for share in (0.0, 0.3, 0.999))
    contents = {
        "a web page": b"<!doctype html><title>404</title>",
        "an LFS pointer": LFS,
        "zeros": bytes(len(whole[:4096])),
        "a pickle": None,
    }
    contents["a pickle"] = pickle.dumps(Payload(harm), protocol=2)
    yield from ((f"is {name}", partial(file.write_bytes, content)) for name, content in contents.items())
    yield "is missing", file.unlink
    if file.suffix == ".json":
        yield from ((f"is {text[:20]}", partial(file.write_text, text)) for text in ("[]", "null", "3", '"text"', "{}", "[" * 100_000))
        try:
            keys = json.loads(whole)
        except ValueError:
            return
        for number, key in enumerate(list(keys)[:40] if isinstance(keys, dict) else ()):
            for value in ABSURD[number % every :: every]:
                yield f"{key} is {value!r}", partial(file.write_text, json.dumps({**keys, key: value}))
    elif file.suffix == ".safetensors":
        yield "a header longer than the file", partial(file.write_bytes, (2**62).to_bytes(HEADER, "little") + whole[HEADER:])
        length = int.from_bytes(whole[:HEADER], "little")
        header = json.loads(whole[HEADER : HEADER + length])
        name = next(key for key in header if key != "__metadata__")
        lies: dict[str, Mapping[str, Any]] = {
            "a shape of 2^40": {"shape": [2**40]},
            "a negative shape": {"shape": [-1]},
            "offsets beyond the file": {"data_offsets": [0, 2**50]},
            "offsets backwards": {"data_offsets": [8, 0]},
            "a type that does not exist": {"dtype": "F13"},
            "no shape": {"shape": None},
        }
        for lie, change in lies.items():
            text = json.dumps(header | {name: header[name] | change}).encode()
            yield lie, partial(file.write_bytes, len(text).to_bytes(HEADER, "little") + text + whole[HEADER + length :])


def tasks(hours: float) -> list[str]:
    return list(LAYOUTS)


def run(task: str, hours: float, log: Log) -> None:
    from .comfyui import start

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        pack = start(base)
        import folder_paths
        import torch

        from .drawing import node_classes
        from .models import use_folder

        models, classes = use_folder(base), node_classes(pack)
        names = {name: [widget.id for widget in node.define_schema().inputs] for name, node in classes.items()}
        node, given, root = write_layout(task, models, pack)
        harm = base / "harm"
        outputs = classes[node].define_schema().outputs

        def load() -> Any:
            folder_paths.filename_list_cache.clear()
            with torch.inference_mode():
                return classes[node].PREPARE_CLASS_CLONE(None).execute(**given).args

        if (whole := judge(names, node, outputs, load, lambda: 0)).kind != "result":
            raise RuntimeError(f"the whole folder does not load: {whole.text}")
        files = sorted(path for path in root.rglob("*") if path.is_file())
        for number, file in enumerate(files):
            saved = base / "whole"
            shutil.copy(file, saved)
            for name, damage in list(damages(file, harm, files[number + 1 :] + files[:number], EVERY.get(task, 1))):
                with log.case(task, f"{file.relative_to(root)} {name}") as outcomes:
                    damage()
                    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                    outcome = judge(names, node, outputs, load, lambda: 0)
                    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                    if harm.exists():
                        outcome = Outcome(SILENT, "its code was run")
                        harm.unlink()
                    elif taken > MEMORY:
                        outcome = Outcome(RAW, f"took {taken / MEMORY:.1f} GiB of memory")
                    outcomes.append(outcome)
                shutil.copy(saved, file)


def write_layout(layout: str, models: Path, pack: Any) -> tuple[str, dict[str, Any], Path]:
    """A small model in that layout: the node that loads it, what it is given, and the folder whose files are damaged."""
    import importlib

    import comfy.utils
    import tiny_deepfloyd
    from diffusers_folders import text_encoder, write_color_folder, write_folder, write_tokenizer
    from model_files import one_level_unet

    embedded = importlib.import_module(f"{pack.__name__}.itsound_core.embedded")
    if layout == "diffusers":
        write_folder(models / "diffusers" / "own", seed=1)
        write_folder(models / "diffusers" / "other", seed=2)
        return "LoadDualUNets", {"image_model_name": "diffusers/own", "audio_model_name": "diffusers/other"}, models / "diffusers" / "own"
    if layout == "checkpoint":
        of_full_width = {"hidden_size": 768, "num_attention_heads": 12}
        write_folder(models / "diffusers" / "other", seed=2, cross_attention_dim=768, text=of_full_width)
        comfy.utils.save_torch_file(one_level_unet(), str(models / "diffusion_models" / "own.safetensors"))
        names = {"image_model_name": "diffusion_models/own.safetensors", "audio_model_name": "diffusers/other"}
        return "LoadDualUNets", names, models / "diffusion_models"
    if layout == "vocoder":
        folder = shutil.copytree(embedded.VOCODER_FOLDER, models / "vocoders" / "own")
        return "LoadVocoder", {"vocoder_name": "vocoders/own"}, folder
    if layout == "color":
        folder = models / "diffusers" / "own"
        write_color_folder(folder)
        text_encoder().save_pretrained(folder / "text_encoder")
        write_tokenizer(folder / "tokenizer")
        return "LoadColorModel", {"color_model_name": "diffusers/own"}, folder
    if layout == "deepfloyd":
        tiny_deepfloyd.write_stage_1(models / "diffusers" / "stage-1")
        tiny_deepfloyd.write_stage_2(models / "diffusers" / "stage-2")
        return "LoadDeepFloydIF", {"stage_1_name": "diffusers/stage-1", "stage_2_name": "diffusers/stage-2"}, models / "diffusers"
    of = {"picture_scorer": embedded.CLIP_FOLDER, "sound_scorer": embedded.CLAP_FOLDER}
    folder = shutil.copytree(of[layout], models / "scorers" / "own")
    return "LoadScorers", {"picture_scorer_name": "embedded", "sound_scorer_name": "embedded"} | {f"{layout}_name": "scorers/own"}, folder
