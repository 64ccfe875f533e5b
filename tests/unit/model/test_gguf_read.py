from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nova.errors import ModelError
from nova.model.gguf.read import read_gguf
from tests.support.gguf import build, demo_gguf, pack

METADATA = {"general.architecture": "llama", "a.flag": True, "a.size": 7, "a.list": [1, 2], "a.names": ["x", "ÿ"]}


def small(**tensors: tuple[tuple[int, ...], int, bytes]) -> bytes:
    return build(METADATA, tensors or {"t": ((2, 32), 8, bytes(68)), "u": ((3,), 0, bytes(12))})


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    return path


def test_a_header_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    header = read_gguf(written(tmp_path, small()))
    assert header.metadata == METADATA
    assert [(t.name, t.shape, t.type, t.nbytes) for t in header.tensors.values()] == [
        ("t", (2, 32), "Q8_0", 68),
        ("u", (3,), "F32", 12),
    ]


def test_the_demonstration_model_passes() -> None:
    header = read_gguf(demo_gguf())
    assert len(header.tensors) == 2 + 9 * 30
    assert len(header.metadata["tokenizer.ggml.tokens"]) == 49152


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04" + bytes(64), "not a GGUF file"),
        (build(METADATA, {}, version=1), "version 1"),
        (build({"general.alignment": 24}, {}), "power of two"),
        (build({"general.alignment": "x"}, {}), "expected a int"),
        (small(t=((2, 256), 12, bytes(999))), "type Q4_K; F32, F16, Q4_0, Q4_1, Q8_0 can be imported"),
        (small(t=((2, 256), 99, bytes(999))), "type number 99"),
        (small(t=((2, 33), 8, bytes(99))), "multiple of 32"),
        (small(t=((0, 32), 8, b"")), "multiple of 32"),
        (small(t=((1, 1, 1, 1, 1), 0, bytes(4))), "5 dimensions"),
        (small(t=((1 << 40, 1 << 40), 0, bytes(4))), "truncated: tensor t"),
        (small()[:-33], "truncated: tensor u"),
        (small()[:100], "truncated: the header"),
    ],
)
def test_a_bad_file_is_refused_with_what_was_expected(tmp_path: Path, data: bytes, match: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(ModelError, match=match) as caught:
        read_gguf(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_gguf(tmp_path / "none.gguf")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_gives_a_model_error_or_tensors_inside_the_file(tmp_path: Path, data: st.DataObject) -> None:
    bad = bytearray(small())
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.sampled_from([0, 1, 8, 9, 127, 128, 255]))
    kept = data.draw(st.integers(len(bad) // 2, len(bad)))
    try:
        header = read_gguf(written(tmp_path, bytes(bad[:kept])))
    except ModelError:
        return
    assert sum(tensor.nbytes for tensor in header.tensors.values()) <= 2 * kept


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_0", "Q4_1", "Q8_0"])
def test_the_sizes_of_blocks_are_those_of_the_format(tmp_path: Path, kind: str) -> None:
    import numpy as np

    from tests.support.gguf import CODES

    data, _ = pack(np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64), kind)
    header = read_gguf(written(tmp_path, small(t=((2, 64), CODES[kind], data))))
    assert header.tensors["t"].nbytes == len(data)
