"""Probes that hang, crash, exit, raise, flood and talk rubbish: real children, each with its reason, none is left."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from nova.clock import monotonic
from nova.config.schema import Transport
from nova.errors import ConfigError
from nova.node.addresses import Resolved
from nova.node.probechild import MAX_LOG_BYTES, probe
from nova.node.prober import probe_all
from nova.throwaway import MAX_REASON_CHARS
from nova.transport.probe import MAX_ANSWER_BYTES, Request
from nova.wire.values import TransportOffer
from tests.unit.node import odd

SHORT_S = 1.0
"""The limit where a probe is to pass it; a child alone takes some 0.15 s."""
LONG_S = 20.0


@pytest.fixture(autouse=True)
def _odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with odd.installed(tmp_path, monkeypatch):
        yield


def offer(how: str, limit_s: float = LONG_S, hosts: tuple[str, ...] = ("127.0.0.1",)) -> TransportOffer:
    answer = asyncio.run(probe(Request("odd", {"how": how}, list(hosts), limit_s)))
    assert answer.offer is not None
    return answer.offer


def reason(how: str, limit_s: float = LONG_S) -> str:
    why = offer(how, limit_s).unavailable
    assert why is not None
    return why


def test_a_probe_s_answer_is_the_transport_s_offer() -> None:
    found = offer("well", hosts=("127.0.0.1", "127.0.0.2"))
    assert (found.name, found.version, found.api, found.unavailable) == ("odd", "1.2", (1, 0), None)
    assert (set(found.caps), found.alike) == ({"BYTES", "ABORT"}, {"mlx": "1"})
    assert [(each.address, each.interface) for each in found.attachments] == [("127.0.0.1", "lo"), ("127.0.0.2", "lo")]


def test_a_transport_that_is_not_available_says_so_itself() -> None:
    assert reason("unavailable") == "no such cable"
    assert reason("silent unavailable") == "its probe gave no reason"


@pytest.mark.parametrize("how", ["hang", "hang holding the lock"])
def test_a_probe_that_hangs_is_killed_at_its_limit(how: str) -> None:
    begun = monotonic()
    assert reason(how, SHORT_S).startswith("its probe did not answer within 1 s")
    assert monotonic() - begun < SHORT_S + 1.0


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("segv", "its probe was killed by SIGSEGV"),
        ("kill", "its probe was killed by SIGKILL"),
        ("children", "its probe was killed by SIGABRT"),
        ("exit", "its probe exited with status 7; it wrote last: on standard output: exit"),
        ("exit with a word", "its probe exited with status 1; it wrote last: no driver here"),
        ("end", "its probe exited with status 0"),
        ("raise", "its probe raised ValueError: not today"),
        ("raise config", "its probe raised ConfigError: an option that probe has no say in"),
        ("raise base", "its probe raised Unheard: of"),
        ("interrupt", "its probe raised KeyboardInterrupt: "),
        ("number", "its probe raised AttributeError: 'int' object"),
        ("other name", "its probe's answer is no offer of this transport"),
        ("rubbish", "its probe's answer is malformed"),
        ("flood", f"its probe wrote more than {MAX_LOG_BYTES >> 10} KiB and was cut off"),
        ("flood lines", f"its probe wrote more than {MAX_LOG_BYTES >> 10} KiB and was cut off"),
        ("flood answers", f"its probe answered with more than {MAX_ANSWER_BYTES >> 10} KiB"),
    ],
)
def test_whatever_a_probe_does_is_the_reason_against_its_transport(how: str, says: str) -> None:
    begun = monotonic()
    assert reason(how).startswith(says)
    assert monotonic() - begun < LONG_S / 2


def test_a_giant_message_is_cut() -> None:
    assert len(reason("raise at length")) < MAX_REASON_CHARS + 100


def test_a_thread_that_a_plugin_leaves_running_does_not_hold_up_its_answer() -> None:
    assert offer("threads").unavailable is None


def test_a_plugin_that_is_not_there_or_cannot_be_imported_is_refused_with_the_reason(tmp_path: Path) -> None:
    absent = asyncio.run(probe(Request("absent", {}, [], LONG_S))).offer
    assert absent is not None
    assert absent.unavailable == "no installed distribution provides it"
    (tmp_path / "odd_module.py").write_text("import no_such_library")
    assert "no_such_library" in reason("well")


def test_a_child_ends_with_whoever_asked() -> None:
    async def ask_and_vanish() -> int:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nova.transport.probe", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(b'{"name":"odd","options":{"how":"hang"},"hosts":[],"limit_s":600}\n')
        async with asyncio.timeout(LONG_S):
            assert b"hang" in await child.stderr.readline()
            child.stdin.close()
            return await child.wait()

    assert asyncio.run(ask_and_vanish()) == 1


def test_a_child_that_holds_the_interpreter_s_lock_ends_by_the_alarm_when_nobody_ends_it() -> None:
    async def ask_and_vanish() -> int:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nova.transport.probe", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(b'{"name":"odd","options":{"how":"hang holding the lock"},"hosts":[],"limit_s":0.1}\n')
        child.stdin.close()
        async with asyncio.timeout(LONG_S):
            return await child.wait()

    assert asyncio.run(ask_and_vanish()) != 0


@contextlib.asynccontextmanager
async def pulse() -> AsyncIterator[list[float]]:
    """The gaps between the turns of a task that wants one every 5 ms."""
    gaps = [0.0]

    async def beat() -> None:
        last = monotonic()
        while True:
            await asyncio.sleep(0.005)
            gaps.append(monotonic() - last)
            last = monotonic()

    task = asyncio.create_task(beat())
    try:
        yield gaps
    finally:
        task.cancel()


def test_the_loop_goes_on_while_probes_hang_flood_and_crash() -> None:
    async def run() -> tuple[list[float], list[str | None]]:
        requests = [Request("odd", {"how": how}, [], 1.0) for how in ("hang", "flood lines", "segv", "raise at length")]
        async with pulse() as gaps:
            answers = await asyncio.gather(*map(probe, requests))
            return gaps, [answer.offer.unavailable for answer in answers if answer.offer is not None]

    begun = monotonic()
    gaps, reasons = asyncio.run(run())
    assert [reason is not None for reason in reasons] == [True] * 4
    assert len(gaps) > 20
    assert max(gaps) < 0.5
    assert monotonic() - begun < 1.0 + 4.0  # side by side, not one after the other


def test_a_daemon_that_ends_while_probes_run_leaves_none() -> None:
    async def run() -> None:
        others = psutil.Process().children()
        task = asyncio.create_task(probe(Request("odd", {"how": "hang"}, [], LONG_S)))
        async with asyncio.timeout(LONG_S):
            while len(psutil.Process().children()) <= len(others):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


HERE = Resolved(["127.0.0.1"], [])


def test_what_is_allowed_and_what_may_carry_headers_is_probed_once_and_what_is_denied_is_not() -> None:
    config = Transport(order=["odd", "zmq"], side=["tcp", "odd", "ring"], deny=["zmq", "ring"])
    assert [each.name for each in asyncio.run(probe_all(config, HERE))] == ["odd", "tcp"]


def test_a_wrong_option_is_an_error_for_the_user_and_not_an_offer() -> None:
    config = Transport(order=["odd", "tcp"], side=[], options={"odd": {"hwo": "well"}})
    with pytest.raises(ConfigError, match=r"transport\.options\.odd: unknown option 'hwo', expected one of how"):
        asyncio.run(probe_all(config, HERE))


def test_a_name_that_could_not_be_resolved_stands_in_the_reason_against_a_transport() -> None:
    config = Transport(order=["odd", "tcp"], side=[], options={"odd": {"how": "unavailable"}})
    odd, tcp = asyncio.run(probe_all(config, Resolved(["127.0.0.1"], ["mini.local resolves to IPv6 only"])))
    assert odd.unavailable == "no such cable; mini.local resolves to IPv6 only"
    assert tcp.unavailable is None


def test_the_projects_own_plugins_come_in_by_the_same_door() -> None:
    config = Transport(order=["tcp", "zmq"], side=[], options={"zmq": {"curve": False}})
    tcp, zmq = asyncio.run(probe_all(config, HERE))
    assert (tcp.unavailable, zmq.unavailable) == (None, None)
    assert all("AUTHENTICATED" in each.caps and "ENCRYPTED" not in each.caps for each in (tcp, zmq))
