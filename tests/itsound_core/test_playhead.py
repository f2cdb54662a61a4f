"""The playhead stands where the sound is."""

import pytest
import torch

from itsound_core.framing import Framed, bare
from itsound_core.playhead import draw_playhead, frame_count, page_starts, playhead_frames, rows_of


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
        frame = draw_playhead(bare(picture), 0.5)
        changed = (frame != picture).any(-1).any(0).nonzero().flatten()
        assert changed.min() >= 508 and changed.max() < 516
        assert (frame[0, 512].int() - level).abs().max() > 100
        assert picture.eq(level).all(), "the picture itself must stay as it is"


def test_the_line_stays_inside_at_both_edges():
    frame = bare(torch.zeros(256, 100, 3, dtype=torch.uint8))
    assert draw_playhead(frame, 0.0)[0, 0, 0] == 255
    assert draw_playhead(frame, 1.0)[0, 99, 0] == 255


def test_the_line_keeps_to_the_picture_in_its_frame():
    framed = Framed(torch.zeros(60, 200, 3, dtype=torch.uint8), box=(50, 10, 100, 30))
    changed = draw_playhead(framed, 0.25)[..., 0].nonzero()
    assert changed.min(0).values.tolist() == [10, 74]
    assert changed.max(0).values.tolist() == [39, 75]
    assert draw_playhead(framed, 1.0)[..., 0].nonzero().max(0).values.tolist() == [39, 149]


def test_a_line_faster_than_the_sound_waits_at_the_right_edge_and_a_slower_one_does_not_reach_it():
    pictures = torch.zeros(1, 16, 100, 3)
    faster = [line_centre(frame) for frame in playhead_frames(pictures, seconds=2.0, fps=10.0, crossing=1.0)]
    assert faster[4] == pytest.approx(45, abs=0.1) and min(faster[10:]) > 98
    slower = [line_centre(frame) for frame in playhead_frames(pictures, seconds=2.0, fps=10.0, crossing=4.0)]
    assert slower[-1] == pytest.approx(19.5 / 40 * 100, abs=0.1)


@pytest.mark.parametrize("width", [1, 992, 1024, 1536, 1537, 2048, 5000, 18000])
def test_pages_cover_the_picture_are_equally_wide_and_no_wider_than_a_screen(width):
    starts, page = page_starts(width, 256)
    assert starts[0] == 0 and starts[-1] + page == width and page <= 1536
    assert all(later <= start + page for start, later in zip(starts, starts[1:], strict=False)), "no column is left out"
    assert len(starts) == 1 if width <= 1536 else page % 2 == 0


def test_rows_of_stacked_pictures_are_crossed_together():
    assert rows_of([256], 1) == [[(0.0, 1.0)]]
    first, second = rows_of([512, 256], 2, gap=4)
    assert [(round(top * 772), round(bottom * 772)) for top, bottom in first] == [(0, 256), (516, 644)]
    assert [(round(top * 772), round(bottom * 772)) for top, bottom in second] == [(256, 512), (644, 772)]
