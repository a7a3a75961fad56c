"""NTU RGB+D: its text, its bodies, its missing samples and its official splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skeletons import marked, ntu, read, write

from csta_fast.data import Recording, ntu_samples
from csta_fast.data.tracks import persons

# Which performers came to which setup. Each did every action of that setup's version twice, before
# three cameras: that makes 56,880 samples of setups 1 to 17, and 114,480 of all.
_PERFORMERS = {
    1: "1-8", 2: "3 7-14", 3: "1 2 7 8 15-19", 4: "3 7 8 20", 5: "4 10 13 15-18 21",
    6: "1 7 8 15-17 19 22-24", 7: "1 7 8 15-19 25-28", 8: "1 7 8 15 19 25 29-36",
    9: "7 8 15-17 19 25", 10: "7 8 13 15-19 21 25", 11: "1 2 7 8 15-19 25 27 28 38",
    12: "7 8 15-19 25 27 28 37", 13: "7 8 15-19 25 27 28 37", 14: "7 8 15 17 19 25 27 37 39",
    15: "7 8 15-17 19 25 37", 16: "7 8 19 21 25 39 40", 17: "3 7-9 15-17 20", 18: "8 41-45",
    19: "8 41 42 46-51", 20: "8 41 43 44 52-54", 21: "55-60", 22: "61-67", 23: "55-68",
    24: "57 60-64 67", 25: "55 56 58 59 65 66 68", 26: "8 41 44 49-51 69-72 74-77",
    27: "6 8 11 41 43 44 78-86", 28: "8 41-43 46 48 70 73 87",
    29: "6 8 41 43 44 48 49 51 67 74 75 80 88-90",
    30: "8 11 41 43 44 48 67 75 76 81 85 88 91-96",
    31: "6 8 41-44 51 67 82 85 96-101", 32: "8 41 43 44 67 102-106",
}  # fmt: skip


def _published(version: ntu_samples.Version) -> list[Recording]:
    """Every sample that the authors publish with its skeleton, but for the positions."""
    nothing = np.zeros((1, 1, 25, 3), np.float32)
    found = []
    for setup, performers in _PERFORMERS.items():
        if version == "ntu60" and setup > 17:
            break
        for span in performers.split():
            first, _, last = span.partition("-")
            for performer in range(int(first), int(last or first) + 1):
                for number in range(3 * 2 * 60):
                    camera, take, action = number // 120 + 1, number // 60 % 2 + 1, number % 60
                    action += 1 if setup <= 17 else 61
                    name = f"S{setup:03}C{camera:03}P{performer:03}R{take:03}A{action:03}"
                    sample = ntu_samples.checked_sample(name, version)
                    assert sample == (setup, camera, performer, take, action)
                    found.append(Recording(name, nothing, action - 1, performer, camera, setup))
    return found


@pytest.mark.parametrize(
    ("version", "samples", "missing", "sides"),
    [
        (
            "ntu60",
            56_880,
            302,
            {"cross-subject": (40_091, 16_487), "cross-view": (37_646, 18_932)},
        ),
        (
            "ntu120",
            114_480,
            535,
            {"cross-subject": (63_026, 50_919), "cross-setup": (54_468, 59_477)},
        ),
    ],
)
def test_official_splits_count_as_published(
    version: ntu_samples.Version, samples: int, missing: int, sides: dict[str, tuple[int, int]]
) -> None:
    every = _published(version)
    assert len(every) == samples
    kept = [recording for recording in every if recording.name not in ntu_samples.missing()]
    assert samples - len(kept) == missing
    counted = {}
    for name, protocol in ntu_samples.PROTOCOLS[version].items():
        chosen = [protocol(recording) for recording in kept]
        counted[name] = (chosen.count(True), chosen.count(False))
    assert counted == sides


def test_lists() -> None:
    recordings = {s: Recording("x", marked(1, 1, 25, 3), 0, s) for s in range(1, 107)}
    train = {
        version: [s for s in recordings if protocols["cross-subject"](recordings[s])]
        for version, protocols in ntu_samples.PROTOCOLS.items()
    }
    assert (len(train["ntu60"]), sum(train["ntu60"])) == (20, 359)
    assert (len(train["ntu120"]), sum(train["ntu120"])) == (53, 2795)
    assert train["ntu120"][-6:] == [94, 95, 97, 98, 100, 103]
    assert len(ntu_samples.missing()) == 535
    assert {"S001C002P005R002A008", "S017C003P020R001A059", "S032C003P067R002A077"} <= (
        ntu_samples.missing()
    )
    assert len(set(ntu_samples.CLASSES["ntu120"])) == 120
    assert ntu_samples.CLASSES["ntu120"][:60] == ntu_samples.CLASSES["ntu60"]
    assert [ntu_samples.CLASSES["ntu120"][a - 1] for a in (1, 50, 60, 61, 80, 99, 120)] == [
        "drink water", "punch or slap someone", "walk apart", "put on headphones", "squat down",
        "run on the spot", "rock paper scissors",
    ]  # fmt: skip


def _scaled(frames: int, size: float) -> NDArray[np.float32]:
    return (marked(frames, 25, 3) * size).astype(np.float32)


def test_one_body(tmp_path: Path) -> None:
    joints = marked(3, 25, 3)
    text = ntu([[(7, joints[0])], [], [(7, joints[1])], [(7, joints[2])]])
    found = read(write(tmp_path, {"S001C002P003R002A013.skeleton": text}))
    assert found.name == "ntu60"
    (recording,) = found.recordings
    np.testing.assert_array_equal(recording.positions, joints[None])
    assert recording.positions.dtype == np.float32
    assert (recording.name, recording.label) == ("S001C002P003R002A013", 12)
    assert (recording.setup, recording.camera, recording.subject) == (1, 2, 3)
    assert recording.view is None
    assert found.trimmed == {recording.name: "1 frame without a person"}


def test_bodies_are_told_apart_by_all_of_their_number(tmp_path: Path) -> None:
    small, large = _scaled(3, 1), _scaled(3, 2)
    # In a float64 the two numbers are the same; the sensor lists bodies in any order.
    one, other = 72057594037931101, 72057594037931102
    text = ntu(
        [
            [(one, small[0]), (other, large[0])],
            [(other, large[1]), (one, small[1])],
            [(one, small[2])],
        ]
    )
    (recording,) = read(write(tmp_path, {"S001C001P001R001A050.skeleton": text})).recordings
    large[2] = 0
    np.testing.assert_array_equal(recording.positions, np.stack([large, small]))


def test_a_body_that_is_found_again_goes_on() -> None:
    track = marked(5, 25, 3).astype(np.float64)
    bodies = {3: ([3, 4], track[3:]), 1: ([0, 1], track[:2])}
    found, left_out = persons(bodies, 5)
    assert left_out == 0
    np.testing.assert_array_equal(found[0, [0, 1, 3, 4]], track[[0, 1, 3, 4]])
    assert found.shape == (1, 5, 25, 3)
    assert not found[0, 2].any()


def test_at_most_two_persons_by_energy(tmp_path: Path) -> None:
    tracks = {9: _scaled(2, 1), 4: _scaled(2, 4), 6: _scaled(2, 2), 5: np.ones((2, 25, 3))}
    text = ntu([[(body, track[t]) for body, track in tracks.items()] for t in range(2)])
    found = read(write(tmp_path, {"S018C001P001R001A120.skeleton": text}))
    assert found.name == "ntu120"
    (recording,) = found.recordings
    np.testing.assert_array_equal(recording.positions, np.stack([tracks[4], tracks[6]]))
    assert found.trimmed == {recording.name: "2 more bodies"}


def test_energy_is_of_spread_and_not_of_place() -> None:
    still, moving = np.zeros((2, 25, 3)), np.zeros((2, 25, 3))
    still[:] = [0, 0, 40]  # far away, which says nothing
    moving[1] = 1
    found, _ = persons({1: ([0, 1], still), 2: ([0, 1], moving)}, 2)
    np.testing.assert_array_equal(found, [moving, still])


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda text: text[:-4], "numbers for 2 frames"),
        (lambda text: text[: len(text) // 2], "ends within|numbers for|whole number"),
        (lambda text: "\n".join(text.split("\n")[:30]), "ends within its frames"),
        (lambda text: text + "1\n", "numbers for 2 frames"),
        (lambda text: text.replace("\n25\n", "\n24\n"), "wanted 25 joints, got 24"),
        (lambda text: text.replace("0.125 ", "nan "), "finite positions, got 2"),
        (lambda text: text.replace("0.125 ", "x "), "could not convert"),
        (lambda text: "few" + text, "wanted a whole number in line 1, got 'few2'"),
        (lambda _: "3\n0\n0\n0\n", "no body in 3 frames"),
        (lambda _: "0\n", "no body in 0 frames"),
        (lambda _: "", "empty"),
        (lambda _: "\xff\xfe\x00", "whole number"),
    ],
)
def test_damaged_files_are_skipped(tmp_path: Path, harm: object, reason: str) -> None:
    good = ntu([[(1, marked(25, 3))], [(1, marked(25, 3))]])
    bad = "S001C001P001R001A002.skeleton"
    assert callable(harm)
    write(tmp_path, {"S001C001P001R001A001.skeleton": good, bad: harm(good)})
    found = read(tmp_path)
    assert [recording.name for recording in found.recordings] == ["S001C001P001R001A001"]
    assert list(found.skipped) == [bad]
    with pytest.raises(ValueError, match=reason):
        read(tmp_path / bad)


def test_a_body_twice_in_a_frame_is_refused(tmp_path: Path) -> None:
    text = ntu([[(1, marked(25, 3)), (1, marked(25, 3))]])
    with pytest.raises(ValueError, match="body 1 is twice in frame 1"):
        read(write(tmp_path, {"S001C001P001R001A001.skeleton": text}))


def test_names_and_lists_are_kept_to(tmp_path: Path) -> None:
    text = ntu([[(1, marked(25, 3))]])
    names = ["S001C001P001R001A001", "S001C002P005R002A008", "S020C001P001R001A061", "S1", "copy"]
    write(tmp_path, {f"{name}.skeleton": text for name in names})
    write(tmp_path / "more", {f"{names[0]}.skeleton": text})
    small, large = read(tmp_path, "ntu60"), read(tmp_path)
    assert large.name == "ntu120"
    assert [recording.name for recording in small.recordings] == names[:1]
    assert [recording.name for recording in large.recordings] == [names[0], names[2]]
    assert small.skipped["S020C001P001R001A061.skeleton"] == (
        "wanted a setup of 1 to 17 in ntu60, got 20"
    )
    assert large.skipped == {
        "S001C002P005R002A008.skeleton": "it is on the list of samples with missing skeletons",
        "S1.skeleton": "wanted a name SsssCcccPpppRrrrAaaa.skeleton",
        "copy.skeleton": "wanted a name SsssCcccPpppRrrrAaaa.skeleton",
        f"more/{names[0]}.skeleton": f"there is a recording {names[0]} already",
    }
