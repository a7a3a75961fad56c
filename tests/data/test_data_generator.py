"""Generated recordings: the same for a seed, possible bodies, and a truth that is true."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from csta_fast.data import LAYOUTS, Collection, Performance, Recording, generate
from csta_fast.data.actions import ACTIONS
from csta_fast.data.bodies import BONES, rotations, stand

_ALL = len(ACTIONS)


@pytest.fixture(scope="module")
def exact() -> Collection:
    """Every class, without noise."""
    return generate(_ALL, subjects=3, repetitions=2, noise=0)


def _performances(collection: Collection) -> list[Performance]:
    assert all(isinstance(each, Performance) for each in collection.recordings)
    return [each for each in collection.recordings if isinstance(each, Performance)]


def _digest(collection: Collection) -> str:
    digest = hashlib.sha256()
    for recording in collection.recordings:
        digest.update(f"{recording.name} {recording.positions.shape}".encode())
        digest.update(recording.positions.tobytes())
    return digest.hexdigest()


def _speeds(positions: np.ndarray) -> np.ndarray:
    """(M, T - 1, V) metres a frame, of every joint relative to its spine base."""
    relative = positions - positions[:, :, :1]
    return np.linalg.norm(np.diff(relative, axis=1), axis=-1)


def test_the_default_collection_is_as_documented() -> None:
    collection = generate()
    assert len(collection.recordings) == 10 * 20 * 6
    names = [recording.name for recording in collection.recordings]
    assert names == sorted(set(names))
    assert collection.layout is LAYOUTS["kinect-v2"]
    assert len(collection.classes) == len(set(collection.classes)) == 10
    assert np.bincount([each.label for each in collection.recordings]).tolist() == [120] * 10
    lengths = {recording.positions.shape[1] for recording in collection.recordings}
    assert min(lengths) == 40
    assert max(lengths) == 90
    for each in _performances(collection):
        people, frames, joints, axes = each.positions.shape
        assert (joints, axes) == (25, 3)
        assert each.positions.dtype == np.float32
        assert np.isfinite(each.positions).all()
        assert people == (2 if collection.classes[each.label] in _PAIRS else 1)
        assert each.truth.frames.shape == (frames,)
        assert each.truth.joints.shape == (people, joints)


_PAIRS = {action.name for action in ACTIONS if action.other is not None}


def test_a_seed_decides_everything_and_nothing_else_does() -> None:
    first = generate(3, 3, 2, seed=5)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    assert _digest(generate(3, 3, 2, seed=5)) == _digest(first)
    assert (np.random.get_state()[1] == before).all()
    assert _digest(generate(3, 3, 2, seed=6)) != _digest(first)


def test_more_of_everything_leaves_the_others_as_they_are() -> None:
    few = {each.name: each for each in generate(2, 2, 1, persons=1).recordings}
    many = {each.name: each for each in generate(4, 5, 3, persons=1).recordings}
    assert few.keys() < many.keys()
    for name, recording in few.items():
        np.testing.assert_array_equal(recording.positions, many[name].positions)


def test_no_two_recordings_are_alike() -> None:
    recordings = generate(4, 3, 3, frames=(40, 40)).recordings
    assert len({recording.positions.tobytes() for recording in recordings}) == len(recordings)


def test_bones_keep_their_length_and_differ_between_people(exact: Collection) -> None:
    of_subject: dict[int, list[np.ndarray]] = {}
    children, parents = [list(ends) for ends in zip(*exact.layout.bones, strict=True)]
    for recording in exact.recordings:
        bones = recording.positions[:, :, children] - recording.positions[:, :, parents]
        lengths = np.linalg.norm(bones, axis=-1)  # (M, T, bones)
        np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:, :1], lengths.shape),
                                   atol=1e-5)  # fmt: skip
        assert (lengths > 0.02).all()
        if len(lengths) == 1 and recording.subject is not None:
            of_subject.setdefault(recording.subject, []).append(lengths[0, 0])
    for lengths_of_one in of_subject.values():
        np.testing.assert_allclose(lengths_of_one, lengths_of_one[:1] * len(lengths_of_one),
                                   atol=1e-5)  # fmt: skip
    first, second = of_subject[1][0], of_subject[2][0]
    assert np.abs(first - second).max() > 0.005


def test_the_bones_of_the_body_are_those_of_the_layout() -> None:
    """But for the tips of the hands, which the layout joins to the thumbs."""
    layout = LAYOUTS["kinect-v2"]
    tips = {joint for joint, name in enumerate(layout.joints) if name.endswith("tip")}
    pairs = {frozenset((joint, parent)) for joint, parent, _ in BONES if joint not in tips}
    assert pairs == {frozenset(bone) for bone in layout.bones if bone[0] not in tips}
    assert sorted(joint for joint, _, _ in BONES) == [
        joint for joint, name in enumerate(layout.joints) if name != "spine base"
    ]


def test_bodies_stand_upright_on_the_floor_with_left_and_right_in_place(exact: Collection) -> None:
    joints = exact.layout.joints
    foot, head = joints.index("left foot"), joints.index("head")
    for recording in exact.recordings:
        heights = recording.positions[..., 1]
        assert heights[..., head].mean() - heights[..., foot].mean() > 1
        assert -1.21 < heights.min() < -1.15
        right, left = (recording.positions[..., end, :] for end in exact.layout.shoulders)
        feet = recording.positions[..., foot, :] - recording.positions[..., foot - 1, :]
        up, forward, to_right = exact.layout.upwards, feet.mean((0, 1)), (right - left).mean((0, 1))
        if len(recording.positions) == 1:
            assert np.dot(np.cross(forward, up), to_right) > 0


def test_noise_is_as_large_as_asked() -> None:
    exact, noisy = (generate(3, 2, 2, noise=noise).recordings for noise in (0.0, 0.02))
    differences = [b.positions - a.positions for a, b in zip(exact, noisy, strict=True)]
    flat = np.concatenate([each.ravel() for each in differences])
    assert flat.std() == pytest.approx(0.02, rel=0.02)
    assert abs(flat.mean()) < 1e-3


def test_telling_joints_move_in_the_telling_frames(exact: Collection) -> None:
    for each in _performances(exact):
        inside = each.truth.frames
        both = inside[1:] & inside[:-1]
        assert 0.3 * len(inside) < inside.sum() < 0.65 * len(inside)
        assert (np.diff(np.flatnonzero(inside)) == 1).all()
        assert each.truth.joints.any(1).all()
        whole = np.linalg.norm(np.diff(each.positions, axis=1), axis=-1)
        people, telling = np.nonzero(each.truth.joints)
        speeds = whole[people, :, telling]
        assert speeds[:, both].mean() > 1.4 * speeds[:, ~both].mean(), each.name


@pytest.mark.parametrize(
    ("action", "telling", "quiet"),
    [
        ("wave the left hand", "left wrist, left hand tip", "right wrist, head, left knee"),
        ("wave the right hand", "right wrist, right thumb", "left wrist, head, right foot"),
        ("clap", "left hand, right hand", "head, spine base, left foot"),
        ("squat", "head, spine base, left knee, right hand", "left foot, right ankle"),
        ("kick with the left leg", "left knee, left foot", "right foot, right ankle"),
        ("nod", "head", "neck, left hand, right knee"),
        ("bow", "head, neck, right shoulder", "left knee, right foot"),
    ],
)
def test_the_truth_names_the_joints_of_the_action(
    action: str, telling: str, quiet: str, exact: Collection
) -> None:
    label = exact.classes.index(action)
    known = exact.layout.joints
    for each in _performances(exact):
        if each.label == label:
            named = {known[joint] for joint in np.flatnonzero(each.truth.joints[0])}
            assert set(telling.split(", ")) <= named
            assert not set(quiet.split(", ")) & named


def test_the_window_moves_from_recording_to_recording() -> None:
    collection = generate(1, 5, 4, frames=(60, 60))
    starts = {int(each.truth.frames.argmax()) for each in _performances(collection)}
    assert len(starts) > 8
    assert max(starts) - min(starts) > 15


def test_people_do_other_things_as_well() -> None:
    """Outside the window, too, some joint moves as fast as a slow action does."""
    fastest = []
    for each in _performances(generate(6, 4, 2, noise=0, persons=1)):
        outside = ~(each.truth.frames[1:] & each.truth.frames[:-1])
        fastest.append(_speeds(each.positions)[0, outside].max())
    assert np.median(fastest) > 0.015


def test_two_people_face_each_other_in_either_order(exact: Collection) -> None:
    left_first = set()
    for recording in generate(10, 4, 3).recordings:
        if len(recording.positions) == 2:
            first, second = recording.positions.mean((1, 2))
            assert 0.5 < np.linalg.norm((first - second)[[0, 2]]) < 1.8
            left_first.add(bool(first[0] < second[0]))
    assert left_first == {True, False}


def test_the_truth_is_of_the_person_who_does_it() -> None:
    collection = generate(10, 4, 3, noise=0)
    label, base = collection.classes.index("push each other"), 0
    staggers = set()
    for each in _performances(collection):
        if each.label == label:
            told = each.truth.joints[:, base]
            assert told.sum() == 1
            travelled = np.ptp(each.positions[:, :, base], axis=1).max(-1)
            assert travelled[told] > 2 * travelled[~told]
            staggers.add(int(told.argmax()))
    assert staggers == {0, 1}


def test_a_joint_turns_in_the_frame_of_the_joint_it_hangs_on() -> None:
    joints = LAYOUTS["kinect-v2"].joints
    shoulder, elbow, wrist = (
        joints.index(f"right {end}") for end in ("shoulder", "elbow", "wrist")
    )
    turns = np.zeros((1, 25, 3))
    turns[0, shoulder, 0] = turns[0, elbow, 2] = np.pi / 2
    body = stand(turns, np.ones(25))[0]
    upper, lower = body[elbow] - body[shoulder], body[wrist] - body[elbow]
    assert upper[2] < -0.25  # forward
    assert lower[0] > 0.2  # to the right
    assert body[[joints.index("left foot"), joints.index("right foot")], 1] == pytest.approx(0)


def test_protocols_split_by_subject_and_by_camera() -> None:
    collection = generate(2, 5, 3)
    assert list(collection.protocols) == ["cross-subject", "cross-view"]
    by_subject, by_view = collection.split(), collection.split("cross-view")
    assert {each.subject for each in by_subject.train} == {1, 3, 5}
    assert {each.subject for each in by_subject.test} == {2, 4}
    assert {each.camera for each in by_view.train} == {2, 3}
    assert {each.camera for each in by_view.test} == {1}
    for split in (by_subject, by_view):
        assert len(split.train) + len(split.test) == len(collection.recordings)
        assert {each.label for each in split.test} == {0, 1}


def test_one_person_only_leaves_the_others_out() -> None:
    collection = generate(_ALL - len(_PAIRS), 1, 1, persons=1)
    assert not _PAIRS & set(collection.classes)
    assert all(len(recording.positions) == 1 for recording in collection.recordings)


def test_rotations_turn_by_the_right_hand() -> None:
    quarter = rotations(np.array([[0, 0, np.pi / 2], [np.pi / 2, 0, 0], [0, 0, 0]]))
    np.testing.assert_allclose(quarter[0] @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(quarter[1] @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_array_equal(quarter[2], np.eye(3))
    vectors = np.random.default_rng(0).normal(size=(7, 3))
    matrices = rotations(vectors)
    np.testing.assert_allclose(matrices @ matrices.swapaxes(-1, -2),
                               np.broadcast_to(np.eye(3), (7, 3, 3)), atol=1e-12)  # fmt: skip
    np.testing.assert_allclose(np.einsum("nij,nj->ni", matrices, vectors), vectors, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes: wanted 1 to 20, got 0"),
        ({"classes": 17, "persons": 1}, "classes: wanted 1 to 16, got 17"),
        ({"subjects": 0}, "subjects: wanted at least 1, got 0"),
        ({"repetitions": -1}, "repetitions: wanted at least 1, got -1"),
        ({"persons": 3}, "persons: wanted 1 or 2, got 3"),
        ({"frames": (50, 40)}, r"frames: wanted \(fewest, most\) of at least 8 in order"),
        ({"frames": (4, 40)}, "frames: wanted"),
        ({"noise": float("nan")}, "noise: wanted metres, at least 0, got nan"),
        ({"noise": -1.0}, "noise: wanted"),
        ({"seed": -1}, "seed: wanted at least 0, got -1"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(**arguments)


def test_a_performance_is_a_recording() -> None:
    assert issubclass(Performance, Recording)
