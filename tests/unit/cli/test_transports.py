"""`nova transports`: every plugin has its line, whatever it does when it is asked, and nobody is imported unasked."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta
from rich.console import Console
from typer.testing import CliRunner

from nova.cli.app import app
from nova.cli.inventory import inventory
from nova.cli.output import Plugin, Transports
from nova.cli.show_transports import transports
from nova.config.schema import Transport as Policy
from nova.transport.manual import Option, options, type_name

PLUGIN = """
import os, signal
from dataclasses import dataclass, field
from nova.errors import TransportUnavailable
from nova.transport.api import API_VERSION, Transport
open(os.path.join(os.path.dirname(__file__), "imported"), "w").close()

@dataclass(frozen=True)
class Config:
    speed: float = field(default=1.5, metadata={{"help": "m/s; how fast"}})

class Plugin(Transport):
    name = "{name}"
    api = API_VERSION
    version = "3.2"
    Config = Config
    def probe(self, hosts):
        raise TransportUnavailable("no pigeon is at home")
    def open(self, seat):
        raise TransportUnavailable("no pigeon is at home")
{more}
"""


@dataclass
class Site:
    """A folder on the path, as of installed distributions."""

    folder: Path

    def add(self, name: str, more: str = "", distribution: str = "") -> Path:
        """A plugin of that name; `more` is code at the end of its module. Returns the trace that its import leaves."""
        distribution = distribution or f"nova-transport-{name}"
        package = distribution.replace("-", "_")
        (self.folder / package).mkdir()
        (self.folder / package / "__init__.py").write_text(PLUGIN.format(name=name, more=more))
        info = self.folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[nova.transports]\n{name} = {package}:Plugin\n")
        return self.folder / package / "imported"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Site(tmp_path)


def asked(policy: Policy) -> dict[str, Plugin]:
    found = asyncio.run(asyncio.wait_for(inventory(policy), 60))
    return {plugin.name: plugin for plugin in found.plugins}


def only(*names: str, probe_s: float = 20.0) -> Policy:
    return Policy(order=list(names), side=[], probe_s=probe_s)


def test_a_plugin_that_works_has_its_version_promises_attachments_and_options() -> None:
    tcp = asked(only("tcp"))["tcp"]
    assert (tcp.state, tcp.reason, tcp.targets) == ("loaded", "", ["nova_transport_tcp:TcpTransport"])
    assert tcp.distributions == [f"nova-transport-tcp {tcp.version}"]
    assert tcp.api == (1, 0)
    assert {"BYTES", "AUTHENTICATED"} <= {*tcp.caps}
    assert tcp.attachments[0].address == "127.0.0.1"
    assert tcp.options[0] == Option(
        "handshake_s", "float > 0", "2.0", "s; a connection that has not proved itself by then is dropped"
    )


def test_what_is_unavailable_says_why_and_shows_its_options_all_the_same(site: Site) -> None:
    site.add("pigeon")
    pigeon = asked(only("pigeon"))["pigeon"]
    assert (pigeon.state, pigeon.reason) == ("unavailable", "no pigeon is at home")
    assert (pigeon.version, pigeon.distributions) == ("3.2", ["nova-transport-pigeon 1.0"])
    assert pigeon.options == [Option("speed", "float", "1.5", "m/s; how fast")]


@pytest.mark.parametrize(
    ("more", "state", "reason"),
    [
        ("raise RuntimeError('no wings')", "refused", "RuntimeError('no wings')"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "unavailable", "SIGSEGV"),
        ("os._exit(3)", "unavailable", "exited with status 3"),
        ("Plugin.name = 'dove'", "refused", "calls itself 'dove'"),
        ("Plugin.api = (99, 0)", "refused", "made for transport API 99.0"),
        ("print('x' * 100_000)", "unavailable", "no pigeon is at home"),
    ],
)
def test_a_plugin_that_misbehaves_costs_its_own_line_only(more: str, state: str, reason: str, site: Site) -> None:
    site.add("pigeon", more)
    found = asked(only("pigeon", "tcp"))
    assert found["pigeon"].state == state
    assert reason in found["pigeon"].reason
    assert found["tcp"].state == "loaded"


def test_a_plugin_that_hangs_is_named_while_it_is_waited_for_and_given_up_at_the_limit(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nova.cli.inventory.PATIENCE_S", 0.2)
    site.add("pigeon", "import threading; threading.Event().wait()")
    pigeon = asked(only("pigeon", probe_s=1.0))["pigeon"]
    assert "waiting for pigeon" in capsys.readouterr().err
    assert pigeon.state == "unavailable"
    assert "did not answer within 1 s" in pigeon.reason


def test_a_wrong_option_is_a_refusal_with_the_name_of_the_key(site: Site) -> None:
    site.add("pigeon")
    policy = Policy(order=["pigeon"], side=[], options={"pigeon": {"sped": 1.0}})
    pigeon = asked(policy)["pigeon"]
    assert pigeon.state == "refused"
    assert "unknown option 'sped', expected one of speed" in pigeon.reason


def test_what_is_not_allowed_is_listed_and_not_imported(site: Site) -> None:
    trace = site.add("pigeon")
    found = asked(Policy(order=["tcp"], side=[]))
    assert (found["pigeon"].state, found["pigeon"].reason) == (
        "refused", "not in transport.order, so it is not asked: add it there to use it",
    )  # fmt: skip
    assert "not in transport.allow," in asked(Policy(allow=["tcp"], side=[]))["pigeon"].reason
    denied = asked(Policy(order=["tcp", "pigeon"], side=["pigeon"], deny=["pigeon"]))["pigeon"]
    assert denied.reason == "transport.deny names it"
    assert not trace.exists()


def test_a_name_that_two_distributions_provide_is_refused_with_both(site: Site) -> None:
    traces = [site.add("pigeon"), site.add("pigeon", distribution="other-pigeon")]
    pigeon = asked(only("pigeon"))["pigeon"]
    assert pigeon.state == "refused"
    assert "nova-transport-pigeon" in pigeon.reason
    assert "other-pigeon" in pigeon.reason
    assert not any(trace.exists() for trace in traces)


def test_what_is_allowed_and_not_installed_is_missing() -> None:
    assert asked(only("carrier-pigeon"))["carrier-pigeon"].state == "missing"


def test_options_of_a_transport_that_is_not_installed_are_a_problem() -> None:
    policy = Policy(order=["pigeon"], side=[], options={"pigeon": {"speed": 1}}, hosts=["no host at all"])
    problems = asyncio.run(asyncio.wait_for(inventory(policy), 60)).problems
    assert problems[-1] == "transport.options.pigeon: no such transport is installed"
    assert problems[0].startswith("transport.hosts: no host at all does not resolve")


def test_the_command_prints_one_object(nova_home: Path) -> None:
    result = CliRunner().invoke(app, ["transports", "--json", "--set", 'transport.order=["tcp"]'])
    assert result.exit_code == 0, result.output
    assert "tcp" in [each["name"] for each in json.loads(result.stdout)["plugins"]]


def test_a_list_fits_a_terminal_of_100_columns() -> None:
    out = io.StringIO()
    found = Transports(
        hosts=["127.0.0.1"], problems=["a.local does not resolve"],
        plugins=[
            Plugin(
                name="pigeon", state="loaded", reason="", targets=["[x]:Y"], distributions=["d 1.0"], version="1.0",
                api=(1, 0), caps=["BYTES", "ARRAYS"] * 9, options=[Option("speed", "float > 0", "1.5", "m/s; " * 40)],
            ),
            Plugin(name="dove", state="missing", reason="why not? " * 30, targets=[], distributions=[]),
        ],
    )  # fmt: skip
    Console(file=out, width=100).print(transports(found))
    text = out.getvalue()
    assert all(len(line) <= 100 for line in text.splitlines())
    for word in ("a.local does not resolve", "[x]:Y from d 1.0", "speed = 1.5 (float > 0)", "why not?", "1.0"):
        assert word in text


@dataclass(frozen=True)
class Every:
    plain: str
    bounded: Annotated[int, Meta(ge=1, le=9)] = 3
    many: list[str] = field(default_factory=lambda: ["a"], metadata={"help": "names"})
    either: str | None = None


def test_options_of_every_kind_have_their_type_default_and_help() -> None:
    assert list(options(Every)) == [
        Option("plain", "str", "", ""),
        Option("bounded", "int >= 1 <= 9", "3", ""),
        Option("many", "list[str]", '["a"]', "names"),
        Option("either", "str | None", "null", ""),
    ]
    assert type_name(Annotated[str, Meta(pattern="^a")]) == "str as ^a"
    assert msgspec.json.decode(msgspec.json.encode(Option("a", "b", "c", "d")), type=Option).help == "d"
