"""The imported demonstration model: that it is the model it was, and that stages of it stay within their weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nova.model.card import read_card
from tests.support.measure import run


@pytest.fixture(scope="module")
def quality(smollm: Path) -> dict[str, Any]:
    return run("quality", smollm)


def test_the_card_is_that_of_smollm2(smollm: Path) -> None:
    card = read_card(smollm)
    assert (card.model_type, card.layers, card.hidden_size, card.vocab_size) == ("llama", 30, 576, 49152)
    assert (card.eos_token_ids, card.tied, card.quantisation) == ((2,), True, None)


def test_it_finds_plain_english_likely(quality: dict[str, Any]) -> None:
    assert 8 < quality["right"] < 15


def test_rows_left_in_the_files_order_would_be_noticed(quality: dict[str, Any]) -> None:
    assert quality["wrong"] > 40


def test_it_knows_the_capital_of_france(quality: dict[str, Any]) -> None:
    assert quality["text"].startswith(" Paris")


def test_two_stages_say_what_the_whole_model_says(quality: dict[str, Any]) -> None:
    assert quality["staged"] == quality["whole"]


@pytest.mark.parametrize(("first", "last"), [(0, 18), (18, 30)])
def test_loading_a_stage_takes_little_more_than_its_weights(smollm: Path, first: int, last: int) -> None:
    taken = run("memory", smollm, first, last)
    assert taken["weights"] == read_card(smollm).stage_bytes(first, last)
    assert taken["weights"] <= taken["mlx_peak"] <= 1.15 * taken["weights"]
    assert 0.9 * taken["weights"] <= taken["resident"] <= 1.15 * taken["weights"]
