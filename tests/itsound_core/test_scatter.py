"""The plot of picture scores against sound scores."""

import pytest
import torch

from itsound_core.scatter import FRONT, POINT, scatter_plot


def painted(plot, colour):
    """Pixels (rows, columns) of a colour."""
    return ((255 * plot).round() == torch.tensor(colour, dtype=torch.float32)).all(dim=-1).nonzero().float()


def test_a_better_picture_is_higher_and_a_better_sound_further_right():
    front = painted(scatter_plot(torch.tensor([10.0, 20.0]), torch.tensor([30.0, 60.0])), FRONT)
    beaten = painted(scatter_plot(torch.tensor([10.0, 20.0]), torch.tensor([30.0, 60.0])), POINT)
    assert len(front) and len(beaten)
    assert front[:, 0].mean() < beaten[:, 0].mean()  # rows count from the top
    assert front[:, 1].mean() > beaten[:, 1].mean()


def test_what_no_other_beats_is_on_the_front():
    plot = scatter_plot(torch.tensor([10.0, 20.0, 30.0]), torch.tensor([30.0, 20.0, 10.0]))
    assert len(painted(plot, FRONT)) and not len(painted(plot, POINT))


@pytest.mark.parametrize("scores", [[5.0], [0.0, 0.0, 0.0], [-1e-3, 1e-3], [1e4, -1e4]])
def test_any_range_of_scores_can_be_drawn(scores):
    plot = scatter_plot(torch.tensor(scores), torch.tensor(scores))
    assert plot.shape == (768, 768, 3) and plot.min() >= 0 and plot.max() <= 1
    assert len(painted(plot, FRONT))
