"""Emulated models: machines as a table, for measuring the runtime without the machines.

`model = "emulated:NAME"` runs the whole system - daemons, control plane, transports, driver - and replaces only a
stage's arithmetic by a timed wait. A chunk costs its stage's time for one position, times what its width costs.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from nova.errors import ModelError, PlanError
from nova.plan.split import even_split

PREFIX = "emulated:"
VOCABULARY = 256
"""Emulated tokens are bytes, so that emulated text can be read."""

Widths = tuple[tuple[int, float], ...]
"""(positions in a chunk, its time over that of one position), rising."""


@dataclass(frozen=True)
class Profile:
    """`stage_ms[i]` is what `split[i]` layers take for one position; `hidden` is the width of a bfloat16 hidden state.

    A profile that is `divisible` runs in any split, since its layers are alike; another one in its own split only.
    Between the points of `widths` the time is interpolated. Beyond the last one a position costs what it costs there;
    with the one point (1, 1.0) a chunk costs the same whatever its width.
    """

    name: str
    stage_ms: tuple[float, ...]
    split: tuple[int, ...]
    hidden: int
    source: str
    widths: Widths = ((1, 1.0),)
    divisible: bool = False

    @property
    def layers(self) -> int:
        return sum(self.split)

    def stages(self, count: int) -> list[int]:
        """Layers per stage where nobody has said how many. Raises PlanError for more stages than layers."""
        return even_split(self.layers, count) if self.divisible else list(self.split)

    def position_ms(self, first_layer: int, last_layer: int) -> float:
        """What the layers [first_layer, last_layer) take for one position."""
        total, start = 0.0, 0
        for count, ms in zip(self.split, self.stage_ms, strict=True):
            inside = min(last_layer, start + count) - max(first_layer, start)
            total += ms * max(0, inside) / count
            start += count
        return total

    def width_factor(self, positions: int) -> float:
        """T(n) / T(1) for a chunk of n positions: rows times tokens of each."""
        widest, factor = self.widths[-1]
        if positions >= widest:
            return factor * positions / widest if len(self.widths) > 1 else factor
        index = bisect_left(self.widths, positions, key=lambda point: point[0])
        above, high = self.widths[index]
        if above == positions:
            return high
        below, low = self.widths[index - 1]
        return low + (high - low) * (positions - below) / (above - below)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "seed", (70.0, 36.0), (58, 8), 8192,
            "NovaMLX status report, 2026-05-16: M4 Max and M4 over Thunderbolt 4, split 58/8, 16 KB hidden state",
        ),
        Profile(
            "m5dense", (76.4,), (48,), 8192,
            "ml-explore/mlx pull request 3791: 70B 4-bit on an M5 Max, 76.4 ms at 1 position, 85.0 at 3, 108.2 at 5, "
            "167.9 at 8, 294.6 at 12, 296 at 16; the other widths and 48 layers are assumed",
            ((1, 1.0), (2, 1.05), (3, 1.11), (4, 1.26), (5, 1.42), (6, 1.65), (8, 2.2), (12, 3.86), (16, 3.87)), True,
        ),
        Profile(
            "m4dense", (76.4,), (48,), 8192,
            "ml-explore/mlx issue 3839, qmv_wide on an M4 Pro: 1.03-1.25 at 2 positions, 1.22-1.48 at 3, 1.14-1.57 at "
            "4, 1.47-2.07 at 6, 1.73-2.69 at 8; values inside these ranges, proportional from 8 on, and m5dense's time "
            "for one position are assumed",
            ((1, 1.0), (2, 1.15), (3, 1.365), (4, 1.45), (6, 1.95), (8, 2.4)), True,
        ),
        Profile(
            "moe", (76.4,), (48,), 8192,
            "vllm-mlx issue 763, a 30B-A3B model: 8.47 ms at 1 position, 13.49 at 2, 15.64 at 3, 20.67 at 5, 28.13 at "
            "8; 4 and 6, proportional from 8 on, and m5dense's time for one position are assumed",
            ((1, 1.0), (2, 1.593), (3, 1.847), (4, 2.15), (5, 2.44), (6, 2.75), (8, 3.321)), True,
        ),
    )
}  # fmt: skip


def is_emulated(model: str) -> bool:
    return model.startswith(PREFIX)


def find_profile(model: str) -> Profile:
    """The profile that `emulated:NAME` names. Raises ModelError."""
    name = model.removeprefix(PREFIX)
    if name not in PROFILES:
        raise ModelError(f"no emulated profile {name!r}; there are: {', '.join(PROFILES)}")
    return PROFILES[name]


def check_stages(profile: Profile, split: list[int]) -> None:
    """A profile that is not divisible has times for its own stages only. Raises PlanError for any other split."""
    if not profile.divisible and tuple(split) != profile.split:
        wanted = ",".join(map(str, profile.split))
        raise PlanError(f"emulated:{profile.name} has times for the split {wanted} only, not {split}")
