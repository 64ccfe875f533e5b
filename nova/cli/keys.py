"""`nova keys`: who we are, and whom we let in."""

from __future__ import annotations

from typing import Annotated

import typer

from nova.cli import edge, options
from nova.cli.output import Keys, emit
from nova.cli.show import out
from nova.control.keys import KeyStore
from nova.errors import NovaError

app = typer.Typer(no_args_is_help=True, help="Keys of this machine, and the keys it trusts.")

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
