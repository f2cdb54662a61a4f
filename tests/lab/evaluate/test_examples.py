"""What is measured of photos in sounds: likeness anywhere along the canvas, tables against the imprint curve, runs that go on."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch

from lab.evaluate import examples
from lab.evaluate.example_maker import detailed
from lab.evaluate.example_pictures import Material, Picture, tower, word
from lab.evaluate.example_tables import parts, table
from lab.evaluate.example_ways import Way, parse
from lab.evaluate.likeness import Likeness


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def copies(picture: torch.Tensor, gap: int, shift: int, columns: int) -> torch.Tensor:
    strip = torch.nn.functional.pad(picture, (0, gap)).repeat(1, 8)
    return strip[:, shift : shift + columns]


@pytest.mark.parametrize(("gap", "shift"), [(0, 0), (0, 37), (16, 5), (16, 99)])
def test_a_repeated_picture_is_found_at_any_shift_and_its_gaps_do_not_count(gap: int, shift: int):
    narrow, wide = noise(32, 96), noise(32, 120, seed=1)
    canvas = copies(narrow, gap, shift, 256)
    covered = copies(torch.ones_like(narrow), gap, shift, 256) > 0
    disturbed = torch.where(covered, canvas + 0.5 * noise(32, 256, seed=2), noise(32, 256, seed=3))
    expected = torch.corrcoef(torch.stack([disturbed[covered], canvas[covered]]))[0, 1]
    value, shown, where = Likeness([narrow, wide], (0, 16), window=64).layout(disturbed)
    assert value == pytest.approx(float(expected), abs=1e-6)
    assert torch.equal(shown, canvas)
    assert torch.equal(where, covered[0])


def test_pieces_in_another_order_are_seen_piece_by_piece():
    picture = noise(32, 256)
    likeness = Likeness([picture], (0,), window=64)
    rewoven = torch.cat([picture[:, start : start + 64] for start in (130, 10, 70, 190)], dim=1)
    assert likeness.pieces(rewoven) == pytest.approx(1, abs=1e-5)
    assert likeness.layout(rewoven)[0] < 0.5
    assert likeness.pieces(noise(32, 256, seed=9)) < 0.2


def test_light_and_shade_alone_are_no_lines():
    fine, light = noise(64, 128), torch.linspace(0, 1, 128)[None].expand(64, -1)
    likeness = Likeness([fine + light], (0,), window=64)
    assert likeness.layout(light + 0.1 * noise(64, 128, seed=5))[0] > 0.6
    assert likeness.blocks(light + 0.1 * noise(64, 128, seed=5)) < 0.4
    assert likeness.blocks(fine) > 0.9


def test_pictures_of_our_making_are_white_on_black():
    for make in (word, tower):
        gray = Picture("one", make).gray()
        assert gray.shape[0] == 256
        assert gray.shape[1] % 8 == 0
        assert gray.median() < 0.1 < gray.max()


def test_local_contrast_lifts_lines_and_leaves_even_places_as_they_are():
    picture = torch.full((256, 256), 0.4)
    picture[:, 128:132] = 0.6
    lifted = detailed(picture, 1.0)
    assert torch.allclose(lifted[:, :64], picture[:, :64], atol=1e-4)
    assert lifted[128, 130] > 0.7
    assert lifted[128, 120] < 0.4
    assert lifted.max() <= 1
    assert torch.equal(detailed(picture, 0.0), picture)


def test_ways_are_written_as_settings():
    assert parse("imprint,rho=0.5/1,audio_guidance=3.5") == [Way("imprint", rho=rho, audio_guidance=3.5) for rho in (0.5, 1.0)]
    assert parse("examples,sizes=1+2,coherence=41")[0].name == "examples coherence=41 sizes=(1.0, 2.0)"
    with pytest.raises(ValueError, match="no setting 'weight'"):
        parse("examples,weight=0.5")


def record(way: Way, picture: str, sound: str, seen: float, heard: float) -> dict:
    measures = {"picture": seen, "canvas": seen, "pieces": seen, "blocks": seen, "clap": heard, "right": heard > 50, "cycle_db": 1.0}
    return {
        "set": "confirm",
        "way": way.name,
        "index": ["cat", "dog"].index(picture),
        "picture_name": picture,
        "sound": sound,
        **measures,
    } | {"settings": {"rho": way.rho}}


def test_a_way_is_compared_with_the_imprint_that_shows_as_much():
    points = {Way("sound"): (0.1, 80.0), Way("imprint", rho=1.0): (0.7, 50.0), Way(): (0.4, 72.0), Way(audio_weight=0.1): (0.9, 55.0)}
    pairs = list(product(("cat", "dog"), ("bell", "drum")))
    records = [record(way, *pair, *point) for way, point in points.items() for pair in pairs]
    lines = {line.split(" | ")[0].strip("| "): line for line in table(records).splitlines()[2:]}
    assert "| 7.0 (7.0 to 7.0) | 7.0 (7.0 to 7.0) |" in lines["examples"]  # on the curve 65 at 0.4
    assert "| > 5.0 (5.0 to 5.0) |" in lines["examples audio_weight=0.1"]
    assert parts(records, "sound").splitlines()[-1] == "| examples audio_weight=0.1 | 0.90, 0.90, 55 | 0.90, 0.90, 55 |"
    assert lines["sound"].endswith("| - | - |")


def test_a_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = []

    class Quick:
        def __init__(self, folder: Path, seed: int) -> None:
            self.folder = folder

        def make(self, way: Way, picture: Picture, sound: str, seed: int):
            made.append((way.name, picture.name, sound, seed))
            if len(made) == 3:
                raise KeyboardInterrupt
            return torch.zeros(256, 8), torch.zeros(8)

        def examine(self, canvas, wave, picture, sound):
            return {"picture": 0.1, "canvas": 0.1, "pieces": 0.1, "blocks": 0.1, "clap": 50.0, "right": True, "cycle_db": 1.0}

        def path(self, way: Way, index: int) -> Path:
            return self.folder / way.name / f"{index}.png"

    monkeypatch.setattr(examples, "Maker", Quick)
    monkeypatch.setitem(examples.SETS, "confirm", Material((Picture("word", word), Picture("tower", tower)), ("a bell", "a dog"), 7))
    with pytest.raises(KeyboardInterrupt):
        examples.run("confirm", [Way()], tmp_path)
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write('{"set": "confirm", "way"')  # what a killed writer leaves
    examples.run("confirm", [Way()], tmp_path)
    found = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [(r["picture_name"], r["sound"], r["seed"]) for r in found] == [
        ("word", "a bell", 7),
        ("word", "a dog", 8),
        ("tower", "a bell", 9),
        ("tower", "a dog", 10),
    ]
    assert len(made) == 5
