"""K: the plugin's class."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

from nova.errors import ConfigError
from nova.testing.case import case
from nova.testing.checks import check, raises
from nova.testing.rank import Rank
from nova.transport.api import API_VERSION
from nova.transport.registry import GROUP, configure, installed

IMPORT_S = 30.0

SEEN = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"mlx", "mlx_lm"}))
"""


@case(ranks=1)
def K1_the_class_has_the_name_of_its_entry_point(rank: Rank) -> None:
    """The entry point in `nova.transports` has the class's `name`, and no other distribution takes it."""
    plugin = type(rank.transport)
    points = installed().get(plugin.name, [])
    targets = [point.value for point in points]
    check(len(points) <= 1, f"{plugin.name!r} is provided more than once: {', '.join(targets)}")
    for point in points:
        check(point.group == GROUP and point.load() is plugin, f"{point.value} is not {plugin.__qualname__}")


@case(ranks=1)
def K2_it_is_made_for_this_api(rank: Rank) -> None:
    """`api` has Nova's major and no higher minor; `version` is a text."""
    plugin = type(rank.transport)
    major, minor = plugin.api
    check(major == API_VERSION[0] and minor <= API_VERSION[1], f"api is {plugin.api}, Nova's is {API_VERSION}")
    version: object = plugin.version
    check(isinstance(version, str) and version, f"version is {version!r}")


@case(ranks=1)
def K3_its_import_is_cheap(rank: Rank) -> None:
    """Importing the plugin imports no MLX: it does that inside the methods that need it."""
    module = type(rank.transport).__module__
    command = [sys.executable, "-c", SEEN, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_S, stdin=subprocess.DEVNULL)
    check(done.returncode == 0, f"importing {module} failed: {done.stderr.strip()[-300:]}")
    check(not done.stdout.strip(), f"importing {module} imports {', '.join(done.stdout.split())}")


@case(ranks=1)
def K4_an_unknown_option_is_refused(rank: Rank) -> None:
    """`Config` is a frozen dataclass whose fields all have defaults; an option that it does not have is refused."""
    plugin = type(rank.transport)
    schema = plugin.Config
    check(dataclasses.is_dataclass(schema), f"Config is {schema!r}, which is no dataclass")
    check(schema.__dataclass_params__.frozen, "Config is not frozen")
    configure(plugin.name, schema, {})
    with raises(ConfigError, saying="no_such_option"):
        configure(plugin.name, schema, {"no_such_option": 1})


@case(ranks=1)
def K5_every_option_has_help(rank: Rank) -> None:
    """Every field of `Config` has `metadata={"help": ...}`."""
    bare = [each.name for each in dataclasses.fields(type(rank.transport).Config) if not each.metadata.get("help")]
    check(not bare, f"options without help: {', '.join(bare)}")
