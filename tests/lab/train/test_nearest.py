"""The search for copies of training canvases."""

import torch

from lab.train import nearest  # noqa: E402


def test_a_shifted_copy_is_found_at_distance_zero():
    canvases = torch.randn(100, 4, 32, 128, generator=torch.Generator().manual_seed(0))
    copy = canvases[70:71].roll(9, dims=-1)
    distance, index, shift = nearest.nearest(torch.cat([copy, torch.randn_like(copy)]), canvases)
    assert distance[0] < 1e-2 < 1 < distance[1]
    assert (int(index[0]), int(shift[0])) == (70, 9)
