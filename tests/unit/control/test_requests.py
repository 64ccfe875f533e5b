from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nova.clock import FakeClock
from nova.control.requests import Requests
from nova.errors import ControlError, NodeLost, RequestTimeout

_ids = st.sampled_from(["a", "b", "c", "d"])


class RequestsMachine(RuleBasedStateMachine):
    """Against a plain model: id -> deadline."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.requests = Requests()
        self.model: dict[str, float] = {}
        self.late = 0

    @rule(request=_ids, seconds=st.floats(0.1, 10))
    def open(self, request: str, seconds: float) -> None:
        deadline = self.clock() + seconds
        if request in self.model:
            with pytest.raises(ControlError):
                self.requests.open(request, "text", "b", deadline, self.clock())
        else:
            self.requests.open(request, "text", "b", deadline, self.clock())
            self.model[request] = deadline

    @rule(request=_ids)
    def progress(self, request: str) -> None:
        assert self.requests.progress(request, self.clock()) == (request in self.model)
        self.late += request not in self.model

    @rule(request=_ids)
    def resolve(self, request: str) -> None:
        assert self.requests.resolve(request) == (request in self.model)
        self.late += self.model.pop(request, None) is None

    @rule(seconds=st.floats(0, 5))
    def expire(self, seconds: float) -> None:
        self.clock.advance(seconds)
        ended = dict(self.requests.expire(self.clock()))
        assert set(ended) == {request for request, at in self.model.items() if at <= self.clock()}
        assert all(isinstance(error, RequestTimeout) for error in ended.values())
        for request in ended:
            del self.model[request]

    @rule()
    def fail_all(self) -> None:
        ended = dict(self.requests.fail_all("node b died"))
        assert set(ended) == set(self.model)
        assert all(type(error) is NodeLost for error in ended.values())
        assert all("node b died" in str(error) for error in ended.values())
        self.model.clear()

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert len(self.requests) == len(self.model)
        assert self.requests.next_deadline() == min(self.model.values(), default=None)
        assert self.requests.late == self.late


TestRequests = RequestsMachine.TestCase


def test_a_timeout_says_what_was_awaited_from_whom_and_what_came() -> None:
    requests = Requests()
    requests.open("a", "status", "the coordinator", 5.0, 0.0)
    requests.open("b", "text", "the coordinator", 5.0, 0.0)
    requests.progress("b", 2.0)
    silent, slow = (str(error) for _, error in requests.expire(5.0))
    assert silent == "no status from the coordinator within 5.0 s: nothing came"
    assert slow == "no text from the coordinator within 5.0 s: 1 messages came, the last 3.0 s ago"
