"""Recordings as Lightning wants them: three loaders of clips."""

from __future__ import annotations

from collections.abc import Sequence

import lightning
import torch
from torch.utils.data import DataLoader

from csta_fast.data import Batch, Clips, Collection, EpochSampler, Recording, collate
from csta_fast.training.checkpoint import Facts
from csta_fast.training.options import FOLDS, DataOptions, Options


def held_back(
    recordings: Sequence[Recording], fold: int
) -> tuple[list[Recording], list[Recording]]:
    """Recordings to train on, and those of every fifth subject, to validate on.

    Raises:
        ValueError: there are no two subjects, or a recording does not know its subject.
    """
    known = {recording.subject for recording in recordings}
    subjects = sorted(subject for subject in known if subject is not None)
    if len(subjects) < 2 or None in known:
        raise ValueError(
            "validation: 'subjects' wants recordings of at least two known subjects to train on, "
            f"got {len(subjects)}; choose 'test' or 'none'"
        )
    folds = min(FOLDS, len(subjects))
    chosen = set(subjects[fold % folds :: folds])
    return (
        [recording for recording in recordings if recording.subject not in chosen],
        [recording for recording in recordings if recording.subject in chosen],
    )


def _sides(
    collection: Collection, options: DataOptions
) -> tuple[list[Recording], list[Recording], list[Recording]]:
    """Recordings to train, validate and test on."""
    train, test = collection.split(options.protocol)
    if options.validation == "subjects":
        return (*held_back(train, options.fold), test)
    return train, test if options.validation == "test" else [], test


class ClipsModule(lightning.LightningDataModule):
    """Clips to train, validate and test on, each process its share."""

    def __init__(self, collection: Collection, options: Options, facts: Facts) -> None:
        super().__init__()
        self.options = options
        seed = options.training.seed
        self.protocol = options.data.protocol or next(iter(collection.protocols), None)
        sides = _sides(collection, options.data)
        self.train, self.validation, self.test = (
            Clips(
                side,
                collection.layout,
                options.clips,
                persons=facts.persons,
                training=number == 0,
                seed=seed,
            )
            for number, side in enumerate(sides)
        )

    def check_classes(self) -> None:
        """Raise ValueError unless there are two classes to tell apart."""
        labels = {recording.label for recording in self.train.recordings}
        if len(labels) < 2:
            raise ValueError(
                f"protocol: wanted recordings of at least two classes to train on, got "
                f"{len(self.train)} of {len(labels)} under {self.protocol!r}"
            )

    def _loader(self, clips: Clips, *, shuffle: bool = False) -> DataLoader[Batch]:
        processes = self.trainer.world_size if self.trainer else 1
        rank = self.trainer.global_rank if self.trainer else 0
        batch = self.options.training.batch
        if batch % processes:
            raise ValueError(f"batch: wanted a multiple of {processes} processes, got {batch}")
        workers = self.options.data.workers
        return DataLoader(
            clips,
            batch // processes,
            sampler=EpochSampler(
                len(clips),
                shuffle=shuffle,
                seed=self.options.training.seed,
                rank=rank,
                processes=processes,
            ),
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            # A loader draws a seed for its workers whenever it begins anew; from a generator of its
            # own, or dropout would depend on when that was.
            generator=torch.Generator(torch.get_default_device()),
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        return self._loader(self.validation) if len(self.validation) else []

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.test)
