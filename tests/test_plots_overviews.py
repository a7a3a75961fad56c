"""Maps, overviews, clips and confusion show the numbers that they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from drawn import FRAMES, JOINTS, LAYOUT, bodies_of, by_label, discs_of, softmax

from csta_fast import plots
from csta_fast.data import generate


@pytest.fixture(scope="module")
def one() -> np.ndarray:
    """(T, V, D) of one person who waves the left hand."""
    return generate(2, 1, 1, frames=(FRAMES, FRAMES), persons=1).recordings[1].positions[0]


@pytest.fixture(scope="module")
def two() -> np.ndarray:
    """(2, T, V, D) of two people."""
    return generate(10, 1, 1, frames=(FRAMES, FRAMES)).recordings[8].positions


def test_the_map_is_the_outer_product_of_both_weights() -> None:
    frames, joints = softmax(FRAMES), softmax(JOINTS, seed=1)
    figure = plots.attention_map(frames, joints, LAYOUT)
    (axes,) = [each for each in figure.axes if each.images]
    image = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(image, np.outer(joints, frames) * FRAMES * JOINTS)
    assert tuple(text.get_text() for text in axes.get_yticklabels()) == LAYOUT.joints
    assert axes.yaxis_inverted()
    assert axes.get_xlabel() == "frame"
    (bars,) = by_label(figure, "joint weight\n(× uniform)")
    widths = [bar.get_width() for bar in bars.containers[0]]
    np.testing.assert_allclose(widths, joints * JOINTS)
    np.testing.assert_allclose(image.mean(1), widths)
    (curve,) = by_label(figure, "frame weight\n(× uniform)")
    np.testing.assert_allclose(curve.get_lines()[0].get_ydata(), image.mean(0))


def test_the_map_of_groups_is_the_mean_of_their_products() -> None:
    frames, joints = softmax(2, 3, FRAMES), softmax(2, 3, JOINTS, seed=1)
    frames[1, :, 30:] = 0
    figure = plots.attention_map(frames, joints, LAYOUT, lengths=[FRAMES, 30])
    images = [np.asarray(axes.images[0].get_array().filled(np.nan))
              for axes in figure.axes if axes.images]  # fmt: skip
    assert len(images) == 2
    for person, (image, real) in enumerate(zip(images, (FRAMES, 30), strict=True)):
        share = frames[person] / frames[person].sum(-1, keepdims=True)
        products = [np.outer(b, a) for a, b in zip(share, joints[person], strict=True)]
        wanted = np.mean(products, axis=0) * real * JOINTS
        np.testing.assert_allclose(image[:, :real], wanted[:, :real])
        assert np.isnan(image[:, real:]).all()


def test_an_overview_holds_all_three(one: np.ndarray, two: np.ndarray) -> None:
    frames, joints = softmax(2, FRAMES), softmax(2, JOINTS, seed=1)
    figure = plots.overview(one, frames, joints, LAYOUT, count=3, title="a title")
    assert len(bodies_of(figure)) == len(figure.artists) == 3
    assert len([axes for axes in figure.axes if axes.images]) == 1
    assert figure.get_suptitle() == "a title"
    pair = plots.overview(two, softmax(2, 1, FRAMES), softmax(2, 1, JOINTS), LAYOUT)
    assert len([axes for axes in pair.axes if axes.images]) == 2


def test_an_overview_leaves_out_who_is_not_there(one: np.ndarray) -> None:
    people = np.stack([np.zeros_like(one), one])
    frames, joints = np.zeros((2, 1, FRAMES)), np.zeros((2, 1, JOINTS))
    frames[1], joints[1] = softmax(FRAMES), softmax(JOINTS)
    figure = plots.overview(people, frames, joints, LAYOUT)
    (axes,) = [each for each in figure.axes if each.images]
    wanted = np.outer(joints[1], frames[1]) * FRAMES * JOINTS
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), wanted)


def test_classes_are_averaged_over_their_recordings() -> None:
    recordings = generate(3, 2, 1, persons=1).recordings
    frames = [softmax(1, 1, each.positions.shape[1], seed=row)
              for row, each in enumerate(recordings)]  # fmt: skip
    joints = [softmax(1, 1, JOINTS, seed=row) for row in range(len(recordings))]
    labels = [2 * (each.label > 0) for each in recordings]
    figure = plots.class_overview([each.positions for each in recordings], frames, joints, labels,
                                  LAYOUT, ["first", "nobody's", "rest"])  # fmt: skip
    bodies = bodies_of(figure)
    assert [axes.get_title() for axes in bodies] == ["first", "rest"]
    for axes, label in zip(bodies, (0, 2), strict=True):
        mean = np.mean([joint[0, 0] for joint, each in zip(joints, labels, strict=True)
                        if each == label], axis=0)  # fmt: skip
        np.testing.assert_allclose(discs_of(axes)[0].get_array(), np.sort(mean) * JOINTS)
        order = np.argsort(-mean)[:3]
        names = "\n".join(LAYOUT.joints[joint] for joint in order)
        assert names in [other.get_title() for other in figure.axes]
    curves = [axes for axes in figure.axes if axes.get_xlabel() == "time (%)"]
    x, y = curves[0].get_lines()[0].get_data()
    ends = [frames[row][0, 0, [0, -1]] * frames[row].size for row, label in enumerate(labels)
            if label == 0]  # fmt: skip
    np.testing.assert_allclose(y[[0, -1]], np.mean(ends, axis=0))
    assert (x[0], x[-1]) == (0, 100)


def test_a_clip_has_a_picture_for_every_real_frame(tmp_path: Path, two: np.ndarray) -> None:
    image = pytest.importorskip("PIL.Image")
    frames = np.zeros((2, 1, FRAMES))
    frames[:, :, :6] = softmax(2, 1, 6)
    path = plots.clip(tmp_path / "clip.gif", two, frames, softmax(2, 1, JOINTS), LAYOUT,
                      lengths=6, rate=10, height=2, dpi=60)  # fmt: skip
    with image.open(path) as pictures:
        assert pictures.n_frames == 6
        shown = []
        for frame in range(6):
            pictures.seek(frame)
            assert pictures.info["duration"] == 100
            shown.append(pictures.convert("RGB").tobytes())
        assert len(set(shown)) == 6


def test_confusion_is_in_percent_of_the_true_class() -> None:
    counts = np.array([[6, 2, 0], [0, 0, 0], [1, 0, 3]])
    figure = plots.confusion(counts, ["a", "b", "c"])
    axes = figure.axes[0]
    image = axes.images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(image, [[75, 25, np.nan], [np.nan] * 3, [25, np.nan, 75]])
    written = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert written == {((0, 0), "75"), ((1, 0), "25"), ((0, 2), "25"), ((2, 2), "75")}
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a (8)", "b (0)", "c (4)"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class (recordings)")
    assert axes.get_title() == "accuracy 75.0 %"
    with pytest.raises(ValueError, match=r"matrix: wanted \(K, K\) with the K = 2 classes, got"):
        plots.confusion(counts, ["a", "b"])
