"""Nodes that work for seconds on a song: cancelled they stop at once and leave nothing behind, and they show how far they are."""

from __future__ import annotations

import importlib
import time

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.model_management  # noqa: E402
import comfy.utils  # noqa: E402

SECONDS = 120
LONGEST = 0.6
"""Seconds of a processor's time between two looks whether the user has cancelled; 0.25 where this was written."""


@pytest.fixture(scope="module")
def song():
    """Spectrogram, its sound, the recording at 44.1 kHz in stereo, and a photo."""
    generator = torch.Generator().manual_seed(0)
    spectrogram = torch.rand(1, 256, SECONDS * 100, 1, generator=generator).expand(-1, -1, -1, 3)
    sound, recording = (
        {"waveform": 0.2 * torch.randn(1, channels, SECONDS * rate, generator=generator), "sample_rate": rate}
        for channels, rate in ((1, 16000), (2, 44100))
    )
    return spectrogram, sound, recording, torch.rand(1, 60, 90, 3, generator=generator)


@pytest.fixture(params=["CycleConsistency", "RenormalizeSpectrogram", "ImprintBaseline", "PlayImage", "SaveImageThatSounds"])
def run(request, pack, song, tmp_path, monkeypatch):
    """One of the nodes on the song; ComfyUI's output and temporary folders are `tmp_path`."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    spectrogram, sound, recording, photo = song
    module, *given = {
        "CycleConsistency": ("audio", spectrogram, sound),
        "RenormalizeSpectrogram": ("picture", spectrogram, "magma", False),
        "ImprintBaseline": ("imprint", photo, spectrogram, 0.5),
        "PlayImage": ("player", spectrogram, recording),
        "SaveImageThatSounds": ("saving", spectrogram, recording, "song"),
    }[request.param]
    node = getattr(importlib.import_module(f"{pack.__name__}.nodes.{module}"), request.param)
    return torch.inference_mode()(lambda: node.execute(*given))


def test_a_song_is_never_far_from_a_look_whether_it_was_cancelled_nor_without_progress(run, request, monkeypatch):
    looks, steps = [], []
    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", lambda: looks.append(time.process_time()))
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda done, total, *_, **__: steps.append(done / total))
    begin = time.process_time()
    run()
    moments = [begin, *looks, time.process_time()]
    assert max(later - earlier for earlier, later in zip(moments, moments[1:], strict=False)) < LONGEST
    if "ImprintBaseline" not in request.node.name:  # a fraction of a second in all
        assert steps == sorted(steps) and any(0 < step < 1 for step in steps)


def test_cancelled_anywhere_in_its_work_it_ends_and_leaves_no_file(run, tmp_path, monkeypatch):
    looks, last = [], 10**9

    def look():
        looks.append(1)
        if len(looks) > last:
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", look)
    run()
    total, written = len(looks), files(tmp_path)
    for last in (total // 2, total - 1):
        looks.clear()
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            run()
        assert len(looks) == last + 1
        assert files(tmp_path) == written


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())
