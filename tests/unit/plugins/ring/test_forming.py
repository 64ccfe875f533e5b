"""Rings of real processes come up, and say why when they do not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.unit.plugins.ring.ranks import LIMIT_S, Rank, form, ranks, ring

INIT = "MLX's ring init begins"


def sums(members: list[Rank]) -> list[object]:
    for member in members:
        member.tell(do="collective", name="all_sum")
    return [member.says()["done"] for member in members]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_form_a_ring_and_leave_nothing_of_it_in_environment_or_files(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with ranks(size) as members:
        answers = form(members)
        assert [answers[member.rank].get("environment") for member in members] == [[]] * size
        assert sums(members) == [[sum(range(1, size + 1)), -sum(range(size))]] * size
        assert all(INIT in member.log for member in members)
    assert list(tmp_path.iterdir()) == []


def test_two_addresses_are_two_connections_when_the_options_say_so() -> None:
    with ring(2, hosts=["127.0.0.1", "127.0.0.2"], options={"sockets": 2}) as members:
        large = {"count": 1 << 18}
        members[0].tell(do="recv", peer=1, **large)
        assert members[1].does("send", peer=0, **large) == {"done": None}
        assert members[0].says() == {"done": True}
        assert all("sockets=2" in member.log for member in members)


def test_without_that_option_the_best_address_is_used_alone() -> None:
    with ring(2, hosts=["127.0.0.2", "127.0.0.1"]) as members:
        assert all("sockets=1" in member.log and "right=['127.0.0.2:" in member.log for member in members)


def test_a_second_ring_in_one_process_is_refused_at_once() -> None:
    with ring(2) as members:
        answer = members[0].does("open again")
        assert answer["error"] == "TransportUnavailable"
        assert "this process has begun a ring before" in answer["text"]


def test_a_rank_that_is_stopped_is_named_by_the_limit_before_mlx_begins() -> None:
    with ranks(2, options={"dial_s": 0.5}) as members:
        cards = [member.card() for member in members]
        os.kill(members[1].process.pid, signal.SIGSTOP)
        members[0].tell(cards=cards)
        answer = members[0].says()
        assert "rank 1 cannot be reached" in answer["text"]
        assert "stopped or stuck" in answer["text"]
        assert 0.4 < answer["seconds"] < 5.0
        assert INIT not in members[0].log


def test_the_deadline_of_the_join_ends_the_dialling_too() -> None:
    with ranks(2, options={"dial_s": LIMIT_S}) as members:
        cards = [member.card() for member in members]
        members[0].tell(cards=cards, join_s=0.3)
        answer = members[0].says()
        assert answer["error"] == "FormingFailed"
        assert answer["seconds"] < 5.0


def test_a_rank_that_is_dead_is_refused_at_once_and_named() -> None:
    with ranks(3) as members:
        cards = [member.card() for member in members]
        members[2].process.kill()
        members[2].process.wait(LIMIT_S)
        for member in members[:2]:
            member.tell(cards=cards)
        for member in members[:2]:
            answer = member.says()
            assert "rank 2 cannot be reached" in answer["text"]
            assert "connection refused" in answer["text"]


def test_a_rank_with_another_ticket_is_refused() -> None:
    with Rank(0, 2) as ours, Rank(1, 2, ticket="x" * 32) as other:
        answers = form([ours, other])
        assert [answer["error"] for answer in answers.values()] == ["FormingFailed"] * 2
        assert any("does not hold this group's ticket" in answer["text"] for answer in answers.values())


def test_a_rendezvous_that_fails_is_the_reason() -> None:
    with ranks(2) as members:
        cards = [member.card() for member in members]
        for member in members:
            member.tell(cards=cards)
        for member in members:
            assert "gather" in member.says()
            member.tell(failed="the coordinator went away")
        for member in members:
            assert "the coordinator went away" in member.says()["text"]


@pytest.mark.parametrize("report", [b"[", b'{"1":"x"}', b"{" + b" " * 70_000 + b"}"])
def test_a_malformed_report_of_a_rank_ends_the_join(report: bytes) -> None:
    with ranks(2) as members:
        cards = [member.card() for member in members]
        for member in members:
            member.tell(cards=cards)
        blobs = [member.says()["gather"] for member in members]
        members[0].tell(gathered=[blobs[0], report.hex()])
        answer = members[0].says()
        assert answer["error"] == "FormingFailed"
        assert INIT not in members[0].log


def test_a_link_that_a_rank_did_not_reach_ends_the_join_of_all() -> None:
    with ranks(2) as members:
        cards = [member.card() for member in members]
        for member in members:
            member.tell(cards=cards)
        blobs = [member.says()["gather"] for member in members]
        lost = json.dumps({"0": []}).encode().hex()
        for member in members:
            member.tell(gathered=[blobs[0], lost])
        for member in members:
            assert "rank 1 reached none of the addresses of rank 0" in member.says()["text"]


def test_a_rank_that_dies_after_the_go_leaves_the_other_stuck_in_mlx_until_it_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what MLX was reading stays behind
    with ranks(2) as members:
        cards = [member.card() for member in members]
        members[0].tell(cards=cards)
        members[1].tell(cards=cards, die_at=2)
        for _ in ("reached", "go"):
            blobs = [member.says()["gather"] for member in members]
            for member in members:
                member.tell(gathered=blobs)
        assert members[1].process.wait(LIMIT_S) == 0
        with pytest.raises(AssertionError, match="rank 0 is silent"):
            members[0].says(0.5)
        assert INIT in members[0].log
        members[0].process.send_signal(signal.SIGTERM)
        assert members[0].process.wait(5.0) == -signal.SIGTERM
