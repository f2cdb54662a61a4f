"""Views move latents about and nothing else."""

import pytest
import torch

from itsound_core.views import HALVES_END_TO_END, IDENTITY, BlockRearrangement

REARRANGEMENTS = [
    IDENTITY,
    HALVES_END_TO_END,
    BlockRearrangement((1, 4), (4, 1)),
    BlockRearrangement((2, 4), (4, 2)),
    BlockRearrangement((2, 4), (1, 8)),
]


@pytest.mark.parametrize("view", REARRANGEMENTS, ids=str)
def test_inverse_view_undoes_view(view):
    latents = torch.randn(2, 4, 8, 16)
    assert torch.equal(view.inverse_view(view.view(latents)), latents)


@pytest.mark.parametrize("view", REARRANGEMENTS, ids=str)
def test_a_view_keeps_every_value(view):
    latents = torch.arange(128.0).reshape(1, 1, 8, 16)
    assert torch.equal(view.view(latents).flatten().sort().values, latents.flatten())


def test_the_halves_of_a_square_picture_lie_end_to_end_as_the_sound():
    square = torch.randn(1, 4, 64, 64)
    sound = HALVES_END_TO_END.view(square)
    assert sound.shape == (1, 4, 32, 128)
    assert torch.equal(sound[..., :64], square[..., :32, :])
    assert torch.equal(sound[..., 64:], square[..., 32:, :])


def test_blocks_are_read_row_by_row():
    canvas = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    assert BlockRearrangement((2, 2), (1, 4)).view(canvas).tolist() == [[0.0, 1.0, 2.0, 3.0]]


def test_grids_with_different_numbers_of_blocks_are_refused():
    with pytest.raises(ValueError, match="hold 4 and 3 blocks"):
        BlockRearrangement((2, 2), (1, 3))


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="33 x 128 does not divide into 2 x 1"):
        HALVES_END_TO_END.view(torch.zeros(1, 4, 33, 128))
