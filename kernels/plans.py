"""Plans of the Triton kernels: blocks, slices and the pipeline's window, in closed form.

A plan follows from shape, dtype, memory layout and the size of the L2 cache; nothing is autotuned.
It does not depend on the batch, so that a sample's sums have one order. The compiler sees three
classes of T only, so that a hundred lengths cost three compilations at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

#: Elements per tile: 16 for each thread of four warps, which leaves registers for two tiles.
TILE = 2048
WARPS = 4

#: Registers per thread, forward and backward; masks, groups and float64 need more. Without a limit
#: ptxas spills some to fit one more block on a multiprocessor.
_REGISTERS = (96, 128)
_REGISTERS_OF_MORE = (128, 240)
_REGISTERS_OF_DOUBLES = (168, 168)

#: Bytes of x per item of a pass: enough to amortise a program, few enough that a sample occupies
#: several multiprocessors.
_ITEM_BYTES = 48 * 1024

#: Largest sample, in elements, that one program takes through all stages.
_SINGLE_PROGRAM = 16_384

#: The widest row of joints that a tile can hold.
MOST_JOINTS = 4096

#: Channels per tile in channels-last memory. Tiles are half as large there: sums across the lanes
#: of a warp need more registers.
_ROW_OF_CHANNELS = 32

#: The most positions T·V of a plane: offsets within a tile are 32 bits wide.
MOST_PLANE = 2**25

#: Frames per tile, and the most where channels are few.
_FRAMES, _MOST_FRAMES = 8, 64

#: Most positions of a flat tile: a larger one would waste more lanes at a plane's end.
_MOST_POSITIONS = 256

#: Block sizes of the heads (hidden units; channels or groups; positions), and of the gates
#: (positions; groups).
BLOCK_H, BLOCK_K, BLOCK_P = 16, 8, 32
BLOCK_L, _MOST_ROWS = 64, 8

#: Fraction of the L2 cache for tensors between their two uses; the rest holds loads in flight,
#: stores, and data that both halves of the cache duplicate.
_SHARE_OF_L2 = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks and slices of one operator for one shape of sample."""

    channels: int
    frames: int
    joints: int
    groups: int
    block_c: int
    block_t: int
    block_v: int
    flat_p: int
    one_group_per_block: bool  # every block of channels lies in one group
    single_program: bool
    aligned: bool
    slice_frames: int
    slice_positions: int
    window: int  # samples between the first and the last stage of one sample

    @property
    def channel_slices(self) -> int:
        return ceil_div(self.channels, self.block_c)

    @property
    def frame_slices(self) -> int:
        return ceil_div(self.frames, self.slice_frames)

    @property
    def tile_items(self) -> int:
        """Items of a three-dimensional pass over one sample."""
        return self.channel_slices * self.frame_slices

    @property
    def flat_items(self) -> int:
        """Items of a flat pass over one sample."""
        return self.channel_slices * ceil_div(self.frames * self.joints, self.slice_positions)

    @property
    def rows(self) -> int:
        """Rows of the correlations: channel slices, or channels where a slice mixes groups."""
        return self.channel_slices if self.one_group_per_block else self.channels

    @property
    def block_r(self) -> int:
        return min(power_of_two(self.groups), _MOST_ROWS)

    @property
    def gate_items(self) -> int:
        """Blocks of groups, for the frames and for the joints."""
        return 2 * ceil_div(self.groups, self.block_r)

    @property
    def head_items(self) -> int:
        """Blocks of positions, of the frames and of the joints."""
        return ceil_div(self.frames, BLOCK_P) + ceil_div(self.joints, BLOCK_P)


def registers(backward: bool, more: bool, double: bool) -> int:
    """The registers that the threads of a pipeline may have; more with masks or mixed groups."""
    limits = _REGISTERS_OF_MORE if more else _REGISTERS
    return (_REGISTERS_OF_DOUBLES if double else limits)[backward]


def ceil_div(number: int, by: int) -> int:
    return -(-number // by)


def power_of_two(number: int) -> int:
    """The smallest power of two that is not smaller, at least 1."""
    return 1 << max(number - 1, 0).bit_length()


@lru_cache(maxsize=1024)
def plan(
    channels: int,
    frames: int,
    joints: int,
    groups: int,
    element_bytes: int,
    channels_last: bool,
    l2_bytes: int,
    passes: int,
) -> Plan:
    """The plan for samples (C, T, V).

    Args:
        channels, frames, joints, groups: sizes of a sample.
        element_bytes: bytes of an element of x.
        channels_last: x lies as (N, T, V, C).
        l2_bytes: size of the device's L2 cache.
        passes: tensors of x's size that are read before the second use: 1, or 2 in backward.
    """
    block_v = power_of_two(joints)
    most_channels = power_of_two(channels)
    if channels_last:
        block_c = min(most_channels, _ROW_OF_CHANNELS)
        block_t = max(min(_FRAMES, TILE // 2 // (block_c * block_v)), 1)
    else:
        block_c = max(min(most_channels, TILE // (_FRAMES * block_v)), 1)
        block_t = max(min(_MOST_FRAMES, TILE // (block_c * block_v)), 1)
    size, plane = channels * frames * joints, frames * joints
    single_program = size <= _SINGLE_PROGRAM
    flat_p = min(TILE // (2 if channels_last else 1) // block_c, _MOST_POSITIONS)
    item = _ITEM_BYTES // element_bytes // block_c  # positions
    return Plan(
        channels, frames, joints, groups, block_c, block_t, block_v, flat_p,
        one_group_per_block=groups == 1 or (channels // max(groups, 1)) % block_c == 0,
        single_program=single_program,
        aligned=not (single_program or channels_last) and plane % 16 == 0,
        slice_frames=_even_slices(frames, max(item // max(joints, 1), 1), block_t),
        slice_positions=_even_slices(plane, item, flat_p),
        window=max(l2_bytes // _SHARE_OF_L2 // max(size * element_bytes * passes, 1), 1),
    )  # fmt: skip


def _even_slices(length: int, wanted: int, block: int) -> int:
    """The length of slices of about the wanted size, in whole blocks, as even as can be."""
    slices = ceil_div(max(length, 1), max(wanted, 1))
    return ceil_div(ceil_div(max(length, 1), slices), block) * block
