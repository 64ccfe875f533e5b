"""Apple's chips by name, and what a node with one of them would do with a model: for planning without the machine.

Bandwidths and largest memories are what Apple's announcement or technical specifications say that the table names;
the M5 Max with 32 cores is known from a chip database only. Apple gives no floating-point rates: those are per GPU
core, from what each generation was measured or listed at. The neural accelerators of the M5 family have no published
rate and are left out, so prompts are read faster there than predicted. What could not be verified has no entry, such
as an M5 Ultra.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from nova.errors import PlanError
from nova.plan.inputs import ModelFigures
from nova.plan.profiles import PROFILES, is_emulated
from nova.wire.plans import NodeProfile, Points

GIB = 1 << 30
EFFICIENCY = 0.85
"""Share of the nominal memory bandwidth that one position's weights are read at. With it the M4 Max alone comes to the
30 tokens per second and more that the NovaMLX report gives for it (14.5 GB read)."""
COMPUTE_EFFICIENCY = 0.7
"""Share of the nominal rate that long chunks reach. Tokens per second: 500 of an 8B model on an M1 Max, 75 %
(brand-o/normiebench issue 40); 2143 of a 3B one on an M1 Ultra, 65 % (geerlingguy/ai-benchmarks issue 48)."""
FIXED_S = 0.001
"""Seconds that a chunk costs for being one. Assumed: 30 tokens per second on the M4 Max leave it at most 2.1 ms."""
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8)
PIECES = (64, 256, 512)


@dataclass(frozen=True)
class Chip:
    """A chip in one of its variants: bytes per second of memory, FP32 operations per second, largest memory in GiB."""

    family: str
    gpu_cores: int
    bandwidth: float
    largest_gb: int
    flops: float
    source: str

    @property
    def name(self) -> str:
        return f"{self.family} ({self.gpu_cores} GPU cores)"


_CORE_FLOPS = {
    "M1": 0.3318e12,  # 10.617 TFLOPS of 32 cores: philipturner/applegpuinfo issue 2
    "M2": 0.3318e12,  # the M1's, as a lower bound
    "M3": 0.3580e12,  # 14.32 TFLOPS of 40 cores: hmc-tech.com
    "M4": 0.3760e12,  # 3.76 TFLOPS of 10 cores: hmc-tech.com
    "M5": 0.3760e12,  # the M4's, as a lower bound
}

_M1 = "Introducing M1 Pro and M1 Max (Apple, 2021)"
_M2 = "Apple unveils M2 Pro and M2 Max (Apple, 2023)"
_M3 = "MacBook Pro (16-inch, Nov 2023) - Tech Specs (Apple, 117737)"
_M4 = "Apple introduces M4 Pro and M4 Max (Apple, 2024)"
_M4_SPECS = "MacBook Pro (14-inch, M4 Pro or M4 Max, 2024) - Tech Specs (Apple)"
_M5 = "Apple debuts M5 Pro and M5 Max (Apple, 2026)"

_ROWS: tuple[tuple[str, tuple[int, ...], float, int, str], ...] = (
    ("M1", (7, 8), 68.2, 16, "llama.cpp pull request 1642"),
    ("M1 Pro", (14, 16), 200, 32, _M1),
    ("M1 Max", (24, 32), 400, 64, _M1),
    ("M1 Ultra", (48, 64), 800, 128, "Apple unveils M1 Ultra (Apple, 2022)"),
    ("M2", (8, 10), 100, 24, "Apple unveils M2 (Apple, 2022)"),
    ("M2 Pro", (16, 19), 200, 32, _M2),
    ("M2 Max", (30, 38), 400, 96, _M2),
    ("M2 Ultra", (60, 76), 800, 192, "Apple introduces M2 Ultra (Apple, 2023)"),
    ("M3", (8, 10), 100, 24, "Apple unveils M3, M3 Pro, and M3 Max (Apple, 2023)"),
    ("M3 Pro", (14, 18), 150, 36, _M3),
    ("M3 Max", (30,), 300, 96, _M3),
    ("M3 Max", (40,), 400, 128, _M3),
    ("M3 Ultra", (60, 80), 819, 512, "Mac Studio (2025) - Tech Specs (Apple)"),
    ("M4", (8, 10), 120, 32, "Apple introduces M4 chip (Apple, 2024)"),
    ("M4 Pro", (16, 20), 273, 64, _M4),
    ("M4 Max", (32,), 410, 36, _M4_SPECS),
    ("M4 Max", (40,), 546, 128, _M4),
    ("M5", (10,), 153, 32, "Apple unleashes M5 (Apple, 2025)"),
    ("M5 Pro", (16, 20), 307, 64, _M5),
    ("M5 Max", (32,), 460, 36, "cputronic.com, Apple M5 Max (32-core GPU)"),
    ("M5 Max", (40,), 614, 128, _M5),
)
CHIPS = tuple(
    Chip(family, cores, gb_s * 1e9, largest_gb, cores * _CORE_FLOPS[family[:2]], source)
    for family, variants, gb_s, largest_gb, source in _ROWS
    for cores in variants
)


def find(name: str) -> Chip:
    """The chip that somebody calls "M4 Max", "Apple M4 Max" or "m4-max 32": without cores the one with most.

    Raises PlanError that lists what comes near.
    """
    words = [word for word in re.findall(r"[a-z]+\d+|[a-z]+|\d+", name.lower()) if word not in _FILLERS]
    numbers = [int(word) for word in words if word.isdigit()]
    family = " ".join(word for word in words if not word.isdigit())
    variants = [chip for chip in CHIPS if chip.family.lower() == family]
    found = [chip for chip in variants if not numbers or [chip.gpu_cores] == numbers]
    if found:
        return max(found, key=lambda chip: chip.gpu_cores)
    if variants:
        near = [chip.name for chip in variants]
    else:
        families = {chip.family.lower(): chip.family for chip in CHIPS}
        near = [families[each] for each in difflib.get_close_matches(family, families, n=4, cutoff=0.3)] or ["M1 to M5"]
    raise PlanError(f"no chip {name!r}; there is {', '.join(near)}: name one of them, or give the node's own figures")


_FILLERS = frozenset({"apple", "chip", "gpu", "core", "cores", "c"})


def usable_bytes(memory_bytes: int) -> int:
    """What macOS lets the GPU wire of so much memory (`iogpu.wired_limit_mb` = 0).

    Two thirds below 36 GiB (10923 of 16384 MiB, 21845 of 32768: llama-cpp-python issue 687, ollama issue 434), three
    quarters from there on (28991 MB of 36 GiB as llama.cpp logs it; gpustack issue 1375). macOS 26 allows more, 107.5
    of 128 GiB (antirez/ds4 pull request 893): a node that is measured says what it has.
    """
    return memory_bytes * 3 // 4 if memory_bytes >= 36 * GIB else memory_bytes * 2 // 3


def profile_of(
    name: str,
    chip: Chip,
    memory_bytes: int,
    model: ModelFigures,
    efficiency: float = EFFICIENCY,
    fixed_s: float = FIXED_S,
) -> NodeProfile:
    """What node `name` with this chip and so much memory installed would do. Raises PlanError.

    A chunk takes what reading its weights takes, times what chunks of its width were measured to cost (MLX's quantised
    kernels are not free for 2 to 8 positions), and longer ones at least their arithmetic.
    """
    if is_emulated(model.name):
        raise PlanError(f"{model.name} has times of its own, not bytes: give {name} layer_ms instead of a chip")
    if memory_bytes > chip.largest_gb * GIB:
        raise PlanError(f"{name}: {chip.name} comes with at most {chip.largest_gb} GB, not {memory_bytes / GIB:g}")
    count = len(model.layers)
    read = sum(layer.read_bytes for layer in model.layers) / count
    whole = sum(layer.weight_bytes for layer in model.layers) / count
    flops = sum(layer.flops for layer in model.layers) / count
    head = model.head_bytes + (model.embedding_bytes if model.tied else 0)
    dense = "m5dense" if chip.family.startswith("M5") else "m4dense"
    speed = _Speed(chip.bandwidth * efficiency, chip.flops * COMPUTE_EFFICIENCY)
    return NodeProfile(
        name=name,
        memory_bytes=usable_bytes(memory_bytes),
        fixed_s=fixed_s,
        layer_s=speed.curve(read, whole, flops, "moe" if read < whole else dense),
        head_s=speed.curve(head, head, model.head_flops, dense),
        source=f"{chip.name}: {chip.source}, at {efficiency:.0%} of its bandwidth",
        bandwidth=chip.bandwidth,
    )


@dataclass(frozen=True)
class _Speed:
    """Bytes and operations per second that are reached."""

    bandwidth: float
    flops: float

    def curve(self, read_bytes: float, all_bytes: float, flops: float, widths: str) -> Points:
        """Seconds of chunks: `read_bytes` and `flops` are of one position, `all_bytes` the most that can be read."""
        points = widened(read_bytes / self.bandwidth, widths)
        least = max(points[-1][1], all_bytes / self.bandwidth)
        return [*points, *((n, max(least, flops * n / self.flops)) for n in PIECES)]


def widened(one_s: float, widths: str, positions: tuple[int, ...] = WIDTHS) -> Points:
    """Seconds of chunks from those of one position, as the emulated profile `widths` says."""
    return [(n, one_s * PROFILES[widths].width_factor(n)) for n in positions]
