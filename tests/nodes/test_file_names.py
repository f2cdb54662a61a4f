"""Names that users give files of ours: refused here where a file system somewhere refuses them."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip("comfy.model_management", reason="COMFYUI_PATH does not name a ComfyUI folder")


@pytest.fixture(scope="module")
def checked(pack):
    files = importlib.import_module(pack.__name__ + ".bridge.files")
    return lambda name, ending=".part": files.checked_name("Saver", "name", name, ending)


@pytest.mark.parametrize("name", ["bells", "v1.2", "Glocken läuten", "今日", ".hidden", "console", "com", "a/b c/d", "%year%-%month%/run"])
def test_a_name_that_every_file_system_takes_stays_as_it_is(checked, name):
    assert checked(f"  {name}\n") == name
    assert checked(name.replace("/", "\\")) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "leaves a name empty"),
        (" . ", "leaves a name empty"),
        ("\u200b", "leaves a name empty"),
        ("a/\u3164", "leaves a name empty"),
        ("a//b", "leaves a name empty"),
        ("a/", "leaves a name empty"),
        ("../run", "leads out of the folder"),
        ("a/../../run", "leads out of the folder"),
        ("..\\run", "leads out of the folder"),
        ("/tmp/run", "leads out of the folder"),
        ("C:\\run", "holds ':'"),
        ("what?", "holds '\\?'"),
        ("a\0b", r"holds '\\x00'"),
        ("two\nlines", r"holds '\\n'"),
        ("half \ud83d", r"holds '\\ud83d'"),
        ("run.", "a space or a dot at the end"),
        ("a /run", "a space or a dot at the end"),
        ("nul", "nul, a device's name"),
        ("folder/Com1.2024", "Com1, a device's name"),
        ("AUX .txt", "AUX ?, a device's name"),
    ],
)
def test_a_name_that_a_file_system_refuses_is_refused_with_the_reason(checked, name, words):
    with pytest.raises(ValueError, match=f"^Saver: name is .*which .*{words}.* Give a plain name"):
        checked(name)


def test_a_name_is_measured_in_bytes_with_the_ending_that_will_follow(checked):
    assert checked(250 * "n") and checked(f"folder/{83 * '今'}", "_00001")
    for name, words in (
        (251 * "n", "is 1 bytes too long"),
        (84 * "今", "is 2 bytes too long"),
        (256 * "n" + "/run", "longer than the 255 bytes"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            checked(name)
        assert len(str(error.value)) < 200
