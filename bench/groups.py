"""What is measured: one Group per shape, dtype, memory layout and direction, by section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Direction: TypeAlias = Literal["forward", "backward", "step"]
Shape: TypeAlias = tuple[int, int, int, int]

#: Width H of both heads; the study that set the goals used the same.
HIDDEN = 16

#: Passes over x that a direction cannot do without (docs/definition.md, Traffic).
UNITS: dict[str, int] = {"forward": 2, "backward": 3, "step": 5}

EAGER_ALONE = ("eager",)
BOTH_RIVALS = ("eager", "compile")
MORE_RIVALS = ("eager", "compile", "max-autotune")

#: Sections that are measured only on request.
EXTENDED_SECTIONS = ("field", "samples", "frames", "gpu_field")

#: Sections that hold one shape in two memory layouts.
_BOTH_LAYOUTS = ("field", "gpu")


@dataclass(frozen=True, slots=True)
class Group:
    """One table: the variants that compute the same thing on the same tensors."""

    section: str
    direction: Direction
    shape: Shape  # (N, C, T, V)
    dtype: str = "float32"
    channels_last: bool = False
    lengths: bool = False  # frames beyond a random length per sample are padding
    rivals: tuple[str, ...] = BOTH_RIVALS
    device: str = "cpu"
    replay: bool = True  # on a GPU: short calls are timed without the host's part in them

    @property
    def key(self) -> str:
        words = [self.section] if self.section == self.direction else [self.section, self.direction]
        words += ["x".join(map(str, self.shape)), self.dtype]
        words += ["channels_last"] * (self.channels_last and self.section in _BOTH_LAYOUTS)
        return "-".join(words + ["loop"] * (not self.replay))

    @property
    def elements(self) -> int:
        samples, channels, frames, joints = self.shape
        return samples * channels * frames * joints

    @property
    def bytes_of_x(self) -> int:
        return self.elements * (4 if self.dtype == "float32" else 2)

    def variants(
        self, rivals: str = "default", own: tuple[str, ...] = ("csta_fast",)
    ) -> tuple[str, ...]:
        """Names of the variants, with the option --rivals and what csta_fast is measured as."""
        more = MORE_RIVALS if "compile" in self.rivals else self.rivals
        chosen = {"default": self.rivals, "all": more, "none": ()}[rivals]
        padded = ("padded",) if self.lengths else ()
        return ("copy", *chosen, *padded, *own)


def is_own(name: str) -> bool:
    """Whether a variant is csta_fast: "csta_fast" itself, or "csta_fast-" and a backend."""
    return name.partition("-")[0] == "csta_fast"


def is_compiled(name: str) -> bool:
    """Whether a variant has to be compiled first."""
    return name in MORE_RIVALS and name != "eager"


STUDY_SHAPES: tuple[Shape, ...] = (
    (384, 64, 64, 25),
    (384, 128, 32, 25),
    (384, 256, 16, 25),
    (80, 64, 300, 25),
    (8192, 3, 64, 25),
    (80, 256, 75, 25),
    (384, 64, 75, 17),
)
STEP_SHAPES: tuple[Shape, ...] = (
    (1024, 64, 64, 25),
    (256, 128, 32, 25),
    (128, 256, 16, 25),
    (64, 64, 300, 25),
    (2048, 3, 64, 25),
    (16, 256, 75, 25),
)
#: Shapes of the README's picture: wide, narrow, long, and few channels.
SHORT_SHAPES: tuple[Shape, ...] = (
    *(STUDY_SHAPES[index] for index in (0, 2, 3, 4)),
    *(STEP_SHAPES[index] for index in (0, 2, 3, 4)),
)
HALF_SHAPES: tuple[Shape, ...] = ((768, 64, 64, 25), (160, 64, 300, 25))
CHANNELS_LAST_SHAPES: tuple[Shape, ...] = (
    (384, 64, 64, 25),
    (384, 256, 16, 25),
    (80, 64, 300, 25),
    (8192, 3, 64, 25),
)
SMALL_SHAPES: tuple[Shape, ...] = (
    (1, 64, 64, 25),
    (1, 3, 64, 25),
    (8, 64, 64, 25),
    (1, 64, 300, 25),
)
FIELD_SHAPES: tuple[Shape, ...] = (
    (128, 64, 64, 25),
    (128, 64, 32, 25),
    (128, 25, 64, 32),
    (128, 128, 32, 25),
    (128, 256, 16, 25),
    (32, 64, 100, 25),
    (32, 128, 50, 25),
    (32, 256, 25, 25),
    (32, 64, 300, 25),
    (32, 128, 150, 25),
    (32, 256, 75, 25),
    (32, 24, 288, 25),
    (32, 48, 288, 25),
    (32, 64, 144, 25),
    (32, 128, 72, 25),
    (32, 272, 72, 25),
    (16, 64, 52, 20),
    (2, 64, 64, 25),
    (1, 64, 64, 25),
    (3, 5, 7, 17),
    (128, 64, 1, 25),
    (128, 64, 64, 1),
    (128, 1, 64, 25),
    (128, 3, 64, 25),
)
ALLOCATOR_SHAPE: Shape = (384, 64, 64, 25)
MEMORY_SHAPE: Shape = (256, 64, 64, 25)
PADDED_SHAPE: Shape = (64, 64, 300, 25)
_PER_SAMPLE_SCALING = tuple((4**power, 64, 64, 25) for power in range(7))
_PER_FRAME_SCALING = tuple(
    (16384 // frames, 64, frames, 25) for frames in (16, 64, 256, 1024, 4096)
)
_DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "step")
_KERNELS: tuple[Direction, ...] = ("forward", "backward")
_WHOLE: tuple[Direction, ...] = ("forward", "step")


def _groups() -> list[Group]:
    # Compiling takes longer than all of the rest there; backward shows that it can be timed.
    rivals = {"forward": EAGER_ALONE, "backward": BOTH_RIVALS, "step": EAGER_ALONE}
    groups = [Group("smoke", way, (32, 16, 16, 25), rivals=rivals[way]) for way in _DIRECTIONS]
    groups += [Group("forward", "forward", shape) for shape in STUDY_SHAPES]
    groups += [Group("backward", "backward", shape) for shape in STUDY_SHAPES]
    groups += [Group("step", "step", shape) for shape in STEP_SHAPES]
    groups += [
        Group("half", way, shape, dtype)
        for way in _KERNELS
        for shape in HALF_SHAPES
        for dtype in ("bfloat16", "float16")
    ]
    groups += [
        Group("channels_last", way, shape, channels_last=True)
        for way in _KERNELS
        for shape in CHANNELS_LAST_SHAPES
    ]
    groups += [Group("lengths", way, PADDED_SHAPE, lengths=True) for way in _WHOLE]
    groups += [Group("field", way, shape) for shape in FIELD_SHAPES for way in _WHOLE]
    groups += [Group("field", way, FIELD_SHAPES[0], channels_last=True) for way in _WHOLE]
    groups += [Group("samples", way, shape) for shape in _PER_SAMPLE_SCALING for way in _WHOLE]
    groups += [Group("frames", way, shape) for shape in _PER_FRAME_SCALING for way in _WHOLE]
    return groups


#: Every group whose variants take turns in one process, by key.
GROUPS: dict[str, Group] = {group.key: group for group in _groups()}

#: Groups of --quick, beside the overhead of a call: each kind of kernel, and few channels.
QUICK: tuple[str, ...] = (
    "forward-384x64x64x25-float32",
    "backward-384x64x64x25-float32",
    "step-2048x3x64x25-float32",
    "half-forward-768x64x64x25-bfloat16",
    "channels_last-forward-384x64x64x25-float32",
)

#: Groups whose variants each run alone in a process of their own.
SMALL_GROUPS: dict[str, Group] = {
    group.key: group
    for group in (Group("small", way, shape) for shape in SMALL_SHAPES for way in _WHOLE)
}
