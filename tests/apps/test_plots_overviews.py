"""Maps, overviews, clips and confusion show the numbers that they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from drawn import FRAMES, JOINTS, LAYOUT, bodies_of, by_label, discs_of, softmax
from matplotlib.figure import Figure

from csta_fast import plots
from csta_fast.data import generate
from csta_fast.plots import clips


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
    curves = [axes for axes in figure.axes if axes.get_xlabel() == "time (% of the recording)"]
    x, y = curves[0].get_lines()[0].get_data()
    ends = [frames[row][0, 0, [0, -1]] * frames[row].size for row, label in enumerate(labels)
            if label == 0]  # fmt: skip
    np.testing.assert_allclose(y[[0, -1]], np.mean(ends, axis=0))
    assert (x[0], x[-1]) == (0, 100)


def _classes(**more: object) -> tuple[Figure, np.ndarray]:
    """Six recordings of two classes, all of one length, and their joint weights."""
    recordings = generate(2, 3, 1, frames=(FRAMES, FRAMES), persons=1).recordings
    joints = 1 + 0.2 * np.random.default_rng(0).uniform(size=(6, 1, JOINTS))
    return plots.class_overview([each.positions for each in recordings], softmax(6, 1, FRAMES),
                                joints, [each.label for each in recordings], LAYOUT,
                                ["left", "right"], **more), joints  # fmt: skip


def test_classes_explain_themselves() -> None:
    figure, _ = _classes(title="of the motion stream")
    assert figure.get_suptitle() == "of the motion stream"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "mean of the recordings", "middle half of them", "uniform weights",
    ]  # fmt: skip
    said = " ".join(legend.get_title().get_text().split())
    assert "The three joints that weigh most are named." in said
    figure.draw_without_rendering()
    lowest = min(axes.get_tightbbox().y0 for axes in figure.axes)
    assert legend.get_window_extent().y1 <= lowest
    assert legend.get_window_extent().x0 >= 0


@pytest.mark.parametrize(
    ("rate", "label", "last"), [(None, "frame", FRAMES - 1), (20.0, "time (s)", (FRAMES - 1) / 20)]
)
def test_classes_of_recordings_of_one_length_have_the_axis_of_every_picture(
    rate: float | None, label: str, last: float
) -> None:
    figure, _ = _classes(rate=rate)
    curves = by_label(figure, label)
    assert len(curves) == 2
    assert curves[0].get_lines()[0].get_xdata()[-1] == last


def test_colours_spread_over_the_weights_that_occur() -> None:
    figure, joints = _classes()
    norms = [discs_of(axes)[0].norm for axes in bodies_of(figure)]
    relative = joints[:, 0] * JOINTS / joints.sum(-1)
    means = [relative[:3].mean(0), relative[3:].mean(0)]
    for norm in norms:
        assert norm.vmin == pytest.approx(min(np.min(means), 0.95))
        assert norm.vmax == pytest.approx(max(np.max(means), 1.05))
    uniform = plots.skeleton(np.ones((1, JOINTS, 3)), np.ones(JOINTS), LAYOUT)
    (norm,) = [discs_of(axes)[0].norm for axes in bodies_of(uniform)]
    assert (norm.vmin, norm.vmax) == (0.95, 1.05)


def test_who_is_not_there_takes_no_colours(one: np.ndarray) -> None:
    people = np.stack([np.zeros_like(one), one])
    joints = np.stack([np.zeros((1, JOINTS)), softmax(1, JOINTS)])
    (axes,) = bodies_of(plots.skeleton(people, joints, LAYOUT, frame=0))
    assert discs_of(axes)[0].norm.vmin == pytest.approx(JOINTS * joints[1].min())


@pytest.mark.parametrize(("rate", "label", "fps"), [(None, "frame", 15), (10.0, "time (s)", 10)])
def test_a_clip_has_a_title_and_the_axis_of_every_picture(
    rate: float | None, label: str, fps: float, tmp_path: Path, one: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    image = pytest.importorskip("PIL.Image")
    stages: list[clips._Stage] = []

    class Kept(clips._Stage):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            stages.append(self)

    monkeypatch.setattr(clips, "_Stage", Kept)
    path = plots.clip(tmp_path / "clip.gif", one[:3], softmax(3), softmax(JOINTS), LAYOUT,
                      rate=rate, title="a title\nof two lines", height=2, dpi=60)  # fmt: skip
    (stage,) = stages
    assert stage.figure.get_suptitle() == "a title\nof two lines"
    assert by_label(stage.figure, label)
    with image.open(path) as pictures:
        assert pictures.info["duration"] == pytest.approx(1000 / fps, abs=10)


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
