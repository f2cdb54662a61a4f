"""Shares with Wilson's interval."""

import pytest

from lab.intervals import percent, wilson


@pytest.mark.parametrize(("right", "count", "low", "high"), [(0, 10, 0.0, 0.278), (5, 10, 0.237, 0.763), (10, 10, 0.722, 1.0)])
def test_wilson_s_interval_at_the_edges_and_in_the_middle(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=5e-4)


def test_a_share_of_nothing_has_no_interval():
    with pytest.raises(ValueError, match="at least one"):
        percent(0, 0)


def test_a_share_is_shown_with_its_interval():
    assert percent(5, 10) == "50 (24 to 76)"
