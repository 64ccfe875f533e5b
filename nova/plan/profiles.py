"""Emulated models: machines as a table, for measuring the runtime without the machines.

`model = "emulated:NAME"` runs the whole system - daemons, control plane, transports, driver - and replaces only a
stage's arithmetic by a timed wait of the given length. A chunk costs its stage's time whatever its width.
"""

from __future__ import annotations

from dataclasses import dataclass

from nova.errors import ModelError, PlanError

PREFIX = "emulated:"
VOCABULARY = 256
"""Emulated tokens are bytes, so that emulated text can be read."""


@dataclass(frozen=True)
class Profile:
    """`stage_ms` and `split` per stage, in pipeline order; `hidden` is the width of the bfloat16 hidden state."""

    name: str
    stage_ms: tuple[float, ...]
    split: tuple[int, ...]
    hidden: int
    source: str

    @property
    def layers(self) -> int:
        return sum(self.split)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "seed", (70.0, 36.0), (58, 8), 8192,
            "NovaMLX status report, 2026-05-16: M4 Max and M4 over Thunderbolt 4, split 58/8, 16 KB hidden state",
        ),
    )
}  # fmt: skip


def is_emulated(model: str) -> bool:
    return model.startswith(PREFIX)


def find_profile(model: str) -> Profile:
    """The profile that `emulated:NAME` names. Raises ModelError."""
    name = model.removeprefix(PREFIX)
    if name not in PROFILES:
        raise ModelError(f"no emulated profile {name!r}; there are: {', '.join(sorted(PROFILES))}")
    return PROFILES[name]


def check_stages(profile: Profile, split: list[int]) -> None:
    """An emulated profile has times for its own stages only. Raises PlanError for any other split."""
    if tuple(split) != profile.split:
        wanted = ",".join(map(str, profile.split))
        raise PlanError(f"emulated:{profile.name} has times for the split {wanted} only, not {split}")
