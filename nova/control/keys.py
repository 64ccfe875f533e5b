"""Keys: who we are, and whom we let in.

    HOME/keys/NAME.key            our own pair, readable by us alone
    HOME/keys/trusted/NAME.pub    a peer's public key; the file's name is the name that key has here

Keys are CURVE25519, written in Z85 (40 characters). A private file comes into being whole or not at all: it is
written beside its place and linked into it, so that a reader never meets half a key and no key is overwritten.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from nova.errors import KeyFileError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAX_FILE_BYTES = 1024


@dataclass(frozen=True)
class KeyPair:
    """A CURVE pair in Z85. The secret stays out of logs and tracebacks."""

    public: str
    secret: str = field(repr=False)


class KeyStore:
    """The keys below one home. Every method raises KeyFileError, whose message says what to do."""

    def __init__(self, home: Path) -> None:
        self._keys = home / "keys"
        self._trusted = self._keys / "trusted"

    def new(self, name: str) -> KeyPair:
        """Makes and stores a new pair. An existing key of this name is an error: it is never overwritten."""
        path = self._own_path(name)
        public, secret = (part.decode() for part in zmq.curve_keypair())
        try:
            _write(path, f"public {public}\nsecret {secret}\n", replace=False)
        except FileExistsError as error:
            raise KeyFileError(f"{path} exists: move it away first if {name!r} shall have a new key") from error
        return KeyPair(public, secret)

    def load(self, name: str) -> KeyPair:
        """The stored pair. Refused: missing, a symbolic link, open to other users, not ours, malformed."""
        path = self._own_path(name)
        text = _read(path, forbidden=0o077, missing=f"run `nova keys new {name}`")
        entries = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        if set(entries) != {"public", "secret"}:
            raise KeyFileError(f"{path} does not hold one public and one secret key: restore it or make a new one")
        pair = KeyPair(_checked(entries["public"], path), _checked(entries["secret"], path))
        if zmq.curve_public(pair.secret.encode()).decode() != pair.public:
            raise KeyFileError(f"{path}: the two keys are no pair: restore it or make a new one")
        return pair

    def ensure(self, name: str) -> KeyPair:
        """Loads the pair, or makes it if there is none. Two processes that race get the same pair."""
        if not os.path.lexists(self._own_path(name)):
            try:
                return self.new(name)
            except KeyFileError:
                if not os.path.lexists(self._own_path(name)):
                    raise
        return self.load(name)

    def trust(self, name: str, public: str, replace: bool = False) -> None:
        """Lets the holder of `public` in under `name`.

        A name has one key and a key has one name; `replace` withdraws whatever stands against that.
        """
        path = self._trusted / f"{_named(name)}.pub"
        public = _checked(public.strip(), path)
        known = self.trusted()
        holder = known.get(public)
        former = next((key for key, owner in known.items() if owner == name), None)
        if not replace and holder not in (None, name):
            raise KeyFileError(f"this key is already trusted as {holder!r}: a key has one name (replace it to rename)")
        if not replace and former not in (None, public):
            raise KeyFileError(f"{name!r} is already trusted with another key {former}: replace it if that is right")
        with _explained(path):
            if holder not in (None, name):
                (self._trusted / f"{holder}.pub").unlink(missing_ok=True)
            _write(path, f"{public}\n", replace=True)

    def trusted(self) -> dict[str, str]:
        """Public key -> name, of everybody who may come in."""
        names: dict[str, str] = {}
        for path in self._trusted_files():
            public = _checked(_read(path, forbidden=0o022, missing="trust it again").strip(), path)
            if public in names:
                raise KeyFileError(f"{path} holds the same key as {names[public]}.pub: a key has one name; remove one")
            names[public] = _named(path.stem)
        return names

    def trusted_key(self, name: str) -> str:
        """The public key trusted under `name`."""
        _named(name)
        for public, owner in self.trusted().items():
            if owner == name:
                return public
        raise KeyFileError(f"no key is trusted as {name!r}: run `nova keys show` there and `nova keys trust` here")

    def own(self) -> list[str]:
        """The names of our own pairs."""
        with _explained(self._keys):
            return sorted(path.stem for path in self._keys.glob("*.key"))

    def stamp(self) -> tuple[tuple[str, int, int, int], ...]:
        """A value that changes whenever the trusted files do; costs one look at the folder."""
        found = []
        for path in self._trusted_files():
            with _explained(path):
                seen = path.lstat()
                found.append((path.name, seen.st_ino, seen.st_mtime_ns, seen.st_size))
        return tuple(found)

    def _own_path(self, name: str) -> Path:
        return self._keys / f"{_named(name)}.key"

    def _trusted_files(self) -> list[Path]:
        with _explained(self._trusted):
            return sorted(self._trusted.glob("*.pub"))


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise KeyFileError(f"{name!r} is no name: at most 63 letters, digits, '.', '_', '-', no mark first")
    return name


def _checked(key: str, path: Path) -> str:
    try:
        whole = len(key) == 40 and z85.encode(z85.decode(key)).decode() == key
    except (KeyError, ValueError, struct.error):  # a foreign character, a foreign alphabet, a group beyond 32 bits
        whole = False
    if not whole:
        raise KeyFileError(f"{path}: not a key; one is 40 characters, as `nova keys show` prints it")
    return key


def _read(path: Path, forbidden: int, missing: str) -> str:
    """The text of a plain file of ours whose mode has none of the `forbidden` bits; links are not followed."""
    with _explained(path, missing):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid():
                raise KeyFileError(f"{path} is not a plain file of this user: put the key file itself there")
            if seen.st_mode & forbidden:
                raise KeyFileError(f"{path} is open to other users (mode {seen.st_mode & 0o777:o}): chmod 600 it")
            return file.read(_MAX_FILE_BYTES).decode("ascii")


def _write(path: Path, text: str, replace: bool) -> None:
    """Puts a whole file in place; FileExistsError if it is there and may not be replaced."""
    with _explained(path, passing=FileExistsError):
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.parent / f".{path.name}.{secrets.token_hex(8)}"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            if replace:
                os.replace(draft, path)
            else:
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path, missing: str = "", passing: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Translates what the file system and the text decoder raise."""
    try:
        yield
    except passing:
        raise
    except FileNotFoundError as error:
        raise KeyFileError(f"{path} is missing: {missing or 'make the folder above it'}") from error
    except OSError as error:
        link = " (a symbolic link is not followed)" if path.is_symlink() else ""
        raise KeyFileError(f"{path}: {error.strerror}{link}") from error
    except UnicodeDecodeError as error:
        raise KeyFileError(f"{path}: not a key file, it is not text") from error
