"""``csta-fast``: networks on skeleton recordings, and pictures of what they attend to."""

from __future__ import annotations

import logging
import sys
import warnings
from argparse import RawDescriptionHelpFormatter
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

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

A configuration file holds the same options; every training leaves its own as options.yaml, and
--print_config prints one. What the command line says comes before what the file says.
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
takes a source. It holds no pickle.
"""


def _parser() -> Any:
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    from csta_fast.data import FORMATS, ClipOptions
    from csta_fast.training.options import DataOptions, ModelOptions, TrainingOptions
    from csta_fast.version import __version__

    class AsWritten(RawDescriptionHelpFormatter, DefaultHelpFormatter):
        """Keeps the lines of a description; its examples are no paragraph."""

    made = partial(ArgumentParser, formatter_class=AsWritten)
    kinds = "kind of data set: " + ", ".join(FORMATS) + "; found out unless given"
    parser = made("csta-fast", description=_DESCRIPTION, version=__version__)
    commands = parser.add_subcommands(dest="command")

    train = made(description=_TRAIN)
    train.add_argument("--config", action="config", help="a YAML file of options")
    train.add_argument(
        "--output", type=str | None, help="folder; runs/SOURCE-AXES-seedSEED unless given"
    )
    train.add_argument("--resume", action="store_true", help="go on with the training in --output")
    for name, options in (
        ("data", DataOptions),
        ("clips", ClipOptions),
        ("model", ModelOptions),
        ("training", TrainingOptions),
    ):
        train.add_class_arguments(options, name)
    commands.add_subcommand("train", train, help="train a network")

    evaluate = made(description=_EVALUATE)
    plot = made(description=_PLOT)
    folder = "folder; that of the run unless given, or one in it for other data"
    for each in (evaluate, plot):
        each.add_argument("run", type=Path, help="a folder of csta-fast train, or a checkpoint")
        each.add_argument("--source", type=str | None, help="recordings, if not those trained with")
        each.add_argument("--kind", type=str | None, help=kinds)
        each.add_argument("--protocol", type=str | None, help="if not that trained with")
        each.add_argument("--output", type=Path | None, help=folder)
    plot.add_argument("--recording", type=str | None, help="its name; the mean of every class else")
    plot.add_argument("--clip", action="store_true", help="an animated clip of the recording, too")
    commands.add_subcommand("evaluate", evaluate, help="accuracy of a trained network")
    commands.add_subcommand("plot", plot, help="pictures of what it attends to")

    convert = made(description=_CONVERT)
    convert.add_argument("source", type=str, help="a folder, archive or file of recordings")
    convert.add_argument("output", type=Path, help="the file to write, *.npz")
    convert.add_argument("--kind", type=str | None, help=kinds)
    commands.add_subcommand("convert", convert, help="many small files into one")
    return parser


def _output(options: Any) -> Path:
    """Where a training goes."""
    source = Path(options.data.source).name.split(".")[0]
    named = f"runs/{source}-{options.model.axes}-seed{options.training.seed}"
    return Path(options.output or named)


def _files_first(arguments: list[str]) -> list[str]:
    """The same command, its files of options where whatever else it says overrides them."""
    files: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--config":
            files += [word, *islice(words, 1)]
        else:
            (files if word.startswith("--config=") else rest).append(word)
    return [*rest[:1], *files, *rest[1:]]


def _parsed(parser: Any, arguments: list[str]) -> Any:
    """The options: of files, a resumed training's first, and then what the command says."""
    arguments = _files_first(arguments)
    options = parser.parse_args(arguments)
    if options.command == "train" and options.train.resume:
        output = _output(options.train)
        if (output / "options.yaml").exists():
            began = [f"--config={output / 'options.yaml'}", f"--output={output}"]
            options = parser.parse_args([arguments[0], *began, *arguments[1:]])
    return options


def _train(options: Any) -> None:
    from csta_fast.training import Options, train

    output = _output(options)
    outcome = train(Options.from_dict(options.as_dict()), output, resume=options.resume)
    _print(outcome.figures, output)


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
    if options.output is not None:
        return Path(options.output)
    run = options.run if options.run.is_dir() else options.run.parent
    changes = _changes(options)
    others = [Path(changes["source"]).name.split(".")[0]] if "source" in changes else []
    others += [changes[name] for name in ("kind", "protocol") if name in changes]
    return Path(run, *(["on-" + "-".join(others)] if others else []))


def _changes(options: Any) -> dict[str, str]:
    """Which data, where it is not that of the training."""
    changes = {name: getattr(options, name) for name in ("source", "kind", "protocol")}
    return {name: value for name, value in changes.items() if value is not None}


def _evaluate(options: Any) -> None:
    from csta_fast.training import evaluate

    folder = _folder(options)
    outcome = evaluate(_checkpoint(options.run), folder, changes=_changes(options))
    _print(outcome.figures, folder)


def _plot(options: Any) -> None:
    from csta_fast.training.pictures import picture

    folder = _folder(options)
    files = picture(
        _checkpoint(options.run),
        folder,
        recording=options.recording,
        clip=options.clip,
        changes=_changes(options),
    )
    for file in files:
        print(file)


def _convert(options: Any) -> None:
    from csta_fast import data
    from csta_fast.data.formats import prepared

    prepared.check_target(options.output)  # before hours of reading
    collection = data.read(options.source, options.kind, progress=True)
    collection.save(options.output)
    count, skipped = len(collection.recordings), collection.skipped
    such = "".join(f", such as {name}: {reason}" for name, reason in list(skipped.items())[:1])
    print(
        f"{count} recordings of {collection.name} in {options.output}, {len(skipped)} skipped{such}"
    )


def _print(figures: dict[str, float], folder: str | Path) -> None:
    from lightning.pytorch.utilities import rank_zero_only

    if getattr(rank_zero_only, "rank", 0) != 0:  # one of many processes speaks for all
        return
    print(
        f"test: top-1 {100 * figures['top1']:.1f} %, top-5 {100 * figures['top5']:.1f} %, "
        f"loss {figures['loss']:.3f}; more in {folder}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status."""
    try:
        parser = _parser()
        options = _parsed(parser, sys.argv[1:] if arguments is None else arguments)
        commands = {
            "train": _train,
            "evaluate": _evaluate,
            "plot": _plot,
            "convert": _convert,
        }
        for name in ("lightning.pytorch", "lightning.fabric"):  # what they found, and advertise
            logging.getLogger(name).setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's, about PyTorch
            commands[options.command](options[options.command])
    except ImportError as error:
        print(_MISSING.format(error), file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"csta-fast: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
