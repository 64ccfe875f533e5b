"""What a node says of its machine."""

from __future__ import annotations

import re
import socket
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from nova import __version__
from nova.config.schema import NAME_PATTERN
from nova.node.facts import boot_id, default_name, gather


def test_the_facts_are_filled_in() -> None:
    facts = gather()
    assert facts.nova == __version__
    assert re.match(r"\d+\.\d+", facts.mlx)
    assert facts.memory_bytes > 1 << 28
    assert facts.cores >= 1
    assert all((facts.host, facts.system, facts.arch, facts.cpu, facts.python))
    assert facts.boot_id == boot_id() != ""


@given(st.text(max_size=80))
@example("Anna's MacBook Pro.local")
@example("böse-äpfel")
@example("...")
@example("x" * 70 + ".lan")
def test_whatever_the_host_is_called_the_default_name_is_a_name(host: str) -> None:
    with patch.object(socket, "gethostname", return_value=host):
        assert re.match(NAME_PATTERN, default_name())


def test_a_plain_host_name_stays_as_it_is() -> None:
    with patch.object(socket, "gethostname", return_value="studio-1.local"):
        assert default_name() == "studio-1"
