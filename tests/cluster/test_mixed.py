"""Sixteen requests at once over real nodes: each one's text is what it is alone, on one node and on three.

With MLX's own BLAS, with which a row of a batch gets the same bits as alone.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from pathlib import Path

from nova.control.client import Client
from nova.ids import new_request_id
from nova.local.cluster import ClusterPlan, running
from nova.wire.requests import Generate, Piece
from nova.wire.work import Sampling
from tests.support.tiny import VOCAB, make_tiny

REQUESTS = 16
OWN_BLAS = ["engine.cpu_blas=off", "engine.prefill_min=8"]


def request(number: int) -> Generate:
    """Greedy and seeded, short and long, with penalties and without; every prompt begins like some of the others."""
    dice = random.Random(number)
    prompt = [7] * (20 * (number % 3)) + [dice.randrange(2, VOCAB) for _ in range(dice.choice([1, 3, 20, 60]))]
    sampling = Sampling(
        temperature=dice.choice([0.0, 0.8, 1.5]),
        top_p=dice.choice([1.0, 0.9]),
        min_p=dice.choice([0.0, 0.02]),
        seed=number,
        presence_penalty=dice.choice([0.0, 0.5]),
    )
    return Generate(new_request_id(), prompt, dice.randrange(4, 40), sampling, ignore_eos=True)


async def text(client: Client, generate: Generate, leave_after: int = 1 << 20) -> list[int]:
    """Its tokens; of one that leaves early, those that came."""
    tokens: list[int] = []
    async with aclosing(client.generate(generate)) as events:
        async for event in events:
            if isinstance(event, Piece):
                tokens += event.tokens
            if len(tokens) >= leave_after:
                break
    return tokens


async def texts(folder: Path, home: Path, nodes: int) -> tuple[list[list[int]], list[list[int]]]:
    """One after the other, and all at once among neighbours that leave."""
    plan = ClusterPlan(nodes, str(folder), settings=OWN_BLAS)
    async with running(plan, home) as cluster, cluster.client() as client:
        alone = [await text(client, request(number)) for number in range(REQUESTS)]
        leaving = [text(client, request(number), leave_after=3) for number in range(0, REQUESTS, 3)]
        staying = [text(client, request(number)) for number in range(REQUESTS)]
        together = await asyncio.gather(*staying, *leaving)
        return alone, together[:REQUESTS]


def test_sixteen_mixed_requests_give_the_texts_they_give_alone_on_one_node_and_on_three(
    tmp_path: Path, nova_home: Path
) -> None:
    folder = make_tiny(tmp_path / "tiny", "llama", eos_token_id=None)
    one, together_on_one = asyncio.run(texts(folder, nova_home, 1))
    three, together_on_three = asyncio.run(texts(folder, nova_home, 3))
    assert [len(each) for each in one] == [request(number).max_tokens for number in range(REQUESTS)]
    assert together_on_one == one
    assert three == one
    assert together_on_three == one
