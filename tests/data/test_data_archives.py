"""CTR-GCN's archives, and our own prepared file."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import marked, msr_action3d, read, write

from csta_fast.data import LAYOUTS, Collection, Recording


def _ctr_gcn(path: Path, **changes: Any) -> Path:
    x_train = np.zeros((2, 6, 150), np.float32)
    x_train[0, 1:4] = marked(3, 150)
    x_train[1, :6, :75] = marked(6, 75, first=600)
    labels = np.eye(60, dtype=np.float32)
    arrays = {
        "x_train": x_train,
        "y_train": labels[[59, 3]],
        "x_test": x_train[:1],
        "y_test": labels[[7]],
    }
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_ctr_gcn(tmp_path: Path) -> None:
    found = read(_ctr_gcn(tmp_path / "NTU60_CV.npz"))
    assert found.name == "ctr-gcn"
    assert [recording.name for recording in found.recordings] == [
        "test_00000",
        "train_00000",
        "train_00001",
    ]
    _, two, one = found.recordings
    # Persons are the outermost of 150 columns, then joints, then coordinates.
    # The frame before, in which nobody is seen, is no padding: it is counted.
    seen = marked(3, 150)
    assert two.positions.shape == (2, 3, 25, 3)
    np.testing.assert_array_equal(two.positions[0].reshape(3, 75), seen[:, :75])
    np.testing.assert_array_equal(two.positions[1].reshape(3, 75), seen[:, 75:])
    assert found.trimmed == dict.fromkeys(("test_00000", "train_00000"), "1 frame without a person")
    np.testing.assert_array_equal(one.positions[0].reshape(6, 75), marked(6, 75, first=600))
    assert one.positions.shape[0] == 1
    assert [recording.label for recording in found.recordings] == [7, 59, 3]
    assert found.classes[59] == "walk apart"
    assert list(found.protocols) == ["cross-view"]
    assert [recording.name for recording in found.split().test] == ["test_00000"]
    assert len(found.split().train) == 2


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("NTU60_CS", "cross-subject"), ("NTU120_CSub", "cross-subject"),
     ("NTU120_CSet", "cross-setup"), ("mine", "given")],
)  # fmt: skip
def test_ctr_gcn_protocols(tmp_path: Path, name: str, protocol: str) -> None:
    assert list(read(_ctr_gcn(tmp_path / f"{name}.npz")).protocols) == [protocol]


def test_ctr_gcn_skips_samples(tmp_path: Path) -> None:
    x, y = np.stack([marked(4, 150)] * 5), np.eye(120)[:5]
    x[0] = 0
    x[1, 2, 3] = np.inf
    y[2, 8] = 1
    y[3] = 0
    found = read(_ctr_gcn(tmp_path / "x.npz", x_train=x, y_train=y, y_test=np.eye(120)[:1]))
    assert {name: reason.split(",")[0] for name, reason in found.skipped.items()} == {
        "train_00000": "no joint was tracked: all positions are 0",
        "train_00001": "wanted finite positions",
        "train_00002": "wanted a label with a single 1",
        "train_00003": "wanted a label with a single 1",
    }
    assert len(found.classes) == 120
    assert len(found.recordings) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"y_test": None}, "y_test"),
        ({"x_test": None}, "x_test"),
        ({"y_train": np.eye(60)[:1]}, "x_train has 2 rows for 1 labels"),
        ({"y_train": np.arange(2)}, "one-hot"),
        ({"y_train": np.eye(61)[:2]}, "one-hot labels of the same classes"),
        ({"x_train": np.array([None, 1])}, "rows of numbers, got object"),
        ({"y_train": np.array([None, 1])}, "Object arrays cannot be loaded"),
        ({"x_train": np.asfortranarray(np.ones((2, 3, 150)))}, "rows of numbers"),
    ],
)
def test_ctr_gcn_refuses_other_arrays(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = _ctr_gcn(tmp_path / "x.npz", **changes)
    with pytest.raises(ValueError, match=rf"^path: wanted an archive of CTR-GCN.*{reason}"):
        read(path, "ctr-gcn")


def test_ctr_gcn_wants_all_columns(tmp_path: Path) -> None:
    path = _ctr_gcn(tmp_path / "x.npz", x_train=marked(2, 3, 225), x_test=marked(1, 3, 225))
    with pytest.raises(ValueError, match=r"all 3 were skipped.*wanted rows \(frames, 150\)"):
        read(path)


@pytest.mark.parametrize("kept", [0, 10, 1000, -30])
@pytest.mark.parametrize("kind", ["ctr-gcn", "csta-fast"])
def test_truncated_archives_are_refused(tmp_path: Path, kind: str, kept: int) -> None:
    path = _ctr_gcn(tmp_path / "x.npz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"^path: wanted .*, got {path}"):
        read(path, kind)


def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = _ctr_gcn(tmp_path / "x.npz")
    held = bytearray(path.read_bytes())
    held[held.index(marked(1).tobytes()) + 1] ^= 1
    path.write_bytes(held)
    with pytest.raises(ValueError, match=r"^path: wanted .*CRC"):
        read(path)


def _collection(**changes: Any) -> Collection:
    recordings = [
        Recording("a", marked(2, 3, 25, 3), 1, 4, None, 6, 0),
        Recording("b é", marked(1, 5, 25, 3, first=900), 0, None, 2),
        Recording("c", marked(1, 1, 25, 3, first=90), 1),
    ]
    parts = {
        "name": "ntu60",
        "recordings": recordings,
        "layout": LAYOUTS["kinect-v2"],
        "classes": ("sit", "stånd"),
        "protocols": {
            "label": lambda recording: recording.label == 1,
            "setup": lambda recording: None if recording.setup is None else False,
        },
        "skipped": {"d": "it is empty"},
        "trimmed": {"a": "1 frame"},
    }
    return Collection(**{**parts, **changes})  # type: ignore[arg-type]


def _same(one: Collection, other: Collection) -> bool:
    for left, right in zip(one.recordings, other.recordings, strict=True):
        np.testing.assert_array_equal(left.positions, right.positions)
        assert left.positions.shape == right.positions.shape
        assert right.positions.dtype == np.float32
        numbers = ("name", "label", "subject", "camera", "setup", "view")
        assert all(getattr(left, key) == getattr(right, key) for key in numbers)
    for name, protocol in one.protocols.items():
        again = other.protocols[name]
        assert [protocol(r) for r in one.recordings] == [again(r) for r in other.recordings]
    parts = ("name", "layout", "classes", "skipped", "trimmed")
    assert list(one.protocols) == list(other.protocols)
    return all(getattr(one, part) == getattr(other, part) for part in parts)


def test_prepared(tmp_path: Path) -> None:
    collection = _collection()
    collection.save(tmp_path / "all.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["all.npz"]
    again = read(tmp_path / "all.npz")
    assert _same(collection, again)
    assert _same(collection, read(tmp_path, "csta-fast"))
    assert [recording.name for recording in again.split("label").train] == ["a", "c"]
    assert again.protocols["label"](Recording("z", marked(1, 1, 25, 3), 1)) is None
    again.save(tmp_path / "all.npz")  # over itself
    assert _same(collection, read(tmp_path / "all.npz"))
    pickle.dumps(again.protocols)  # as workers want them


def test_prepared_of_nothing(tmp_path: Path) -> None:
    collection = _collection(recordings=[])
    collection.save(tmp_path / "none.npz")
    assert _same(collection, read(tmp_path / "none.npz"))


def test_prepared_keeps_a_data_set(tmp_path: Path) -> None:
    names = ["a02_s01_e01", "a02_s02_e01", "a07_s01_e01", "a07_s02_e02"]
    text = {f"{name}_skeleton3D.txt": msr_action3d(marked(2, 20, 3)) for name in names}
    collection = read(write(tmp_path / "data", text))
    collection.save(tmp_path / "all.npz")
    assert _same(collection, read(tmp_path / "all.npz"))
    assert [r.name for r in read(tmp_path / "all.npz").split("as1").test] == ["a02_s02_e01"]


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path: wanted a name that ends in \.npz"):
        _collection().save(tmp_path / "all.npy")
    other = replace(LAYOUTS["kinect-v2"], name="mine")
    with pytest.raises(ValueError, match=r"^layout: wanted one of kinect-v2, .*, got 'mine'"):
        _collection(layout=other).save(tmp_path / "all.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("csta_fast", np.array(2), "version 2"),
        ("positions", marked(3), "parts do not fit"),
        ("positions", None, "positions"),
        ("numbers", np.zeros((2, 5), np.int64), "parts do not fit"),
        ("sides", np.zeros((2, 2), np.int8), "parts do not fit"),
        ("sides", np.zeros((3, 3), np.int8), "parts do not fit"),
        ("shapes", np.full((3, 4), -1), "parts do not fit"),
        ("shapes", np.ones(3, np.int64), "parts do not fit"),
        ("numbers", np.zeros(3, np.int64), "parts do not fit"),
        ("text", np.frombuffer(b"{", np.uint8), "property name"),
        ("text", np.frombuffer(b"{}", np.uint8), "names"),
        ("text", np.frombuffer(b"[]", np.uint8), "text is no object"),
    ],
)
def test_prepared_parts_must_fit(
    tmp_path: Path, key: str, value: np.ndarray[Any, Any] | None, reason: str
) -> None:
    path = tmp_path / "all.npz"
    _collection().save(path)
    arrays = {**np.load(path)}
    arrays[key] = value
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=rf"^path: wanted a file that Collection\.save.*{reason}"):
        read(path, "csta-fast")


def test_prepared_holds_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "all.npz"
    _collection().save(path)
    arrays = {**np.load(path)}
    arrays["positions"][7] = np.nan
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="not finite"):
        read(path)


def test_prepared_is_plain(tmp_path: Path) -> None:
    """Any reader of .npz and JSON can use it."""
    path = tmp_path / "all.npz"
    _collection().save(path)
    assert zipfile.ZipFile(path).testzip() is None
    arrays = {**np.load(path, allow_pickle=False)}
    assert json.loads(arrays["text"].tobytes())["names"] == ["a", "b é", "c"]
