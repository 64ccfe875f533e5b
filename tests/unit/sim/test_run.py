"""A plan on a virtual clock: what it gives equals the closed forms, and nobody loses a token."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova.errors import PlanError
from nova.sim.load import Ask, Fault, Load, poisson
from nova.sim.run import Simulation
from nova.sim.summary import report, tok_s_between
from tests.unit.sim.lines import always, line, ran, survivors


def test_one_stream_takes_the_sum_of_stages_hops_and_the_way_back() -> None:
    one = line([0.010, 0.030, 0.005], hop=0.002, transfer=0.001)
    simulation = ran(always(one), Load([Ask(0.0, 1, 50)]))
    tokens = simulation.served[0].tokens
    assert (tokens[-1] - tokens[0]) / 49 == pytest.approx(0.045 + 3 * 0.002 + 2 * 0.001)


def test_a_stage_alone_has_no_way_back() -> None:
    simulation = ran(always(line([0.02], hop=5.0)), Load([Ask(0.0, 1, 10)]))
    assert simulation.now == pytest.approx(0.2)


def test_a_prompt_in_one_piece_and_its_first_token_cross_the_stages_behind_each_other() -> None:
    simulation = ran(always(line([0.01, 0.03], slope=0.1)), Load([Ask(0.0, 101, 1)]))
    prefill = [0.01 * 10.9, 0.03 * 10.9]
    assert simulation.served[0].tokens == [pytest.approx(sum(prefill) + 0.03)]


def test_streams_that_keep_the_slowest_stage_busy_come_at_its_pace() -> None:
    """On stages where a row costs what it costs alone, as many groups as keep it busy are best."""
    seconds = [0.010, 0.030, 0.020]
    simulation = ran(always(line(seconds, slope=1.0)), Load([Ask(0.0, 1, 400)] * 6, streams=6))
    rate = tok_s_between(simulation.served, simulation.now / 2, simulation.now * 0.9)
    assert rate == pytest.approx(1 / max(seconds), rel=0.02)
    assert max(simulation.busy()) == pytest.approx(1.0, abs=0.03)


def test_a_link_that_is_slower_than_every_stage_sets_the_pace() -> None:
    one = line([0.010, 0.010], slope=1.0, transfer=0.050)
    simulation = ran(always(one), Load([Ask(0.0, 1, 200)] * 4, streams=4))
    rate = tok_s_between(simulation.served, simulation.now / 2, simulation.now * 0.9)
    assert rate == pytest.approx(1 / 0.050, rel=0.02)


def test_in_a_closed_loop_the_next_request_comes_when_one_ends() -> None:
    simulation = ran(always(line([0.01])), Load([Ask(0.0, 1, 5)] * 6, streams=2))
    came = [each.came for each in simulation.served]
    ends = sorted(each.tokens[-1] for each in simulation.served)
    assert came[:2] == [0.0, 0.0]
    assert came[2:] == ends[:4]


def test_the_same_seed_gives_the_same_figures_and_another_one_others() -> None:
    def figures(seed: int) -> bytes:
        load = Load(poisson(30, 5.0, 40, 10, seed))
        simulation = ran(survivors([0.01, 0.02], 0.3), load, [Fault("n1", 2.0)], 0.5)
        return msgspec.json.encode(report(simulation))

    assert figures(1) == figures(1) != figures(2)


def test_tokens_that_were_given_survive_their_stages_and_the_others_come_later() -> None:
    simulation = Simulation(survivors([0.01, 0.01]), Load([Ask(0.0, 20, 30)]), [Fault("n1", 0.4)], 2.0)
    before: list[float] = []
    while simulation.step():
        if not simulation.lost:
            before = list(simulation.served[0].tokens)
    tokens = simulation.served[0].tokens
    assert 0 < len(before) < 30 == len(tokens)
    assert tokens[: len(before)] == before
    assert tokens[len(before)] > 0.4 + 2.0
    assert simulation.lost[0].chunks == 1
    assert report(simulation).down_s == pytest.approx(2.0)
    assert [each.node for each in report(simulation).busy] == ["n0"]


def test_a_node_that_dies_while_the_group_is_formed_has_it_formed_anew_without_it() -> None:
    faults = [Fault("n2", 0.1), Fault("n1", 0.6)]
    simulation = ran(survivors([0.01] * 3), Load([Ask(0.0, 2, 20)]), faults, 1.0)
    assert simulation.formed_at == pytest.approx(1.6)
    assert simulation.down_s == pytest.approx(1.5)
    assert list(simulation.pipeline.line.nodes) == ["n0"]


def test_two_nodes_that_die_in_the_same_moment_cost_one_forming() -> None:
    faults = [Fault("n2", 0.1), Fault("n1", 0.1)]
    simulation = ran(survivors([0.01] * 3), Load([Ask(0.0, 2, 20)]), faults, 1.0)
    assert simulation.down_s == pytest.approx(1.0)
    assert len(simulation.served[0].tokens) == 20


def test_a_node_without_a_stage_is_missed_by_nobody() -> None:
    load = Load([Ask(0.0, 2, 20)])
    alone, with_fault = ran(survivors([0.01]), load), ran(survivors([0.01]), load, [Fault("spare", 0.05)], 1.0)
    assert alone.served == with_fault.served
    assert not with_fault.lost


def test_where_nobody_is_left_the_reason_is_said() -> None:
    with pytest.raises(PlanError, match="nobody is left"):
        ran(survivors([0.01]), Load([Ask(0.0, 2, 20)]), [Fault("n0", 0.05)], 1.0)


def test_requests_that_come_while_no_group_serves_wait_for_it() -> None:
    load = Load([Ask(0.0, 2, 5), Ask(1.0, 2, 5)])
    simulation = ran(survivors([0.01, 0.01]), load, [Fault("n1", 0.05)], 3.0)
    assert simulation.served[1].came == pytest.approx(1.0)
    assert simulation.served[1].tokens[0] > 3.05


def test_it_needs_no_mlx_and_no_socket() -> None:
    code = (
        "import sys, nova.sim.summary, nova.sim.places; print(*{'mlx', 'mlx_lm', 'zmq', 'socket'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


asks = st.lists(
    st.tuples(st.floats(0, 3), st.integers(1, 700), st.integers(1, 30), st.sampled_from([0.0, 0.0, 0.3, 2.0])),
    min_size=1,
    max_size=12,
).map(lambda rows: [Ask(*row) for row in sorted(rows)])


@settings(max_examples=60, deadline=None)
@given(
    asks,
    st.integers(0, 4),
    st.lists(st.floats(0.001, 0.05), min_size=3, max_size=4),
    st.lists(st.builds(Fault, st.sampled_from(["n0", "n1", "spare"]), st.floats(0, 4)), max_size=3),
    st.floats(0, 1),
)
def test_every_request_gets_each_of_its_tokens_once_or_was_left(
    asks: list[Ask], streams: int, seconds: list[float], faults: list[Fault], pause_s: float
) -> None:
    simulation = ran(survivors(seconds, 0.1), Load(asks, streams), faults, pause_s)
    assert [each.ask for each in simulation.served] == asks
    for each in simulation.served:
        assert each.over
        assert each.tokens == sorted(each.tokens)
        assert not each.tokens or each.tokens[0] > each.came >= (0 if streams else each.ask.at)
        if each.left:
            assert len(each.tokens) < each.ask.tokens
            assert not each.tokens or each.tokens[-1] <= each.came + each.ask.patience
        else:
            assert len(each.tokens) == each.ask.tokens
    figures = report(simulation)
    assert figures.tokens == sum(len(each.tokens) for each in simulation.served)
    assert figures.left + sum(len(each.tokens) == each.ask.tokens for each in simulation.served) == len(asks)
    assert all(0 <= each.busy <= 1 for each in figures.busy)
    assert figures.queue.most <= len(asks)
