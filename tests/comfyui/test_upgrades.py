"""What users saved with earlier releases goes on working: ids, names and order of inputs are a promise."""

from __future__ import annotations

from typing import Any

import pytest
from small_templates import embedded_twin, shortened
from sweep.upgrades import RELEASES, changed_inputs, refusals, saved_by

from launch.server import Server

CHEAP = ("imprint_a_photo", "reveal_a_song")


@pytest.mark.parametrize("release", RELEASES)
def test_every_prompt_of_an_earlier_release_is_still_taken(release: str, server: Server) -> None:
    said = {name: refusals(server, embedded_twin(saved["prompt"], server)) for name, saved in saved_by(release).items()}
    assert not {name: errors for name, errors in said.items() if errors}


@pytest.mark.parametrize("release", RELEASES)
def test_every_workflow_of_an_earlier_release_still_gives_the_same_prompt(release: str, object_info: dict[str, Any]) -> None:
    moved = {name: changed_inputs(saved, object_info) for name, saved in saved_by(release).items()}
    assert not {name: inputs for name, inputs in moved.items() if inputs}


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("release", RELEASES)
def test_a_quick_prompt_of_an_earlier_release_still_runs(release: str, name: str, server: Server) -> None:
    assert server.files_of(shortened(saved_by(release)[name]["prompt"], 2))
