"""Which BLAS engines get, and what that does to their environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nova.errors import ConfigError
from nova.node.blas import HELP, Blas, choose, engine_environment, environment


def found(name: str) -> str | None:
    return f"lib{name}.so.0"


def missing(name: str) -> str | None:
    return None


def only_openblas(name: str) -> str | None:
    return found(name) if name == "openblas" else None


def test_auto_takes_the_first_that_is_installed_and_advises_one_where_there_is_none() -> None:
    assert choose("auto", "Linux", found) == Blas("libblis.so.0")
    assert choose("auto", "Linux", only_openblas) == Blas("libopenblas.so.0")
    assert choose("auto", "Linux", missing) == Blas(None, HELP)


def test_one_that_is_named_is_taken_or_missed() -> None:
    assert choose("openblas", "Linux", found) == Blas("libopenblas.so.0")
    with pytest.raises(ConfigError, match=r"engine\.cpu_blas: no library of 'blis' on this machine"):
        choose("blis", "Linux", only_openblas)


@pytest.mark.parametrize(("setting", "system"), [("off", "Linux"), ("auto", "Darwin"), ("/no/such/lib", "Darwin")])
def test_nothing_is_preloaded_where_it_is_off_or_not_linux(setting: str, system: str) -> None:
    assert choose(setting, system, found) == Blas(None)


def test_a_path_is_taken_as_it_is_and_one_that_is_no_file_is_refused(tmp_path: Path) -> None:
    library = tmp_path / "libmine.so"
    with pytest.raises(ConfigError, match=r"engine\.cpu_blas: no library at .*libmine\.so.*expected auto, off"):
        choose(str(library), "Linux", found)
    library.touch()
    assert choose(str(library), "Linux", missing) == Blas(str(library))


def test_the_environment_is_ours_with_the_library_before_what_was_preloaded() -> None:
    inherited = {"PATH": "/bin", "LD_PRELOAD": "libother.so"}
    env = environment(Blas("libopenblas.so.0"), 2, inherited)
    assert env["LD_PRELOAD"] == "libopenblas.so.0:libother.so"
    assert {env[f"{name}_NUM_THREADS"] for name in ("BLIS", "OPENBLAS", "OMP", "VECLIB_MAXIMUM")} == {"2"}
    assert inherited == {"PATH": "/bin", "LD_PRELOAD": "libother.so"}
    unbounded = environment(Blas("libblis.so.4"), 0, {})
    assert unbounded["LD_PRELOAD"] == "libblis.so.4"
    assert unbounded["BLIS_NUM_THREADS"] == str(os.cpu_count())


def test_an_engine_has_its_weights_in_huge_pages() -> None:
    assert engine_environment(Blas(None), 0, {})["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    inherited = {"GLIBC_TUNABLES": "glibc.malloc.perturb=1"}
    found = engine_environment(Blas(None), 0, inherited)["GLIBC_TUNABLES"]
    assert found == "glibc.malloc.perturb=1:glibc.malloc.hugetlb=1"


def test_without_a_library_or_a_bound_the_environment_stays_as_it_was() -> None:
    assert environment(Blas(None), 0, {"PATH": "/bin"}) == {"PATH": "/bin"}
