"""The part with damaged files refuses to be fooled: what can never be valid, and how much memory a case took."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from launch.environment import REPO
from sweep.damaged import WITH_PICKLES
from sweep.damages import MUCH, Damage, damages, must_be_refused

pytest.importorskip("comfy.sd", reason="COMFYUI_PATH does not name a ComfyUI folder")

MIB = 2**20


def test_every_layout_with_pickles_is_a_task():
    from sweep.layouts import PICKLED

    assert list(PICKLED) == list(WITH_PICKLES)


@pytest.mark.parametrize(
    ("file", "damage", "refused"),
    [
        ("vocoder/config.json", "is missing", True),
        ("diffusers/model_index.json", "is zeros", False),
        ("diffusers/tokenizer/tokenizer_config.json", "is missing", False),
        ("diffusers/tokenizer/tokenizer_config.json", "is zeros", True),
        ("picture_scorer/words.json", "is missing", False),
        ("diffusers/tokenizer/words.json", "is missing", True),
        ("sds-pt/own.pt", "is missing", False),
        ("sds-pt/own.pt", "is a pickle", True),
    ],
)
def test_a_fatal_damage_must_be_refused_but_of_a_file_that_a_model_can_do_without(file, damage, refused):
    assert must_be_refused(file, Damage(damage, lambda: None, fatal=True)) is refused
    assert not must_be_refused(file, Damage(damage, lambda: None, fatal=False))


def test_the_code_of_a_damaged_pickle_would_run_and_its_weights_would_fill_the_memory(tmp_path):
    file, harm = tmp_path / "own.pt", tmp_path / "harm"
    torch.save({"generator": {"weight": torch.zeros(3)}}, file)
    ran, most = set(), 0
    for damage in damages(file, harm):
        damage.do()
        try:
            read = torch.load(file, weights_only=False)
            most = max(most, read["generator"]["weight"].numel())
        except Exception:
            pass
        if harm.exists():
            harm.unlink()
            ran.add(damage.name)
        assert not file.exists() or file.stat().st_size < MIB
        torch.save({"generator": {"weight": torch.zeros(3)}}, file)
    assert ran == {"is a pickle", "brings code", "brings code, in torch's old format"}
    assert most == MUCH


def test_memory_that_was_taken_and_given_back_before_a_case_does_not_hide_what_the_case_takes():
    measured = """
        from sweep.damaged import forget_peak, status

        def take():
            before = forget_peak()
            b"1" * (64 << 20)
            return status("VmHWM") - before

        b"1" * (128 << 20)
        print(take(), take())
    """  # in a process of its own: of this one's memory some may be given back meanwhile, which would count against it
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO / "tests"), str(REPO)])}
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(measured)], env=paths, capture_output=True, text=True, check=True)
    assert [60 * 1024 < int(taken) < 80 * 1024 for taken in found.stdout.split()] == [True, True]


def test_each_damage_has_a_name_of_its_own(tmp_path: Path):
    for name, content in (("config.json", b'{"a": 1}'), ("merges.txt", b"a b\n")):
        (tmp_path / name).write_bytes(content)
        names = [damage.name for damage in damages(tmp_path / name, tmp_path / "harm")]
        assert len(set(names)) == len(names)
