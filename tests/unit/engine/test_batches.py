"""Real layers of every proven type: decoding together gives the bits of decoding alone, whoever joins or leaves."""

from __future__ import annotations

import io
import random

import mlx.core as mx
import pytest

from nova.engine import batches
from nova.engine.caches import Caches
from nova.model.stage import StageModel, load_stage
from nova.wire.rows import RowHead
from nova.wire.tensor import Flags, Header, Kind, layout
from tests.support.tiny import KINDS, VOCAB, make_tiny

ALONE = {"llama-sliding", "olmo3", "gpt_oss", "exaone4"}
"""Types with windows: their rows run one after another."""

LENGTHS = (1, 3, 8, 9, 30, 130)
STEPS = 24


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StageModel]:
    root = tmp_path_factory.mktemp("batches")
    return {kind: load_stage(make_tiny(root / kind, kind, layers=2), 0, 2) for kind in KINDS}


class Together:
    """Requests that decode with a stage's caches, beside plain caches of their own: `decode` compares the bits."""

    def __init__(self, part: StageModel) -> None:
        self.part = part
        self.caches = Caches(part.make_cache)
        self.alone: dict[int, batches.Cache] = {}
        self.texts: dict[int, list[int]] = {}

    def begin(self, stream: int, prompt: list[int]) -> None:
        self.alone[stream], self.texts[stream] = self.part.make_cache(), [*prompt, 5]
        self.chunk(0, [RowHead(stream, 0, first=True)], [prompt])
        self.part.run(self.part.embed(mx.array([prompt])), self.alone[stream])

    def fork(self, stream: int, source: int, cut: int) -> None:
        """`cut` tokens of the source's text, one more as a prompt's last piece, then decode."""
        text = self.texts[source][:cut]
        self.alone[stream], self.texts[stream] = self.part.make_cache(), [*text, 7, 9]
        self.part.run(self.part.embed(mx.array([text])), self.alone[stream])
        self.part.run(self.part.embed(mx.array([[7]])), self.alone[stream])
        self.chunk(0, [RowHead(stream, cut, first=True, source=source)], [[7]])

    def chunk(self, group: int, rows: list[RowHead], tokens: list[list[int]]) -> mx.array:
        shape = (len(rows), len(tokens[0]), self.part.hidden_size)
        header = Header(layout(Kind.HIDDEN, Flags.NONE, shape[1], "float32", shape), tuple(rows), group)
        out = self.caches.run(header, self.part.embed(mx.array(tokens)), self.part.run)
        mx.eval(out)
        return self.part.head(out)

    def decode(self, group: int, streams: list[int]) -> None:
        """One token of each: logits equal to the bit, and the likeliest goes on."""
        rows = [RowHead(stream, len(self.texts[stream]) - 1) for stream in streams]
        logits = self.chunk(group, rows, [self.texts[stream][-1:] for stream in streams])
        for stream, got in zip(streams, list(logits), strict=True):
            h = self.part.embed(mx.array([self.texts[stream][-1:]]))
            want = self.part.head(self.part.run(h, self.alone[stream]))[0]
            assert mx.array_equal(got, want), (stream, len(self.texts[stream]))
            token = mx.argmax(want[-1]).item()
            assert isinstance(token, int)
            self.texts[stream].append(token)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_together_gives_the_bits_of_decoding_alone(parts: dict[str, StageModel], kind: str) -> None:
    together, dice = Together(parts[kind]), random.Random(kind)
    for stream, length in enumerate(LENGTHS, start=1):
        together.begin(stream, [dice.randrange(2, VOCAB) for _ in range(length)])
    members = [1, 2]
    for _ in range(STEPS):
        change = dice.random()
        if change < 0.2 and len(members) > 1:
            members.remove(dice.choice(members))
        elif change < 0.5 and (free := [stream for stream in together.texts if stream not in members]):
            members.insert(dice.randrange(len(members) + 1), dice.choice(free))
        together.decode(1, members)
    assert bool(together.caches._batches) == (kind not in ALONE)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - ALONE))
def test_a_fork_of_a_member_and_the_batch_do_not_write_into_each_other(parts: dict[str, StageModel], kind: str) -> None:
    together = Together(parts[kind])
    for stream, length in ((1, 9), (2, 30)):
        together.begin(stream, [stream * 7 + place % 50 for place in range(length)])
    together.decode(1, [1, 2])
    together.fork(3, source=2, cut=30)  # of a member of a batch
    together.fork(4, source=3, cut=30)  # of solo caches
    for _ in range(3):
        together.decode(1, [1, 2])
        together.decode(2, [3, 4])
    together.decode(1, [4, 1, 3, 2])


def unevaluated(array: mx.array) -> int:
    """Operations that are yet to be done for it."""
    graph = io.StringIO()
    mx.export_to_dot(graph, array)
    return graph.getvalue().count("shape=rectangle")


def test_offsets_that_no_layer_asks_for_are_computed_all_the_same(parts: dict[str, StageModel]) -> None:
    """Else each step would leave one more addition to be done, and to be kept in memory, until the request ends."""
    together = Together(parts["smollm3"])  # every second layer is without positions
    for stream in (1, 2):
        together.begin(stream, [stream, 3])
    for _ in range(5):
        together.decode(1, [1, 2])
    assert [unevaluated(each.offset) for each in together.caches._batches[1].layers] == [0, 0]
