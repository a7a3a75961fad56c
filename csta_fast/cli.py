"""``csta-fast``: networks on skeleton recordings, and pictures of what they attend to."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from csta_fast.cli_parser import Parser, as_typed, is_memory, printable

_MISSING = "csta-fast wants libraries that are not installed: pip install 'csta_fast[train]' ({})"

_DESCRIPTION = """\
Networks with coupled spatial-temporal attention, from recordings of skeletons to a picture of what
the network attends to:

  csta-fast train                                  on generated actions, with no download
  csta-fast train --data.source FOLDER             on a data set; its kind is found out
  csta-fast evaluate runs/synthetic-both-seed0     accuracy and confusion on the test recordings
  csta-fast plot runs/synthetic-both-seed0         which joints and frames count
  csta-fast convert FOLDER FILE.npz                read many small files once
"""

_TRAIN = """\
Train CSTA-CNN, or HCN without attention, and evaluate it under an official protocol.

examples:
  csta-fast train
  csta-fast train --data.source nturgb+d_skeletons --data.protocol cross-view --training.epochs 400
  csta-fast train --config mine.yaml --model.axes joints --training.seed 3
  csta-fast train --training.devices 4 --training.precision bf16-mixed      four GPUs
  csta-fast train --output runs/mine --resume

A configuration file (YAML) holds the same options; every training leaves its own as options.yaml,
and --print_config prints one. What the command line says comes before what the file says.
"""

_EVALUATE = """\
Accuracy (top-1, top-5), loss and confusion matrix of a trained network on the test recordings of
the data it was trained with, or of others with the same joints and classes.
"""

_PLOT = """\
Pictures of the attention of a trained network on the test recordings: of one recording (skeleton,
timeline, frames × joints map, and an animated clip), or the mean of every class.
"""

_CONVERT = """\
Read a data set and write it into one file that is read again in seconds, by every command that
takes a source. It holds no pickle. A file that would take too much is left out or refused, with the
limit that it is over; CSTA_FAST_LIMITS="classes=20000,growth=500" raises limits for every command.
"""


def _quiet() -> None:
    """Not what Lightning found, and advertises. Importing it sets the levels that are changed."""
    import_module("lightning.pytorch")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _train(arguments: list[str]) -> None:
    import yaml

    from csta_fast.training import Options, train
    from csta_fast.training.arguments import add_options, chosen

    usage = "csta-fast train [--config FILE] [--output FOLDER] [--resume] [--SECTION.OPTION VALUE]"
    parser = Parser("train", _TRAIN, usage)
    parser.add_argument(
        "--config", metavar="FILE", type=Path, action="append", default=[], help="of options"
    )
    parser.add_argument("--output", metavar="FOLDER", help="runs/SOURCE-AXES-seedSEED unless given")
    parser.add_argument("--resume", action="store_true", help="go on with the training in --output")
    parser.add_argument("--print_config", action="store_true", help="print the options, and end")
    add_options(parser)
    found = parser.parsed(arguments)
    plain = chosen(found, *found.config)
    _quiet()
    output = _output(found.output or plain.get("output"), Options.from_dict(plain))
    if found.resume and (output / "options.yaml").exists():
        plain = chosen(found, output / "options.yaml", *found.config)
    options = Options.from_dict(plain)
    if found.print_config:
        print(yaml.safe_dump(options.as_dict(), sort_keys=False), end="")
        return
    try:
        _print(train(options, output, resume=found.resume).figures, output)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_goes_on(output)) from None
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}; {_goes_on(output)}") from None


def _output(named: str | None, options: Any) -> Path:
    """Where a training goes."""
    if named is not None:
        return Path(named)
    source = Path(options.data.source).name.split(".")[0]
    return Path(f"runs/{source}-{options.model.axes}-seed{options.training.seed}")


def _goes_on(output: Path) -> str:
    """How a training that has ended too early goes on."""
    from csta_fast.training import LAST

    if (output / LAST).exists():
        return f"csta-fast train --output {output} --resume goes on from the last whole epoch"
    return "no epoch was whole"


def _trained(name: str, description: str) -> Parser:
    """The arguments of a command on a trained network."""
    from csta_fast.data import FORMATS

    parser = Parser(name, description)
    parser.add_argument("run", type=Path, help="a folder of csta-fast train, or a checkpoint")
    parser.add_argument("--source", help="recordings, if not those trained with")
    parser.add_argument("--kind", help=f"of data set, found out unless given: {', '.join(FORMATS)}")
    parser.add_argument(
        "--protocol", help="if not that trained with: cross-subject, cross-view, cross-setup, …"
    )
    folder = "folder; that of the run unless given, or one in it for other data"
    parser.add_argument("--output", metavar="FOLDER", type=Path, help=folder)
    return parser


def _checkpoint(run: Path) -> Path:
    """The best checkpoint of a run, or the last where none was chosen, or the file named."""
    from csta_fast.training import BEST, LAST

    if run.is_file():
        return run
    for name in (BEST, LAST):
        if (run / name).exists():
            return run / name
    raise FileNotFoundError(f"run: wanted a folder of csta-fast train or a checkpoint, got {run}")


def _folder(options: Any) -> Path:
    """That of the run; of other data than the training's a folder in it, named after them."""
    from csta_fast.training.files import refuse_link

    if options.output is not None:
        return Path(options.output)
    run: Path = options.run if options.run.is_dir() else options.run.parent
    changes = _changes(options)
    others = [Path(changes["source"]).name.split(".")[0]] if "source" in changes else []
    others += [changes[name] for name in ("kind", "protocol") if name in changes]
    if not others:
        return run
    return refuse_link(run / re.sub(r"[^\w.-]", "-", "-".join(("on", *others))))


