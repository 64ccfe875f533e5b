"""`tools/lab`: virtual Macs to try a cluster on. Exit 3 where this machine cannot run them.

tools/lab up --hosts 2 --rate 10gbit --cpu 100,50
tools/lab run mac-1 getent hosts mac-2.local
tools/lab cut mac-2
tools/lab down
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys

import msgspec

from lablib.errors import LabError, LabUnavailable
from lablib.lab import Lab
from lablib.life import load, remove, up
from lablib.plan import INTERFACES, Plan
from lablib.system import require

UNAVAILABLE = 3


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="tools/lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    labs = argparse.ArgumentParser(add_help=False)
    labs.add_argument("--id", default="lab", help="which lab, of several (lab)")
    verbs = found.add_subparsers(dest="verb", required=True)

    def verb(name: str, text: str, host: bool = True) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text, parents=[labs])
        if host:
            made.add_argument("host", help="mac-1, mac-2, ...")
        return made

    making = verb("up", "make the hosts and what joins them", host=False)
    making.add_argument("--hosts", type=int, default=2, help="how many (2)")
    making.add_argument("--rate", default="", help="of each interface and direction, as 10gbit (no limit)")
    making.add_argument("--delay", default="", help="one way, as 0.2ms; needs netem in the kernel (none)")
    making.add_argument("--cpu", default="", help="percent of one CPU by host, as 100,50 (no limit)")
    making.add_argument("--names", default="ipv4", help="what mac-N.local resolves to: ipv4 or ipv6 (ipv4)")
    verb("run", "run a command inside a host").add_argument("command", nargs=argparse.REMAINDER)
    for name, text in (("cut", "pull the cable of an interface"), ("heal", "put it back")):
        verb(name, text).add_argument("interface", nargs="?", default="tb0", help=f"{' or '.join(INTERFACES)} (tb0)")
    verb("route", "where 169.254/16 leads").add_argument("where", choices=["right", "wrong"])
    verb("pause", "SIGSTOP all processes of a host")
    verb("resume", "SIGCONT all processes of a host")
    verb("kill", "SIGKILL all processes of a host")
    verb("down", "remove everything of a lab, also what a crash has left", host=False)
    status = verb("status", "hosts, addresses, links and processes", host=False)
    status.add_argument("--json", action="store_true", help="as one JSON object")
    return found


def main() -> int:
    arguments = parser().parse_args()
    try:
        require()
        return act(arguments)
    except LabUnavailable as error:
        print(f"lab: {error}", file=sys.stderr)
        return UNAVAILABLE
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def act(arguments: argparse.Namespace) -> int:
    """Do what the verb says. Raises LabError. `run` becomes its command and does not return."""
    if arguments.verb == "up":
        return _up(arguments)
    if arguments.verb == "down":
        remove(Plan(arguments.id).id)
        return 0
    lab = load(Plan(arguments.id).id)
    match arguments.verb:
        case "run":
            _become(lab, arguments.host, arguments.command)
        case "cut":
            lab.cut(arguments.host, arguments.interface)
        case "heal":
            lab.heal(arguments.host, arguments.interface)
        case "route":
            lab.route(arguments.host, right=arguments.where == "right")
        case "pause":
            print(f"{lab.pause(arguments.host)} processes of {arguments.host} stand still")
        case "resume":
            print(f"{lab.resume(arguments.host)} processes of {arguments.host} go on")
        case "kill":
            lab.kill(arguments.host)
        case "status":
            _show(lab, arguments.json)
    return 0


def _up(arguments: argparse.Namespace) -> int:
    try:
        cpu = tuple(int(each) for each in arguments.cpu.split(",") if each)
    except ValueError as error:
        raise LabError(f"--cpu {arguments.cpu!r}: write it as 100,50") from error
    lab = up(Plan(arguments.id, arguments.hosts, arguments.rate, arguments.delay, cpu, arguments.names))
    for note in lab.notes:
        print(f"lab: {note}", file=sys.stderr)
    _show(lab, as_json=False)
    return 0


def _become(lab: Lab, host: str, command: list[str]) -> None:
    if not command:
        raise LabError("run needs a command, as in tools/lab run mac-1 ip addr")
    environment = lab.environment(host)
    argv = lab.entering(host, command)
    if shutil.which(command[0]) is None:
        raise LabError(f"there is no command {command[0]!r} on this machine, whose programs the hosts share")
    os.execvpe(argv[0], argv, environment)


def _show(lab: Lab, as_json: bool) -> None:
    status = lab.status()
    if as_json:
        print(msgspec.json.encode(status).decode())
        return
    for host in status["state"]:
        links = ", ".join(f"{name} {host['addresses'][name][0]} {state}" for name, state in host["links"].items())
        print(f"{host['host']}: {links}, 169.254/16 routed {host['route']}, {len(host['processes'])} processes")


if __name__ == "__main__":
    sys.exit(main())
