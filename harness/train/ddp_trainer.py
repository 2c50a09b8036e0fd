"""The trainer that shares each step among processes: the same rows, sums and steps as in one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from harness import processes
from harness.train.data import IGNORED_LABEL


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


def with_blanks(dataset: Any, multiple: int) -> Any:
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


def trainer_class() -> Any:
    """Return trl's SFTTrainer; where several processes train together, one that keeps them in step."""
    from torch.nn.parallel import DistributedDataParallel
    from transformers import TrainerCallback
    from trl import SFTTrainer

    if processes.count() == 1:
        return SFTTrainer

    class Epochs(TrainerCallback):  # type: ignore[misc]  # transformers ships no types for it
        """Tells the sampler its epoch: accelerate does not where it shares batches out."""

        def __init__(self, sampler: InOrder) -> None:
            self._sampler = sampler

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._sampler.set_epoch(int(state.epoch or 0))

    class SharedTrainer(SFTTrainer):  # type: ignore[misc]  # trl ships no types for it
        """Adds gradients up once a step, after all processes have said that their memory sufficed.

        DistributedDataParallel would add them up on the way: a process that runs out of memory then leaves the others
        waiting for it.
        """

        _out_of_memory = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.args.train_sampling_strategy == "random":
                rows: Any = self.train_dataset
                each = self.args.per_device_train_batch_size * processes.count()
                self.train_dataset: Any = with_blanks(rows, each)
                self._in_order = InOrder(len(rows), len(self.train_dataset) - len(rows), self.args.data_seed)
                self.add_callback(Epochs(self._in_order))

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if self.args.train_sampling_strategy == "random":
                return self._in_order
            return super()._get_train_sampler(train_dataset)

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            """Learn from a micro-batch; after the last of a step, add up what all processes learnt.

            Raises:
                OutOfMemoryError: the memory of some process did not suffice.
            """
            if not isinstance(model, DistributedDataParallel):  # sharded: the sums are made on the way
                return super().training_step(model, inputs, num_items_in_batch)
            loss = torch.zeros((), device=self.args.device)
            if not self._out_of_memory:
                gather, self.accelerator.gather_for_metrics = self.accelerator.gather_for_metrics, _alone
                try:
                    with model.no_sync():
                        loss = super().training_step(model, inputs, num_items_in_batch)
                except torch.OutOfMemoryError:
                    self._out_of_memory = True
                finally:
                    self.accelerator.gather_for_metrics = gather
            if self._out_of_memory:
                model.zero_grad()
            if self.accelerator.sync_gradients:
                if processes.any_rank(self._out_of_memory):
                    raise torch.OutOfMemoryError("the memory of one of the processes did not suffice")
                _average(model)
            return loss

    return SharedTrainer


def _alone(tensor: Any) -> Any:
    """Stand in for what gathers figures of the log from all processes, which a failed one would not come to."""
    return tensor


def _average(model: torch.nn.Module) -> None:
    """Replace each gradient by its mean over the processes, in one exchange."""
    import torch.distributed as dist

    gradients = [value.grad for value in model.parameters() if value.requires_grad and value.grad is not None]
    flat: Any = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= processes.count()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