def _changes(options: Any) -> dict[str, str]:
    """Which data, where it is not that of the training."""
    changes = {name: getattr(options, name) for name in ("source", "kind", "protocol")}
    return {name: value for name, value in changes.items() if value is not None}


def _evaluate(arguments: list[str]) -> None:
    from csta_fast.training import evaluate

    options = _trained("evaluate", _EVALUATE).parsed(arguments)
    _quiet()
    folder = _folder(options)
    outcome = evaluate(_checkpoint(options.run), folder, changes=_changes(options))
    _print(outcome.figures, folder)


def _plot(arguments: list[str]) -> None:
    from csta_fast.training.pictures import picture

    parser = _trained("plot", _PLOT)
    parser.add_argument("--recording", metavar="NAME", help="the mean of every class unless given")
    parser.add_argument(
        "--clip", action="store_true", help="an animated clip of the recording, too"
    )
    options = parser.parsed(arguments)
    _quiet()
    files = picture(
        _checkpoint(options.run),
        _folder(options),
        recording=options.recording,
        clip=options.clip,
        changes=_changes(options),
    )
    for file in files:
        print(printable(str(file)))


def _convert(arguments: list[str]) -> None:
    from csta_fast import data
    from csta_fast.data import writing

    parser = Parser("convert", _CONVERT)
    parser.add_argument("source", help="a folder, archive or file of recordings")
    parser.add_argument("output", type=Path, help="the file to write, *.npz")
    kinds = ", ".join(data.FORMATS)
    parser.add_argument("--kind", help=f"kind of data set, found out unless given: {kinds}")
    options = parser.parsed(arguments)
    try:
        writing.check_target(options.output)  # before hours of reading
    except (ValueError, OSError) as error:
        raise ValueError(str(error).replace("path:", "output:", 1)) from None
    collection = data.read(options.source, options.kind)
    collection.save(options.output)
    count, skipped = len(collection.recordings), collection.skipped
    such = "".join(f", such as {name}: {reason}" for name, reason in list(skipped.items())[:1])
    said = f"{count} recordings of {collection.name} in {options.output}"
    print(printable(f"{said}, {len(skipped)} skipped{such}"))


def _print(figures: dict[str, float], folder: str | Path) -> None:
    from lightning.pytorch.utilities import rank_zero_only

    if getattr(rank_zero_only, "rank", 0) != 0:  # one of many processes speaks for all
        return
    said = f"top-1 {100 * figures['top1']:.1f} %, top-5 {100 * figures['top5']:.1f} %"
    print(printable(f"test: {said}, loss {figures['loss']:.3f}; more in {folder}"))


_COMMANDS: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "train": (_train, "train a network"),
    "evaluate": (_evaluate, "accuracy of a trained network"),
    "plot": (_plot, "pictures of what it attends to"),
    "convert": (_convert, "many small files into one"),
}


def _run(arguments: list[str]) -> None:
    """Run a command. Only what that one needs is imported."""
    if arguments and arguments[0] in _COMMANDS:
        _COMMANDS[arguments[0]][0](arguments[1:])
        return
    from csta_fast.version import __version__

    parser = Parser("", _DESCRIPTION, "csta-fast COMMAND ...")
    parser.add_argument("--version", action="version", version=f"csta-fast {__version__}")
    commands = parser.add_argument_group("commands (csta-fast COMMAND --help explains each)")
    for name, (_, words) in _COMMANDS.items():
        commands.add_argument(name, nargs="?", metavar=name, help=words)
    parser.parse_known_args([word for word in arguments if word.startswith("-")])
    known = ", ".join(_COMMANDS)
    raise ValueError(f"command: wanted one of {known}, got {' '.join(arguments) or 'none'}")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments else ""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's, about PyTorch
            # It does not know that metrics of torchmetrics are sums over all processes already.
            warnings.filterwarnings("ignore", ".*sync_dist=True.*")
            warnings.showwarning = _show
            _run(arguments)
    except ImportError as error:
        return _end(1, _MISSING.format(error))
    except (ValueError, OSError) as error:
        return _end(2, f"csta-fast: {as_typed(command, str(error))}")
    except FloatingPointError as error:
        return _end(1, f"csta-fast: {error}")
    except KeyboardInterrupt as error:
        return _end(130, f"csta-fast: interrupted; {error}".removesuffix("; "))
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        less = "; a smaller batch or network needs less" if command == "train" else ""
        return _end(1, f"csta-fast: out of memory{less}")
    return 0


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning, without the line of code that it comes from."""
    print(printable(f"csta-fast: {message}"), file=sys.stderr)


def _end(status: int, message: str) -> int:
    print(printable(message), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
