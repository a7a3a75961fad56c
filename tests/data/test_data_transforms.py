"""Normalisations and crops of positions (M, T, V, D)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

from csta_fast.data import LAYOUTS, transforms

KINECT = LAYOUTS["kinect-v2"]


def _positions(persons: int = 2, frames: int = 7, joints: int = 25) -> NDArray[np.float32]:
    random = np.random.default_rng(5)
    return random.normal(1, 1, (persons, frames, joints, 3)).astype(np.float32)


def _untouched(positions: NDArray[np.float32]) -> NDArray[np.float32]:
    positions.setflags(write=False)
    return positions


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_bones_join_all_joints_into_one_tree(layout: object) -> None:
    assert hasattr(layout, "joints")
    count = len(layout.joints)
    assert len(set(layout.joints)) == count
    assert len(layout.bones) == count - 1
    children = [child for child, _ in layout.bones]
    assert len(set(children)) == count - 1
    parents = dict(layout.bones)
    (root,) = set(range(count)) - set(children)
    for joint in range(count):
        steps = 0
        while joint != root:
            joint, steps = parents[joint], steps + 1
            assert steps < count
    names = [{layout.joints[child], layout.joints[parent]} for child, parent in layout.bones]
    sides = [{name.split()[0] for name in pair} for pair in names]
    limbs = [pair for pair in sides if pair <= {"left", "right"}]
    assert limbs
    # A bone within the limbs stays on its side, but for the nose and its eyes, which no limb is.
    assert all(len(pair) == 1 for pair in limbs)


def test_first_and_frame_take_positions_relative_to_the_first_persons_centre() -> None:
    positions = _untouched(_positions())
    centre = KINECT.centre
    first = transforms.normalise(positions, KINECT, "first")
    np.testing.assert_allclose(first, positions - positions[0, 0, centre], atol=1e-6)
    frame = transforms.normalise(positions, KINECT, "frame")
    np.testing.assert_allclose(frame, positions - positions[0, :, centre][None, :, None], atol=1e-6)
    assert np.abs(first - frame).max() > 0.5
    assert transforms.normalise(positions, KINECT, "none") is positions


def test_joints_and_persons_not_tracked_stay_at_zero() -> None:
    positions = _positions()
    positions[1] = 0
    positions[0, 3, 7] = 0
    positions[0, :2, KINECT.centre] = 0
    for how in ("first", "frame", "aligned"):
        moved = transforms.normalise(_untouched(positions), KINECT, how)
        assert (moved[1] == 0).all()
        assert (moved[0, 3, 7] == 0).all()
    origin = positions[0, 2, KINECT.centre]
    first = transforms.normalise(positions, KINECT, "first")
    np.testing.assert_allclose(first[0, 0, 3], positions[0, 0, 3] - origin, atol=1e-6)
    frame = transforms.normalise(positions, KINECT, "frame")
    np.testing.assert_allclose(frame[0, 0, 3], positions[0, 0, 3] - origin, atol=1e-6)


def test_without_any_centre_positions_stay_as_they_are() -> None:
    positions = _positions()
    positions[0, :, KINECT.centre] = 0
    for how in ("first", "frame", "aligned"):
        assert np.array_equal(transforms.normalise(positions, KINECT, how), positions)


@pytest.mark.parametrize("up", [(0, 1), (1, 1), (2, 1), (1, -1)])
def test_aligned_stands_up_and_faces_the_front(up: tuple[int, int]) -> None:
    from dataclasses import replace

    layout = replace(KINECT, up=up)
    positions = _positions()
    moved = transforms.normalise(_untouched(positions), layout, "aligned")[0, 0].astype(float)
    spine = moved[layout.spine[1]] - moved[layout.spine[0]]
    np.testing.assert_allclose(spine / np.linalg.norm(spine), layout.upwards, atol=1e-5)
    shoulders = moved[layout.shoulders[1]] - moved[layout.shoulders[0]]
    first = 0 if up[0] != 0 else 1
    assert shoulders[first] > 0
    assert abs(shoulders[3 - up[0] - first]) < 1e-5
    plain = transforms.normalise(positions, layout, "first").astype(float)
    # A rotation, no reflection: distances and handedness stay.
    np.testing.assert_allclose(
        np.linalg.norm(moved, axis=-1), np.linalg.norm(plain[0, 0], axis=-1), atol=1e-5
    )
    assert np.linalg.det(moved[2:5]) == pytest.approx(np.linalg.det(plain[0, 0, 2:5]), abs=1e-4)


def test_an_unknown_normalisation_is_named() -> None:
    with pytest.raises(ValueError, match="how: wanted one of none, first, frame, aligned, got 'x'"):
        transforms.normalise(_positions(), KINECT, "x")


def test_body_size_is_the_mean_length_of_tracked_bones() -> None:
    positions = np.zeros((1, 2, 25, 3), np.float32)
    child, parent = KINECT.bones[3]
    positions[0, :, child], positions[0, :, parent] = (1, 0, 0), (1, 3, 0)
    assert transforms.body_size(positions, KINECT) == 3
    assert transforms.body_size(np.zeros_like(positions), KINECT) == 1


@pytest.mark.parametrize("frames", [1, 3, 7, 10, 64])
def test_resize_interpolates_as_pytorch_does(frames: int) -> None:
    positions = _untouched(_positions())
    resized = transforms.resize(positions, frames)
    flat = torch.from_numpy(positions.copy()).permute(0, 3, 1, 2)
    expected = F.interpolate(flat, size=(frames, 25), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resized, expected.permute(0, 2, 3, 1).numpy(), atol=1e-5)
    assert resized.dtype == np.float32


def test_resize_does_not_draw_a_joint_halfway_to_where_it_was_not_tracked() -> None:
    positions = np.ones((1, 2, 1, 3), np.float32)
    positions[0, 1] = 0
    resized = transforms.resize(positions, 6)
    assert set(np.unique(resized)) == {0.0, 1.0}
    assert (resized[0, :3] == 1).all()
    assert (resized[0, 3:] == 0).all()


def test_crops_hold_frames_in_a_row() -> None:
    positions = _untouched(_positions(frames=20))
    middle = transforms.centre_crop(positions, 0.5)
    assert np.array_equal(middle, positions[:, 5:15])
    assert transforms.centre_crop(positions[:, :1], 0.5).shape[1] == 1
    random = np.random.default_rng(0)
    lengths, starts = set(), set()
    for _ in range(400):
        part = transforms.random_crop(positions, (0.5, 1.0), 4, random)
        (start,) = np.flatnonzero(positions[0, :, 0, 0] == part[0, 0, 0, 0])
        assert np.array_equal(part, positions[:, start : start + part.shape[1]])
        lengths.add(part.shape[1])
        starts.add(int(start))
    assert lengths == set(range(10, 21))
    assert starts == set(range(11))
    assert transforms.random_crop(positions, (0.1, 0.1), 16, random).shape[1] == 16
    assert transforms.random_crop(positions[:, :3], (0.1, 0.1), 16, random).shape[1] == 3
    with pytest.raises(ValueError, match="frames: wanted some of 20, got 5 from frame 16 on"):
        transforms.crop(positions, 16, 5)


def test_rotate_keeps_heights_and_turns_the_rest() -> None:
    positions = _untouched(_positions())
    turned = transforms.rotate(positions, KINECT, 90)
    np.testing.assert_allclose(turned[..., 1], positions[..., 1], atol=1e-6)
    np.testing.assert_allclose(turned[..., 0], positions[..., 2], atol=1e-6)
    np.testing.assert_allclose(turned[..., 2], -positions[..., 0], atol=1e-6)
    with pytest.raises(ValueError, match="positions: wanted 3 coordinates, got 2"):
        transforms.rotate(positions[..., :2], KINECT, 1)
