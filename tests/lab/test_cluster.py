"""Nova over the lab: two Macs and a cable, and what is said when the cable is pulled or a Mac stands still."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lablib.cluster import LabCluster, cluster
from lablib.lab import Lab
from lablib.life import lab

from nova.local.cluster import setting
from tests.support.lab import needs_lab, read_until

pytestmark = needs_lab

TCP = [setting("transport.order", ["tcp"]), setting("deployment.retry_s", 0.1)]
START_S = 30.0
KEEPALIVE_S = 2
CUT_NAMED_S = 4 * KEEPALIVE_S + 2.0
"""A link on which nothing is acknowledged counts as lost after about twice its keepalive."""
STILL_NAMED_S = 6.0
"""A node that stands still counts as lost after control.dead_after_s, 2 s."""


@contextmanager
def generating(found: LabCluster) -> Iterator[subprocess.Popen[str]]:
    """A command that has written its first text and would go on for a minute."""
    command = found.command("generate", "--prompt", "go", "--max-tokens", "500")
    process = found.lab.popen("mac-1", command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        read_until(process, "All work", START_S)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10.0)


def serves(found: LabCluster) -> None:
    text = found.asked("generate", "--prompt", "go", "--max-tokens", "5")
    assert (text["text"], text["transport"]) == ("All w", "tcp")


def cables(lab: Lab) -> dict[str, list[str]]:
    """The addresses on the cable, and no others."""
    return {host: [lab.addresses(host)["tb0"][0]] for host in lab.hosts}


def test_two_hosts_serve_over_their_link_local_addresses_with_the_control_plane_on_another_network() -> None:
    with lab(2, cpu=[100, 50]) as found, cluster(found, TCP, cables(found)) as running:
        serves(running)
        status = running.asked("status")
        explained = running.asked("explain")
    offered = [each["address"] for node in status["nodes"] for offer in node["transports"] if offer["name"] == "tcp"
               for each in offer["attachments"]]  # fmt: skip
    assert sorted(offered) == ["169.254.85.1", "169.254.85.2"]
    assert [attempt["outcome"] for attempt in explained["attempts"]] == ["serving"]
    assert {(link["source"], link["target"]) for link in explained["attempts"][0]["links"]} == {
        ("mac-1", "mac-2"), ("mac-2", "mac-1"),
    }  # fmt: skip


def test_a_cable_that_is_pulled_while_text_is_generated_is_named_and_put_back_it_serves_again() -> None:
    settings = [*TCP, setting("transport.options.tcp.keepalive_s", KEEPALIVE_S)]
    with lab(2) as found, cluster(found, settings, cables(found)) as running:
        with generating(running) as command:
            found.cut("mac-2")
            begun = time.monotonic()
            _, errors = command.communicate(timeout=3 * CUT_NAMED_S)
            took = time.monotonic() - begun
        assert command.returncode == 1
        assert took < CUT_NAMED_S
        assert "rank" in errors
        assert "mac-" in errors
        found.heal("mac-2")
        serves(running)


@pytest.mark.parametrize("verb", ["pause", "kill"])
def test_a_host_that_stands_still_or_dies_is_named(verb: str) -> None:
    with lab(2) as found, cluster(found, TCP) as running:
        with generating(running) as command:
            getattr(found, verb)("mac-2")
            begun = time.monotonic()
            _, errors = command.communicate(timeout=3 * STILL_NAMED_S)
            took = time.monotonic() - begun
        assert command.returncode == 1
        assert took < STILL_NAMED_S
        assert "mac-2" in errors
        if verb == "pause":
            assert found.resume("mac-2")
            serves(running)
