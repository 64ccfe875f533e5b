"""Making a lab and removing it. Every part carries its id in its name, so that nothing need be remembered."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from lablib import quota, system
from lablib.errors import LabError
from lablib.lab import ENDED_S, STATE, Lab
from lablib.plan import PREFIX, Plan, building, ids, namespaces, shaping
from nova import paths
from nova.clock import Deadline

ETC = Path("/etc/netns")
"""Where `ip netns exec` finds a namespace's own files for /etc."""
SWITCH = "hosts: files\n"
"""nsswitch.conf: names come from /etc/hosts, nothing is asked over a network."""
OWNED = re.compile(r"p(\d+)x[0-9a-f]+")
"""The id of a lab that a process made for itself, by its process id."""


def up(plan: Plan) -> Lab:
    """Make a lab. Raises LabUnavailable, or LabError when the id is taken or the system refuses; nothing is left."""
    system.require()
    if namespaces(system.call(["ip", "netns", "list"]), plan.id):
        raise LabError(f"the lab {plan.id!r} is up already: take it down first (tools/lab down --id {plan.id})")
    lab = Lab(plan)
    if plan.delay and not system.delays():
        lab.notes.append("there is no delay: this kernel has no netem (module sch_netem)")
        lab.plan = plan = dataclasses.replace(plan, delay="")
    try:
        paths.ensure(STATE / plan.id)
        for command in building(plan):
            system.call(command)
        for host in plan.names_of_hosts:
            _equip(lab, host)
        (STATE / plan.id / "lab.json").write_bytes(msgspec.json.encode({"plan": plan, "notes": lab.notes}))
    except BaseException:
        remove(plan.id)
        raise
    return lab


def load(id_: str) -> Lab:
    """A lab that another command made. Raises LabError."""
    try:
        found: dict[str, Any] = msgspec.json.decode((STATE / id_ / "lab.json").read_bytes())
        return Lab(msgspec.convert(found["plan"], Plan), msgspec.convert(found["notes"], list[str]))
    except FileNotFoundError as error:
        raise LabError(f"there is no lab {id_!r}: make it with tools/lab up --id {id_}") from error
    except (OSError, KeyError, msgspec.MsgspecError) as error:
        raise LabError(f"the lab {id_!r} is damaged ({error}): take it down (tools/lab down --id {id_})") from error


def remove(id_: str) -> None:
    """End all processes of a lab and remove every part of it, however much there is. Raises LabError."""
    deadline = Deadline.after(ENDED_S)
    for name in namespaces(system.call(["ip", "netns", "list"]), id_):
        _end(name, deadline)
    for folder in ETC.glob(f"{PREFIX}-{id_}-*"):
        shutil.rmtree(folder, ignore_errors=True)
    controller = quota.find()
    for group in controller.groups(f"{PREFIX}-{id_}-") if controller is not None else []:
        quota.remove(group, deadline)
    shutil.rmtree(STATE / id_, ignore_errors=True)


def sweep() -> None:
    """Remove the labs whose owners were killed."""
    for id_ in ids([line.split()[0] for line in system.call(["ip", "netns", "list"]).splitlines()]):
        owner = OWNED.fullmatch(id_)
        if owner is not None and not Path(f"/proc/{owner[1]}").exists():
            remove(id_)


@contextmanager
def lab(hosts: int = 2, rate: str = "", delay: str = "", cpu: Sequence[int] = (), names: str = "ipv4") -> Iterator[Lab]:
    """A lab of this process's own for as long as the block runs. Raises as `up`."""
    system.require()
    sweep()
    found = up(Plan(f"p{os.getpid()}x{secrets.token_hex(3)}", hosts, rate, delay, tuple(cpu), names))
    try:
        yield found
    finally:
        remove(found.plan.id)
        found.collect()


def _end(namespace: str, deadline: Deadline) -> None:
    try:
        system.kill_all(namespace, deadline)
        system.call(["ip", "netns", "del", namespace])
    except LabError:
        if namespace in system.call(["ip", "netns", "list"]).split():  # else somebody else has removed it meanwhile
            raise


def _equip(lab: Lab, host: str) -> None:
    """Homes, names, limits: what a host has apart from its links."""
    plan, there = lab.plan, lab.plan.namespace(host)
    for name in ("nova", "tmp"):
        paths.ensure(lab.home(host) / name)
    (ETC / there).mkdir(parents=True, exist_ok=True)
    (ETC / there / "hosts").write_text(plan.hosts_file(), encoding="ascii")
    if Path("/etc/nsswitch.conf").exists():  # a file can only be bound over one that is there
        (ETC / there / "nsswitch.conf").write_text(SWITCH, encoding="ascii")
    for command in shaping(plan, host):
        system.call(command)
    percent = plan.percent(host)
    if percent is not None:
        controller = quota.find()
        if controller is None:
            lab.notes.append(f"{host} has no CPU quota: this machine has no cgroup controller `cpu` that takes one")
        else:
            controller.limit(there, percent)
