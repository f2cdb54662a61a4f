"""What the embedded models are asked in training, and on which noise."""

import argparse
import random
import re
from itertools import combinations

import pytest
import torch
from transformers import CLIPTokenizer  # noqa: E402

from itsound_core import presets  # noqa: E402
from itsound_core.sampling import STABLE_DIFFUSION  # noqa: E402
from lab.train import denoiser_training, noise_levels, prompts, train_text, train_unet  # noqa: E402


@pytest.mark.parametrize("side", prompts.SUBJECTS)
def test_every_prompt_is_made_of_known_words(side):
    rng, known = random.Random(0), set(prompts.words(side))
    labels = list(prompts.SUBJECTS[side])
    for label in [*labels, *map(prompts.PLUS.join, combinations(labels, 2))]:
        for _ in range(20):
            assert set(re.findall(r"[a-z]+", prompts.draw_prompt(side, label, rng))) <= known


@pytest.mark.parametrize(
    ("side", "prompts_"), [("image", presets.EMBEDDED_IMAGE_PROMPTS), ("audio", presets.EMBEDDED_AUDIO_PROMPTS)], ids=["image", "audio"]
)
def test_the_preset_prompts_are_known_in_every_word(side, prompts_):
    assert set(re.findall(r"[a-z]+", " ".join(prompts_))) <= set(prompts.words(side))


