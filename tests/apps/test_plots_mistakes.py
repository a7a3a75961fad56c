"""Pictures refuse what they cannot draw, and say why."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from csta_fast import plots
from csta_fast.data import LAYOUTS

_LAYOUT = LAYOUTS["kinect-v2"]
_FRAMES, _JOINTS = 40, 25


@pytest.fixture
def one() -> np.ndarray:
    """(T, V, D) of one person."""
    return np.random.default_rng(0).normal(size=(_FRAMES, _JOINTS, 3))


def _softmax(*shape: int) -> np.ndarray:
    weights = np.exp(np.random.default_rng(0).normal(size=shape))
    return weights / weights.sum(-1, keepdims=True)


def _bad(values: np.ndarray, value: float) -> np.ndarray:
    values = values.copy()
    values.flat[3] = value
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "kinect"}, "layout: wanted a Layout or one of kinect-v2, .*, got 'kinect'"),
        ({"layout": "coco"}, r"positions: wanted .* V = 17 joints of coco .*, got \(40, 25, 3\)"),
        ({"positions": np.ones((40, 25, 4))}, r"positions: wanted .* D = 2 or 3, got"),
        ({"positions": np.full((40, 25, 3), np.nan)}, r"positions: wanted finite .* \(0, 0, 0\)"),
        ({"joint_weights": _softmax(24)}, r"joint_weights: wanted .* with V = 25, got \(24,\)"),
        ({"joint_weights": _bad(_softmax(25), -0.1)}, r"at least 0, got -0.1 at \(3,\)"),
        ({"joint_weights": _bad(_softmax(25), np.inf)}, r"at least 0, got inf at \(3,\)"),
        ({"joint_weights": np.zeros(25)}, "joint_weights: wanted some weight above 0"),
        ({"joint_weights": _softmax(2, 1, 25)}, r"joint_weights: wanted .*, got \(2, 1, 25\)"),
        ({"frame_weights": _softmax(39)}, r"frame_weights: wanted .* with T = 40, got \(39,\)"),
        ({"frame_weights": "heavy"}, "frame_weights: wanted an array of numbers, got str"),
        ({"lengths": 41}, "lengths: wanted integers from 1 to T = 40, got 41"),
        ({"lengths": [3, 4]}, r"lengths: wanted an integer or \(M,\) = \(1,\)"),
        ({"lengths": 30}, r"frame_weights: wanted 0 beyond lengths = \[30\]"),
        ({"group": 1}, "group: wanted 0 to 0, got 1"),
        ({"frame": 40}, "frame: wanted -40 to 39, one or several, got 40"),
        ({"frame": []}, "frame: wanted -40 to 39"),
        ({"count": 0}, "count: wanted at least 1, got 0"),
        ({"persons": "far"}, "persons: wanted 'scene' or 'apart', got 'far'"),
        ({"turn": np.nan}, "turn: wanted degrees, got nan"),
        ({"rate": -1}, "rate: wanted frames a second, above 0, got -1"),
    ],
)
def test_mistakes_are_named(change: dict, message: str, one: np.ndarray) -> None:
    given = {"positions": one, "joint_weights": _softmax(25), "layout": _LAYOUT,
             "frame_weights": _softmax(40)}  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=message):
        plots.skeleton(**(given | change))


def test_other_mistakes_are_named(one: np.ndarray) -> None:
    with pytest.raises(ValueError, match="wanted all three or none"):
        plots.timeline(_softmax(_FRAMES), positions=one)
    with pytest.raises(ValueError, match=r"shaded: wanted \(T,\) = \(40,\), got \(39,\)"):
        plots.timeline(_softmax(_FRAMES), shaded=np.ones(39))
    with pytest.raises(ValueError, match="as many groups G as frame_weights, got 3 beside 2"):
        plots.attention_map(_softmax(2, _FRAMES), _softmax(3, _JOINTS), _LAYOUT)
    given = ([one], [_softmax(_FRAMES)], [_softmax(_JOINTS)])
    with pytest.raises(ValueError, match="labels: wanted 0 to 1, got 2"):
        plots.class_overview(*given, [2], _LAYOUT, ["a", "b"])
    with pytest.raises(ValueError, match="one of each for every recording, got 1, 1, 1 and 2"):
        plots.class_overview(*given, [0, 1], _LAYOUT, ["a", "b"])
    with pytest.raises(ValueError, match="wanted D = 3"):
        plots.skeleton(np.ones((4, 25, 2)), _softmax(_JOINTS), replace(_LAYOUT, up=(2, 1)))


def test_a_clip_says_what_it_can_write(tmp_path: Path, one: np.ndarray) -> None:
    given = (one, _softmax(_FRAMES), _softmax(_JOINTS), _LAYOUT)
    with pytest.raises(ValueError, match=r"path: wanted a name that ends in .gif or .mp4"):
        plots.clip(tmp_path / "clip.avi", *given)
    with pytest.raises(ValueError, match="rate: wanted frames a second, above 0, got 0"):
        plots.clip(tmp_path / "clip.gif", *given, rate=0)


def test_without_matplotlib_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("csta_fast.plots")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'csta_fast\[plot\]'"):
        importlib.import_module("csta_fast.plots")
