"""A node's profile: measured as engines run, kept under all that it depends on, and never a surprise for the daemon."""

from __future__ import annotations

import asyncio
import stat
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from nova.config.load import load
from nova.config.schema import NodeConfig
from nova.errors import ConfigError, EngineError, ModelError
from nova.node import blas, memory, profiling
from nova.node.blas import Blas
from nova.node.profiling import profile
from nova.wire.plans import NodeProfile
from nova.wire.profiling import ProfileAnswer

FOUND = NodeProfile("other", 1 << 60, 0.001, [(1, 0.002), (8, 0.004)], [(1, 0.003)], "measured on a test")


def config(*settings: str) -> NodeConfig:
    return load(None, ["name=n", *settings])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the shapes of a model and no weights worth the name."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    header = b'{"layer":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    return folder


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the measuring process's place: a script, which answers FOUND and leaves a file `asked` with every request."""
    python, script = tmp_path / "python", tmp_path / "child.py"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {script} {tmp_path / 'asked'}\n")
    python.chmod(0o700)
    script.write_text(
        "import os, sys\nline = sys.stdin.readline()\nopen(sys.argv[1], 'a').write(line)\n"
        f"print({msgspec.json.encode(ProfileAnswer(FOUND)).decode()!r}, flush=True)\nsys.stdin.read()\n"
    )
    monkeypatch.setattr(sys, "executable", str(python))
    return script


def asked(child: Path) -> list[str]:
    file = child.parent / "asked"
    return file.read_text().splitlines() if file.exists() else []


def found(model: Path, home: Path, *settings: str, fresh: bool = False) -> NodeProfile:
    return asyncio.run(profile(str(model), config(*settings), home, fresh))


