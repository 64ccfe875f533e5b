"""A model as the planner sees it, from config.json and the headers of its tensors: no weight is read.

MLX is imported when a folder is asked for and not before.
"""

from __future__ import annotations

from pathlib import Path

from nova.model.locate import locate
from nova.plan.inputs import Layer, ModelFigures
from nova.plan.profiles import Profile, find_profile, is_emulated

NANOSECONDS = 1e6
"""In a millisecond. An emulated layer "reads" as many bytes: only their proportions mean anything."""


def figures_of(name: str, home: Path) -> ModelFigures:
    """Of the model that a configuration names: `emulated:NAME`, or what `locate` finds. Raises ModelError."""
    return emulated_figures(find_profile(name)) if is_emulated(name) else figures(locate(name, home))


def figures(folder: Path) -> ModelFigures:
    """Of a folder with any architecture that mlx_lm builds. Raises ModelError that says what cannot be told, and why.

    Layers hold what mlx_lm keeps of the tensors. The weights of experts count as read in the share that one position
    chooses, the same for `flops`, which are two for each weight read; attention's own are not among them.
    """
    from nova.model.figures_built import built_figures

    return built_figures(folder)


def emulated_figures(profile: Profile) -> ModelFigures:
    """Layers that take no memory, and read in proportion to what the profile says that they take."""
    times = [profile.position_ms(index, index + 1) for index in range(profile.layers)]
    return ModelFigures(
        name=f"emulated:{profile.name}",
        layers=tuple(Layer(0, round(ms * NANOSECONDS), 0.0, 0) for ms in times),
        embedding_bytes=0,
        head_bytes=0,
        head_flops=0.0,
        tied=False,
        hidden_bytes=2 * profile.hidden,
    )
