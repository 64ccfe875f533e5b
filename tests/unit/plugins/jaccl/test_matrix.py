"""The device matrix for cablings, and what MLX is told of it."""

from __future__ import annotations

import json
import os
import stat
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nova_transport_jaccl.environment import applied, device_file, variables
from nova_transport_jaccl.matrix import Plan, plan
from nova_transport_jaccl.verdict import judge

from nova.errors import TransportUnavailable
from tests.unit.plugins.jaccl.machines import cable, cabled, mac, port, recorded, recorded_only


def matrix_of(*cabling: dict[int, int]) -> Plan:
    """By rank, the number of cables to each other rank."""
    return plan([judge(cabled(rank, ends)) for rank, ends in enumerate(cabling)])


def test_a_pair_is_a_mesh() -> None:
    assert matrix_of({1: 1}, {0: 1}) == Plan("mesh", [[None, ["rdma_en1"]], [["rdma_en1"], None]])


def test_the_devices_of_two_cables_are_paired_whatever_ports_they_are_in() -> None:
    one, other = cable(0, 1, 0), cable(0, 1, 1)
    first = mac(port(1, *one), port(2, *other))
    second = mac(port(3, *reversed(other)), port(4, *reversed(one)))
    found = plan([judge(first), judge(second)])
    ours, theirs = found.matrix[0][1], found.matrix[1][0]
    assert ours is not None
    assert theirs is not None
    assert set(zip(ours, theirs, strict=True)) == {("rdma_en1", "rdma_en4"), ("rdma_en2", "rdma_en3")}


def test_three_that_are_all_cabled_are_a_mesh() -> None:
    found = matrix_of({1: 1, 2: 1}, {0: 1, 2: 1}, {0: 1, 1: 1})
    assert found.topology == "mesh"
    assert all(found.reaches(a, b) == (a != b) for a in range(3) for b in range(3))


def test_four_in_a_circle_are_a_ring() -> None:
    found = matrix_of({1: 2, 3: 2}, {0: 2, 2: 2}, {1: 2, 3: 2}, {0: 2, 2: 2})
    assert found.topology == "ring"
    assert [[entry and len(entry) for entry in row] for row in found.matrix] == [
        [None, 2, None, 2],
        [2, None, 2, None],
        [None, 2, None, 2],
        [2, None, 2, None],
    ]


def test_all_pairs_get_as_many_cables_as_the_poorest_has() -> None:
    found = matrix_of({1: 3, 2: 1}, {0: 3, 2: 2}, {0: 1, 1: 2})
    assert {len(entry) for row in found.matrix for entry in row if entry} == {1}


def test_no_more_cables_than_mlx_takes() -> None:
    found = matrix_of({1: 6}, {0: 6})
    assert {len(entry) for row in found.matrix for entry in row if entry} == {4}


def test_more_than_eight_ranks_in_a_full_mesh_use_a_ring() -> None:
    assert matrix_of(*({b: 1 for b in range(9) if b != a} for a in range(9))).topology == "ring"


def test_a_circle_in_another_order_than_the_ranks_is_refused_by_name() -> None:
    with pytest.raises(TransportUnavailable, match=r"ranks 0 and 1 share no usable .*ranks 2 and 3"):
        matrix_of({2: 1, 3: 1}, {2: 1, 3: 1}, {0: 1, 1: 1}, {0: 1, 1: 1})


def test_a_missing_cable_is_explained_by_what_is_wrong_at_its_end() -> None:
    broken = mac(port(1, *cable(1, 0), state="PORT_DOWN"))
    with pytest.raises(TransportUnavailable, match=r"ranks 0 and 1 share no usable.*rank 1: Thunderbolt 1.*PORT_DOWN"):
        plan([judge(cabled(0, {1: 1})), judge(broken)])


def test_a_second_cable_through_a_dock_is_left_out() -> None:
    good = port(1, *cable(0, 1, 0))
    through_dock = port(2, *cable(0, 1, 1))
    slow = msgspec.structs.replace(through_dock.peers[0], link_gbit=40.0, behind="Dock 7")
    ours = mac(good, msgspec.structs.replace(through_dock, peers=(slow,)))
    assert plan([judge(ours), judge(cabled(1, {0: 2}))]).matrix[0][1] == ["rdma_en1"]


