"""The measure: a balanced list of prompts, shares with honest intervals, runs that resume, and a search that finds a copy."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools" / "embedded"
sys.path.insert(0, str(TOOLS))
import judge  # noqa: E402
import measure  # noqa: E402
import nearest  # noqa: E402
import tables  # noqa: E402


def test_a_list_asks_for_every_class_equally_often_and_every_pair_before_one_returns():
    listed = measure.samples(measure.PROMPTS["test"], 210)
    assert len({(s.image_class, s.audio_class) for s in listed[:196]}) == 196
    for key in ("image_class", "audio_class"):
        assert {sum(getattr(s, key) == label for s in listed) for label in {getattr(s, key) for s in listed}} == {15}


def test_development_and_test_share_no_prompt_and_no_seed():
    development, test = (measure.samples(measure.PROMPTS[name], 1000) for name in ("development", "test"))
    assert not {s.image_prompt for s in development} & {s.image_prompt for s in test}
    assert not {s.audio_prompt for s in development} & {s.audio_prompt for s in test}
    assert not {s.seed for s in development} & {s.seed for s in test}


@pytest.mark.parametrize(("right", "count", "low", "high"), [(0, 10, 0.0, 0.278), (5, 10, 0.237, 0.763), (10, 10, 0.722, 1.0)])
def test_wilson_s_interval(right, count, low, high):
    assert tables.wilson(right, count) == pytest.approx((low, high), abs=5e-4)


def test_progress_from_wrong_to_right():
    wrong, right, joint = (np.repeat([1.0, 0.0], [n, 100 - n]) for n in (10, 90, 50))
    share, low, high = tables.progress(wrong, right, joint)
    assert share == pytest.approx(0.5)
    assert 0.3 < low < 0.45 and 0.55 < high < 0.7


def record(index: int, picture: bool, sound: bool, name: str = "joint", **fixed) -> dict:
    sample = measure.samples(measure.PROMPTS["test"], index + 1)[index]
    row = asdict(measure.ROWS[name])
    return {"row": name, **row, **asdict(sample), "picture": {"right": picture}, "sound": {"right": sound}, **fixed}


def test_both_is_not_the_product_of_the_means():
    """A mixture of pure pictures and pure sounds: half recognised in each, none in both."""
    groups = tables.grouped([record(i, i % 2 == 0, i % 2 == 1) for i in range(100)], "row")
    picture, sound, both = tables.table(groups)[-1].split(" | ")[-3:]
    assert picture.startswith("50 (") and sound.startswith("50 (") and both.startswith("0 (")


def test_a_run_goes_on_where_it_stopped_and_refuses_other_settings(tmp_path):
    path, fixed = tmp_path / "records.jsonl", {"models": "a", "judges": "b"}
    path.write_text("".join(json.dumps(record(i, True, True, **fixed)) + "\n" for i in (0, 2)))
    listed = measure.samples(measure.PROMPTS["test"], 4)
    left = measure.remaining(path, "joint", measure.ROWS["joint"], listed, fixed)
    assert [sample.index for sample in left] == [1, 3]
    assert len(measure.remaining(path, "image", measure.ROWS["image"], listed, fixed)) == 4
    with pytest.raises(ValueError, match="models.*another --output"):
        measure.remaining(path, "joint", measure.ROWS["joint"], listed, {**fixed, "models": "c"})


def test_a_shifted_copy_is_found_at_distance_zero():
    canvases = torch.randn(100, 4, 32, 128, generator=torch.Generator().manual_seed(0))
    copy = canvases[70:71].roll(9, dims=-1)
    distance, index, shift = nearest.nearest(torch.cat([copy, torch.randn_like(copy)]), canvases)
    assert distance[0] < 1e-2 < 1 < distance[1]
    assert (int(index[0]), int(shift[0])) == (70, 9)


def test_a_given_guidance_changes_only_the_side_that_takes_part():
    assert measure.changed(measure.ROWS["image"], 25, 3.0, 4.0) == measure.Row(25, 3.0, None)
    assert measure.changed(measure.ROWS["joint"], None, None, 4.0) == measure.Row(100, measure.ROWS["joint"].image_guidance, 4.0)


class Named:
    """A judge that always names the second class."""

    classes = ("castle", "dog")

    def __call__(self, pictures):
        return torch.tensor([[0.0, 2.0]]).expand(len(pictures), -1)


def test_a_verdict_names_the_class_and_says_whether_it_was_wanted():
    verdicts = measure.verdicts(Named(), torch.zeros(2, 256, 256), ["dog", "castle"])
    assert [v["right"] for v in verdicts] == [True, False]
    assert verdicts[0] == {"named": "dog", "right": True, "probability": pytest.approx(0.8808, abs=1e-4)}


@pytest.mark.parametrize("width", [256, 500, 1024])
def test_a_saved_judge_gives_the_same_logits_for_canvases_of_any_width(tmp_path, width):
    model = judge.Judge(tuple("abcdefghijklmn"))
    model(torch.rand(4, 256, 256))  # batch statistics of its own
    torch.save({"classes": model.classes, "weights": model.state_dict()}, tmp_path / "sound.pt")
    pictures = torch.rand(2, 256, width)
    loaded = judge.load_judge(tmp_path / "sound.pt")
    assert loaded.classes == model.classes
    assert torch.equal(loaded(pictures), model.eval()(pictures)) and loaded(pictures).shape == (2, 14)
