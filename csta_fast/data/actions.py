"""What people do in generated recordings: actions, as turns of named joints over a span of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Course = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _ramp(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1 without a jump of the speed."""
    phase = phase.clip(0, 1)
    return phase * phase * (3 - 2 * phase)


def hold(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Go there in the first quarter of the span, stay, and come back in the last."""
    return _ramp(4 * phase) * _ramp(4 * (1 - phase))


def swing(times: int) -> Course:
    """To and fro about the pose held, a number of times."""
    return lambda phase: hold(phase) * np.sin(2 * np.pi * times * phase)


def thrust(times: int) -> Course:
    """There and straight back, a number of times."""
    return lambda phase: np.sin(np.pi * times * phase.clip(0, 1)) ** 2


class Turn(NamedTuple):
    """Everything that hangs on a joint turns about it, by up to this many degrees.

    About the body's axes at rest: x to its right, y up, z to its back. A positive turn about x
    brings a hanging limb forward and an upright trunk backward; one about z brings a hanging limb
    to the right.
    """

    joint: str
    degrees: tuple[float, float, float]
    course: Course


class Shift(NamedTuple):
    """The whole body is displaced, by up to this many metres along its axes."""

    metres: tuple[float, float, float]
    course: Course


@dataclass(frozen=True)
class Part:
    """What one person does in an action."""

    turns: tuple[Turn, ...]
    shifts: tuple[Shift, ...] = ()

    @property
    def joints(self) -> set[str]:
        """The joints that it turns."""
        return {turn.joint for turn in self.turns}

    @property
    def bends_legs(self) -> bool:
        return any(joint.endswith("knee") for joint in self.joints)

    def leaves_free(self, other: Part) -> bool:
        """Whether someone can do the other as well, neither changing what this looks like."""
        # Nobody lifts a leg beside the one that they kick with.
        return not self.joints & other.joints and not (self.bends_legs and other.bends_legs)

    def mirrored(self) -> Part:
        """The same on the other side of the body."""
        turns = tuple(
            Turn(_other_side(joint), (x, -y, -z), course) for joint, (x, y, z), course in self.turns
        )
        shifts = tuple(Shift((-x, y, z), course) for (x, y, z), course in self.shifts)
        return replace(self, turns=turns, shifts=shifts)


class Action(NamedTuple):
    """A class of generated recordings; `other` is what the second person does, if there is one."""

    name: str
    part: Part
    other: Part | None = None


def _other_side(joint: str) -> str:
    side, _, rest = joint.partition(" ")
    return {"left": f"right {rest}", "right": f"left {rest}"}.get(side, joint)


def _both(*turns: Turn) -> Part:
    """The turns of the right side, on both sides."""
    return Part(turns + Part(turns).mirrored().turns)


def _trunk(forward: float, course: Course) -> tuple[Turn, ...]:
    """Lean the trunk and leave the legs; backward if negative."""
    return (
        Turn("spine base", (-forward, 0, 0), course),
        Turn("right hip", (forward, 0, 0), course),
        Turn("left hip", (forward, 0, 0), course),
    )


_ARM_UP = (Turn("right shoulder", (0, 0, 95), hold), Turn("right elbow", (0, 0, 75), hold))
_RAISE = Part(_ARM_UP)
_WAVE = Part((*_ARM_UP, Turn("right elbow", (0, 0, 50), swing(3))))
_REACH = Part((Turn("right shoulder", (55, 15, 0), hold), Turn("right elbow", (35, 0, 0), hold)))
_PUNCH = Part(
    (
        Turn("right shoulder", (25, 0, 0), hold),
        Turn("right elbow", (110, 0, 0), hold),
        Turn("right shoulder", (60, 0, 0), thrust(2)),
        Turn("right elbow", (-100, 0, 0), thrust(2)),
    )
)
_KICK = Part((Turn("right hip", (70, 0, 0), thrust(1)), Turn("right knee", (-35, 0, 0), swing(1))))
_STAGGER = Part(_trunk(-22, thrust(1)), (Shift((0, 0, 0.25), thrust(1)),))
_PUSH = _both(
    Turn("right shoulder", (70, 10, 0), thrust(1)), Turn("right elbow", (20, 0, 0), thrust(1))
)
_SQUAT = (
    Turn("right hip", (58, 0, 0), thrust(2)),
    Turn("right knee", (-116, 0, 0), thrust(2)),
    Turn("right ankle", (58, 0, 0), thrust(2)),
)
_CLAP = (
    Turn("right shoulder", (45, -8, 0), hold),
    Turn("right elbow", (50, 0, 0), hold),
    Turn("right shoulder", (0, 30, 0), thrust(4)),
)
_SHAKE = Part((*_REACH.turns, Turn("right elbow", (20, 0, 0), swing(3))))
_HIGH_FIVE = Part(
    (Turn("right shoulder", (120, 0, 0), thrust(1)), Turn("right elbow", (30, 0, 0), thrust(1)))
)

# The first ten have something of everything; wave and raise, or left and right, differ by little.
ACTIONS = (
    Action("wave the right hand", _WAVE),
    Action("wave the left hand", _WAVE.mirrored()),
    Action("raise the right arm", _RAISE),
    Action("raise both arms", _both(*_ARM_UP)),
    Action("clap", _both(*_CLAP)),
    Action("punch", _PUNCH),
    Action("kick", _KICK),
    Action("squat", _both(*_SQUAT)),
    Action("shake hands", _SHAKE, _SHAKE),
    Action("push each other", _PUSH, _STAGGER),
    Action("raise the left arm", _RAISE.mirrored()),
    Action("nod", Part((Turn("neck", (-45, 0, 0), thrust(3)),))),
    Action("bow", Part((*_trunk(45, hold), Turn("spine middle", (-25, 0, 0), hold)))),
    Action("kick with the left leg", _KICK.mirrored()),
    Action("punch with the left hand", _PUNCH.mirrored()),
    Action("wave both hands", _both(*_WAVE.turns)),
    Action("step to the right", Part((Turn("right hip", (0, 0, 20), thrust(2)),),
                                     (Shift((0.4, 0, 0), hold),))),
    Action("jump", Part(_both(Turn("right shoulder", (60, 0, 0), thrust(2))).turns,
                        (Shift((0, 0.25, 0), thrust(2)),))),
    Action("high five", _HIGH_FIVE, _HIGH_FIVE),
    Action("kick each other", _KICK, _STAGGER),
)  # fmt: skip

# What people do besides, in any recording and at any time: less, and with joints that are free.
DISTRACTIONS = (
    Part((Turn("right shoulder", (30, 0, 10), hold), Turn("right elbow", (45, 0, 0), hold))),
    Part((Turn("right shoulder", (0, 0, 40), thrust(1)),)),
    Part((Turn("right elbow", (70, 30, 0), hold),)),
    Part((Turn("right hip", (18, 0, 6), thrust(1)), Turn("right knee", (-30, 0, 0), thrust(1)))),
    Part((Turn("spine middle", (0, 25, 0), hold),)),
    Part((Turn("neck", (-15, 0, 12), thrust(1)),)),
    Part(_trunk(12, hold)),
)
