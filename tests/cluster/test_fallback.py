"""A transport that does not come up is set aside with its reason, and the request that waits is served by the next."""

from __future__ import annotations

from tests.support.nova import nova


def test_a_transport_that_cannot_form_gives_way_to_the_next_one() -> None:
    # No kernel takes a keepalive of more than 32767 s, so tcp opens and then fails to join.
    outcome = nova(
        "run", "--nodes", "2", "--model", "emulated:seed", "--prompt", "go", "--max-tokens", "5", "--json",
        "--set", "transport.options.tcp.keepalive_s=99999",
    )  # fmt: skip
    assert outcome.status == 0, outcome.errors
    assert outcome.output["transport"] == "zmq"
    assert outcome.output["text"] == "All w"
    assert "tcp failed in phase join" in outcome.errors


def test_when_no_transport_is_left_the_error_names_the_engine_and_the_cause() -> None:
    outcome = nova(
        "run", "--nodes", "2", "--model", "emulated:seed", "--prompt", "go", "--max-tokens", "5", "--json",
        "--transport", "tcp", "--set", "transport.options.tcp.keepalive_s=99999",
    )  # fmt: skip
    assert outcome.status == 1
    assert "phase join" in outcome.output["error"]
    assert "rank 1 is node-2" in outcome.output["error"]
