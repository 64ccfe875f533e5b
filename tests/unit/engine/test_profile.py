"""The times of a real model's layers, and the process that measures them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.clock import Deadline
from nova.engine import bench
from nova.engine.bench import SPARSE, Bench
from nova.engine.profile import MOST_LAYERS, answer, how_many
from nova.model.stage import load_stage
from nova.plan.fit import PREFILL, WIDTHS
from nova.throwaway import ALARM_S
from nova.wire.profiling import ProfileAnswer, ProfileRequest

LIMIT_S = 60.0


def request(folder: Path, budget_s: float = 0.5) -> ProfileRequest:
    return ProfileRequest("n", str(folder), 0, [], budget_s, LIMIT_S)


def told(asked: ProfileRequest) -> tuple[ProfileAnswer, str]:
    """What the process answers, and what it wrote to its log."""
    with started(asked) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        answered = msgspec.json.decode(process.stdout.readline(), type=ProfileAnswer)
        return answered, process.stderr.read().decode()


@contextmanager
def started(asked: ProfileRequest) -> Iterator[subprocess.Popen[bytes]]:
    """Its standard input stays open. The alarm clock ends it if nothing else does."""
    command = [sys.executable, "-m", "nova.engine.profile"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(asked) + b"\n")
        process.stdin.flush()
        yield process


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 2000))
def test_the_layers_that_are_run_are_the_most_that_fit(sizes: list[int], most: int) -> None:
    count = how_many(sizes, most)
    assert count in (1, 2, 4, 8, MOST_LAYERS)
    assert count == 1 or sum(sizes[-count:]) <= most
    assert 2 * count > min(len(sizes), MOST_LAYERS) or sum(sizes[-2 * count :]) > most


def test_a_model_s_profile_has_every_size_that_the_planner_wants(smollm2: Path) -> None:
    found = answer(request(smollm2), Deadline.after(0.5)).profile
    assert found is not None
    assert found.name == "n"
    assert found.source.startswith("measured on layers ")
    assert 0 < found.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    widths = [n for n, _ in found.layer_s]
    assert widths == sorted(set(widths))
    assert SPARSE <= set(widths) <= {*WIDTHS, *PREFILL}
    assert SPARSE <= {n for n, _ in found.head_s} <= set(WIDTHS)
    assert all(seconds > 0 for _, seconds in found.layer_s)
    assert found.fixed_s >= 0
    curve = dict(found.layer_s)
    assert curve[1] < curve[8]


def test_no_time_left_still_measures_what_every_profile_has(smollm2: Path) -> None:
    ran = Bench(load_stage(smollm2, 28, 30), Deadline.after(0.0))
    assert (ran.rounds, ran.depth) == (1, 2)
    assert {n for n, _ in ran.times("rows")} == SPARSE
    assert {n for n, _ in ran.times("head")} == {n for n, _ in ran.times("headless")} == SPARSE
    assert [depth for depth, _ in ran.times("depth")] == [1, 2]
    assert ran.times("piece") == []


def test_with_time_every_size_is_run_in_every_round(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PREFILL", (8, 16))
    monkeypatch.setattr(bench, "MOST_ROUNDS", 2)
    ran = Bench(load_stage(smollm2, 28, 30), Deadline.after(LIMIT_S))
    assert (ran.rounds, ran.depth, ran.piece_depth, ran.context) == (2, 2, 2, 16)
    assert [n for n, _ in ran.times("rows")] == list(WIDTHS)
    assert [n for n, _ in ran.times("piece")] == [8, 16]


def test_a_model_that_cannot_be_run_is_the_answer(tmp_path: Path) -> None:
    answered, _ = told(request(tmp_path))
    assert answered.profile is None
    assert "config.json" in answered.wrong_model


@pytest.mark.skipif(sys.platform != "linux", reason="CPUs are pinned on Linux only")
def test_what_nobody_foresaw_is_the_answer_and_in_the_log(tmp_path: Path) -> None:
    answered, log = told(msgspec.structs.replace(request(tmp_path), cpus=[1 << 14]))
    assert answered.raised.startswith("OSError: ")
    assert answered.raised in log


def test_a_process_whose_parent_is_gone_ends_at_once(smollm2: Path) -> None:
    with started(request(smollm2, budget_s=LIMIT_S)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        assert process.wait(LIMIT_S) == 1
        assert process.stdout.read() == b""


def test_a_process_that_nobody_ends_is_ended_by_the_kernel(smollm2: Path) -> None:
    with started(msgspec.structs.replace(request(smollm2, budget_s=LIMIT_S), limit_s=0.1 - ALARM_S)) as process:
        assert process.wait(LIMIT_S) == -signal.SIGALRM
