"""Arrays of ST-GCN and 2s-AGCN."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import marked, read

_FIRST, _SECOND, _THIRD = "S001C001P001R001A003", "S001C002P001R002A051", "S002C001P003R002A060"


def _side(folder: Path, side: str, data: Any, labels: Any, ending: str = "data") -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{side}_{ending}.npy", data)
    (folder / f"{side}_label.pkl").write_bytes(pickle.dumps(labels))
    return folder


def _data(samples: int, frames: int = 4) -> np.ndarray[Any, Any]:
    """(N, 3, T, 25, 2): two frames of padding, and the second person in the first sample only."""
    data = marked(samples, 3, frames, 25, 2)
    data[:, :, 2:] = 0
    data[1:, ..., 1] = 0
    return data


def _folder(tmp_path: Path, name: str = "xview", ending: str = "data") -> Path:
    names = [f"{_FIRST}.skeleton", f"{_SECOND}.skeleton"]
    _side(tmp_path / name, "train", _data(2), (names, [2, 50]), ending)
    return _side(tmp_path / name, "val", _data(1), ([_THIRD], np.array([59])), ending)


@pytest.mark.parametrize("ending", ["data", "data_joint"])
def test_st_gcn(tmp_path: Path, ending: str) -> None:
    folder = _folder(tmp_path, ending=ending)
    np.save(folder / "train_data_bone.npy", _data(2))
    found = read(folder)
    assert (found.name, found.layout.name, len(found.classes)) == ("st-gcn", "kinect-v2", 60)
    one, two, three = found.recordings
    data = _data(2)
    assert one.positions.shape == (2, 2, 25, 3)
    np.testing.assert_array_equal(one.positions[1, 1, 7], data[0, :, 1, 7, 1])
    np.testing.assert_array_equal(one.positions, data[0, :, :2].transpose(3, 1, 2, 0))
    np.testing.assert_array_equal(two.positions, data[1, :, :2, :, :1].transpose(3, 1, 2, 0))
    assert (two.label, two.subject, two.camera, two.setup) == (50, 1, 2, 1)
    assert three.label == 59
    assert list(found.protocols) == ["cross-view"]
    assert found.split() == ([one, two], [three])


def test_one_side_or_another_folder(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "mine")
    assert list(read(folder).protocols) == ["given"]
    (folder / "val_data.npy").unlink()
    alone = read(folder)
    assert [recording.name for recording in alone.recordings] == [_FIRST, _SECOND]
    assert list(alone.protocols) == ["cross-subject", "cross-view"]


def test_one_split_at_a_time(tmp_path: Path) -> None:
    _folder(tmp_path, "xview")
    _folder(tmp_path, "xsub")
    with pytest.raises(ValueError, match=r"holds 2 files train_data\.npy: name one of the folders"):
        read(tmp_path)
    assert list(read(tmp_path / "xsub").protocols) == ["cross-subject"]


@pytest.mark.parametrize(
    ("data", "labels", "reason"),
    [
        (_data(3), (["a", "b"], [0, 1]), "train_data.npy has 3 rows for 2 labels"),
        (_data(1), (["a", "b"], [0, 1]), "train_data.npy has 1 rows for 2 labels"),
        (_data(2), (["a", "b"], [0]), "a list of names and one as long of labels"),
        (_data(2), (["a", "b"], [0, -1]), "a list of names and one as long of labels"),
        (_data(2), ["a", "b"], "a list of names and one as long of labels"),
        (_data(2), {"a": 1}, "a list of names and one as long of labels"),
        (_data(2)[:, :2], (["a", "b"], [0, 1]), "wanted .3, frames, 25 joints, persons."),
        (_data(2)[:, :, :, :18], (["a", "b"], [0, 1]), "wanted .3, frames, 25 joints, persons."),
        (_data(2) * 0, (["a", "b"], [0, 1]), "all 2 were skipped; a: no joint was tracked"),
        (np.array(None), (["a"], [0]), "rows of numbers, got object"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, data: Any, labels: Any, reason: str) -> None:
    folder = _side(tmp_path / "x", "train", data, labels)
    with pytest.raises(ValueError, match=rf"^path: wanted .*{reason}"):
        read(folder)


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    held = (folder / "train_data.npy").read_bytes()
    for kept in (0, 50, 1000, len(held) - 1):
        (folder / "train_data.npy").write_bytes(held[:kept])
        with pytest.raises(ValueError, match=rf"^path: wanted .*, got {folder}"):
            read(folder)
    (folder / "train_label.pkl").unlink()
    with pytest.raises(ValueError, match=r"has no train_label\.pkl"):
        read(folder)
