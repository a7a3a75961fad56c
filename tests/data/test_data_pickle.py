"""Pickles: what pyskl's hold is read, and whatever else one asks for does not run."""

from __future__ import annotations

import codecs
import functools
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import marked

from csta_fast.data import read, safe_pickle

_HERE = Path("some.pkl")


def _load(data: bytes) -> Any:
    return safe_pickle.load(io.BytesIO(data), _HERE)


class _Calls:
    """Asks to be unpickled by a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        marked(2, 3, 4).astype(np.float16),
        marked(2, 3, 4).transpose(1, 0, 2),
        np.asfortranarray(marked(3, 4)),
        marked(4, 6)[::2, 1:],
        marked(3, 2).astype(">f8"),
        np.arange(-3, 3, dtype=np.int16),
        np.array([True, False]),
        np.array(["S001", "x"]),
        np.array([b"ab", b"c"]),
        np.zeros((0, 3), np.float32),
        np.array(2.5, np.float32),
    ],
    ids=str,
)
def test_arrays_are_rebuilt(array: np.ndarray[Any, Any], protocol: int) -> None:
    found = _load(pickle.dumps({"a": array}, protocol))["a"].value
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_and_scalars_are_rebuilt(protocol: int) -> None:
    held = {"a": [1, (2.5, None)], "b": {3, 4}, "c": frozenset("x"), "d": OrderedDict(k=b"\xff")}
    assert _load(pickle.dumps(held, protocol)) == held
    scalars = [np.float32(0.25), np.int64(-7), np.str_("name"), np.bool_(True)]
    found = _load(pickle.dumps(scalars, protocol))
    assert found == [0.25, -7, "name", True]
    assert [type(each) for each in found] == [float, int, str, bool]


def test_older_numpy_and_python_are_understood() -> None:
    array = marked(2, 3)
    data = pickle.dumps(array, 2)
    assert b"numpy._core.multiarray" in data or b"numpy.core.multiarray" in data
    for core in (b"numpy.core", b"numpy._core"):
        older = data.replace(b"numpy._core", core).replace(b"numpy.core", core)
        np.testing.assert_array_equal(_load(older).value, array)
    # As Python 2 wrote a dictionary {'a': 'text'} and an array's bytes: text without encoding.
    assert _load(b"\x80\x02}q\x00U\x01aq\x01U\x04textq\x02s.") == {"a": "text"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"annotations": [{"keypoint": x}]}])
@pytest.mark.parametrize(
    "attack",
    [
        lambda mark: _Calls(os.system, f"touch {mark}"),
        lambda mark: _Calls(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: _Calls(exec, f"open({str(mark)!r}, 'w')"),
        lambda mark: _Calls(open, str(mark), "w"),
        lambda mark: _Calls(functools.partial, os.system, f"touch {mark}"),
        lambda mark: _Calls(getattr, list, "append"),
        lambda mark: _Calls(np.load, str(mark)),
        lambda mark: np.array([_Calls(os.system, f"touch {mark}")], dtype=object),
        lambda mark: np.array([{"nested": _Calls(os.system, f"touch {mark}")}, None], dtype=object),
    ],
)
def test_nothing_runs(tmp_path: Path, attack: Any, wrap: Any, protocol: int) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "attack.pkl"
    path.write_bytes(pickle.dumps(wrap(attack(mark)), protocol))
    with pytest.raises(ValueError, match=r"wanted a pickle of plain .* which holds"):
        read(path, progress=False)
    assert not mark.exists()
    # It would run elsewhere: without that, this test could not fail.
    if protocol == pickle.HIGHEST_PROTOCOL and b"touch" in path.read_bytes():
        pickle.loads(path.read_bytes())
        assert mark.exists() or b"partial" in path.read_bytes()


def test_the_refused_name_is_told() -> None:
    data = pickle.dumps(_Calls(os.system, "true"))
    with pytest.raises(ValueError, match=rf"some\.pkl, which holds a call of {os.name}\.system"):
        _load(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (pickle.dumps(np.array([None])), "dtype 'O8'"),
        (pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "O")])), "dtype 'V1?[26]'"),
        (pickle.dumps(np.zeros(2, "M8[s]")), "dtype 'M8'"),
        (pickle.dumps(_Calls(codecs.encode, "x", "rot13")), "encoded as 'rot13'"),
        (b"c_codecs\nencode\n}b.", "a change of a function"),
        (b"cnumpy\nndarray\nN}U\x05valueU\x01xs\x86b.", "a change of a function"),
        (b"cbuiltins\nset.__class__\n.", "a call of builtins.set.__class__"),
        (b"cbuiltins\nbytearray\n(I99999\ntR.", "a call of builtins.bytearray"),
    ],
)
def test_ways_around_are_refused(data: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=f"which holds .*{what}"):
        _load(data)


def test_a_dtype_cannot_lie_about_memory() -> None:
    """A pickle that sets the fields of a dtype, or its size, after it was made."""
    class_ = b"cnumpy\ndtype\n(U\x02f4\x89\x88tR"
    fields = class_ + b"(I3\nU\x01<N(U\x01at}NI-1\nI-1\nI0\ntb."
    with pytest.raises(ValueError, match="structures"):
        _load(fields)
    # Numbers that claim more bytes than there are.
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
    array = reconstruct + b"(I1\n(I1000000\nt" + class_ + b"I00\nU\x04abcdtb."
    with pytest.raises(ValueError, match=r"is damaged .*reshape"):
        _load(array)


def test_damaged_pickles_are_told(tmp_path: Path) -> None:
    data = pickle.dumps({"annotations": [{"keypoint": marked(2, 3)}]})
    path = tmp_path / "some.pkl"
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        with pytest.raises(ValueError, match=rf"^path: wanted .*{path}"):
            read(path)
    for held in (b"text", b"\x80\x05.", b"(" * 100, b"\x80\x05]\x94(K\x01K\x02e."):
        path.write_bytes(held)
        with pytest.raises(ValueError, match=r"^path: wanted "):
            read(path)
