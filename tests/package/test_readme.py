"""What README.md and docs/ say is so: their code runs, their links and names exist.

A ``text`` block right below a ``python`` block is what the code prints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import pytest
from backends import require

import csta_fast
from csta_fast import __main__ as health
from csta_fast.backends import triton as triton_backend
from csta_fast.models import CSTACNN

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PROMISES = ROOT / "docs" / "promises.md"
DOCUMENTS = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

pytestmark = pytest.mark.skipif(
    not (ROOT / ".ci").exists(), reason="a source archive holds only a part of the documents"
)

_BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
_PATH = re.compile(r"`((?:csta_fast|csrc|kernels|tests|bench|docs|\.ci)/[\w./-]*)`")
_VARIABLE = re.compile(r"CSTA_FAST_\w+")


@dataclass(frozen=True)
class Block:
    """Python code of a document, and what the document says that it prints."""

    place: str
    code: str
    printed: str | None

    def run(self, capsys: pytest.CaptureFixture[str]) -> None:
        exec(compile(self.code, self.place, "exec"), {})
        if self.printed is not None:
            assert capsys.readouterr().out == self.printed


def blocks(document: Path) -> list[Block]:
    text = document.read_text()
    return [
        Block(f"{document.name}:{text.count(chr(10), 0, found.start()) + 2}", *found.groups())
        for found in _BLOCK.finditer(text)
    ]


_BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]


@pytest.mark.parametrize("block", _BLOCKS, ids=lambda block: block.place)
def test_code(
    block: Block, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "explain" in block.code:
        require("cpu")
        monkeypatch.setattr(triton_backend, "INTERPRETED", False)
        monkeypatch.setattr(triton_backend, "unavailable", None)
    block.run(capsys)


def test_readme_shows_code_and_output() -> None:
    assert len(blocks(README)) >= 3
    assert sum(block.printed is not None for block in blocks(README)) >= 2


@pytest.mark.parametrize("code", ["raise ValueError", "print('something else')", "undefined"])
def test_wrong_code_is_noticed(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((ValueError, AssertionError, NameError)):
        Block("nowhere", code, "something\n").run(capsys)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_names_of_files(document: Path) -> None:
    text = document.read_text()
    targets = [document.parent / link for link in _LINK.findall(text)]
    targets += [ROOT / name for name in _PATH.findall(text) if not name.endswith(".so")]
    missing = [target for target in targets if not target.exists()]
    assert not missing


def test_every_kernel_file_says_first_what_it_is() -> None:
    """Instead of tables of files, which nobody reads and everybody must keep."""
    native = [path for path in (ROOT / "csrc").rglob("*.*") if path.suffix in (".h", ".cpp", ".cu")]
    kernels = [*(ROOT / "kernels").glob("*.py"), *(ROOT / "csta_fast").rglob("*.py")]
    first = {path: path.read_text().partition("\n")[0] for path in (*native, *kernels)}
    silent = [path for path in native if not re.match(r"// [A-Z]\S+( \S+){2}", first[path])]
    silent += [
        path for path in kernels if first[path] and not re.match(r'"""\S+( \S+)+', first[path])
    ]
    assert not silent
    assert len(native) > 60


def test_architecture_names_every_folder_of_kernels() -> None:
    text = ARCHITECTURE.read_text()
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*.h")}
    assert not [folder for folder in folders if f"`{folder}/`" not in text]


def test_promises_name_every_test_file() -> None:
    text = PROMISES.read_text()
    tests = {path.name for path in (ROOT / "tests").glob("test_*.py")}
    assert not [name for name in tests if f"(../tests/{name})" not in text]


def test_extras_of_the_commands_exist() -> None:
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = set(re.findall(r'pip install "\.\[(\w+)\]"', README.read_text()))
    assert named == {"test", "bench", "train"}
    assert named <= project["project"]["optional-dependencies"].keys()
    assert project["tool"]["pytest"]["ini_options"]["testpaths"] == ["tests"]


