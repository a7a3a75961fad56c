"""Checkpoints and files of options of strangers are read within bounds, and refused in words."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from csta_fast.data import LAYOUTS, ClipOptions, Collection, generate
from csta_fast.training import Facts, Options, evaluate, load
from csta_fast.training.checkpoint import build, described, packed
from csta_fast.training.reading import read_checkpoint, read_options

_FACTS = Facts("kinect-v2", ("one", "two", "three"), 3, 1)
_OPTIONS = Options(clips=ClipOptions(frames=16))


def _content() -> dict[str, Any]:
    return {
        "hyper_parameters": described(_OPTIONS, _FACTS),
        "state_dict": packed(build(_OPTIONS, _FACTS)),
    }


@pytest.fixture(scope="module")
def whole() -> bytes:
    file = io.BytesIO()
    torch.save(_content(), file)
    return file.getvalue()


def _changed(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] = value

    return change


def _laughs() -> list[Any]:
    """2**64 elements in 64 lists."""
    found: list[Any] = ["ha"]
    for _ in range(64):
        found = [found, found]
    return found


_OPTION = ("hyper_parameters", "options")
_HOSTILE = {
    "it holds no options": _changed("hyper_parameters", value=None),
    "options: wanted data, clips, .* got 3": _changed(*_OPTION, value=3),
    r"model.hidden: wanted int \| None, got 'wide'": _changed(
        *_OPTION, "model", "hidden", value="wide"
    ),
    "clips.crop: wanted tuple": _changed(*_OPTION, "clips", "crop", value=_laughs()),
    "model: wanted known options, got an unknown option": _changed(*_OPTION, "model", "x", value=1),
    "training.learning_rate: wanted float, got nan": _changed(
        *_OPTION, "training", "learning_rate", value=float("nan")
    ),
    "training.threads: wanted 1 to 4096": _changed(*_OPTION, "training", "threads", value=10**9),
    "data.workers: wanted 0 to 1024": _changed(*_OPTION, "data", "workers", value=10**9),
    "groups: wanted a divisor of the 64 channels": _changed(
        *_OPTION, "model", "groups", value=10**9
    ),
    r"model: wanted up to \d+ parameters, got \d{15} .limit checkpoint_bytes": _changed(
        *_OPTION, "model", "hidden", value=10**12
    ),
    "model: wanted a network that fits into memory": _changed(
        *_OPTION, "model", "hidden", value=10**30
    ),
    r"model: wanted up to \d+ parameters, got \d{12} .limit checkpoint_bytes": _changed(
        *_OPTION, "clips", "frames", value=10**8
    ),
    "layout: wanted one of": _changed("hyper_parameters", "facts", "layout", value="mine"),
    "persons: wanted 1 to 64": _changed("hyper_parameters", "facts", "persons", value=10**9),
    "coordinates: wanted 1 to 3": _changed("hyper_parameters", "facts", "coordinates", value=10**9),
    "classes: wanted names": _changed("hyper_parameters", "facts", "classes", value=[1, 2, 3]),
    "classes: wanted up to 10000 names, got 20000 .limit classes=10000; CSTA_FAST_LIM": _changed(
        "hyper_parameters", "facts", "classes", value=["a"] * 20_000
    ),
    "facts: wanted layout, classes": _changed("hyper_parameters", "facts", value=[]),
    r"fc8.weight: wanted \(3, 256\) torch.float32, got \(3, 256\) torch.int64": _changed(
        "state_dict", "network.fc8.weight", value=torch.zeros(3, 256, dtype=torch.int64)
    ),
    r"fc8.weight: wanted \(3, 256\) torch.float32, got \(4, 256\)": _changed(
        "state_dict", "network.fc8.weight", value=torch.zeros(4, 256)
    ),
    "fc8.weight: wanted a tensor": _changed("state_dict", "network.fc8.weight", value=[1.0]),
    "fc8.weight: wanted finite numbers": _changed(
        "state_dict", "network.fc8.weight", value=torch.full((3, 256), float("inf"))
    ),
    "fc8.weight: wanted 768 numbers, got fewer": _changed(
        "state_dict", "network.fc8.weight", value=torch.zeros(1).expand(3, 256)
    ),
    "it holds no weights": _changed("state_dict", value=[]),
}


@pytest.mark.parametrize("message", _HOSTILE)
def test_a_checkpoint_that_says_what_cannot_be_is_refused(message: str, tmp_path: Path) -> None:
    content = _content()
    _HOSTILE[message](content)
    torch.save(content, tmp_path / "hostile.ckpt")
    with pytest.raises(ValueError, match=f"checkpoint: wanted one .*{message}"):
        load(tmp_path / "hostile.ckpt")


def test_more_classes_than_weights_take_no_memory(tmp_path: Path) -> None:
    content = _content()
    content["hyper_parameters"]["facts"]["classes"] = [str(number) for number in range(9_000)]
    torch.save(content, tmp_path / "hostile.ckpt")
    with pytest.raises(ValueError, match=r"fc8.weight: wanted \(9000, 256\)"):
        load(tmp_path / "hostile.ckpt")


def test_millions_of_classes_are_refused_unread(tmp_path: Path) -> None:
    content = _content()
    content["hyper_parameters"]["facts"]["classes"] = ["a"] * 3_000_000
    torch.save(content, tmp_path / "hostile.ckpt")
    with pytest.raises(ValueError, match="it describes itself in more than"):
        load(tmp_path / "hostile.ckpt")


def test_limits_of_checkpoints_can_be_lowered_and_raised(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "good.ckpt"
    path.write_bytes(whole)
    monkeypatch.setenv("CSTA_FAST_LIMITS", f"classes=3,checkpoint_bytes={len(whole) - 1}")
    with pytest.raises(ValueError, match=r"checkpoint: wanted a file of up to .*good.ckpt"):
        load(path)
    # What could not be read again is not trained either.
    with pytest.raises(ValueError, match=r"model: .*CSTA_FAST_LIMITS=checkpoint_bytes=\.\.\."):
        build(_OPTIONS, _FACTS)
    monkeypatch.setenv("CSTA_FAST_LIMITS", "classes=2")
    with pytest.raises(ValueError, match=r"classes: wanted up to 2 names, got 3 .limit classes=2"):
        load(path)
    monkeypatch.setenv("CSTA_FAST_LIMITS", f"checkpoint_bytes={6 * len(whole) + 2**23}")
    assert load(path)


def test_archives_that_unpack_to_more_than_they_are_are_refused(
    whole: bytes, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(io.BytesIO(whole)) as good, zipfile.ZipFile(
        bomb, "w", zipfile.ZIP_DEFLATED
    ) as bad:  # fmt: skip
        for entry in good.infolist():
            data = bytes(1 << 26) if entry.filename.endswith("data/0") else good.read(entry)
            bad.writestr(entry.filename, data)
    with pytest.raises(ValueError, match="it unpacks to more than it is"):
        load(bomb)


def test_deep_keys_do_not_end_the_process(whole: bytes, tmp_path: Path) -> None:
    deep = b"\x80\x02})" + b"\x85" * 3_000_000 + b"K\x01s."
    with zipfile.ZipFile(tmp_path / "deep.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", deep)
        archive.writestr("archive/version", "3\n")
    with pytest.raises(ValueError, match="it holds more than 50000 tuples"):
        load(tmp_path / "deep.ckpt")


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "zero", "."):
        for read, what in ((read_checkpoint, "checkpoint"), (read_options, "config")):
            with pytest.raises(ValueError, match=f"{what}: wanted a file, got"):
                read(tmp_path / name)


def test_no_damage_ends_in_anything_but_a_refusal_in_our_words(
    whole: bytes, tmp_path: Path
) -> None:
    numbers, path = random.Random(1), tmp_path / "damaged.ckpt"
    refusals = []
    for turn in range(150):
        damaged = bytearray(whole)
        if turn % 3 == 0:
            del damaged[numbers.randrange(len(damaged)) :]
        else:
            # The directory at the end and the pickle at the start are the interesting parts.
            start = numbers.choice((0, len(damaged) - 8000, numbers.randrange(len(damaged) - 8000)))
            for _ in range(numbers.choice((1, 4))):
                damaged[start + numbers.randrange(8000)] ^= 1 << numbers.randrange(8)
        path.write_bytes(damaged)
        try:
            load(path)
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    for refusal in refusals:
        assert refusal.startswith("checkpoint: wanted one that csta-fast train wrote, got ")
        assert "weights_only" not in refusal
        assert "\n" not in refusal
        assert len(refusal) < 600


def test_code_in_a_checkpoint_is_neither_run_nor_recommended(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {tmp_path}/ran",))

    torch.save({"hyper_parameters": Malicious()}, tmp_path / "hostile.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Malicious()))
    torch.save(_content(), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    for name, message in (
        ("hostile", "holds more than tensors and plain values$"),
        ("plain", "it is damaged, or no checkpoint$"),
        ("old", "it is damaged, or no checkpoint$"),
    ):
        with pytest.raises(ValueError, match=message):
            load(tmp_path / f"{name}.ckpt")
    assert not (tmp_path / "ran").exists()


def test_other_class_names_are_named_at_evaluation(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "good.ckpt").write_bytes(whole)
    with pytest.raises(ValueError, match=r"source: wanted 'one' as class 0, got '.*'"):
        evaluate(tmp_path / "good.ckpt", collection=generate(3, 2, 1))


def test_a_layout_of_one_s_own_is_refused_by_name() -> None:
    actions = generate(2, 2, 1)
    layout = type(actions.layout)(**asdict(actions.layout) | {"name": "mine"})
    own = Collection("own", actions.recordings, layout, actions.classes, actions.protocols)
    with pytest.raises(ValueError, match=f"layout: wanted one of {next(iter(LAYOUTS))}.*'mine'"):
        Facts.of(own, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", r"got an alias, \*a"),
        ("data: " + "[" * 50 + "]" * 50, "more than 10 levels"),
        ("data: [" + "1," * 20_000 + "]", "more than 10 levels or 10000 values"),
        ("data: {source: [}", "wanted a YAML file of options, got .*line 1"),
        ("data: !!python/object/apply:os.system [ls]", "wanted a YAML file of options"),
        ("a: " + "9" * 5000, "wanted a YAML file of options"),
        ("\x00", "wanted a YAML file of options"),
    ],
)
def test_files_of_options_are_read_within_bounds(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_options(tmp_path / "options.yaml")


def test_large_and_binary_files_of_options_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="config: wanted a file of text"):
        read_options(tmp_path / "binary.yaml")
    with pytest.raises(
        ValueError, match="config: wanted at most 16777216 bytes, got 1099511627776"
    ):
        read_options(tmp_path / "large.yaml")
