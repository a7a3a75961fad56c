"""Clips, batches and samplers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from csta_fast.data import (
    LAYOUTS,
    ClipOptions,
    Clips,
    Collection,
    EpochSampler,
    Recording,
    collate,
    transforms,
)
from csta_fast.data.clips import Batch, Draw

KINECT = LAYOUTS["kinect-v2"]


def _recordings(count: int = 5) -> list[Recording]:
    random = np.random.default_rng(1)
    return [
        Recording(
            f"r{number}",
            random.normal(size=(1 + number % 3, 30 + 17 * number, 25, 3)).astype(np.float32),
            label=number % 2,
            subject=number,
        )
        for number in range(count)
    ]


def _clips(training: bool = False, seed: int = 0, **options: object) -> Clips:
    return Clips(
        _recordings(), KINECT, ClipOptions(**options), persons=2, training=training, seed=seed
    )


def _same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_a_test_clip_is_the_normalised_middle() -> None:
    clips = _clips(frames=32, test_crop=0.9)
    clip = clips[4]
    recording = _recordings()[4]
    length = recording.positions.shape[1]
    frames = int(0.9 * length)
    start = (length - frames) // 2
    middle = transforms.resize(recording.positions[:2, start : start + frames], 32)
    expected = transforms.normalise(middle, KINECT, "first").transpose(3, 1, 2, 0)
    np.testing.assert_array_equal(clip.x[0].numpy(), expected)
    assert [each.item() for each in clip[1:]] == [0, 2, 32, 4]
    assert _same(clip, clips[Draw(7, 4)])


def test_persons_and_frames_beyond_those_there_are_zero() -> None:
    clip = _clips(frames=64, fit="pad", test_crop=1.0)[0]
    assert (clip.persons.item(), clip.lengths.item()) == (1, 30)
    assert (clip.x[..., 1] == 0).all()
    assert (clip.x[:, :, 30:] == 0).all()
    assert (clip.x[0, :, :30, 3, 0] != 0).any()
    longer = _clips(frames=64, fit="pad", test_crop=1.0)[4]
    recording = _recordings()[4].positions[:2]
    start = (recording.shape[1] - 64) // 2
    expected = transforms.normalise(recording[:, start : start + 64], KINECT, "first")
    np.testing.assert_array_equal(longer.x[0].numpy(), expected.transpose(3, 1, 2, 0))


def test_a_training_clip_depends_on_seed_epoch_and_row_alone() -> None:
    clips = _clips(training=True, rotation=20, jitter=0.01)
    clip = clips[Draw(3, 2)]
    torch.manual_seed(99)
    np.random.seed(99)
    clips[Draw(3, 1)]
    assert _same(clip, clips[Draw(3, 2)])
    assert _same(clip, _clips(training=True, rotation=20, jitter=0.01)[Draw(3, 2)])
    for other in (
        clips[Draw(4, 2)],
        _clips(training=True, seed=1, rotation=20, jitter=0.01)[Draw(3, 2)],
        _clips(training=True, jitter=0.01)[Draw(3, 2)],
        _clips(training=True, rotation=20)[Draw(3, 2)],
    ):
        assert not torch.equal(clip.x, other.x)


@pytest.mark.parametrize("fit", ["resize", "pad"])
def test_what_a_picture_shows_is_what_the_network_sees(fit: str) -> None:
    clips = _clips(frames=40, fit=fit, normalise="none")
    for row, recording in enumerate(clips.recordings):
        shown, moments = clips.shown(row), clips.moments(row)
        people, length = shown.shape[:2]
        clip = clips[row]
        assert clip.lengths.item() == length == len(moments)
        expected = clip.x[0, :, :length, :, :people].numpy().transpose(3, 1, 2, 0)
        np.testing.assert_array_equal(shown, expected)
        recorded = recording.positions[:2, moments]
        if fit == "pad":
            np.testing.assert_array_equal(shown, recorded)
        else:
            middle = recording.positions.shape[1] / 2
            assert np.diff(moments).min() >= 0
            assert abs(moments.mean() - (middle - 0.5)) < 1


def test_people_of_any_size_look_alike_in_units_of_their_bones() -> None:
    recordings = _recordings()
    doubled = [
        Recording(each.name, 2 * each.positions, each.label, each.subject) for each in recordings
    ]
    options = ClipOptions(unit_size=True)
    one, other = (Clips(each, KINECT, options, persons=2)[3].x for each in (recordings, doubled))
    torch.testing.assert_close(one, other)
    assert not torch.allclose(_clips()[3].x, one)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_for_any_number_of_workers(workers: int) -> None:
    clips = _clips(training=True)
    sampler = EpochSampler(5, shuffle=True, seed=3)
    loader = DataLoader(
        clips,
        2,
        sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches = list(loader)
        assert [len(batch.labels) for batch in batches] == [2, 2, 1]
        for batch in batches:
            assert batch.x.shape[1:] == (3, 32, 25, 2)
            for number, row in enumerate(batch.rows.tolist()):
                expected = clips[Draw(epoch, row)]
                assert _same(expected, Batch(*(each[number : number + 1] for each in batch)))


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_see_together_what_one_process_sees(processes: int) -> None:
    length, share = 25, 4
    alone = EpochSampler(length, shuffle=True, seed=8)
    together = [
        EpochSampler(length, shuffle=True, seed=8, rank=rank, processes=processes)
        for rank in range(processes)
    ]
    for epoch in (0, 1):
        for sampler in (alone, *together):
            sampler.set_epoch(epoch)
        order = list(alone)
        assert sorted(draw.row for draw in order) == list(range(length))
        shares = [list(sampler) for sampler in together]
        assert [len(each) for each in shares] == [len(sampler) for sampler in together]
        assert len({len(each) for each in shares}) == 1
        size = share * processes
        for step in range(length // size):
            parts = [each[step * share : (step + 1) * share] for each in shares]
            assert {draw for part in parts for draw in part} == set(
                order[step * size : (step + 1) * size]
            )
    assert list(alone) != order[::-1]


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_an_evaluation_takes_every_recording_once(processes: int) -> None:
    samplers = [
        EpochSampler(5, shuffle=False, rank=rank, processes=processes) for rank in range(processes)
    ]
    rows = [draw.row for sampler in samplers for draw in sampler]
    assert sorted(rows) == list(range(5))
    assert [len(list(sampler)) for sampler in samplers] == [len(sampler) for sampler in samplers]


def test_another_epoch_has_another_order() -> None:
    sampler = EpochSampler(20, shuffle=True)
    first = [draw.row for draw in sampler]
    sampler.set_epoch(1)
    assert [draw.row for draw in sampler] != first
    assert {draw.epoch for draw in sampler} == {1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames: wanted at least 1, got 0"),
        ({"fit": "cut"}, "fit: wanted one of resize, pad, got 'cut'"),
        ({"crop": (0.9, 0.5)}, "crop: wanted 0 < least <= greatest <= 1"),
        ({"test_crop": 1.5}, "test_crop: wanted more than 0 and at most 1, got 1.5"),
        ({"rotation": -1}, "rotation: wanted at least 0, got -1"),
    ],
)
def test_options_that_make_no_clip(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipOptions(**options)


def test_a_protocol_divides_recordings_and_an_empty_side_is_an_error() -> None:
    recordings = _recordings()
    collection = Collection(
        "test",
        recordings,
        KINECT,
        ("a", "b"),
        {
            "even": lambda recording: recording.subject % 2 == 0,
            "some": lambda recording: {0: True, 1: False}.get(recording.subject),
            "all": lambda _: True,
        },
    )
    train, test = collection.split()
    assert [each.subject for each in train] == [0, 2, 4]
    assert [each.subject for each in test] == [1, 3]
    assert [len(side) for side in collection.split("some")] == [1, 1]
    with pytest.raises(ValueError, match="protocol: test has even, some, all, got 'odd'"):
        collection.split("odd")
    with pytest.raises(ValueError, match="leaves 5 recordings to train on and 0 to test on, of 5"):
        collection.split("all")
