from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from nova.control.keys import KeyPair, KeyStore
from nova.control.zap import TrustList
from nova.errors import KeyFileError


def _public() -> str:
    return zmq.curve_keypair()[0].decode()


def test_a_new_key_is_private_and_loads_again(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    pair = store.new("a")
    assert store.load("a") == pair
    assert stat.S_IMODE((tmp_path / "keys/a.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert os.listdir(tmp_path / "keys") == ["a.key"], "the draft stays behind"


def test_the_secret_is_not_in_the_representation(tmp_path: Path) -> None:
    pair = KeyStore(tmp_path).new("a")
    assert pair.secret not in repr(pair)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    pair = store.new("a")
    with pytest.raises(KeyFileError, match="move it away"):
        store.new("a")
    assert store.load("a") == pair


def test_racing_ensures_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        pairs: list[KeyPair] = list(pool.map(lambda _: KeyStore(tmp_path).ensure("a"), range(16)))
    assert len(set(pairs)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    store = KeyStore(tmp_path)
    store.new("a")
    (tmp_path / "keys/a.key").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        store.load("a")


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.new("a")
    (tmp_path / "keys/b.key").symlink_to("a.key")
    with pytest.raises(KeyFileError, match="symbolic link"):
        store.load("b")
    (tmp_path / "keys/c.key").symlink_to("nowhere")
    with pytest.raises(KeyFileError):
        store.ensure("c")


def test_a_pipe_in_place_of_a_key_is_refused_and_does_not_block(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.new("a")
    os.mkfifo(tmp_path / "keys/b.key", 0o600)
    with pytest.raises(KeyFileError, match="plain file"):
        store.load("b")


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="nova keys new a"):
        KeyStore(tmp_path).load("a")


@pytest.mark.parametrize("text", ["", "public x\nsecret y\n", "public\n", "\xff\xfe", "secret " + "0" * 40 + "\n"])
def test_a_malformed_key_is_refused(tmp_path: Path, text: str) -> None:
    store = KeyStore(tmp_path)
    store.new("a")
    (tmp_path / "keys/a.key").write_bytes(text.encode("latin-1"))
    with pytest.raises(KeyFileError):
        store.load("a")


def test_a_public_key_of_another_secret_is_refused(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    pair = store.new("a")
    (tmp_path / "keys/a.key").write_text(f"public {_public()}\nsecret {pair.secret}\n")
    with pytest.raises(KeyFileError, match="no pair"):
        store.load("a")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "../a", "a\n", "a\0", "x" * 64, "ä"])
def test_a_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    store = KeyStore(tmp_path)
    for use in (store.new, store.load, store.ensure, store.trusted_key, lambda n: store.trust(n, _public())):
        with pytest.raises(KeyFileError):
            use(name)
    assert not list(tmp_path.rglob("*"))


def test_trust_maps_a_key_to_one_name(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    a, b = _public(), _public()
    store.trust("a", a)
    store.trust("a", a)
    store.trust("b", b)
    assert store.trusted() == {a: "a", b: "b"}
    assert store.trusted_key("b") == b


def test_another_key_for_a_name_needs_replace(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    old, new = _public(), _public()
    store.trust("a", old)
    with pytest.raises(KeyFileError, match="another key"):
        store.trust("a", new)
    store.trust("a", new, replace=True)
    assert store.trusted() == {new: "a"}


def test_another_name_for_a_key_needs_replace(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    key = _public()
    store.trust("a", key)
    with pytest.raises(KeyFileError, match="already trusted as 'a'"):
        store.trust("b", key)
    store.trust("b", key, replace=True)
    assert store.trusted() == {key: "b"}


def test_two_files_with_one_key_are_reported(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.trust("a", _public())
    folder = tmp_path / "keys/trusted"
    (folder / "b.pub").write_bytes((folder / "a.pub").read_bytes())
    with pytest.raises(KeyFileError, match="same key"):
        store.trusted()


def test_a_trusted_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.trust("a", _public())
    (tmp_path / "keys/trusted/a.pub").chmod(0o666)
    with pytest.raises(KeyFileError, match="open to other users"):
        store.trusted()


@pytest.mark.parametrize("key", ["", "x" * 39, "x" * 41, "~" * 40, "#" * 40])
def test_what_is_no_key_is_not_trusted(tmp_path: Path, key: str) -> None:
    with pytest.raises(KeyFileError, match="not a key"):
        KeyStore(tmp_path).trust("a", key)


def test_trust_is_read_again_when_the_folder_changed(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    a, b = _public(), _public()
    trust = TrustList(store)
    assert trust.name_of(a) is None
    store.trust("a", a)
    assert trust.name_of(a) == "a"
    store.trust("a", b, replace=True)
    assert (trust.name_of(a), trust.name_of(b)) == (None, "a")


def test_a_bad_trusted_file_leaves_the_last_good_list(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    a = _public()
    store.trust("a", a)
    trust = TrustList(store)
    (tmp_path / "keys/trusted/b.pub").write_text("nonsense")
    assert trust.name_of(a) == "a"
    with pytest.raises(KeyFileError):
        TrustList(store)
