"""Plans of a search: what they cost and when they decide."""

from itertools import pairwise

import pytest

from itsound_core.halving import Plan, Rung, plan

SEARCHES = [(64, 4, 100, 24.0), (64, 4, 100, 64 / 3), (16, 1, 50, 5.0), (8, 2, 20, 4.0), (3, 1, 10, 2.0), (5, 4, 10, 4.5), (2, 2, 10, 2.0)]


@pytest.mark.parametrize("rerun", [False, True])
@pytest.mark.parametrize(("candidates", "keepers", "steps", "budget"), SEARCHES)
def test_a_plan_stays_in_its_budget_and_ends_with_the_keepers(candidates, keepers, steps, budget, rerun):
    found = plan(candidates, keepers, steps, budget + (keepers if rerun else 0), earliest=2, rerun=rerun)
    assert found.cost <= (budget + (keepers if rerun else 0)) * steps
    assert found.rungs[-1].keep == keepers
    assert all(early.step < late.step and early.keep >= late.keep for early, late in pairwise(found.rungs))
    assert found.rungs[0].step >= 2 and found.rungs[-1].step <= steps


def test_the_cost_is_the_steps_of_all_samples_that_are_alive():
    rungs = (Rung(10, 4), Rung(20, 2))
    assert Plan(8, 50, rungs, rerun=False).cost == 8 * 10 + 4 * 10 + 2 * 30
    assert Plan(8, 50, rungs, rerun=True).cost == 8 * 10 + 4 * 10 + 2 * 50


def test_a_larger_budget_decides_later():
    found = [plan(64, 4, 100, budget, earliest=12).rungs for budget in (12, 16, 24, 32, 48, 63)]
    for late in (0, -1):
        places = [rungs[late].step for rungs in found]
        assert places == sorted(places) and places[0] < places[-1]


def test_a_budget_for_all_decides_at_the_end():
    assert plan(8, 2, 50, 8).rungs == (Rung(50, 2),)


def test_the_budget_is_used_but_for_less_than_a_step_of_each_candidate():
    for budget in (12.0, 24.0, 40.0, 60.0):
        assert 0 <= budget * 100 - plan(64, 4, 100, budget, earliest=12).cost < 64


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((4, 5, 50, 4), "5 keepers of 4"),
        ((4, 0, 50, 4), "0 keepers"),
        ((64, 4, 100, 3.0), "too small.* or more are needed"),
        ((64, 4, 3, 8.0, 4), "3 steps are too few"),
    ],
)
def test_impossible_searches_are_refused(given, told):
    with pytest.raises(ValueError, match=told):
        plan(*given)


def test_the_smallest_budget_that_is_named_is_enough():
    with pytest.raises(ValueError) as refusal:
        plan(64, 4, 100, 1.0, earliest=12)
    needed = float(str(refusal.value).split(": ")[1].split(" or more")[0])
    assert plan(64, 4, 100, needed, earliest=12).cost <= needed * 100
