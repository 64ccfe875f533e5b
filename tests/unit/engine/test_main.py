"""Whatever a plugin raises while a group is formed is said as a failure of forming, in the phase it came from."""

from __future__ import annotations

import pytest

from nova.engine import form
from nova.engine.control import ControlLine
from nova.engine.main import joined
from nova.errors import ConfigError, FormingFailed, NovaError, PeerLost, ProtocolError
from nova.wire import phases
from nova.wire.values import EngineKey, EngineSpec

KEY = EngineKey("main", 1, 1)
SPEC = EngineSpec("m", 0, 1, 2, 2, "what", {}, b"", 5.0, 5.0, 5.0, 5.0, 5.0, 4, 1024)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Phase(ControlLine):
    """A line that has just said which phase it is in."""

    def __init__(self, phase: str) -> None:
        self.phase = phase


def outcome(error: BaseException, monkeypatch: pytest.MonkeyPatch, phase: str = phases.JOIN) -> BaseException:
    """What forming ends with when a plugin raises `error`."""

    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(form, "form", raises)
    with pytest.raises(NovaError) as told:
        joined(Phase(phase), KEY, SPEC)
    return told.value


@pytest.mark.parametrize("phase", [phases.OPEN, phases.MEET, phases.JOIN, phases.VERIFY])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("no such device"), "it raised ValueError: no such device"),
        (SystemExit(0), "it raised SystemExit: 0"),
        (KeyboardInterrupt(), "it raised KeyboardInterrupt"),
        (GeneratorExit(), "it raised GeneratorExit"),
        (MemoryError(), "it raised MemoryError"),
        (Mute(), "it raised Mute: <exception str() failed>"),
        (ProtocolError("not its own to raise"), "it raised ProtocolError: not its own to raise"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_foreign_error_is_a_failure_of_forming_and_keeps_its_cause(
    error: BaseException, says: str, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = outcome(error, monkeypatch, phase)
    assert isinstance(failure, FormingFailed)
    assert (failure.phase, failure.transport, failure.rank, failure.cause) == (phase, "what", 1, says)
    assert failure.__cause__ is error


@pytest.mark.parametrize("error", [FormingFailed("join", "what", 1, "why"), PeerLost(0, "gone"), ConfigError("option")])
def test_what_the_contract_allows_is_passed_on_as_it_is(error: NovaError, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(error, monkeypatch) is error
