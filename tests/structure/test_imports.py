"""Imports go one way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.structure.project import ROOT
from tests.structure.rules import LAYERS, broken_rules, imports


def tree(tmp_path: Path, **files: str) -> Path:
    """Made-up modules: `nova_engine_x="import y"` becomes nova/engine/x.py."""
    for name, text in files.items():
        path = tmp_path.joinpath(*name.replace("__", "\0").split("_")).with_suffix(".py")
        path = Path(str(path).replace("\0", "_"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_nova_breaks_no_rule() -> None:
    assert broken_rules(ROOT) == []


def test_every_part_of_nova_has_a_place_in_the_order() -> None:
    parts = {path.stem for path in (ROOT / "nova").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} <= frozenset().union(*LAYERS)


def test_the_reader_sees_nova_s_own_imports() -> None:
    seen = {(one.module, one.target) for one in imports(ROOT, "nova")}
    assert ("nova.transport.api", "nova.clock.Deadline") in seen
    assert ("nova.config.load", "nova.errors.ConfigError") in seen


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("nova_wire_x", "from nova.control import y", "wire imports control, which lies above it"),
        ("nova_wire_x", "import nova.control.y", "wire imports control"),
        ("nova_wire_x", "from nova import control", "wire imports control"),
        ("nova_wire_x", "from ..control import y", "wire imports control"),
        ("nova_wire_x", "from .. import control", "wire imports control"),
        ("nova_wire_x", "def f():\n    import nova.control.y", "wire imports control"),
        ("nova_wire_x", "import importlib\nimportlib.import_module('nova.control')", "wire imports control"),
        ("nova_config_x", "from nova.wire.codec import y", "config imports wire"),
        ("nova_log", "import nova.config.schema", "log imports config"),
        ("nova_plan_x", "import nova.engine.x", "plan imports engine"),
        ("nova_sim_x", "import nova.engine.runner", "sim has no I/O"),
        ("nova_coordinator_x", "import nova.engine.x", "they talk in messages only"),
        ("nova_node_x", "import nova.coordinator.x", "they talk in messages only"),
        ("nova_engine_x", "import nova.node.x", "they talk in messages only"),
        ("nova_daemon", "import nova.cli.main", "daemon imports cli"),
        ("nova_control_x", "import mlx.core as mx", "imports mlx"),
        ("nova_cli_x", "from mlx_lm import load", "imports mlx_lm"),
        ("nova_model_card", "import mlx.core", "imports mlx"),
        ("nova_model_locate", "from mlx_lm.utils import y", "imports mlx_lm"),
        ("nova_model_tokenizer", "def f():\n    import mlx_lm", "imports mlx_lm"),
        ("nova_transport_x", "import nova_transport_tcp.group", "imports the plugin nova_transport_tcp"),
        ("nova_cli_x", "from nova_transport_zmq import y", "imports the plugin nova_transport_zmq"),
        ("nova_errors", "import nova.ids", "errors imports nova.ids, but stands on its own"),
        ("nova_ids", "from nova import __version__", "stands on its own"),
        ("nova_clock", "from .errors import x", "stands on its own"),
        ("nova_newpart_x", "import nova.errors", "no place in LAYERS"),
    ],
)
def test_the_checker_sees_a_broken_rule(tmp_path: Path, module: str, text: str, complaint: str) -> None:
    (found,) = broken_rules(tree(tmp_path, **{module: text}))
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("nova_cli_x", "import nova.daemon, nova.engine.x, nova.wire.codec"),
        ("nova_daemon", "import nova.coordinator.x, nova.node.x, nova.log"),
        ("nova_engine_x", "import mlx.core, nova.model.x, nova.plan.split, nova.engine.y"),
        ("nova_model_x", "from mlx_lm.utils import load_model"),
        ("nova_control_x", "from nova.plan import split"),
        ("nova_cli_x", "from nova import __version__"),
        ("nova_log", "from nova.errors import ConfigError"),
        ("nova_local_x", "import nova.daemon, nova.control.client"),
    ],
)
def test_the_checker_allows_what_the_order_allows(tmp_path: Path, module: str, text: str) -> None:
    assert broken_rules(tree(tmp_path, **{module: text})) == []


def test_plugins_know_only_the_transport_api_and_what_lies_below_it() -> None:
    allowed = ("nova.transport", "nova.wire", "nova.errors", "nova.clock", "nova.ids", "nova.log", "nova.paths")
    folders = [path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml")]
    strangers = [
        f"{one.module}:{one.line}: {one.target}"
        for folder in folders
        for one in imports(folder)
        if one.target.startswith("nova.") and not one.target.startswith(allowed)
    ]
    assert strangers == []
