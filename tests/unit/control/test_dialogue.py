from __future__ import annotations

from collections import Counter

import pytest

from nova.clock import FakeClock
from nova.config.schema import Control
from nova.control.dialogue import Dialogue, Over, Say, Welcomed
from nova.control.link import outside
from nova.errors import NodeLost, PeerRefused, ProtocolError
from nova.wire.codec import MAX_BODY_BYTES, decode, encode
from nova.wire.messages import EngineState, Heartbeat, Hello, Refused, Welcome
from nova.wire.requests import Generate
from nova.wire.values import EngineKey
from nova.wire.work import Sampling

CONTROL = Control(heartbeat_s=0.5, dead_after_s=2.0)
WORK = EngineState(EngineKey("g", 1, 0), "x")


def _dialogue() -> tuple[Dialogue, FakeClock, Counter[str]]:
    clock, counters = FakeClock(10.0), Counter[str]()
    return Dialogue(Hello("a", "worker", "test"), "host:1", CONTROL, counters, clock()), clock, counters


def test_a_dialogue_stands_after_welcome_and_beats_as_the_coordinator_says() -> None:
    dialogue, clock, _ = _dialogue()
    assert isinstance(decode(dialogue.hello())[0], Hello)
    assert dialogue.tick(clock()) == []
    assert isinstance(dialogue.receive(encode(Welcome("c", 0.1, 1.0), 1), clock())[0], Welcomed)
    (beat,) = dialogue.tick(clock())
    assert isinstance(beat, Say)
    assert isinstance(decode(beat.frames)[0], Heartbeat)
    ended = None
    while ended is None:
        clock.advance(0.05)
        ended = next((e for e in dialogue.tick(clock()) if isinstance(e, Over)), None)
    assert isinstance(ended.error, NodeLost)
    assert clock() == pytest.approx(11.0)


def test_a_hello_without_answer_is_over_in_time_and_says_what_came_instead() -> None:
    dialogue, clock, counters = _dialogue()
    frames = encode(Welcome("c", 0.1, 1.0), 1)
    dialogue.receive([frames[0][:2] + b"\x07" + frames[0][3:], frames[1]], clock())
    assert counters["malformed"] == 1
    clock.advance(2.0)
    (over,) = dialogue.tick(clock())
    assert isinstance(over, Over)
    assert "protocol version 7" in str(over.error)


@pytest.mark.parametrize("retry", [True, False])
def test_a_refusal_is_heard_at_any_time_whatever_its_number(retry: bool) -> None:
    for stands in (False, True):
        dialogue, clock, _ = _dialogue()
        if stands:
            dialogue.receive(encode(Welcome("c", 0.1, 1.0), 7), clock())
        (over,) = dialogue.receive(outside(Refused("no", retry)), clock())
        assert isinstance(over, Over)
        assert isinstance(over.error, PeerRefused)
        assert over.final == (not retry)


def test_a_dialogue_drops_replays_and_what_is_not_for_it() -> None:
    dialogue, clock, counters = _dialogue()
    dialogue.receive(encode(WORK, 1), clock())
    assert counters["forbidden"] == 1, "a message before Welcome"
    dialogue.receive(encode(Welcome("c", 2.0, 1.0), 2), clock())
    assert not dialogue.stands, "a Welcome that would make every pause a death"
    dialogue.receive(encode(Welcome("c", 0.1, 1.0), 3), clock())
    assert dialogue.receive(encode(WORK, 3), clock()) == []
    assert dialogue.receive(encode(Welcome("c", 0.1, 1.0), 4), clock()) == []
    assert (counters["replayed"], counters["forbidden"]) == (1, 3)


def test_a_message_the_peer_would_drop_for_its_size_is_refused_here() -> None:
    dialogue, _, _ = _dialogue()
    with pytest.raises(ProtocolError, match="limit"):
        dialogue.encode(Generate("1", "x" * (MAX_BODY_BYTES + 1), 1, Sampling()))
