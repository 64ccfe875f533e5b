"""Who may import whom, read from syntax trees. Pure apart from reading the files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "ids", "clock", "log", "paths", "throwaway"}),
    frozenset({"config"}),
    frozenset({"wire"}),
    frozenset({"transport"}),
    frozenset({"control", "model", "plan", "testing"}),
    frozenset({"coordinator", "node", "engine"}),
    frozenset({"sim"}),
    frozenset({"api"}),
    frozenset({"daemon"}),
    frozenset({"local"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
"""Lowest first. A part may import parts of lower layers and, unless STRANGERS, of its own."""

STRANGERS = frozenset({"coordinator", "node", "engine"})
"""They talk in messages and never import each other."""

SELF_SUFFICIENT = frozenset({"errors", "ids", "clock"})
"""Import nothing of Nova."""

MAY_USE_MLX = frozenset({"engine", "model", "testing"})
MODULES_THAT_MAY = frozenset({"nova.transport.memory"})
"""Single modules beside them: the reference transport makes the arrays that it receives."""
MUST_NOT_USE_MLX = frozenset({"nova.model.tokenizer", "nova.model.card", "nova.model.locate", "nova.model.dialect"})
"""Used in processes that hold no model and should start fast."""

MLX = frozenset({"mlx", "mlx_lm"})
PLUGINS = "nova_transport_"

ON_PAPER = {"sim": frozenset({"nova.engine.scheduler", "nova.plan", "nova.wire", "nova.errors", "nova.sim"})}
"""Parts without I/O, and all of Nova that they may import: packages, or single modules that are pure."""


@dataclass(frozen=True)
class Import:
    """One import of `target` in `module`, both as full dotted names."""

    module: str
    target: str
    line: int


def imports(root: Path, package: str = "") -> Iterator[Import]:
    """All imports of the Python files in `root / package`, also those inside functions and `if TYPE_CHECKING`.

    Modules are named from `root` on.
    """
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parents = parts[:-1]
        module = ".".join(parents if parts[-1] == "__init__" else parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for target in _targets(node, parents):
                yield Import(module, target, node.lineno)  # type: ignore[attr-defined]


def _targets(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            start = ".".join(part for part in (base, node.module or "") if part)
            return [f"{start}.{alias.name}" for alias in node.names]
        case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="__import__" | "import_module")):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                return [first.value]
            return []
        case _:
            return []


def broken_rules(root: Path) -> list[str]:
    """One sentence for every import in `root / "nova"` that breaks a rule."""
    return [f"{one.module}:{one.line}: {why}" for one in imports(root, "nova") if (why := _objection(one))]


def _objection(one: Import) -> str | None:
    top, _, rest = one.target.partition(".")
    part = _part(one.module)
    if top.startswith(PLUGINS):
        return f"Nova imports the plugin {top}"
    if top in MLX:
        if one.module in MUST_NOT_USE_MLX or (part not in MAY_USE_MLX and one.module not in MODULES_THAT_MAY):
            return f"imports {top}, which only {', '.join(sorted(MAY_USE_MLX))} and plugins may"
        return None
    if top != "nova" or not part:
        return None
    if part in ON_PAPER and not any(f"{one.target}.".startswith(f"{pure}.") for pure in ON_PAPER[part]):
        return f"imports {one.target}; {part} has no I/O and imports only {', '.join(sorted(ON_PAPER[part]))}"
    other = rest.partition(".")[0]
    if part in SELF_SUFFICIENT:
        return f"{part} imports {one.target}, but stands on its own"
    if _height(part) is None:
        return f"nova.{part} has no place in LAYERS"
    if other == part or _height(other) is None:  # a name of nova/__init__, such as __version__
        return None
    return _against_the_order(part, other)


def _against_the_order(part: str, other: str) -> str | None:
    mine, theirs = _height(part), _height(other)
    assert mine is not None
    assert theirs is not None
    if theirs > mine:
        return f"{part} imports {other}, which lies above it"
    if part in STRANGERS and other in STRANGERS:
        return f"{part} imports {other}; they talk in messages only"
    return None


def _part(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def _height(part: str) -> int | None:
    return next((height for height, parts in enumerate(LAYERS) if part in parts), None)