def test_a_profile_is_measured_once_and_kept_for_this_user_alone(model: Path, child: Path, nova_home: Path) -> None:
    first, second = found(model, nova_home), found(model, nova_home)
    assert (first.name, first.layer_s, first.source) == ("n", FOUND.layer_s, FOUND.source)
    assert second.layer_s == first.layer_s
    assert len(asked(child)) == 1
    (kept,) = (nova_home / "profiles").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_memory_is_what_is_free_when_it_is_asked_for(
    model: Path, child: Path, nova_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(model, nova_home).memory_bytes <= psutil.virtual_memory().total
    monkeypatch.setattr(profiling, "free_bytes", lambda: 5)
    assert found(model, nova_home).memory_bytes == 5
    assert len(asked(child)) == 1


def test_fresh_measures_anew(model: Path, child: Path, nova_home: Path) -> None:
    found(model, nova_home)
    found(model, nova_home, fresh=True)
    assert len(asked(child)) == 2


@pytest.mark.parametrize("setting", ["engine.threads=1", "engine.cpus=[0]", "engine.kv_bits=8", "engine.cpu_blas=off"])
def test_another_setting_of_engines_is_another_profile(
    model: Path, child: Path, nova_home: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "choose", lambda named: Blas(None if named == "off" else named))
    found(model, nova_home)
    found(model, nova_home, setting)
    assert len(asked(child)) == 2


def test_another_shape_is_another_profile_and_another_place_is_not(model: Path, child: Path, nova_home: Path) -> None:
    found(model, nova_home)
    found(model.rename(model.with_name("elsewhere")), nova_home)
    assert len(asked(child)) == 1
    (model.with_name("elsewhere") / "config.json").write_text('{"model_type": "llama", "rope_theta": 1}')
    found(model.with_name("elsewhere"), nova_home)
    assert len(asked(child)) == 2


def test_a_kept_profile_that_is_broken_is_measured_anew(model: Path, child: Path, nova_home: Path) -> None:
    found(model, nova_home)
    (kept,) = (nova_home / "profiles").iterdir()
    kept.write_bytes(b"\xff{")
    assert found(model, nova_home).layer_s == FOUND.layer_s
    assert len(asked(child)) == 2


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import os; os.kill(os.getpid(), 9)", "its process was killed by SIGKILL"),
        ("raise SystemExit('no driver')", "its process ended with status 1; it wrote last: no driver"),
        ("print('rubbish', flush=True)", "its process's answer is malformed"),
        ("print('{}', flush=True)", "its process's answer is empty"),
        ("print('x' * 400000, flush=True); input(); input()", "its process wrote too much and was cut off"),
        ("""print('{"raised": "E: too bad"}', flush=True)""", "E: too bad"),
        ("input(); input()", "it took more than 0.5 s"),
    ],
)
def test_whatever_the_process_does_is_the_reason(
    model: Path, child: Path, nova_home: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    child.write_text(script)
    if "0.5" in says:
        monkeypatch.setattr(profiling, "LIMIT_S", 0.5)
    with pytest.raises(EngineError) as caught:
        found(model, nova_home)
    assert str(caught.value).startswith(f"n: measuring {model} failed: {says}")
    assert not (nova_home / "profiles").exists()


def test_a_model_that_is_not_here_is_refused_with_the_reason(child: Path, nova_home: Path) -> None:
    with pytest.raises(ModelError, match="not found; tried"):
        found(Path("absent"), nova_home)
    with pytest.raises(ModelError, match="no emulated profile"):
        asyncio.run(profile("emulated:absent", config(), nova_home))
    assert asked(child) == []


def test_what_the_process_says_against_the_model_is_a_model_error(model: Path, child: Path, nova_home: Path) -> None:
    child.write_text("""print('{"wrong_model": "no such layer"}', flush=True)""")
    with pytest.raises(ModelError, match=r"^no such layer$"):
        found(model, nova_home)


def test_a_home_that_cannot_be_written_is_the_user_s_to_mend(model: Path, child: Path, nova_home: Path) -> None:
    (nova_home / "profiles").write_text("a file")
    with pytest.raises(ConfigError, match="profiles"):
        found(model, nova_home)


def test_an_emulated_model_is_not_measured(child: Path, nova_home: Path) -> None:
    seen = asyncio.run(profile("emulated:seed", config(), nova_home))
    assert dict(seen.layer_s)[1] == pytest.approx(0.106 / 66)
    assert asked(child) == []


def test_the_demo_model_is_measured_within_its_time(
    smollm2: Path, nova_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "BUDGET_S", 1.0)
    seen = found(smollm2, nova_home, "engine.threads=1", *(["engine.cpus=[0]"] if sys.platform == "linux" else []))
    assert {1, 2, 4, 8} <= {n for n, _ in seen.layer_s}
    assert 0 < seen.memory_bytes <= psutil.virtual_memory().total


# --- free memory ----------------------------------------------------------------------------------------------------


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_memory_is_bounded_by_every_control_group_above_this_process(tmp_path: Path) -> None:
    member = tmp_path / "cgroup"
    member.write_text("0::/a/b\n")
    assert memory.free_bytes(tmp_path, member) > 2000
    group(tmp_path / "a" / "b", memory__max="max", memory__current="700")
    group(tmp_path / "a", memory__max="1000\n", memory__current="900\n", memory__stat="anon 3\ninactive_file 250\n")
    assert memory.free_bytes(tmp_path, member) == 350
    group(tmp_path / "a" / "b", memory__max="800")
    assert memory.free_bytes(tmp_path, member) == 100
    group(tmp_path / "a" / "b", memory__current="900")
    assert memory.free_bytes(tmp_path, member) == 0


def test_control_groups_of_the_first_version_are_bounds_too(tmp_path: Path) -> None:
    member = tmp_path / "cgroup"
    member.write_text("4:memory:/a\n3:cpuset:/\n0::/\n")
    group(tmp_path / "memory" / "a", memory__limit_in_bytes="1000", memory__usage_in_bytes="400")
    assert memory.free_bytes(tmp_path, member) == 600


def test_without_control_groups_it_is_what_is_available(tmp_path: Path) -> None:
    assert 0 < memory.free_bytes(tmp_path, tmp_path / "absent") <= psutil.virtual_memory().total
