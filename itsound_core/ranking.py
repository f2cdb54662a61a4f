"""Which of many samples to keep by two scores each, of the picture and of the sound.

Scores are (N,) on any device, higher is better, NaN not allowed. A rule gives all N indices, best first; ties go to the earlier sample.
So whoever keeps the first k of an order never ends up with none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor], list[int]]


def ranks(scores: Tensor) -> Tensor:
    """1 for the best of (N,), equal scores sharing the better rank, as (N,) float64 on the host."""
    scores = scores.cpu()  # few numbers; and Apple's GPUs have no double precision
    return (scores[None, :] > scores[:, None]).sum(dim=1).double() + 1


def top_shares(picture: Tensor, sound: Tensor) -> list[int]:
    """By the smallest share for which a sample is in the top share of both: the paper's intersection of top 20 %, for any number to keep.

    The intersection of two fixed shares can be empty; here the share grows until there are enough.
    """
    both = torch.stack([ranks(picture), ranks(sound)])
    return _ascending(both.amax(dim=0), both.sum(dim=0))


def rank_product(picture: Tensor, sound: Tensor) -> list[int]:
    """By the product of both ranks: a very good place in one makes up for a poor one in the other."""
    return _ascending(ranks(picture) * ranks(sound))


def pareto(picture: Tensor, sound: Tensor) -> list[int]:
    """Front after front of samples that no other one beats in both; within a front by the product of ranks."""
    picture, sound = picture.cpu(), sound.cpu()
    front = torch.zeros(len(picture), dtype=torch.double)
    left = torch.ones(len(picture), dtype=torch.bool)
    while left.any():
        front[left] += 1
        left = left & ~_first_front(picture, sound, left)
    return _ascending(front, ranks(picture) * ranks(sound))


def weighted(picture: Tensor, sound: Tensor, picture_weight: float = 0.5) -> list[int]:
    """By the weighted mean of the scores, each in standard deviations of these samples: the two scores have no common unit."""
    picture, sound = (_standardized(scores.cpu().double()) for scores in (picture, sound))
    return _ascending(-(picture_weight * picture + (1.0 - picture_weight) * sound))


def on_front(picture: Tensor, sound: Tensor) -> Tensor:
    """(N,) bool on the host: no other sample is at least as good in both and better in one."""
    return _first_front(picture.cpu(), sound.cpu(), torch.ones(len(picture), dtype=torch.bool))


def _first_front(picture: Tensor, sound: Tensor, among: Tensor) -> Tensor:
    no_worse = (picture[None, :] >= picture[:, None]) & (sound[None, :] >= sound[:, None])
    better = (picture[None, :] > picture[:, None]) | (sound[None, :] > sound[:, None])
    return among & ~(no_worse & better & among[None, :]).any(dim=1)


def _standardized(scores: Tensor) -> Tensor:
    deviation = scores.std(correction=0)
    return (scores - scores.mean()) / (deviation if deviation > 0 else 1.0)


def _ascending(*keys: Tensor) -> list[int]:
    """Indices by the first key, then by the next."""
    return sorted(range(len(keys[0])), key=lambda i: tuple(float(key[i]) for key in keys))


RULES: dict[str, Rule] = {
    "intersection of top shares": top_shares,
    "rank product": rank_product,
    "Pareto front": pareto,
    "weighted": weighted,
}
