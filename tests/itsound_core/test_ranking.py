"""Which samples are kept."""

import pytest
import torch

from itsound_core import ranking

PICTURE = torch.tensor([30.0, 20.0, 28.0, 10.0, 25.0])
SOUND = torch.tensor([5.0, 50.0, 40.0, 60.0, 30.0])


@pytest.mark.parametrize(("rule", "order"), ranking.RULES.items())
def test_every_rule_orders_all_samples_and_ties_go_to_the_earlier(rule, order):
    assert sorted(order(PICTURE, SOUND)) == list(range(5))
    assert order(torch.ones(4), torch.ones(4)) == [0, 1, 2, 3]
    assert order(torch.ones(1), torch.ones(1)) == [0]


@pytest.mark.parametrize(("rule", "order"), ranking.RULES.items())
def test_a_sample_that_is_best_in_both_comes_first_and_one_that_is_worst_in_both_last(rule, order):
    picture, sound = torch.tensor([1.0, 9.0, 3.0, 5.0]), torch.tensor([1.0, 9.0, 6.0, 4.0])
    ordered = order(picture, sound)
    assert ordered[0] == 1 and ordered[-1] == 0


def test_top_shares_keep_what_is_good_in_both_however_small_the_shares():
    assert ranking.top_shares(PICTURE, SOUND) == [2, 1, 4, 0, 3]


def test_the_intersection_of_fixed_shares_may_be_empty_where_ours_is_not():
    picture, sound = torch.arange(10.0), torch.arange(10.0).flip(0)
    best = ranking.top_shares(picture, sound)[0]
    assert best in (4, 5)
    top_fifth = (ranking.ranks(picture) <= 2) & (ranking.ranks(sound) <= 2)
    assert not top_fifth.any()


def test_the_rank_product_prefers_a_first_place_to_two_middling_ones():
    picture, sound = torch.tensor([9.0, 5.0, 6.0, 1.0, 2.0]), torch.tensor([4.0, 6.0, 5.0, 9.0, 3.0])
    assert ranking.rank_product(picture, sound)[0] in (0, 3)
    assert ranking.top_shares(picture, sound)[0] in (1, 2)


def test_the_pareto_front_comes_before_what_it_beats():
    front = ranking.on_front(PICTURE, SOUND)
    assert front.tolist() == [True, True, True, True, False]
    assert ranking.pareto(PICTURE, SOUND)[-1] == 4
    assert ranking.on_front(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0])).all()  # equals do not beat each other


def test_a_weight_at_either_end_looks_at_one_score_alone_and_units_do_not_matter():
    assert ranking.weighted(PICTURE, SOUND, 1.0) == PICTURE.argsort(descending=True).tolist()
    assert ranking.weighted(PICTURE, SOUND, 0.0) == SOUND.argsort(descending=True).tolist()
    assert ranking.weighted(PICTURE, SOUND) == ranking.weighted(PICTURE, 100 * SOUND + 7)


def test_equal_scores_share_the_better_rank():
    assert ranking.ranks(torch.tensor([3.0, 5.0, 3.0, 1.0])).tolist() == [2, 1, 2, 4]
