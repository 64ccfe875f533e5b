"""What a node offers, and the plugin as Nova finds it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import msgspec
import pytest
from nova_transport_jaccl.config import JacclConfig
from nova_transport_jaccl.facts import Facts, Mlx
from nova_transport_jaccl.ledger import Ledger
from nova_transport_jaccl.transport import BANDWIDTH_BYTES_S, LATENCY_S

from nova.errors import ConfigError, TransportUnavailable
from nova.transport.api import Attachment, Caps, Transport
from nova.transport.registry import load_transport
from tests.structure.project import ROOT
from tests.unit.plugins.jaccl.jaccl_like import seat
from tests.unit.plugins.jaccl.machines import cable, mac, port

pytestmark = pytest.mark.usefixtures("nova_home")

HOSTS = ["192.0.2.7"]


def believing(facts: Facts, folder: Path, **options: object) -> Transport:
    path = folder / "facts.json"
    path.write_bytes(msgspec.json.encode(facts))
    return load_transport("jaccl", {"facts": str(path), **options})


def test_every_usable_port_is_an_attachment_to_its_cable(tmp_path: Path) -> None:
    facts = mac(port(1, "B-END", "A-END"), port(2, *cable(0, 1)), port(3, peers=(), link_gbit=None))
    info = believing(facts, tmp_path).probe(HOSTS)
    assert info.attachments == (
        Attachment("tb/A-END-B-END", "169.254.0.1", LATENCY_S, BANDWIDTH_BYTES_S, "en1 (Thunderbolt 5)"),
        Attachment("tb/END-0-0-1-END-0-1-0", "169.254.0.2", LATENCY_S, BANDWIDTH_BYTES_S, "en2 (Thunderbolt 5)"),
    )


def test_both_ends_of_a_cable_name_one_domain(tmp_path: Path) -> None:
    ends = cable(0, 1)
    domains = {
        believing(mac(port(1, *pair)), tmp_path).probe(HOSTS).attachments[0].domain for pair in (ends, ends[::-1])
    }
    assert len(domains) == 1


def test_it_promises_what_always_holds_and_says_what_must_be_alike(tmp_path: Path) -> None:
    info = believing(mac(), tmp_path).probe(HOSTS)
    assert info.caps == Caps.ARRAYS | Caps.COLLECTIVES | Caps.INTER_HOST
    assert info.collectives == ("all_sum", "all_max", "all_min", "all_gather")
    assert info.alike == {"mlx": "0.32.4", "macOS frames": "512 KiB"}
    older = believing(mac(macos="26.2", mlx=Mlx("0.32.2", True, True)), tmp_path).probe(HOSTS)
    assert older.collectives == ("all_sum", "all_max", "all_min")
    assert older.alike == {"mlx": "0.32.2", "macOS frames": "4 KiB"}


def test_an_unusable_machine_neither_offers_nor_opens(tmp_path: Path) -> None:
    transport = believing(mac(rdma_ctl="disabled"), tmp_path)
    for ask in (lambda: transport.probe(HOSTS), lambda: transport.open(seat())):
        with pytest.raises(TransportUnavailable, match="Recovery"):
            ask()


def test_spent_starts_end_the_offer(tmp_path: Path) -> None:
    transport = believing(mac(), tmp_path, failed_starts=2)
    transport.open(seat()).close()
    Ledger.of_this_machine().begin()
    transport.probe(HOSTS)
    Ledger.of_this_machine().begin()
    with pytest.raises(TransportUnavailable, match="2 starts of JACCL have failed"):
        transport.probe(HOSTS)
    with pytest.raises(TransportUnavailable, match="restart this Mac"):
        transport.open(seat())


def test_a_card_holds_this_machines_facts_and_fits(tmp_path: Path) -> None:
    facts = mac(*(port(number, *cable(0, number)) for number in range(1, 7)))
    card = believing(facts, tmp_path).open(seat()).card()
    assert msgspec.json.decode(card)["facts"] == msgspec.json.decode(msgspec.json.encode(facts))
    assert len(card) < 8192


def test_a_machine_without_macos_and_without_jaccl_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no sw_vers here
    if _has_jaccl():
        pytest.skip("this MLX has JACCL")
    with pytest.raises(TransportUnavailable, match="not macOS, and this MLX has no JACCL"):
        load_transport("jaccl").probe(HOSTS)


def _has_jaccl() -> bool:
    import mlx.core as mx

    return bool(mx.distributed.is_available("jaccl"))


def test_every_option_has_its_help() -> None:
    assert all(field.metadata.get("help") for field in fields(JacclConfig))


@pytest.mark.parametrize("options", [{"facs": "x"}, {"command_s": 0}, {"failed_starts": 11}, {"facts": 3}])
def test_a_wrong_option_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"transport\.options\.jaccl"):
        load_transport("jaccl", options)


def test_the_example_in_the_readme_is_a_machine_that_can(tmp_path: Path) -> None:
    text = (ROOT / "plugins" / "jaccl" / "README.md").read_text()
    facts = msgspec.json.decode(text.partition("```json")[2].partition("```")[0], type=Facts)
    offered = believing(msgspec.structs.replace(facts, mlx=mac().mlx), tmp_path).probe(HOSTS)
    assert [each.address for each in offered.attachments] == ["169.254.7.8"]
