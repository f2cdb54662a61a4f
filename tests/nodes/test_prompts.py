"""PaperPrompts: what a graph gets from each of its titles."""

from __future__ import annotations

import importlib

import pytest

TABLE_5 = {
    "castle towers / bell ringing": "a painting of castle towers, grayscale",
    "cute dogs / dog barking": "a painting of cute dogs, grayscale",
    "a blooming garden with many birds / birds singing sweetly": "a painting of a blooming garden with many birds, grayscale",
    "furry kittens / a kitten meowing for attention": "a painting of furry kittens, grayscale",
    "auto racing game / a race car passing by and disappearing": "a painting of auto racing game, grayscale",
    "trains / train whistling": "a painting of trains, grayscale",
    "tigers / tiger growling": "a painting of tigers, grayscale",
}
EXAMPLES = {
    "a pond full of water lilies / frog croaking": "a pond full of water lilies, grayscale, lithograph style",
    "corgis / dog barking": "a painting of corgis, grayscale, black background",
    "horse heads / horse neighing": "a painting of horse heads, grayscale, black background",
    "a castle with bell towers / bell ringing": "a castle with bell towers, grayscale, lithograph style",
}
EMBEDDED = {
    "embedded models: castle towers / church bell ringing": "a drawing of castle towers",
    "embedded models: dogs / dog barking": "a drawing of dogs",
    "embedded models: flowers / birds chirping": "a drawing of flowers",
    "embedded models: cats / violin playing": "a drawing of cats",
    "embedded models: cars / car engine running": "a drawing of cars",
    "embedded models: trains / engine running": "a drawing of trains",
    "embedded models: cats / explosion": "a drawing of cats",
}
PAIRS = TABLE_5 | EXAMPLES | EMBEDDED


@pytest.fixture(scope="module")
def node(pack):
    return importlib.import_module(pack.__name__ + ".nodes.prompts").PaperPrompts


def test_the_titles_are_those_that_workflows_store(node):
    schema = node.GET_SCHEMA()
    schema.validate()
    pair, image, audio = schema.inputs
    assert pair.options == list(PAIRS) and pair.default == "castle towers / bell ringing"
    assert (image.id, image.default, image.optional) == ("table_4_image", "from the pair", True)
    assert (audio.id, audio.default, audio.optional) == ("table_4_audio", "from the pair", True)
    assert [output.id for output in schema.outputs] == ["image_prompt", "audio_prompt"]


@pytest.mark.parametrize("title", PAIRS)
def test_a_title_gives_its_two_prompts(node, title):
    image_prompt, audio_prompt = node.execute(title).args
    assert image_prompt == PAIRS[title]
    assert audio_prompt == title.split(" / ")[1]


def test_the_tooltip_tells_the_official_seeds(node):
    assert all(seed in node.GET_SCHEMA().inputs[0].tooltip for seed in ("water lilies 2024", "corgis 2034", "horse heads 1234"))


def test_table_4_is_ten_pictures_by_ten_sounds_and_each_may_go_with_a_pairs_other(node):
    _, images, audios = node.GET_SCHEMA().inputs
    assert len(images.options) == len(audios.options) == 11
    assert node.execute("tigers / tiger growling", "a beach", "train whistling").args == (
        "a painting of a beach, grayscale",
        "train whistling",
    )
    assert node.execute("tigers / tiger growling", table_4_image="kittens").args == ("a painting of kittens, grayscale", "tiger growling")
    assert node.execute("tigers / tiger growling", table_4_audio="dog barking").args == ("a painting of tigers, grayscale", "dog barking")
