"""Which data set a command's DATA are, where `--dataset` does not say it."""

from __future__ import annotations

from pathlib import Path

from pixelseg_env import OptionError, registered_datasets
from pixelseg_env.datasets import guess_dataset


def which_dataset(command: str, data: tuple[Path, ...], dataset: str | None) -> tuple[str, str, tuple[Path, ...]]:
    """The data set's name, why it is that, and its data.

    Args:
        command: for messages.
        data: folders, tables, or the name of a data set that needs none.
        dataset: what `--dataset` says.

    Raises:
        OptionError: nothing is named, or it cannot be told what the data are.
    """
    if dataset is not None:
        return dataset, "as you say", data
    if not data:
        raise OptionError(f"{command}: nothing to look at; expected a folder or a table (.csv), or --dataset phantom")
    if len(data) == 1 and str(data[0]) in registered_datasets() and not data[0].exists():
        return str(data[0]), "as you say", ()
    name, reason = guess_dataset(data)
    return name, f"for {reason}; --dataset says otherwise", data
