"""Plans of a search: what they cost, and what they draft."""

from itertools import pairwise
from math import ceil

import pytest

from itsound_core.drafts import LEAST, MOST, SHORT, Plan, draft_levels, plan

SEARCHES = [(64, 4, 100, 22.0), (64, 4, 100, 64 / 3), (16, 2, 100, 16 / 3), (16, 1, 50, 5.0), (8, 2, 40, 6.0)]


@pytest.mark.parametrize(("candidates", "keepers", "steps", "budget"), SEARCHES)
def test_a_plan_uses_its_budget_but_for_less_than_a_sample_and_has_finalists_enough(candidates, keepers, steps, budget):
    found = plan(candidates, keepers, steps, budget)
    assert 0 <= budget * steps - found.cost < max(steps, candidates)
    assert keepers <= found.finalists <= candidates and 0 < found.draft_steps <= MOST


def test_the_cost_is_of_all_drafts_and_the_finalists():
    assert Plan(8, 50, draft_steps=10, finalists=3).cost == 8 * 10 + 3 * 50


def test_a_larger_budget_drafts_longer_and_then_samples_more_of_them():
    found = [plan(64, 4, 100, budget) for budget in (10, 14, 22, 32, 48)]
    assert [one.draft_steps for one in found] == [9, 15, 20, 20, 20]
    assert [one.finalists for one in found] == [4, 4, 9, 19, 35]


def test_with_the_budget_of_all_there_are_no_drafts():
    assert plan(8, 2, 50, 8) == plan(8, 2, 50, 100) == Plan(8, 50, 0, 8)


def test_short_samples_are_all_made_in_full_as_many_as_the_budget_allows():
    assert plan(16, 2, SHORT - 1, 9.7) == Plan(9, SHORT - 1, 0, 9)
    assert plan(16, 2, SHORT, 9.7).draft_steps > 0
    with pytest.raises(ValueError, match="too small for 3 keepers: samples of 25 steps, fewer than 40.* Give a budget of 3 or more"):
        plan(16, 3, 25, 2.9)


def test_a_draft_has_the_steps_that_it_must_have():
    assert plan(16, 2, 100, 12, fewest=30).draft_steps == 30
    with pytest.raises(ValueError, match="drafts of 30 steps: 6.8 or more"):
        plan(16, 2, 100, 6, fewest=30)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((4, 5, 50, 4), "5 keepers of 4"),
        ((4, 0, 50, 4), "0 keepers"),
        ((64, 4, 100, 3.0), f"too small.*drafts of {LEAST} steps: 9.2 or more are needed"),
        ((4, 4, 100, 3.5), "4 or more are needed"),
    ],
)
def test_impossible_searches_are_refused(given, told):
    with pytest.raises(ValueError, match=told):
        plan(*given)


def test_the_smallest_budget_that_is_named_is_enough():
    for given in [(64, 4, 100), (16, 2, 50), (7, 3, 40)]:
        with pytest.raises(ValueError) as refusal:
            plan(*given, 1.0)
        needed = float(str(refusal.value).split(" steps: ")[1].split(" or more")[0])
        assert plan(*given, needed).cost <= needed * given[2]


@pytest.mark.parametrize(("steps", "draft_steps"), [(100, 20), (100, 15), (50, 8), (4, 2), (7, 7), (5, 1)])
def test_a_draft_goes_evenly_from_the_first_noise_level_to_the_last(steps, draft_steps):
    places = draft_levels(steps, draft_steps)
    strides = [late - early for early, late in pairwise(places)]
    assert places[0] == 0 and places[-1] == steps and len(strides) == draft_steps
    assert max(strides) - min(strides) <= 1 and min(strides) >= 1


@pytest.mark.parametrize("onsets", [{10}, {1, 99}, {10, 11, 12}, {7, 50, 93}])
@pytest.mark.parametrize("draft_steps", [8, 12, 20])
def test_a_draft_takes_every_onset_and_has_no_more_steps_for_it(draft_steps, onsets):
    places = draft_levels(100, draft_steps, onsets)
    assert onsets < set(places) and len(set(places)) == draft_steps + 1 and places == sorted(places)
    assert places[0] == 0 and places[-1] == 100
    assert max(late - early for early, late in pairwise(places)) <= (1 + len(onsets)) * ceil(100 / draft_steps)


def test_a_draft_with_fewer_steps_than_onsets_is_refused():
    assert draft_levels(100, 3, {10, 90}) == [0, 10, 90, 100]
    with pytest.raises(ValueError, match=r"2 steps is too short.*\[10, 90\] of 100"):
        draft_levels(100, 2, {10, 90})


@pytest.mark.parametrize("draft_steps", [0, 101])
def test_a_draft_longer_than_its_sample_is_refused(draft_steps):
    with pytest.raises(ValueError, match="takes 1 to 100 of them"):
        draft_levels(100, draft_steps)
