"""What the project's code and files never hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure.project import ROOT, modules, name, tracked

PROCESS_EDGES: dict[str, str] = {
    "nova/engine/link.py": "the receive thread hands whatever a transport plugin raises to the compute thread",
    "nova/engine/main.py": "an engine tells its daemon whatever ended it, logs it and exits",
    "nova/testing/checks.py": "a case's outcome is whatever a transport plugin raised",
}
"""A module that may catch everything -> why: it is the edge of a process, reports and exits."""

SLEEPERS: dict[str, str] = {
    "nova/engine/emulated.py": "stands for the time a stage computes, which nothing could wake either",
}
"""A module of nova that may call time.sleep -> what it waits for, and why nothing can wake it."""

BROAD = {"Exception", "BaseException"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
FORBIDDEN_CALLS = {"os.system", "os.popen", "time.sleep", "eval", "exec"}


def findings(source: str) -> Iterator[tuple[str, int]]:
    """(kind, line) of everything in `source` that needs a reason or has none."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ExceptHandler() if (node.type is None or BROAD & _names(node.type)) and not _always_reraises(node):
                yield "broad except", node.lineno
            case ast.Import() if FORBIDDEN_MODULES & {alias.name.partition(".")[0] for alias in node.names}:
                yield "pickle", node.lineno
            case ast.ImportFrom() if (node.module or "").partition(".")[0] in FORBIDDEN_MODULES:
                yield "pickle", node.lineno
            case ast.ImportFrom(module="time") if any(alias.name == "sleep" for alias in node.names):
                yield "time.sleep", node.lineno
            case ast.Call():
                called = ast.unparse(node.func)
                if called in FORBIDDEN_CALLS:
                    yield called, node.lineno
                for keyword in node.keywords:
                    if keyword.arg == "shell" and not _is_false(keyword.value):
                        yield "shell=True", node.lineno
                    if keyword.arg == "allow_pickle" and not _is_false(keyword.value):
                        yield "pickle", node.lineno
                if called.endswith("suppress") and any(BROAD & _names(argument) for argument in node.args):
                    yield "broad except", node.lineno


def _always_reraises(handler: ast.ExceptHandler) -> bool:
    """Whether it only cleans up: ends in a plain `raise` and has no way round it."""
    last = handler.body[-1]
    ways_round = [node for node in ast.walk(handler) if isinstance(node, ast.Return | ast.Break | ast.Continue)]
    return isinstance(last, ast.Raise) and last.exc is None and not ways_round


def _names(node: ast.expr) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


EXCUSES = {"broad except": PROCESS_EDGES, "time.sleep": SLEEPERS}


def test_no_module_does_what_it_has_no_reason_for() -> None:
    found = [
        f"{name(path)}:{line}: {kind}"
        for path in modules()
        for kind, line in findings(path.read_text(encoding="utf-8"))
        if name(path) not in EXCUSES.get(kind, {})
    ]
    assert found == [], f"mend it, or write the reason into {Path(__file__).relative_to(ROOT)}"


def test_no_excuse_outlives_its_cause() -> None:
    for kind, excuses in EXCUSES.items():
        for module in excuses:
            path = ROOT / module
            source = path.read_text(encoding="utf-8") if path.exists() else ""
            assert kind in {one for one, _ in findings(source)}, f"{module} needs no excuse for {kind}"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("try:\n    x()\nexcept:\n    pass", "broad except"),
        ("try:\n    x()\nexcept Exception:\n    pass", "broad except"),
        ("try:\n    x()\nexcept (OSError, BaseException) as e:\n    pass", "broad except"),
        (
            "def f():\n  try:\n    x()\n  except Exception:\n    if y():\n      return\n    raise",
            "broad except",
        ),
        ("try:\n    x()\nexcept Exception as e:\n    raise ValueError from e", "broad except"),
        ("import contextlib\nwith contextlib.suppress(Exception):\n    x()", "broad except"),
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import numpy\nnumpy.load(f, allow_pickle=True)", "pickle"),
        ("import subprocess\nsubprocess.run('ls', shell=True)", "shell=True"),
        ("import subprocess\nsubprocess.run('ls', shell=flag)", "shell=True"),
        ("import os\nos.system('ls')", "os.system"),
        ("import time\ntime.sleep(1)", "time.sleep"),
        ("from time import sleep", "time.sleep"),
        ("eval('1')", "eval"),
    ],
)
def test_the_checker_sees(source: str, kind: str) -> None:
    assert [one for one, _ in findings(source)] == [kind]


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    x()\nexcept (OSError, ValueError):\n    pass",
        "try:\n    x()\nexcept BaseException:\n    close()\n    raise",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "import asyncio\nasyncio.sleep(1)",
        "import mlx.core as mx\nmx.eval(x)",
    ],
)
def test_the_checker_lets_pass(source: str) -> None:
    assert list(findings(source)) == []


# Put together here, so that this file does not hold what it forbids.
HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("files", "pythonhosted", "org"), ("pypi", "python", "org"))]
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:home|root|Users|work|tmp|opt|mnt)/[\w.-]+")
ALLOWED_PATHS = re.compile(r"^/(?:Users/you|home/you|opt/homebrew)\b")
TEXT = {".py", ".toml", ".txt", ".md", ".sh", ".cfg", ".json", ".yml", ".yaml", ""}


def stains(text: str) -> list[str]:
    """Registry hosts and absolute paths of one machine in `text`."""
    paths = [match.group() for match in MACHINE_PATH.finditer(text)]
    return [host for host in HOSTS if host in text] + [path for path in paths if not ALLOWED_PATHS.match(path)]


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    files = [path for path in tracked() if path.suffix in TEXT and path != Path(__file__)]
    found = {name(path): seen for path in files if (seen := stains(path.read_text(encoding="utf-8", errors="replace")))}
    assert found == {}


@pytest.mark.parametrize(
    "text", ["see /home/anna/nova", "'/root/x'", "https://" + HOSTS[0] + "/simple", "=/tmp/build-7"]
)
def test_the_checker_sees_a_stain(text: str) -> None:
    assert stains(text)


@pytest.mark.parametrize(
    "text", ["$HOME/work/x", "~/.cache/nova", "docs/home/page", "/usr/lib/libopenblas.so", "a/tmp/b"]
)
def test_the_checker_lets_a_general_path_pass(text: str) -> None:
    assert stains(text) == []


def test_constraints_are_names_and_versions_only() -> None:
    line = re.compile(r"^[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*(; sys_platform == \"(linux|darwin)\")?$")
    lines = [one for one in (ROOT / "constraints.txt").read_text().splitlines() if one and not one.startswith("#")]
    assert len(lines) > 40
    assert [one for one in lines if not line.match(one)] == []
