"""What a trained network attends to in test recordings, as pictures in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from csta_fast import plots
from csta_fast.data import Clips, Collection, Performance, Recording, collate
from csta_fast.training.checkpoint import Facts, Trained, load
from csta_fast.training.collecting import collect, same_kind
from csta_fast.training.files import check_writable, prepare, replacing
from csta_fast.types import Attention

_ROWS = 32  # clips at once


class Attended(NamedTuple):
    """One clip with what the network makes of it.

    Attributes:
        recording: that it is of.
        positions: (persons, frames, joints, coordinates) of the clip, as recorded.
        frames: (persons, groups, frames) weights, the mean over the streams that have some.
        joints: (persons, groups, joints) weights, likewise.
        predicted: the class that the network names.
        shaded: (frames,), where a generated recording is known to show its action.
    """

    recording: Recording
    positions: NDArray[np.float32]
    frames: NDArray[np.float32]
    joints: NDArray[np.float32]
    predicted: int
    shaded: NDArray[np.bool_] | None


def attend(trained: Trained, clips: Clips, rows: list[int]) -> list[Attended]:
    """Run a network over clips and keep its attention.

    Raises:
        ValueError: the network has no attention.
    """
    if trained.options.model.axes == "none":
        raise ValueError("run: wanted a network with attention, got HCN (axes='none')")
    found = []
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        batch = collate([clips[row] for row in some])
        lengths = batch.lengths if trained.options.clips.fit == "pad" else None
        with torch.inference_mode():
            scores, attention = trained.network(
                batch.x, persons=batch.persons, lengths=lengths, return_attention=True
            )
        frames, joints = _mean(attention)
        for number, row in enumerate(some):
            positions = clips.shown(row)
            people, length = positions.shape[:2]
            found.append(
                Attended(
                    clips.recordings[row],
                    positions,
                    frames[number, :people, :, :length],
                    joints[number, :people],
                    int(scores[number].argmax()),
                    _truth(clips, row),
                )
            )
    return found


def _truth(clips: Clips, row: int) -> NDArray[np.bool_] | None:
    recording = clips.recordings[row]
    if not isinstance(recording, Performance):
        return None
    shown: NDArray[np.bool_] = recording.truth.frames[clips.moments(row)]
    return shown


def _mean(attention: Mapping[str, Attention]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Frames (N, M, G, T) and joints (N, M, G, V), the mean over streams."""
    streams = list(attention.values())
    frames = torch.stack([stream.frames for stream in streams]).mean(0)
    joints = torch.stack([stream.joints for stream in streams]).mean(0)
    return frames.float().numpy(), joints.float().numpy()


def picture(
    checkpoint: str | Path,
    output: str | Path,
    *,
    recording: str | None = None,
    clip: bool = False,
    changes: Mapping[str, Any] | None = None,
    collection: Collection | None = None,
) -> list[Path]:
    """Draw the attention of a trained network.

    Without ``recording``: ``attention-classes.png``, the mean of every class over the test
    recordings. With it: ``attention-NAME.png``, skeleton, timeline and map of one test recording,
    and with ``clip`` an animated ``attention-NAME.gif``.

    Args:
        checkpoint: as ``csta_fast.training.train`` writes it.
        output: a folder.
        recording: the name of a test recording.
        clip: draw the animated clip, too.
        changes: options of the data that differ from those that it was trained with.
        collection: the recordings, if they are in memory already.

    Returns:
        The files written.

    Raises:
        ValueError: the network has no attention, the recordings do not fit it, or none of those
            that test has the name.
    """
    folder = Path(output)
    check_writable(folder)
    trained = load(checkpoint)
    data = replace(trained.options.data, **(changes or {}))
    if collection is None:
        collection = collect(data, progress=trained.options.training.progress)
    facts = Facts.of(collection, trained.facts.persons)
    same_kind(trained.facts, facts)
    test = collection.split(data.protocol).test
    clips = Clips(test, collection.layout, trained.options.clips, persons=facts.persons)
    prepare(folder)
    if recording is None:
        if clip:
            raise ValueError("clip: wanted a recording to show, got none")
        found = attend(trained, clips, list(range(len(test))))
        return [_classes(found, facts, _weights(trained), folder)]
    names = [each.name for each in test]
    if recording not in names:
        raise ValueError(
            f"recording: wanted one of the {len(names)} that test, such as {names[0]!r}, "
            f"got {recording!r}"
        )
    (one,) = attend(trained, clips, [names.index(recording)])
    return _one(one, facts, _weights(trained), folder, clip)


def _weights(trained: Trained) -> str:
    """Which weights of the network are drawn."""
    streams = trained.options.model.streams
    if streams == "both":
        return "weights: mean of the position and the motion stream"
    return f"weights of the {streams} stream"


def _classes(found: list[Attended], facts: Facts, weights: str, folder: Path) -> Path:
    figure = plots.class_overview(
        [each.positions for each in found],
        [each.frames for each in found],
        [each.joints for each in found],
        [each.recording.label for each in found],
        facts.joints,
        facts.classes,
        title=f"Attention by class, over {len(found)} test recordings ({weights})",
    )
    path = folder / "attention-classes.png"
    with replacing(path) as file:
        figure.savefig(file, dpi=150)
    return path


def _one(found: Attended, facts: Facts, weights: str, folder: Path, clip: bool) -> list[Path]:
    recording = found.recording
    said, true = facts.classes[found.predicted], facts.classes[recording.label]
    title = f"{recording.name}: {true}" + ("" if said == true else f", taken for {said}")
    title += f" ({weights})"
    if found.shaded is not None:
        title += "\nThe action happens in the frames shaded grey."
    stem = folder / ("attention-" + re.sub(r"[^\w.-]", "-", recording.name))
    paths = [stem.with_name(stem.name + ".png")]
    figure = plots.overview(
        found.positions,
        found.frames,
        found.joints,
        facts.joints,
        shaded=found.shaded,
        title=title,
    )
    with replacing(paths[0]) as file:
        figure.savefig(file, dpi=150)
    if clip:
        paths.append(stem.with_name(stem.name + ".gif"))
        with replacing(paths[1]) as file:
            plots.clip(
                file,
                found.positions,
                found.frames,
                found.joints,
                facts.joints,
                shaded=found.shaded,
                title=title,
            )
    return paths
