"""Pictures of bodies and of time show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

import matplotlib
from drawn import FRAMES, JOINTS, LAYOUT, bodies_of, bones_of, by_label, discs_of, softmax
from matplotlib import _pylab_helpers
from matplotlib.axes import Axes

from csta_fast import plots
from csta_fast.data import LAYOUTS, generate
from csta_fast.plots.views import key_frames, project


@pytest.fixture(scope="module")
def one() -> np.ndarray:
    """(T, V, D) of one person who waves the left hand."""
    return generate(2, 1, 1, frames=(FRAMES, FRAMES), persons=1).recordings[1].positions[0]


@pytest.fixture(scope="module")
def two() -> np.ndarray:
    """(2, T, V, D) of two people."""
    return generate(10, 1, 1, frames=(FRAMES, FRAMES)).recordings[8].positions


def _areas(axes: Axes, points: np.ndarray) -> np.ndarray:
    """The area of the disc at every point."""
    (discs,) = discs_of(axes)
    offsets = np.asarray(discs.get_offsets())
    distances = np.linalg.norm(offsets[None] - points[:, None], axis=-1)
    assert distances.min(1).max() < 1e-9
    return discs.get_sizes()[distances.argmin(1)]


def test_areas_of_discs_are_proportional_to_the_weights_of_their_joints(one: np.ndarray) -> None:
    weights = softmax(JOINTS)
    figure = plots.skeleton(one, weights, LAYOUT, frame=7, turn=0)
    (axes,) = bodies_of(figure)
    points = project(one[None].astype(float), LAYOUT, 0, "scene").points[0, 7]
    areas = _areas(axes, points)
    np.testing.assert_allclose(areas / areas.sum(), weights, rtol=1e-9)
    (discs,) = discs_of(axes)
    np.testing.assert_allclose(np.sort(discs.get_array()), np.sort(weights * JOINTS))
    assert figure.axes[-1].get_ylabel() == "joint weight (× uniform)"


def test_bones_join_the_joints_of_the_layout(one: np.ndarray) -> None:
    figure = plots.skeleton(one, softmax(JOINTS), "kinect-v2", frame=3)
    (axes,) = bodies_of(figure)
    points = project(one[None].astype(float), LAYOUT, 25.0, "scene").points[0, 3]
    (bones,) = bones_of(axes)
    drawn = {frozenset(map(tuple, segment)) for segment in bones.get_segments()}
    assert drawn == {frozenset(map(tuple, points[list(bone)])) for bone in LAYOUT.bones}
    assert len(bones.get_segments()) == 24


def test_joints_that_are_not_there_are_not_drawn(one: np.ndarray) -> None:
    elbow = LAYOUT.joints.index("left elbow")
    torn = one.copy()
    torn[5, elbow] = 0
    figure = plots.skeleton(torn, softmax(JOINTS), LAYOUT, frame=[5, 6])
    torn_axes, whole_axes = bodies_of(figure)
    assert [len(discs_of(axes)[0].get_offsets()) for axes in (torn_axes, whole_axes)] == [24, 25]
    assert [len(bones_of(axes)[0].get_segments()) for axes in (torn_axes, whole_axes)] == [22, 24]


def test_a_person_who_is_not_there_is_not_drawn(one: np.ndarray) -> None:
    people = np.stack([one, np.zeros_like(one)])
    weights = np.stack([softmax(1, JOINTS), np.zeros((1, JOINTS))])
    figure = plots.skeleton(people, weights, LAYOUT, frame=0)
    alone = plots.skeleton(one, weights[0], LAYOUT, frame=0)
    (first,), (second,) = (discs_of(bodies_of(each)[0]) for each in (figure, alone))
    np.testing.assert_array_equal(first.get_offsets(), second.get_offsets())


def test_everybody_is_seen_from_the_front_and_upright() -> None:
    right, left = LAYOUT.shoulders
    head, foot = LAYOUT.joints.index("head"), LAYOUT.joints.index("left foot")
    for recording in generate(4, 2, 3, persons=1).recordings:
        points = project(recording.positions.astype(float), LAYOUT, 0, "scene").points[0]
        middle = points.mean(0)
        assert middle[left, 0] - middle[right, 0] > 0.2
        assert middle[head, 1] - middle[foot, 1] > 1


def test_a_turn_shows_what_moves_in_depth(one: np.ndarray) -> None:
    """Distances on paper at all turns together are the distances in space."""
    front, side = (project(one[None].astype(float), LAYOUT, turn, "scene").points[0]
                   for turn in (0, 90))  # fmt: skip
    squares = np.diff(front[..., 0], axis=0) ** 2 + (np.diff(side, axis=0) ** 2).sum(-1)
    np.testing.assert_allclose(squares, (np.diff(one, axis=0) ** 2).sum(-1), atol=1e-7)


def test_coordinates_of_pictures_are_drawn_with_up_turned_up() -> None:
    positions = np.random.default_rng(0).uniform(1, 9, (3, 17, 2))
    points = project(positions[None], LAYOUTS["coco"], 25, "scene").points[0]
    np.testing.assert_array_equal(points, positions * [1, -1])


def test_the_first_person_of_a_scene_is_on_the_left(two: np.ndarray) -> None:
    for people in (two, two[::-1]):
        points = project(people.astype(float), LAYOUT, 25, "scene").points
        assert points[0, ..., 0].mean() < points[1, ..., 0].mean()
    apart = project(two.astype(float), LAYOUT, 25, "apart").points
    assert apart[0, ..., 0].max() < apart[1, ..., 0].min()


def test_weights_of_two_people_go_to_their_own_bodies(two: np.ndarray) -> None:
    weights = softmax(2, 3, JOINTS)
    figure = plots.skeleton(two, weights, LAYOUT, frame=4)
    (axes,) = bodies_of(figure)
    assert len(bones_of(axes)) == len(discs_of(axes)) == 2
    points = project(two.astype(float), LAYOUT, 25, "scene").points[:, 4]
    for person, discs in enumerate(discs_of(axes)):
        order = np.argsort(weights[person].mean(0), kind="stable")
        np.testing.assert_allclose(discs.get_offsets(), points[person][order])
        np.testing.assert_allclose(
            discs.get_array(), weights[person].mean(0)[order] * JOINTS, rtol=1e-9
        )


def test_groups_are_averaged_unless_one_is_asked_for(one: np.ndarray) -> None:
    weights = softmax(3, JOINTS)
    for group, wanted in ((None, weights.mean(0)), (2, weights[2])):
        (axes,) = bodies_of(plots.skeleton(one, weights, LAYOUT, frame=0, group=group))
        np.testing.assert_allclose(np.sort(discs_of(axes)[0].get_array()),
                                   np.sort(wanted * JOINTS))  # fmt: skip


def test_key_frames_are_the_heaviest_ones_in_order_of_time(one: np.ndarray) -> None:
    weights = np.full(FRAMES, 0.1)
    weights[[5, 6, 20, 33]] = [3, 2.9, 2, 4]
    assert key_frames(weights, 3) == [5, 20, 33]
    assert key_frames(weights, 1) == [33]
    assert key_frames(np.ones(10), 2) == [2, 7]
    assert key_frames(np.array([1.0, 1, 1, 1, 0, 0]), 2) == [1, 3]
    assert key_frames(np.ones(3), 5) == [0, 1, 2]
    figure = plots.skeleton(one, softmax(JOINTS), LAYOUT, frame_weights=weights, count=3)
    titles = [axes.get_title() for axes in bodies_of(figure)]
    share = weights * FRAMES / weights.sum()
    assert titles == [f"frame {each}\nweight {share[each]:.2g}" for each in (5, 20, 33)]
    seconds = plots.skeleton(one, softmax(JOINTS), LAYOUT, frame=[-1, 3], rate=10)
    assert [axes.get_title() for axes in bodies_of(seconds)] == ["3.90 s", "0.30 s"]


def test_a_timeline_is_the_weights_over_uniform_ones() -> None:
    weights = softmax(2, FRAMES)
    (axes,) = plots.timeline(weights, rate=20).axes
    curve, level = axes.get_lines()
    np.testing.assert_allclose(curve.get_ydata(), weights.mean(0) * FRAMES)
    np.testing.assert_allclose(curve.get_xdata(), np.arange(FRAMES) / 20)
    assert set(level.get_ydata()) == {1}
    assert axes.get_xlabel() == "time (s)"
    assert axes.get_ylabel() == "frame weight\n(× uniform)"


def test_a_timeline_ends_where_a_recording_does() -> None:
    weights = np.zeros((2, 1, FRAMES))
    weights[0, 0, :10], weights[1, 0, :25] = softmax(10), softmax(25)
    (axes,) = plots.timeline(weights, [10, 25]).axes
    first, second, _ = axes.get_lines()
    np.testing.assert_allclose(first.get_ydata(), weights[0, 0, :10] * 10)
    np.testing.assert_allclose(second.get_ydata(), weights[1, 0, :25] * 25)
    assert first.get_color() != second.get_color()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["person 1", "person 2"]
    assert axes.get_xlabel() == "frame"


def test_frames_are_shaded_run_by_run() -> None:
    shaded = np.zeros(FRAMES, bool)
    shaded[3:6] = shaded[39] = True
    (axes,) = plots.timeline(softmax(FRAMES), shaded=shaded).axes
    bands = [(band.get_x(), band.get_x() + band.get_width()) for band in axes.patches]
    assert bands == [(2.5, 5.5), (38.5, 39.5)]


def test_skeletons_stand_above_their_peaks(one: np.ndarray) -> None:
    weights = softmax(FRAMES)
    figure = plots.timeline(weights, positions=one, joint_weights=softmax(JOINTS),
                            layout=LAYOUT, count=3)  # fmt: skip
    figure.draw_without_rendering()
    (curve,) = by_label(figure, "frame weight\n(× uniform)")
    peaks = {(line.xy2[0], line.xy2[1]) for line in figure.artists}
    wanted = key_frames(weights, 3)
    assert peaks == {(frame, weights[frame] * FRAMES) for frame in wanted}
    bodies = bodies_of(figure)
    assert [axes.get_title() for axes in bodies] == [f"frame {each}" for each in wanted]
    assert min(axes.get_position().y0 for axes in bodies) > curve.get_position().y0


def test_tensors_are_taken_as_the_layer_gives_them(one: np.ndarray) -> None:
    weights = torch.softmax(torch.randn(4, JOINTS, requires_grad=True), -1)
    figure = plots.skeleton(torch.from_numpy(one).bfloat16(), weights, LAYOUT, frame=0)
    wanted = np.sort(weights.detach().mean(0).double().numpy() * JOINTS)
    np.testing.assert_allclose(discs_of(bodies_of(figure)[0])[0].get_array(), wanted, rtol=1e-5)


def test_weights_of_a_sigmoid_are_shown_relative_to_their_mean() -> None:
    weights = np.random.default_rng(0).uniform(size=FRAMES)
    (axes,) = plots.timeline(weights).axes
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), weights / weights.mean())


def test_no_global_state_is_touched(one: np.ndarray) -> None:
    before = dict(matplotlib.rcParams)
    plots.skeleton(one, softmax(JOINTS), LAYOUT)
    plots.timeline(softmax(FRAMES))
    assert not _pylab_helpers.Gcf.figs
    assert dict(matplotlib.rcParams) == before
