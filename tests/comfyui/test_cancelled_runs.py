"""A small sample of the sweep's cancels (tests/sweep/cancels.py): at fixed moments, in the nodes that keep most between steps."""

from __future__ import annotations

import random
import time

import pytest
from sweep import cancels, prompts

from launch.server import Server


@pytest.mark.parametrize("kind", ["search", "kept_sds", "spectrogram"])
def test_a_cancelled_run_stops_soon_leaves_nothing_and_made_again_is_the_same_to_the_bit(server: Server, kind: str) -> None:
    prompt, began = prompts.MAKERS[kind](7, cancels.SIZES[kind]), time.monotonic()
    whole = [prompts.digest(path) for path in server.files_of(prompt)]
    seconds = time.monotonic() - began
    server.files_of(prompts.other())
    stop = cancels.tried(server, kind, 7, whole, 0.8 * seconds, random.Random(1))
    assert stop.wrong == ""
    assert min(stop.seconds, stop.own) < cancels.ALL
