"""Samples on small random models: the same as the core's own loop makes them, whatever row, batch or process they are made in."""

import json
import math
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers_folders import write_folder

from itsound_core.composition import Expert
from lab.evaluate import __main__ as command
from lab.evaluate import records
from lab.evaluate import worker as workers
from lab.evaluate.examine import verdicts
from lab.evaluate.folders import Folders
from lab.evaluate.rows import EMBEDDED, Row
from lab.evaluate.samples import LISTS
from lab.evaluate.worker import Setup, Task, Worker, softened
from lab.train.judge import Judge, load_judge

BATCH = LISTS["test"].samples(0, 2)
CLASSES = tuple(["castle", "dog", "cat", "fish", "bell", "guitar", "violin"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Folders:
    folder = tmp_path_factory.mktemp("models")
    for seed, side in enumerate(("image", "audio")):
        write_folder(folder / side, seed)
    for name in ("picture", "sound"):
        torch.save({"classes": CLASSES, "weights": Judge(CLASSES).state_dict()}, folder / f"{name}.pt")
    return Folders(image=folder / "image", audio=folder / "audio", vae=folder / "image" / "vae", judges=folder)


@pytest.fixture(scope="module")
def worker(folders) -> Worker:
    return Worker(Setup(folders))


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Canvases of 256 x 320: a third of the work."""
    monkeypatch.setattr(workers, "LATENT_SHAPE", (1, 4, 32, 40))


def joint_by_hand(worker: Worker, steps: int) -> np.ndarray:
    """The paper's loop on the same models, written out: noise of each sample's own seed, 0.9 and 1.0, halves."""
    noise = torch.cat([torch.randn(1, 4, 32, 40, generator=torch.Generator().manual_seed(s.seed)) for s in BATCH])
    experts = []
    for name, guidance, start in (("image", 10.0, 900.0), ("audio", 7.0, math.inf)):
        side = worker.side(name)
        ids = side.tokenizer([getattr(s, f"{name}_prompt") for s in BATCH] + [""], padding="max_length", max_length=77, return_tensors="pt")
        with torch.no_grad():
            text = side.text_encoder(ids["input_ids"]).last_hidden_state
        experts.append((side.unet, text[:2], text[2:].expand(2, -1, -1), guidance, start))
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)
    latents, stride = noise, 1000 // steps
    for time in range(1000 - stride + 1, 0, -stride):  # leading, offset 1
        estimates = []
        for unet, positive, negative, guidance, start in experts:
            if time <= start:
                with torch.no_grad():
                    conditional, unconditional = (unet(latents, torch.tensor(time), text).sample for text in (positive, negative))
                estimates.append(unconditional + guidance * (conditional - unconditional))
        estimate = torch.stack(estimates).mean(dim=0)
        here, there = float(alphas[time]), float(alphas[max(time - stride, 0)])
        clean = (latents - (1 - here) ** 0.5 * estimate) / here**0.5
        latents = there**0.5 * clean + (1 - there) ** 0.5 * estimate
    with torch.no_grad():
        pixels = torch.cat([worker.vae.decode(latent[None] / 0.18215).sample for latent in latents])
    return (255 * (pixels.mean(dim=1) / 2 + 0.5).clamp(0, 1)).round().byte().numpy()


def test_a_joint_sample_is_the_paper_s_loop_from_noise_of_its_seed(worker):
    made = worker.run(Task("joint", Row(2, 10.0, 7.0), BATCH))
    difference = np.abs(np.stack([one.picture for one in made]).astype(int) - joint_by_hand(worker, 2))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.001, "but for rounding half a level up or down"
    assert [one.record["index"] for one in made] == [0, 1]


def test_a_record_holds_sample_settings_scores_and_verdicts(worker):
    row = Row(2, 10.0, 7.0, audio_weight=0.3)
    found = worker.run(Task("joint", row, BATCH))[0].record
    assert Row.of(found) == row and {key: found[key] for key in asdict(BATCH[0])} == asdict(BATCH[0])
    assert -100 <= found["clip"] <= 100 and 0 <= found["clap"] <= 100 and found["cycle_db"] > 0
    assert found["picture"]["named"] in CLASSES and found["sound"]["right"] in (True, False)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    "changed",
    [{"solver": "dpm-solver-2m"}, {"audio_weight": 0.7}, {"t_image": 0.5}, {"warm_start": "cosine"}, {"t_image": 1.0, "t_audio": 0.5}],
    ids=str,
)
def test_every_setting_of_a_row_changes_the_sample(worker, changed):
    row = Row(6, 10.0, 7.0)
    plain, other = (worker.denoised(one, BATCH[:1], [{}]) for one in (row, replace(row, **changed)))
    assert (plain - other).abs().max() > 1e-3


def test_one_side_alone_is_not_touched_by_warm_start_or_weight(worker):
    alone = Row(2, 10.0)
    plain, other = (worker.denoised(row, BATCH[:1], [{}]) for row in (alone, replace(alone, t_image=0.5, audio_weight=1.0)))
    assert torch.equal(plain, other)


def test_along_a_cosine_an_expert_has_half_its_weight_where_it_would_step_in():
    expert = Expert(lambda latents, time: latents, weight=0.5, start=900)
    assert [softened(expert, time).weight for time in (1000, 900, 800, 100)] == pytest.approx([0, 0.25, 0.5, 0.5])
    assert softened(replace(expert, start=1000), 1000).weight == 0.5


def test_candidates_are_foreseen_from_where_both_sides_had_their_say(worker):
    row = Row(5, 10.0, 7.0, foresee=2, t_image=0.7)
    found = worker.run(Task("candidates", row, BATCH))[1].record["foreseen"]
    assert row.telling == 2 and list(found) == [2, 4]
    assert all(-100 <= clip <= 100 and 0 <= clap <= 100 for clip, clap in found.values())


def test_a_made_picture_is_examined_as_it_is(worker):
    made = np.random.default_rng(0).random((2, 256, 320), np.float32)
    finished = worker.run(Task("imprint", EMBEDDED["imprint"], BATCH, made))
    assert np.array_equal(np.stack([one.picture for one in finished]), (255 * made).round().astype(np.uint8))


def test_what_is_not_a_number_is_refused(worker, monkeypatch):
    made = np.random.default_rng(0).random((1, 256, 320), np.float32)
    with pytest.raises(ValueError, match="picture is not a number"):
        worker.run(Task("imprint", EMBEDDED["imprint"], BATCH[:1], np.full_like(made, np.nan)))
    monkeypatch.setattr(worker.examiner, "picture_scorer", lambda picture, prompts: torch.tensor([torch.nan]))
    with pytest.raises(ValueError, match="score is not a number"):
        worker.run(Task("imprint", EMBEDDED["imprint"], BATCH[:1], made))


def test_vocoders_change_the_sound_and_not_the_picture(worker):
    made = np.random.default_rng(0).random((1, 256, 128), np.float32)
    rows = {name: replace(EMBEDDED["hifi-gan"], vocoder=name) for name in ("griffin-lim", "hifi-gan", "hifi-gan phase")}
    waves = [worker.examiner.play(torch.from_numpy(made), row.vocoder) for row in rows.values()]
    assert len({wave.shape for wave in waves}) == 1 and all((waves[i] - waves[i - 1]).abs().max() > 1e-3 for i in range(3))


@pytest.mark.parametrize("canvas", ["network", "latents"])
def test_sds_moves_its_canvas_by_both_models(worker, monkeypatch, canvas):
    monkeypatch.setattr(workers, "FourierCanvas", partial(workers.FourierCanvas, width=256))
    monkeypatch.setattr(workers, "LatentParameters", partial(workers.LatentParameters, width=32))
    row = Row(2, 80.0, 10.0, "sds", canvas=canvas, learning_rate=1e-2, hidden=8)
    first, second, other = (worker.distilled(row, sample) for sample in (BATCH[0], BATCH[0], replace(BATCH[0], audio_prompt="dog")))
    assert first.shape == (1, 256, 256) and torch.equal(first, second) and not torch.equal(first, other)


class Named:
    """A judge that always names the second class."""

    classes = ("castle", "dog")

    def __call__(self, pictures):
        return torch.tensor([[0.0, 2.0]]).expand(len(pictures), -1)


def test_a_verdict_names_the_class_and_says_whether_it_was_wanted():
    found = verdicts(Named(), torch.zeros(2, 256, 256), ["dog", "castle"])
    assert [v["right"] for v in found] == [True, False]
    assert found[0] == {"named": "dog", "right": True, "probability": pytest.approx(0.8808, abs=1e-4)}


@pytest.mark.parametrize("width", [256, 500, 1024])
def test_a_saved_judge_gives_the_same_logits_for_canvases_of_any_width(tmp_path, width):
    model = Judge(tuple("abcdefghijklmn"))
    model(torch.rand(4, 256, 256))  # batch statistics of its own
    torch.save({"classes": model.classes, "weights": model.state_dict()}, tmp_path / "sound.pt")
    pictures = torch.rand(2, 256, width)
    loaded = load_judge(tmp_path / "sound.pt")
    assert loaded.classes == model.classes
    assert torch.equal(loaded(pictures), model.eval()(pictures)) and loaded(pictures).shape == (2, 14)


class Here:
    """A pool without processes."""

    def __init__(self, count, new_worker):
        self.worker = new_worker()

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    def spread(self, tasks):
        return map(self.worker.run, tasks)


def evaluate(monkeypatch, *args: object) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, args)])
    command.main()


def test_a_run_that_is_repeated_adds_what_is_missing_and_judging_again_keeps_the_pictures(folders, tmp_path, monkeypatch, capsys):
    """From the command line to the table."""
    monkeypatch.setattr(command, "LocalPool", Here)
    names = [(f"--{name}", getattr(folders, name)) for name in ("image", "audio", "judges")]
    work = [*(word for pair in names for word in pair), "--workers", 1]
    make = ["run", "image", "audio", "imprint", "--steps", 1, "--output", tmp_path / "run", *work]
    evaluate(monkeypatch, *make, "--count", 1)
    before = (tmp_path / "run" / records.FILE).read_text()
    evaluate(monkeypatch, *make, "--count", 2)
    assert (tmp_path / "run" / records.FILE).read_text().startswith(before)
    found = records.read(tmp_path / "run")
    assert sorted((one["row"], one["index"]) for one in found) == [(row, i) for row in ("audio", "image", "imprint") for i in (0, 1)]

    other = tmp_path / "other"
    other.mkdir()
    for name in ("picture", "sound"):
        torch.save({"classes": CLASSES, "weights": Judge(CLASSES).state_dict()}, other / f"{name}.pt")
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, *make, "--judges", other)
    assert "lab.evaluate judge" in capsys.readouterr().err
    picture = Path(tmp_path / "run" / "image" / "0001.png").read_bytes()
    evaluate(monkeypatch, "judge", tmp_path / "run", *work, "--judges", other)
    again = records.read(tmp_path / "run")
    assert [one["picture"] for one in again] != [one["picture"] for one in found] and len(again) == 6
    assert [one["files"]["judges"] for one in again] == [again[0]["files"]["judges"]] * 6 != [one["files"]["judges"] for one in found]
    assert Path(tmp_path / "run" / "image" / "0001.png").read_bytes() == picture
    capsys.readouterr()
    evaluate(monkeypatch, "tables", tmp_path / "run")
    assert "| imprint | 1 steps, 10 / 3.5 | 2 |" in capsys.readouterr().out