def test_first_commands_are_the_benches_and_the_tests() -> None:
    commands = re.findall(r"^```bash\n(.*?)\n```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert commands[:2] == [
        'pip install ".[bench]" && pytest bench/ --benchmark-only',
        'pip install ".[test]" && pytest tests',
    ]


def test_continuous_integration_runs_the_readmes_tests() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"grep -om1 '([^']+)' README\.md", script)
    found = re.search(pattern.replace("[^`]", "[^`\n]"), README.read_text())
    assert found is not None
    assert found.group() == "pytest tests"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_and_variables_exist(document: Path) -> None:
    text = document.read_text()
    for module in re.findall(r"python -m ([\w.]+)", text):
        file = ROOT / module.replace(".", "/")
        assert file.with_suffix(".py").exists() or (file / "__main__.py").exists(), module
    building = [ROOT / "setup.py", ROOT / "csrc" / "toolchain.py"]
    package = [*(ROOT / "csta_fast").rglob("*.py"), *(ROOT / "csrc").rglob("*.cpp")]
    source = "\n".join(file.read_text() for file in (*building, *package))
    assert not set(_VARIABLE.findall(text)) - set(_VARIABLE.findall(source))


def test_readme_agrees_with_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = README.read_text()
    with pytest.raises(SystemExit):
        health.main(["--help"])
    assert set(_VARIABLE.findall(capsys.readouterr().out)) <= set(_VARIABLE.findall(readme))
    for name in ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "THP_MEM_ALLOC_ENABLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    settings = re.findall(r"\b(?:MALLOC|THP)_\w+=\d+", "\n".join(health.advice()))
    assert settings
    assert all(setting in readme for setting in settings)


def test_place_for_the_benchmarks() -> None:
    parts = re.split(r"<!-- benchmarks:(?:begin|end) -->", README.read_text())
    assert len(parts) == 3
    assert "docs/benchmarks.md" in parts[1]


def test_choices_beside_the_paper_are_options() -> None:
    """Only the abstract was read: the table names options that exist, with their defaults."""
    table = (ROOT / "docs" / "definition.md").read_text().partition("## From the paper")[2]
    rows = [line.split("|")[1:5] for line in table.splitlines() if line.startswith("| ")]
    parameters = signature(csta_fast.CSTA).parameters | signature(CSTACNN).parameters
    choices = {re.findall(r"\w+", row[0])[0]: row for row in rows[1:]}
    assert {"place", "streams", "heads", "gate", "scale", "residual"} <= choices.keys()
    for name in ("place", "streams", "gate", "scale", "residual"):
        assert re.search(rf"\b{name}\b", choices[name][1])
        default = f'"{value}"' if isinstance(value := parameters[name].default, str) else str(value)
        assert f"`{default}`" in choices[name][2]
    for option in re.findall(r"--model\.(\w+)", table):
        assert option in signature(CSTACNN).parameters
    for name in ("hidden", "frame_head", "joint_head", "groups"):
        assert f"`{name}`" in table
        assert name in parameters


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_is_said_of_what_was_not_read(document: Path) -> None:
    claim = (
        r"paper's text|text leaves|public text|no text|paper (is silent|gives|says|leaves|does not)"
    )
    assert not re.findall(claim, document.read_text(), re.IGNORECASE)


def test_changelog_and_citation_have_this_version() -> None:
    assert f"\n## [{csta_fast.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {csta_fast.__version__}\n" in citation
    assert "arXiv:1909.10214" in citation


def test_readme_begins_with_what_a_newcomer_wants() -> None:
    """One figure and the commands first, the CPU build of torch and the times beside them."""
    text = README.read_text()
    order = ["docs/speed.svg", "download.pytorch.org/whl/cpu", "about 25 minutes", "pytest bench/"]
    order += ["about 7 minutes", "pytest tests", "CSTA(64)", "docs/attention.png", "## How fast"]
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    assert len(text.splitlines()) <= 220
