"""One way into all readers: what is guessed, what is told, and which protocols come out."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import pytest
from skeletons import marked, msr_action3d, ntu, write

from csta_fast.data import FORMATS, LAYOUTS, Collection, Recording, files, read

_KINDS = [
    "ntu60", "ntu120", "pyskl", "ctr-gcn", "uestc", "nw-ucla", "msr-action3d", "utkinect",
    "csta-fast",
]  # fmt: skip


def _msr_action3d(folder: Path, samples: int = 3) -> Path:
    text = msr_action3d(marked(1, 20, 3))
    names = [f"a01_s{subject:02}_e01_skeleton3D.txt" for subject in range(1, samples + 1)]
    return write(folder, dict.fromkeys(names, text))


def test_kinds() -> None:
    assert set(_KINDS) <= set(FORMATS)
    assert all(form.kind == kind for kind, form in FORMATS.items())


@pytest.mark.parametrize("form", ["tar", "gztar", "bztar", "xztar", "zip"])
def test_archives(tmp_path: Path, form: str) -> None:
    _msr_action3d(tmp_path / "data")
    archive = Path(shutil.make_archive(str(tmp_path / "all"), form, tmp_path, "data"))
    found = read(archive)
    assert found.name == "msr-action3d"
    assert [recording.name[4:7] for recording in found.recordings] == ["s01", "s02", "s03"]
    assert found.skipped == {}
    held = archive.read_bytes()
    for kept in (len(held) // 2, len(held) // 5, 0):
        archive.write_bytes(held[:kept])
        with pytest.raises(ValueError, match=rf"^path: wanted .*, got {archive}"):
            read(archive, "msr-action3d")


def test_no_archive_ends_between_files(tmp_path: Path) -> None:
    """Of a plain tar any beginning that ends within a header looks like a smaller one."""
    _msr_action3d(tmp_path / "data")
    archive = Path(shutil.make_archive(str(tmp_path / "all"), "tar", tmp_path, "data"))
    held = archive.read_bytes()
    end = -(-len(held.rstrip(b"\0")) // 512) * 512
    for start in range(512, end + 1, 512):
        for kept in (start, start + 100):
            archive.write_bytes(held[:kept])
            with pytest.raises(ValueError, match="cannot be read"):
                read(archive, "msr-action3d")
    archive.write_bytes(held[: end + 512])
    assert len(read(archive).recordings) == 3


def test_wrong_paths_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"^path: wanted .*, got {tmp_path}/x: not there"):
        read(tmp_path / "x")
    with pytest.raises(ValueError, match=rf"^path: wanted a data set, got {tmp_path}, which"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"^kind: wanted one of ntu60, .*, got 'ntu'"):
        read(tmp_path, "ntu")
    for kind in FORMATS:
        with pytest.raises(ValueError, match=rf"^path: wanted .*, got {tmp_path}, which"):
            read(tmp_path, kind)
    (tmp_path / "notes.txt").write_text("none")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="which is none of these: ntu60: "):
            read(path)


def test_two_kinds_in_one_folder_are_told(tmp_path: Path) -> None:
    _msr_action3d(tmp_path)
    write(tmp_path, {"S001C001P001R001A001.skeleton": ntu([[(1, marked(25, 3))]])})
    with pytest.raises(ValueError, match=r"^kind: .* holds ntu60 and msr-action3d"):
        read(tmp_path)
    assert len(read(tmp_path, "msr-action3d").recordings) == 3
    assert len(read(tmp_path, "ntu60").recordings) == 1


def test_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    read(_msr_action3d(tmp_path), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    read(tmp_path, progress=False)
    read(tmp_path)
    assert capsys.readouterr() == ("", "")


def test_a_bar_needs_rich(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _msr_action3d(tmp_path)
    if "rich" in sys.modules or pytest.importorskip("rich"):
        assert len(read(tmp_path, progress=True).recordings) == 3
    for name in ("rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'csta_fast\[data\]'"):
        read(tmp_path, progress=True)
    assert list(files.track("ab", 2)) == ["a", "b"]


def test_a_file_that_cannot_be_opened_is_skipped(tmp_path: Path) -> None:
    _msr_action3d(tmp_path)
    (tmp_path / "a02_s01_e01_skeleton3D.txt").symlink_to(tmp_path / "nowhere")
    found = read(tmp_path)
    assert len(found.recordings) == 3
    assert "No such file" in found.skipped["a02_s01_e01_skeleton3D.txt"]


def test_protocols_go_to_workers() -> None:
    for form in FORMATS.values():
        pickle.dumps(form.read)
    for protocol in read_protocols():
        assert pickle.loads(pickle.dumps(protocol)) == protocol


def read_protocols() -> list[object]:
    from csta_fast.data import ntu_samples
    from csta_fast.data.formats import msr_action3d, nw_ucla, uestc, utkinect

    modules = (msr_action3d, nw_ucla, uestc, utkinect)
    own = [protocol for module in modules for protocol in module.PROTOCOLS.values()]
    return own + [p for each in ntu_samples.PROTOCOLS.values() for p in each.values()]


def test_splits_say_what_is_wrong() -> None:
    recording = Recording("a", marked(1, 1, 20, 3), 0)
    parts = ("x", [recording], LAYOUTS["kinect-v1"], ("sit",))
    with pytest.raises(ValueError, match=r"^protocol: x has none, .*, got ''"):
        Collection(*parts, {}).split()
    some = Collection(*parts, {"all": lambda _: True})
    with pytest.raises(ValueError, match=r"^protocol: x has all, got 'none'"):
        some.split("none")
    with pytest.raises(ValueError, match=r"'all' of x leaves 1 recordings to train on and 0 to"):
        some.split()
