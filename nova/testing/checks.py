"""How a case says what it expects. What is not so is a `ClauseBroken`: one sentence for the plugin's author."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nova.clock import Deadline, monotonic
from nova.errors import TransportError

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

SOON_S = 10.0
"""s; a call that must succeed has this long. Only a defect takes it."""

PROMPT_S = 1.5
"""s; what must happen at once, or at its deadline, happens within this of it, on a busy machine too."""

BLOCKED_S = 0.1
"""s; a call that has not returned by then counts as blocked."""


class ClauseBroken(AssertionError):
    """The transport did not do what the clause says."""


def check(condition: object, reason: str) -> None:
    """Raises ClauseBroken with the reason unless the condition holds."""
    if not condition:
        raise ClauseBroken(reason)


def soon(seconds: float = SOON_S) -> Deadline:
    return Deadline.after(seconds)


@dataclass
class Caught(Generic[E]):
    """What `raises` has caught; there once its body has ended."""

    error: E = field(init=False)


@contextmanager
def raises(
    kind: type[E], *others: type[E], saying: str = "", after_s: float = 0.0, within_s: float = SOON_S
) -> Iterator[Caught[E]]:
    """The body must raise one of the errors, with this in its text, not before and not after these times."""
    begun = monotonic()
    wanted = " or ".join(one.__name__ for one in (kind, *others))
    caught: Caught[E] = Caught()
    try:
        yield caught
    except (kind, *others) as error:
        caught.error = error
    except TransportError as error:
        raise ClauseBroken(f"expected {wanted}, it raised {describe(error)}") from error
    else:
        raise ClauseBroken(f"expected {wanted}, and nothing was raised")
    took = monotonic() - begun
    check(saying in str(caught.error), f"{wanted} should say {saying!r}, it says {str(caught.error)!r}")
    check(str(caught.error), f"{wanted} came without a reason")
    check(took >= after_s, f"{wanted} came after {took:.3f} s, before its time of {after_s:.3f} s")
    check(took <= within_s, f"{wanted} came after {took:.3f} s, and should within {within_s:.3f} s")


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def attempt(call: Callable[[], T]) -> Future[T]:
    """What the call returned or raised, whatever a plugin may raise."""
    future: Future[T] = Future()
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001  a plugin may raise anything, and all of it is an outcome
        future.set_exception(error)
    return future


class Background(Generic[T]):
    """A call in a thread of its own, which may be stuck for ever: it is a daemon."""

    def __init__(self, call: Callable[[], T], name: str = "nova-testing") -> None:
        self._call = call
        self._done = threading.Event()
        self._outcome: Future[T] = Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def result(self, within_s: float = SOON_S) -> T:
        """What it returned; raises what it raised, and ClauseBroken if it is still blocked."""
        check(self.wait(within_s), f"the call is still blocked after {within_s:.1f} s")
        return self._outcome.result()

    def wait(self, within_s: float) -> bool:
        """Whether it has ended by then, and its thread too."""
        self._thread.join(within_s)
        return self._done.is_set()

    def blocked(self, for_s: float = BLOCKED_S) -> None:
        """Hold that it blocks: it has not returned, and not raised, for so long."""
        if self._done.wait(for_s):
            self._outcome.result()
            raise ClauseBroken("the call returned, where it should have waited for the peer")

    def raises(self, kind: type[E], *others: type[E], within_s: float = PROMPT_S) -> E:
        """It must end with one of the errors, by then."""
        with raises(kind, *others) as caught:
            self.result(within_s)
        return caught.error

    def _run(self) -> None:
        self._outcome = attempt(self._call)
        self._done.set()
