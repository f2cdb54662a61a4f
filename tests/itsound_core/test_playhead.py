"""The playhead stands where the sound is."""

import pytest
import torch

from itsound_core.playhead import draw_playhead, frame_count, playhead_frames


def line_centre(frame: torch.Tensor) -> float:
    """Column of the line on a black picture: the centre of mass of its red."""
    red = frame[..., 0].double().mean(0)
    return float((red * (torch.arange(len(red)) + 0.5)).sum() / red.sum())


def test_the_line_crosses_the_picture_once_in_the_sound():
    frames = list(playhead_frames(torch.zeros(1, 16, 512, 3), seconds=10.24, fps=25.0))
    assert len(frames) == 256
    centres = [line_centre(frame) for frame in frames]
    expected = [(index + 0.5) / 256 * 512 for index in range(256)]
    assert centres[2:-2] == pytest.approx(expected[2:-2], abs=0.05)


def test_the_last_frame_covers_the_rest_of_the_sound():
    assert frame_count(10.24, 25.0) == 256
    assert frame_count(1.01, 10.0) == 11
    assert frame_count(0.01, 1.0) == 1
    frames = list(playhead_frames(torch.zeros(1, 16, 100, 3), seconds=1.01, fps=10.0))
    assert line_centre(frames[-1]) > 98


def test_pictures_of_a_batch_play_one_after_the_other():
    black_then_gray = torch.stack([torch.zeros(16, 64, 3), torch.full((16, 64, 3), 0.5)])
    frames = list(playhead_frames(black_then_gray, seconds=0.3, fps=10.0))
    assert [int(frame[:, :, 2].median()) for frame in frames] == [0, 0, 0, 128, 128, 128]
    assert [line_centre(frame) for frame in frames[:3]] == pytest.approx([64 / 6, 32, 64 * 5 / 6], abs=0.5)


def test_the_line_shows_on_black_and_on_white_and_leaves_the_rest_alone():
    for level in (0, 255):
        picture = torch.full((256, 1024, 3), level, dtype=torch.uint8)
        frame = draw_playhead(picture, 0.5)
        changed = (frame != picture).any(-1).any(0).nonzero().flatten()
        assert changed.min() >= 508 and changed.max() < 516
        assert (frame[0, 512].int() - level).abs().max() > 100
        assert picture.eq(level).all(), "the picture itself must stay as it is"


def test_the_line_stays_inside_at_both_edges():
    picture = torch.zeros(256, 100, 3, dtype=torch.uint8)
    assert draw_playhead(picture, 0.0)[0, 0, 0] == 255
    assert draw_playhead(picture, 1.0)[0, 99, 0] == 255
