"""Texts and names of somebody who means harm, given to nodes: captions stay captions, metadata metadata, and no name leads elsewhere."""

from __future__ import annotations

import importlib
import io
import os
import time
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from hostile import MARKUP, NAMES, TEXTS
from PIL import Image

from itsound_core.captions import clean
from itsound_core.framing import with_captions
from itsound_core.media import encode_flac, encode_mp4, encode_png
from itsound_core.playhead import LINE_COLOUR

SECONDS_AT_MOST = 2.0
"""Of a processor's time for two captions; 0.3 where this was written."""


@pytest.mark.parametrize("kind", TEXTS)
def test_a_caption_is_drawn_in_its_column_whatever_stands_in_it(kind: str) -> None:
    picture = torch.zeros(64, 256, 3, dtype=torch.uint8)
    begin = time.process_time()
    framed = with_captions(picture, (TEXTS[kind], "bell"), None, LINE_COLOUR)
    assert time.process_time() - begin < SECONDS_AT_MOST
    other = with_captions(picture, (TEXTS[kind], "pull"), None, LINE_COLOUR)
    height, width = framed.pixels.shape[:2]
    assert height < 400 and width < 600
    difference = np.abs(np.asarray(framed.pixels, int) - np.asarray(other.pixels, int)).sum((0, 2))
    beside = clean(TEXTS[kind]) != ""  # else the other caption has the whole width
    assert difference[beside * width // 2 :].any() and not difference[: beside * width // 2].any(), "each is drawn in its own column"


def test_a_word_as_long_as_a_book_takes_no_longer_than_a_line() -> None:
    begin = time.process_time()
    with_captions(torch.zeros(64, 256, 3, dtype=torch.uint8), ("a" * 500_000, ""), None, LINE_COLOUR)
    assert time.process_time() - begin < SECONDS_AT_MOST


@pytest.mark.parametrize("kind", [name for name in TEXTS if name != "surrogates"])
def test_a_file_s_metadata_is_the_text_and_the_file_stays_whole(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, silence = TEXTS[kind], torch.zeros(1, 1600)
    tags = {"title": text, "comment": f"An image that sounds. Prompt: {text}"}
    picture = Image.open(io.BytesIO(encode_png(torch.zeros(8, 8, 1), {"Title": text})))
    picture.load()
    assert picture.size == (8, 8)
    frames = [torch.zeros(16, 16, 3, dtype=torch.uint8)] * 3
    video = encode_mp4(frames, Fraction(25), torch.zeros(1, 4800), 48000, tags)
    for data in (io.BytesIO(encode_flac(silence, 16000, tags)), video):
        with av.open(data) as file:
            shown = file.metadata.get("title", "")
            assert text.split("\0")[0].strip() in shown or len(shown) > 1000
            assert sum(frame.samples for frame in file.decode(audio=0)) in (1600, 4800, 5120, 6144)
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def node_classes(pack: ModuleType) -> list[Any]:
    families = sorted(path.stem for path in (Path(pack.__file__ or "").parent / "nodes").glob("[a-z]*.py"))
    modules = [importlib.import_module(f"{pack.__name__}.nodes.{name}") for name in families]
    return [node for module in modules for node in module.NODES]


def test_a_name_that_leads_elsewhere_is_in_no_list_and_refused_by_every_node(node_classes: list[Any]) -> None:
    """Of models, vocoders, scorers and folders: over links, where ComfyUI checks no choice."""
    from comfy_api.latest import io as schema

    checked = set()
    for node in node_classes:
        given = node.define_schema().inputs
        values = {one.id: getattr(one, "default", None) for one in given}
        combos = [one for one in given if isinstance(one, schema.Combo.Input) and one.id.endswith("_name")]
        values |= {combo.id: combo.options[0] for combo in combos if combo.options and values[combo.id] is None}
        for combo in combos:
            for name in NAMES.values() if combo.options else ():
                assert name not in combo.options
                with pytest.raises(ValueError, match=f"{node.define_schema().node_id}: {combo.id} is "):
                    node.PREPARE_CLASS_CLONE(None).execute(**values | {combo.id: name})
                checked.add(combo.id)
    assert checked >= {"image_model_name", "vocoder_name", "color_model_name", "picture_scorer_name", "sound_scorer_name", "vae_name"}


@pytest.mark.parametrize("kind", NAMES)
def test_no_name_reaches_a_file_or_folder_outside_of_the_models(
    pack: ModuleType, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the check of the choices: what looks a name up refuses it too, or finds nothing."""
    from model_files import use_models_folder

    files = importlib.import_module(f"{pack.__name__}.bridge.files")
    (tmp_path / "models" / "diffusers").mkdir(parents=True)
    (tmp_path / "evil").mkdir()
    use_models_folder(tmp_path / "models", monkeypatch)
    for find in (lambda name: files.folder_path("diffusers", name), files.model_path):
        try:
            found = find(NAMES[kind])
        except (ValueError, FileNotFoundError, KeyError):
            continue
        assert Path(os.path.abspath(found)).is_relative_to(tmp_path / "models"), found


@pytest.mark.parametrize("kind", [*NAMES, *MARKUP])
@pytest.mark.parametrize("socket", ["filename_prefix", "checkpoint_name"])
def test_a_name_of_a_file_of_ours_is_refused_or_stays_in_its_folder(pack: ModuleType, kind: str, socket: str, tmp_path: Path) -> None:
    files = importlib.import_module(f"{pack.__name__}.bridge.files")
    try:
        name = files.checked_name("Node", socket, (NAMES | MARKUP)[kind], ".part")
    except ValueError as error:
        assert str(error).startswith(f"Node: {socket} is ")
        return
    inside = tmp_path / "output"
    assert Path(os.path.abspath(inside / name)).is_relative_to(inside) and not set(name) & set('<>:"|?*\\')
