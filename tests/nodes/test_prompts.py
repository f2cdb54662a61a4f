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
    "corgis / dog barking": "corgis, grayscale, black background",
    "horse heads / horse neighing": "horse heads, grayscale, black background",
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
    (pair,) = schema.inputs
    assert pair.options == list(PAIRS) and pair.default == "castle towers / bell ringing"
    assert [output.id for output in schema.outputs] == ["image_prompt", "audio_prompt"]


@pytest.mark.parametrize("title", PAIRS)
def test_a_title_gives_its_two_prompts(node, title):
    image_prompt, audio_prompt = node.execute(title).args
    assert image_prompt == PAIRS[title]
    assert audio_prompt == title.split(" / ")[1]


def test_the_tooltip_tells_the_official_seeds(node):
    assert all(seed in node.GET_SCHEMA().inputs[0].tooltip for seed in ("water lilies 2024", "corgis 2034", "horse heads 1234"))