@st.composite
def cablings(draw: st.DrawFn) -> list[dict[int, int]]:
    size = draw(st.integers(2, 5))
    ends: list[dict[int, int]] = [{} for _ in range(size)]
    for a in range(size):
        for b in range(a + 1, size):
            ends[a][b] = ends[b][a] = draw(st.integers(0, 3))
    return ends


@given(cablings())
def test_whatever_is_planned_is_a_mesh_or_ring_as_mlx_defines_them(ends: list[dict[int, int]]) -> None:
    size = len(ends)
    pairs = [(a, b) for a in range(size) for b in range(size) if a != b]
    around = [(a, b) for a, b in pairs if (a - b) % size in (1, size - 1)]
    try:
        found = matrix_of(*ends)
    except TransportUnavailable:
        assert any(not ends[a][b] for a, b in around)
        return
    wanted = pairs if found.topology == "mesh" else around
    assert all((found.matrix[a][b] is not None) == ((a, b) in wanted) for a in range(size) for b in range(size))
    assert len({len(found.matrix[a][b] or []) for a, b in wanted}) == 1
    assert found.topology == "mesh" or any(not ends[a][b] for a, b in pairs)


@recorded_only
def test_the_recorded_pair_is_a_mesh_once_its_ports_are_active() -> None:
    active = "hca_id: rdma_en6\nstate: PORT_ACTIVE (4)\nGID[  1]: ::ffff:169.254.9.6\n"
    place = "tb5-m5max-pair-macos27"
    local = recorded(f"{place}/local-rdma-disabled", rdma_ctl="enabled", ibv_devinfo=active)
    peer = recorded(f"{place}/peer-rdma-enabled", ibv_devinfo=active)
    assert plan([judge(local), judge(peer)]).matrix == [[None, ["rdma_en6"]], [["rdma_en6"], None]]


# --- what MLX is told -------------------------------------------------------------------------------------------------

MESH = Plan("mesh", [[None, ["rdma_en1"]], [["rdma_en2"], None]])
RING = Plan("ring", MESH.matrix)


def given_to(plan: Plan, mlx: str) -> dict[str, str]:
    values = variables(plan, 1, "matrix.json", "192.0.2.1:500", mlx)
    return {name: value for name, value in values.items() if value is not None}


def test_a_mesh_is_told_by_jaccl_names() -> None:
    assert given_to(MESH, "0.32.4") == {
        "JACCL_RANK": "1",
        "JACCL_IBV_DEVICES": "matrix.json",
        "JACCL_COORDINATOR": "192.0.2.1:500",
    }


def test_a_ring_is_asked_for() -> None:
    assert given_to(RING, "0.31.2")["JACCL_RING"] == "1"


def test_an_older_mlx_is_told_by_its_own_names() -> None:
    assert given_to(RING, "0.31.1") == {
        "MLX_RANK": "1",
        "MLX_IBV_DEVICES": "matrix.json",
        "MLX_JACCL_COORDINATOR": "192.0.2.1:500",
        "MLX_JACCL_RING": "1",
    }


def test_the_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_JACCL_RING", "stale")
    monkeypatch.setenv("JACCL_RANK", "7")
    monkeypatch.delenv("JACCL_COORDINATOR", raising=False)
    before = dict(os.environ)
    with applied(variables(MESH, 1, "matrix.json", "192.0.2.1:500", "0.32.4")):
        assert os.environ["JACCL_RANK"] == "1"
        assert "MLX_JACCL_RING" not in os.environ  # it would make a ring of the mesh
    assert dict(os.environ) == before


def test_several_cables_are_a_list_in_the_device_file() -> None:
    with device_file(matrix_of({1: 2}, {0: 2})) as path:
        assert json.loads(Path(path).read_text())[0] == [None, ["rdma_en1", "rdma_en2"]]


def test_a_pair_without_a_cable_is_named_once() -> None:
    with pytest.raises(TransportUnavailable) as refused:
        matrix_of({1: 0}, {0: 0})
    assert str(refused.value).count("share no usable") == 1


def test_the_device_file_is_ours_alone_and_goes_away() -> None:
    with ExitStack() as init:
        path = Path(init.enter_context(device_file(MESH)))
        assert json.loads(path.read_text()) == [[None, "rdma_en1"], ["rdma_en2", None]]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