def test_a_known_word_is_one_token_and_an_unknown_one_falls_apart(tmp_path):
    train_text.write_tokenizer(["a", "bell", "bells", "church"], tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length == 77
    assert tokenizer.tokenize("A church, bells") == ["a</w>", "church</w>", ",</w>", "bells</w>"]
    assert len(tokenizer.tokenize("lithograph")) > 1
    start, end = tokenizer("")["input_ids"]
    assert (start, end) == (len(tokenizer) - 2, len(tokenizer) - 1)


def test_training_noise_is_the_sampler_s():
    torch.testing.assert_close(train_unet.alphas_cumprod(), STABLE_DIFFUSION.alphas_cumprod.float())


def test_a_batch_of_timesteps_spans_the_schedule():
    generator = torch.Generator().manual_seed(0)
    timesteps = denoiser_training.draw_timesteps(10, torch.ones(1000), generator)
    assert (timesteps // 100).tolist() == list(range(10))


def test_timesteps_of_no_density_are_not_drawn():
    density = torch.ones(1000)
    density[:500] = 0.0
    assert denoiser_training.draw_timesteps(64, density, torch.Generator().manual_seed(0)).min() >= 500


@pytest.mark.parametrize("side", train_unet.SOURCES)
def test_the_unets_fit_comfyui_s_groups_and_any_width_of_canvas(side):
    assert all(width % 32 == 0 for width in train_unet.WIDTHS[side])
    unet = train_unet.unet_of(side)
    with torch.no_grad():
        assert unet(torch.zeros(1, 4, 32, 40), 1, torch.zeros(1, 77, 128)).sample.shape == (1, 4, 32, 40)


def test_half_of_the_timesteps_are_of_strong_noise():
    alphas = train_unet.alphas_cumprod()
    density = train_unet.timestep_density(alphas / (1 - alphas))
    timesteps = denoiser_training.draw_timesteps(4000, density, torch.Generator().manual_seed(0))
    assert (timesteps >= 700).float().mean() == pytest.approx(0.5, abs=0.01)


def test_a_prompt_of_two_things_names_both():
    rng = random.Random(0)
    drawn = {prompts.draw_prompt("image", "castle+dog", rng, drop=0.0) for _ in range(200)}
    subjects = prompts.SUBJECTS["image"]
    assert all(any(c in prompt for c in subjects["castle"]) and any(d in prompt for d in subjects["dog"]) for prompt in drawn)


def test_a_tokenizer_is_the_same_each_time(tmp_path):
    vocabulary = prompts.words("audio")
    for name in ("once", "again"):
        train_text.write_tokenizer(vocabulary, tmp_path / name)
        vocabulary = vocabulary[::-1]
    assert (tmp_path / "once" / "merges.txt").read_text() == (tmp_path / "again" / "merges.txt").read_text()


def test_training_learns_keeps_an_average_and_goes_on_from_its_checkpoint(tmp_path):
    parser = argparse.ArgumentParser()
    denoiser_training.add_arguments(parser, minutes=0.02)
    torch.manual_seed(0)
    unet = train_unet.build_unet((32, 32, 32))
    latent, text = torch.ones(2, 4, 8, 8), torch.zeros(2, 77, 128)
    seen = []

    def batch_loss(predict, done, generator):
        timestep = denoiser_training.draw_timesteps(2, torch.ones(1000), generator)
        noisy, noise = denoiser_training.diffuse(latent, train_unet.alphas_cumprod(), timestep, generator)
        loss = (predict(noisy, timestep, text).sample - noise).square().mean()
        seen.append((done, loss.item()))
        return loss, 8

    denoiser_training.train(unet, tmp_path, batch_loss, parser.parse_args([]))
    first = len(seen)
    assert 0 <= seen[0][0] < seen[-1][0] <= 1
    kept = denoiser_training.trained(train_unet.build_unet((32, 32, 32)), tmp_path).state_dict()
    assert any(not torch.equal(kept[name], weight) for name, weight in unet.state_dict().items())

    denoiser_training.train(unet, tmp_path, batch_loss, parser.parse_args(["--resume", "--minutes", "0.03"]))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == len(seen) > first
    assert seen[first][0] >= 2 / 3


def tiny_training(folder, options="", steps=10**9, **keywords):
    """Train a small UNet for some steps on one latent; returns it."""
    parser = argparse.ArgumentParser()
    denoiser_training.add_arguments(parser, minutes=10.0)
    torch.manual_seed(0)
    unet = train_unet.build_unet((32, 32, 32))
    latent, text = torch.ones(2, 4, 8, 8), torch.zeros(2, 77, 128)

    def batch_loss(predict, done, generator):
        timestep = denoiser_training.draw_timesteps(2, torch.ones(1000), generator)
        noisy, noise = denoiser_training.diffuse(latent, train_unet.alphas_cumprod(), timestep, generator)
        return (predict(noisy, timestep, text).sample - noise).square().mean(), 8

    keywords = {"rate": lambda step, done, decay_began: float(step < steps)} | keywords
    denoiser_training.train(unet, folder, batch_loss, parser.parse_args(options.split()), **keywords)
    return unet


def test_a_run_that_was_stopped_and_resumed_ends_in_the_same_weights_to_the_bit(tmp_path):
    tiny_training(tmp_path / "whole", steps=6)
    tiny_training(tmp_path / "parts", steps=3)
    tiny_training(tmp_path / "parts", "--resume", steps=6)
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 6
    for kind in ("unet", "average"):
        assert all(torch.equal(weight, parts[kind][name]) for name, weight in whole[kind].items())


def test_the_learning_rate_is_the_same_whatever_the_budget_until_the_last_phase_lets_it_fall(tmp_path):
    rate = denoiser_training.constant_then_falling(100)
    assert {rate(step, done, None) for step in (0, 10**6) for done in (0.0, 0.99)} == {1.0}
    assert [rate(step, 0.5, 5000) for step in (5000, 5050, 5100, 5200)] == [1.0, 0.5, 0.0, 0.0]


def test_the_last_phase_ends_after_its_steps_also_when_it_was_interrupted(tmp_path):
    last = {"rate": denoiser_training.constant_then_falling(4), "last_phase": True}
    tiny_training(tmp_path, steps=3)
    tiny_training(tmp_path, "--resume --minutes 0", **last)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["decay_began"] == 3
    tiny_training(tmp_path, "--resume", **last)
    tiny_training(tmp_path, "--resume", **last)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 7


def test_losses_by_noise_level_are_of_fixed_canvases_and_noise_and_appended(tmp_path):
    latents, texts = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 77, 128)
    watched = []

    def watch(average, step):
        watched.append(step)
        levels(average, step)

    levels = noise_levels.NoiseLevels(latents, texts, train_unet.alphas_cumprod(), tmp_path / "levels.csv")
    tiny_training(tmp_path, steps=4, watch=watch, watch_every=2)
    assert watched == [0, 2, 4]
    lines = (tmp_path / "levels.csv").read_text().splitlines()
    assert lines[0] == "step,t = 960,t = 860,t = 720,t = 560,t = 160"
    average = denoiser_training.trained(train_unet.build_unet((32, 32, 32)), tmp_path)
    levels(average, 4)
    assert (tmp_path / "levels.csv").read_text().splitlines()[-1] == lines[-1]
    assert len({line.partition(",")[2] for line in lines[1:]}) == 3
