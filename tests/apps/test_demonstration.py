"""The first demonstration convinces: what is generated can be told apart, and is learnt."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from csta_fast.data import LAYOUTS, Clips, Performance, generate
from csta_fast.data.actions import ACTIONS
from csta_fast.data.transforms import normalise, resize


def test_what_people_do_besides_leaves_the_limbs_of_the_action_alone() -> None:
    """Before and after the action, an acting arm only sways: its elbow stays as it is."""
    exact = generate(3, subjects=5, repetitions=3, noise=0)
    joints = exact.layout.joints
    shoulder, elbow, wrist = (
        joints.index(f"right {end}") for end in ("shoulder", "elbow", "wrist")
    )
    label = exact.classes.index("raise the right arm")
    for each in exact.recordings:
        if isinstance(each, Performance) and each.label == label:
            body = each.positions[0, ~each.truth.frames]
            span = np.linalg.norm(body[:, wrist] - body[:, shoulder], axis=-1)
            assert np.ptp(span) < 0.02  # metres; a distraction bends it by 0.1
            assert np.linalg.norm(body[:, elbow] - body[:, shoulder], axis=-1).min() > 0.2


def _movements(performance: Performance) -> list[np.ndarray]:
    """Of everybody: how joints move over the action, as seen from the body's front."""
    during = performance.positions[:, performance.truth.frames]
    clips = (resize(normalise(each[None], LAYOUTS["kinect-v2"], "aligned"), 24) for each in during)
    return [np.diff(clip[0], axis=0) for clip in clips]


def _distance(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Of two recordings, in whichever order their people come; infinite for other numbers."""
    if len(first) != len(second):
        return np.inf
    return min(
        sum(float(((a - b) ** 2).sum()) for a, b in zip(first, order, strict=True))
        for order in permutations(second)
    )


def test_every_class_can_be_told_from_every_other_under_the_noise() -> None:
    """By the nearest recording of other people: no network and nothing learnt."""
    train, test = generate(len(ACTIONS), subjects=6, repetitions=2, seed=3).split()
    known = [(_movements(each), each.label) for each in train if isinstance(each, Performance)]
    for each in test:
        assert isinstance(each, Performance)
        seen = _movements(each)
        nearest = min(known, key=lambda one: _distance(seen, one[0]))
        assert nearest[1] == each.label, each.name


def _inside_and_outside(weights: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The mean weight, relative to uniform, of what tells the action and of the rest."""
    relative = weights * weights.size / weights.sum()
    return float(relative[truth].mean()), float(relative[~truth].mean())


def contrasts(checkpoint: Path) -> dict[str, tuple[float, float]]:
    """Mean weights of telling and other frames and joints, over the test recordings."""
    from csta_fast.training import load
    from csta_fast.training.pictures import attend

    trained, collection = load(checkpoint), generate()
    test = collection.split().test
    clips = Clips(test, collection.layout, trained.options.clips, persons=2)
    frames, joints = [], []
    for found in attend(trained, clips, list(range(len(test)))):
        assert isinstance(found.recording, Performance)
        assert found.shaded is not None
        for person, telling in enumerate(found.recording.truth.joints):
            frames.append(_inside_and_outside(found.frames[person].mean(0), found.shaded))
            if telling.any() and not telling.all():
                joints.append(_inside_and_outside(found.joints[person].mean(0), telling))
    of_frames, of_joints = (tuple(np.mean(each, axis=0)) for each in (frames, joints))
    return {"frames": of_frames, "joints": of_joints}


@pytest.mark.slow
def test_the_command_of_the_readme_convinces(tmp_path: Path) -> None:
    """`csta-fast train` as it stands there: accuracy, and attention where the action is."""
    pytest.importorskip("lightning")
    from csta_fast.training import Options, train

    outcome = train(Options(), tmp_path)
    assert outcome.figures["top1"] > 0.9
    assert (outcome.confusion.diagonal() > 0).all()
    for telling, other in contrasts(outcome.checkpoint).values():
        assert telling > 1 > other
