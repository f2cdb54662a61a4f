"""What the embedded models are asked in training, and on which noise."""

import random
import re
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "embedded"))
import prompts  # noqa: E402
import train_text  # noqa: E402
import train_unet  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

from itsound_core import presets  # noqa: E402
from itsound_core.sampling import STABLE_DIFFUSION  # noqa: E402


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
    timesteps = train_unet.draw_timesteps(10, torch.ones(1000), generator)
    assert (timesteps // 100).tolist() == list(range(10))


def test_timesteps_of_no_density_are_not_drawn():
    density = torch.ones(1000)
    density[:500] = 0.0
    assert train_unet.draw_timesteps(64, density, torch.Generator().manual_seed(0)).min() >= 500


@pytest.mark.parametrize("side", train_unet.SOURCES)
def test_the_unets_fit_comfyui_s_groups_and_any_width_of_canvas(side):
    assert all(width % 32 == 0 for width in train_unet.WIDTHS[side])
    unet = train_unet.build_unet(train_unet.WIDTHS[side])
    with torch.no_grad():
        assert unet(torch.zeros(1, 4, 32, 40), 1, torch.zeros(1, 77, 128)).sample.shape == (1, 4, 32, 40)


def test_a_prompt_of_two_things_names_both():
    rng = random.Random(0)
    drawn = {prompts.draw_prompt("image", "castle+dog", rng, drop=0.0) for _ in range(200)}
    subjects = prompts.SUBJECTS["image"]
    assert all(any(c in prompt for c in subjects["castle"]) and any(d in prompt for d in subjects["dog"]) for prompt in drawn)
