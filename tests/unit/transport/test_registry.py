"""Plugins are real distributions here: a module and a `.dist-info` in a folder on the path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nova.errors import ConfigError, PluginRefused
from nova.transport.registry import installed, load_transport

PLUGIN = """
from dataclasses import dataclass, field
from nova.errors import TransportUnavailable
from nova.transport.api import Caps, Transport, TransportInfo

@dataclass(frozen=True)
class Config:
    depth: int = field(default=4, metadata={{"help": "frames"}})
    rate: float = field(default=1.0, metadata={{"help": "per s"}})

    def __post_init__(self):
        if self.depth < 0:
            raise ValueError("depth must not be negative")

class Plugin(Transport):
    name = "{name}"
    api = {api}
    version = "3.1"
    Config = Config

    def probe(self, host):
        if host == "nowhere":
            raise TransportUnavailable("no such place")
        return TransportInfo(self.name, self.version, self.api, Caps.ABORT | Caps.DEADLINE, ())

    def open(self, seat):
        raise TransportUnavailable("for listing only")
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    monkeypatch.syspath_prepend(str(tmp_path))
    modules: list[str] = []

    def write(name: str, module: str, code: str | None = None, api: str = "(1, 0)", target: str = "Plugin") -> None:
        (tmp_path / f"{module}.py").write_text(PLUGIN.format(name=name, api=api) if code is None else code)
        info = tmp_path / f"{module.replace('_', '-')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[nova.transports]\n{name} = {module}:{target}\n")
        modules.append(module)
        importlib.invalidate_caches()

    yield write
    for module in modules:
        sys.modules.pop(module, None)


def test_a_plugin_is_found_right_after_its_installation_and_loaded_alone(install: Install) -> None:
    assert "fast" not in installed()
    install("fast", "fast_module")
    install("other", "other_module")
    transport = load_transport("fast", {"depth": 9}, ["fast"])
    assert (transport.name, transport.config.depth, transport.config.rate) == ("fast", 9, 1.0)
    assert "other_module" not in sys.modules


def test_a_name_that_is_not_allowed_is_not_even_imported(install: Install) -> None:
    install("evil", "evil_module", code="raise SystemExit('imported')")
    with pytest.raises(PluginRefused, match=r"not in transport\.order"):
        load_transport("evil", {}, ["tcp"])
    assert "evil_module" not in sys.modules


def test_two_plugins_of_one_name_are_refused_and_both_named(install: Install) -> None:
    install("twice", "first_module")
    install("between", "between_module")
    install("twice", "second_module")
    with pytest.raises(PluginRefused, match=r"first_module:Plugin from first_module.*second_module:Plugin from second"):
        load_transport("twice", {}, ["twice"])
    assert not {"first_module", "second_module"} & set(sys.modules)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_library", "no_such_library"),
        ("raise AssertionError('not here')", "not here"),
        ("raise SystemExit(3)", "SystemExit"),
        ("this is no Python", "SyntaxError"),
        ("Plugin = 5", "not a subclass"),
        ("Nothing = 5", "AttributeError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_refused_with_the_reason(install: Install, code: str, why: str) -> None:
    install("broken", "broken_module", code=code)
    with pytest.raises(PluginRefused, match=why):
        load_transport("broken")


@pytest.mark.parametrize(("api", "taken"), [("(1, 0)", True), ("(2, 0)", False), ("(0, 9)", False), ("(1, 1)", False)])
def test_the_api_version_must_fit(install: Install, api: str, taken: bool) -> None:
    install("versioned", "versioned_module", api=api)
    if taken:
        load_transport("versioned")
        return
    with pytest.raises(PluginRefused, match=r"this is 1\.0"):
        load_transport("versioned")


def test_a_plugin_under_a_false_name_is_refused(install: Install) -> None:
    install("shown", "shown_module", code=PLUGIN.format(name="hidden", api="(1, 0)"))
    with pytest.raises(PluginRefused, match="calls itself 'hidden'"):
        load_transport("shown")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dept": 1}, r"transport\.options\.fast: unknown option 'dept', expected one of depth, rate"),
        ({"depth": "4"}, r"transport\.options\.fast\.depth: Expected `int`, got `str`"),
        ({"depth": 1.5}, r"depth: Expected `int`, got `float`"),
        ({"depth": True}, r"depth: Expected `int`, got `bool`"),
        ({"rate": None}, r"rate: Expected `float`, got `null`"),
        ({"depth": -1}, "depth must not be negative"),
    ],
)
def test_a_wrong_option_names_plugin_option_and_what_was_expected(
    install: Install, options: dict[str, object], says: str
) -> None:
    install("fast", "fast_module")
    with pytest.raises(ConfigError, match=says):
        load_transport("fast", options)
