"""`nova keys`: who we are, and whom we let in."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated

import typer

from nova.cli import edge, options
from nova.cli.output import ApiKey, Keys, emit
from nova.cli.show import out
from nova.control.keys import KeyStore
from nova.errors import NovaError

app = typer.Typer(no_args_is_help=True, help="Keys of this machine, and the keys it trusts.")

API_KEY_PREFIX = "nova-"
API_KEY_BYTES = 32

Name = Annotated[str, typer.Argument(help="The node's name; `client` is the key of the commands.")]


@app.command()
def new(name: Name, config: options.Config = None, set_: options.Set = None, json: options.Json = False) -> None:
    """Make a new key pair. The secret stays in the home's folder `keys`, readable by you alone."""
    try:
        store = KeyStore(options.home(config, set_))
        store.new(name)
    except NovaError as error:
        edge.fail(error, json)
    _print(store, json, only=name)


@app.command()
def show(config: options.Config = None, set_: options.Set = None, json: options.Json = False) -> None:
    """Show our public keys, and those we trust."""
    try:
        store = KeyStore(options.home(config, set_))
    except NovaError as error:
        edge.fail(error, json)
    _print(store, json)


@app.command(context_settings={"ignore_unknown_options": True})  # a public key may begin with a dash
def trust(
    name: Name,
    public: Annotated[str, typer.Argument(help="The public key that `nova keys show` prints over there.")],
    replace: Annotated[bool, typer.Option(help="Withdraw the key that stands under this name.")] = False,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Let the holder of a key in, under a name."""
    try:
        store = KeyStore(options.home(config, set_))
        store.trust(name, public, replace)
    except NovaError as error:
        edge.fail(error, json)
    _print(store, json)


@app.command()
def api(
    name: Annotated[str, typer.Option("--name", help="Whose key it is; a comment beside it.")] = "",
    json: options.Json = False,
) -> None:
    """Make a key for the HTTP API. It is printed once and kept nowhere; the coordinator gets its hash."""
    if "\n" in name or not name.isprintable():
        raise typer.BadParameter("--name: expected one line of text")
    key = API_KEY_PREFIX + secrets.token_urlsafe(API_KEY_BYTES)
    made = ApiKey(name=name, key=key, hash=hash_of(key))
    if json:
        emit(made)
        return
    out.print(f"key      {made.key}", markup=False, soft_wrap=True)
    out.print("         for the client, as its API key; this is the only time that it is shown")
    comment = f"  # {name}" if name else ""
    out.print(f'config   keys = ["{made.hash}"]{comment}', markup=False, soft_wrap=True)
    out.print("         for the table [api] of the coordinator's configuration", markup=False)


def hash_of(key: str) -> str:
    """A key of the HTTP API as `api.keys` holds it. Random keys of 256 bits need no salt and no slow hash."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _print(store: KeyStore, json: bool, only: str = "") -> None:
    try:
        own = {name: store.load(name).public for name in store.own() if only in ("", name)}
        trusted = {name: public for public, name in sorted(store.trusted().items(), key=lambda item: item[1])}
    except NovaError as error:
        edge.fail(error, json)
    if json:
        emit(Keys(own=own, trusted=trusted))
        return
    for name, public in own.items():
        out.print(f"own      {name:24} {public}", markup=False)
    for name, public in trusted.items() if not only else ():
        out.print(f"trusted  {name:24} {public}", markup=False)
    if not own and not trusted:
        out.print("no keys yet: `nova keys new NAME` makes one")
