"""The trainer that shares each step among processes: the same rows, sums and steps as in one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from harness import processes
from harness.train.data import IGNORED_LABEL

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.nn.parallel import DistributedDataParallel
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from trl import SFTTrainer


class InOrder(torch.utils.data.Sampler[int]):
    """The rows in the order of one process, then the blank ones that fill the last batches of an epoch."""

    def __init__(self, rows: int, blanks: int, seed: int) -> None:
        from accelerate.data_loader import SeedableRandomSampler

        self._inner = SeedableRandomSampler(range(rows), data_seed=seed)
        self._rows, self._blanks = rows, blanks

    def __iter__(self) -> Iterator[int]:
        yield from self._inner
        yield from range(self._rows, self._rows + self._blanks)

    def __len__(self) -> int:
        return self._rows + self._blanks

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass that of this epoch."""
        self._inner.set_epoch(epoch)


def with_blanks(dataset: Dataset, multiple: int) -> Dataset:
    """Return the dataset filled up to a multiple of so many rows with rows that nothing is learnt from."""
    from datasets import Dataset, concatenate_datasets

    missing = -len(dataset) % multiple
    if not missing:
        return dataset
    blank = {name: value[:2] if isinstance(value, list) else value for name, value in dataset[0].items()}
    blank["labels"] = [IGNORED_LABEL] * len(blank["input_ids"])
    if "seq_lengths" in blank:
        blank["seq_lengths"] = [len(blank["input_ids"])]
    return concatenate_datasets([dataset, Dataset.from_list([blank] * missing, features=dataset.features)])


def trainer_class(nonblocking: bool) -> type[SFTTrainer]:
    """Return trl's SFTTrainer, one whose steps do not wait for the GPU, or one that keeps several processes in step."""
    from trl import SFTTrainer

    from harness.train.nonblocking_trainer import NonBlockingTrainer

    if processes.sharded():
        return type("ShardedTrainer", (_RowsInOrder, SFTTrainer), {})
    if processes.count() > 1:
        return type("SharedTrainer", (_SharedSteps, _RowsInOrder, NonBlockingTrainer), {})
    return NonBlockingTrainer if nonblocking else SFTTrainer


class _RowsInOrder:
    """Gives each process its part of what one process would take."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        from transformers import TrainerCallback

        super().__init__(*args, **kwargs)
        me: SFTTrainer = self
        if me.args.train_sampling_strategy != "random":
            return
        each = me.args.per_device_train_batch_size * processes.count()
        rows, me.train_dataset = me.train_dataset, with_blanks(me.train_dataset, each)
        in_order = self._in_order = InOrder(len(rows), len(me.train_dataset) - len(rows), me.args.data_seed)

        class Epochs(TrainerCallback):  # type: ignore[misc]  # transformers ships no types for it
            """Tells the sampler its epoch: accelerate does not where it shares batches out."""

            def on_epoch_begin(
                self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
            ) -> None:
                in_order.set_epoch(int(state.epoch or 0))

        me.add_callback(Epochs())

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler[int] | None:
        me: SFTTrainer = super()
        return self._in_order if hasattr(self, "_in_order") else me._get_train_sampler(train_dataset)


class _SharedSteps:
    """Adds gradients up once a step, in one exchange, with a word on whether the memory of each process sufficed.

    DistributedDataParallel would add them up on the way: a process that runs out of memory then leaves the others
    waiting for it. Such a one takes part with nothing until all have read of it: a step later, before the step is
    logged or goes into a checkpoint. What was evaluated meanwhile is evaluated again.
    """

    _out_of_memory = False

    def training_step(
        self,
        model: DistributedDataParallel,
        inputs: dict[str, torch.Tensor],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Learn from a micro-batch; after the last of a step, average what all processes learnt."""
        me: SFTTrainer = self
        parent: SFTTrainer = super()
        loss = torch.zeros((), device=me.args.device)
        if not self._out_of_memory:
            gather, me.accelerator.gather_for_metrics = me.accelerator.gather_for_metrics, _alone
            try:
                with model.no_sync():
                    loss = parent.training_step(model, inputs, num_items_in_batch)
            except torch.OutOfMemoryError:
                self._out_of_memory = True
            finally:
                me.accelerator.gather_for_metrics = gather
        if self._out_of_memory:
            model.zero_grad()
        if me.accelerator.sync_gradients:
            me.note_memory(self._out_of_memory)
            me.gradients.average()
        return loss


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """Stand in for what gathers figures of the log from all processes, which a failed one would not come to."""
    return tensor
