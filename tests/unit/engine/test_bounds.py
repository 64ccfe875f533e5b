"""What the scheduler makes of stages with known times, against what no scheduler could better. Time on paper only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import ceil

import pytest

from nova.engine.scheduler import Limits
from nova.plan.profiles import PROFILES
from tests.unit.engine.flowshop import FlowShop, Time, begin

MACHINES = ["m5dense", "m4dense", "moe"]


def stages(profile: str, shares: Sequence[float]) -> list[Time]:
    """Stages that take so many seconds for one position."""
    factor = PROFILES[profile].width_factor
    return [lambda positions, share=share: share * factor(positions) for share in shares]  # type: ignore[misc]


def closed_loop(times: list[Time], streams: int, tokens: int = 140, warm: int = 60) -> float:
    """Tokens per second of so many streams that never end, once each has `warm` of them."""
    shop = FlowShop(times, texts=False)
    for stream in range(1, streams + 1):
        shop.begin(begin(stream, [1, 2, stream], tokens))
    shop.run()
    start = max(when[warm] for when in shop.when.values())
    end = min(when[-1] for when in shop.when.values())
    return sum(start < at <= end for when in shop.when.values() for at in when) / (end - start)


def bound(times: list[Time], streams: int) -> float:
    """The best over the number of groups."""
    rates = []
    for groups in range(1, min(streams, len(times) + 1) + 1):
        seconds = [time(ceil(streams / groups)) for time in times]
        rates.append(streams / max(sum(seconds), groups * max(seconds)))
    return max(rates)


@pytest.mark.parametrize("profile", MACHINES)
@pytest.mark.parametrize("shares", [(1, 1), (1, 1, 1), (1, 1, 1, 1), (70, 36), (1, 1, 5), (1, 2, 3, 4)], ids=str)
def test_streams_together_come_close_to_the_best_division_into_groups(profile: str, shares: tuple[float, ...]) -> None:
    times = stages(profile, shares)
    shares_of_bound = {n: closed_loop(times, n) / bound(times, n) for n in (2, 5, 8, 10, 16)}
    assert min(shares_of_bound.values()) >= 0.97, shares_of_bound


@pytest.mark.parametrize("profile", MACHINES)
def test_noise_in_the_times_costs_little(profile: str) -> None:
    factor, noise = PROFILES[profile].width_factor, random.Random(1)
    times: list[Time] = [lambda n: factor(n) * noise.lognormvariate(0, 0.05)] * 3
    assert closed_loop(times, 10) >= 0.93 * bound([factor] * 3, 10)


@pytest.mark.parametrize("shares", [(1, 1), (1, 1, 1), (1, 1, 1, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("prompt", [400, 1000, 4000])
def test_a_prompt_s_pieces_overlap_on_the_stages(shares: tuple[float, ...], prompt: int) -> None:
    times: list[Time] = [lambda n, share=share: share * (20 + n) for share in shares]  # type: ignore[misc]
    shop = FlowShop(times, texts=False)
    for stream in (1, 2, 3):  # the third knows what pieces cost
        since = shop.now
        sent = len(shop.sent)
        shop.begin(begin(stream, [stream] * prompt, 1))
        shop.run()
    pieces = [len(chunk.rows[0].tokens) for chunk in shop.sent[sent:] if chunk.prefill]
    assert sum(pieces) == prompt - 1
    assert max(pieces) - min(pieces) < len(pieces)
    took = shop.now - since - sum(time(1) for time in times)
    alone = sum(time(width) for width in pieces for time in times)
    assert alone / took >= 0.97 * sum(shares) * len(pieces) / (sum(shares) + (len(pieces) - 1) * max(shares))
    best = min(
        sum(time(ceil(prompt / n)) for time in times) + (n - 1) * max(time(ceil(prompt / n)) for time in times)
        for n in range(1, 100)
    )
    assert took <= 1.04 * best


@pytest.mark.parametrize("profile", MACHINES)
@pytest.mark.parametrize(("count", "streams"), [(2, 1), (2, 3), (2, 4), (3, 8), (4, 4)])
def test_tokens_come_at_half_their_pace_at_worst_while_a_long_prompt_arrives(
    profile: str, count: int, streams: int
) -> None:
    shop = FlowShop(stages(profile, [1.0] * count), limits=Limits(2048, 256, 2.0), texts=False)
    for stream in range(1, streams + 1):
        shop.begin(begin(stream, [1, 2, stream], 100_000))
    shop.run(until=lambda: len(shop.when.get(1, [])) >= 150)
    arrived = shop.now
    shop.begin(begin(99, list(range(4096)), 1))
    shop.run(until=lambda: 99 in shop.told)
    gaps = [(b - a, a) for each in range(1, streams + 1) for a, b in zip(shop.when[each], shop.when[each][1:])]  # noqa: B905
    before = _p99([gap for gap, since in gaps if shop.when[1][100] < since < arrived])
    while_it_arrives = _p99([gap for gap, since in gaps if since >= arrived])
    assert while_it_arrives <= 2 * before
    assert shop.when[99][0] - arrived < 1365 * 2 * before, "and it does arrive"


def test_a_short_prompt_does_not_wait_for_a_whole_long_one() -> None:
    shop = FlowShop([lambda n: 0.1 + n / 1000] * 2, texts=False)
    shop.begin(begin(1, [1] * 20_000, 1))
    shop.begin(begin(2, [2] * 100, 1))
    shop.run()
    assert shop.when[2][0] < shop.when[1][0] / 4


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
