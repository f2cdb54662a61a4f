"""The frame around the picture of a video."""

from __future__ import annotations

import pytest
import torch

from itsound_core.framing import BACKGROUND, SCREENS, bare, stack, with_captions

ACCENT = (255, 64, 32)
PROMPTS = ("a castle", "bell ringing")


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_without_a_screen_the_picture_keeps_its_pixels_above_the_captions():
    picture = noise(256, 992)
    framed = with_captions(picture, PROMPTS, None, ACCENT)
    assert framed.box == (0, 0, 992, 256)
    assert torch.equal(framed.pixels[:256], picture)
    below = framed.pixels[256:]
    assert (below == torch.tensor(ACCENT)).all(-1).any(), "headings are in the accent colour"
    assert below[:, :496].amax() > 200 and below[:, 496:].amax() > 200, "one column for each prompt"


def test_an_empty_prompt_has_no_column_and_no_prompt_no_strip():
    picture = noise(64, 800)
    assert with_captions(picture, ("", " \n"), None, ACCENT).pixels.shape == (64, 800, 3)
    right = with_captions(picture, ("", "bell ringing"), None, ACCENT).pixels[64:, 400:]
    assert (right == torch.tensor(BACKGROUND)).all(), "the only column begins at the left edge"


@pytest.mark.parametrize("size", [(1, 1), (63, 65), (2000, 3), (256, 6000)])
@pytest.mark.parametrize("screen", SCREENS.values())
def test_every_frame_is_even_and_holds_its_picture(size, screen):
    for framed in (with_captions(noise(*size), PROMPTS, screen, ACCENT), bare(noise(*size))):
        height, width = framed.pixels.shape[:2]
        left, top, box_width, box_height = framed.box
        assert height % 2 == width % 2 == 0
        assert left >= 0 and left + box_width <= width and top >= 0 and top + box_height <= height
        assert box_width >= 1 and box_height >= 1


@pytest.mark.parametrize("screen", [screen for screen in SCREENS.values() if screen])
def test_a_screen_is_filled_as_far_as_the_picture_goes(screen):
    framed = with_captions(noise(256, 992), PROMPTS, screen, ACCENT)
    assert framed.pixels.shape == (screen[1], screen[0], 3)
    assert framed.box[2] == screen[0] and framed.box[3] == round(256 * screen[0] / 992)
    longer = with_captions(noise(256, 992), ("a castle " * 400, "bell " * 400), screen, ACCENT)
    assert longer.box[1] >= 0, "prompts of any length leave the picture on the screen"


def test_two_pictures_are_stacked_at_the_width_of_the_first():
    above, below = torch.rand(2, 256, 992, 3), torch.rand(2, 128, 496, 3)
    both = stack(above, below)
    assert both.shape == (2, 256 + 4 + 256, 992, 3)
    assert torch.equal(both[:, :256], above) and both[:, 256:260].eq(0).all()
    assert torch.equal(stack(above, above)[:, 260:], above)
