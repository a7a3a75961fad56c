"""What is measured on a GPU: the shapes of published models, large ones, and single samples."""

from __future__ import annotations

from bench.groups import FIELD_SHAPES, MORE_RIVALS, Direction, Group, Shape

#: The size of x from which the goals of bandwidth apply: below, a launch and its tail weigh too
#: much.
LARGE_MEGABYTES = 64

#: What most goals are about: measured first, for where time runs out the last are left out.
GOAL_SHAPES: tuple[Shape, ...] = (
    (128, 64, 64, 25),
    (512, 64, 64, 25),
    (128, 256, 16, 25),
    (512, 256, 16, 25),
)
LATENCY_SHAPE: Shape = (2, 64, 64, 25)
SHAPES: tuple[Shape, ...] = (
    *GOAL_SHAPES,
    (128, 64, 300, 25),
    (32, 64, 300, 25),
    (32, 128, 150, 25),
    (32, 256, 75, 25),
    (128, 128, 32, 25),
    (128, 3, 64, 25),
    (16, 64, 52, 20),
)
CHANNELS_LAST_SHAPE: Shape = (128, 64, 64, 25)
SMALL_SHAPES: tuple[Shape, ...] = (LATENCY_SHAPE, (1, 64, 64, 25), (8, 64, 64, 25))
DTYPES = ("float32", "bfloat16")
SECTIONS = ("gpu", "gpu_small", "gpu_field")

_DIRECTIONS: tuple[Direction, ...] = ("forward", "step")


def _groups() -> list[Group]:
    def of(section: str, shape: Shape, dtype: str, **how: bool) -> list[Group]:
        return [
            Group(section, direction, shape, dtype, rivals=MORE_RIVALS, device="cuda", **how)
            for direction in _DIRECTIONS
        ]

    def small(shape: Shape) -> list[Group]:
        return [
            group
            for dtype in DTYPES
            for replay in (True, False)
            for group in of("gpu_small", shape, dtype, replay=replay)
        ]

    def large(shapes: tuple[Shape, ...]) -> list[Group]:
        return [group for shape in shapes for dtype in DTYPES for group in of("gpu", shape, dtype)]

    groups = large(GOAL_SHAPES) + small(LATENCY_SHAPE) + large(SHAPES[len(GOAL_SHAPES) :])
    for dtype in DTYPES:
        groups += of("gpu", CHANNELS_LAST_SHAPE, dtype, channels_last=True)
    for shape in SMALL_SHAPES[1:]:
        groups += small(shape)
    others = [shape for shape in FIELD_SHAPES if shape not in (*SHAPES, *SMALL_SHAPES)]
    for shape in others:
        for dtype in DTYPES:
            groups += of("gpu_field", shape, dtype)
    return groups


#: Every group that is measured on a GPU, by key.
GPU_GROUPS: dict[str, Group] = {group.key: group for group in _groups()}
