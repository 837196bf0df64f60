"""What each departure from the publication is worth: one change at a time, equal passes, validation patients.

python -m benchmarks.ablations --dataset brain --data FOLDER FOLDER
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro
from pixelseg_agents import PA3CConfig

from benchmarks.compare import Compare
from benchmarks.records import read_records

CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "t_max-10-throughout": {"horizons": (10,)},
    "no-foreground-weight": {"foreground_weight": 1.0},
    "no-later-background-weight": {"later_background_weight": 1.0},
    "no-augmentation": {"augmentation": False},
    "no-normalisation": {"norm": "none"},
    "learning-rate-as-published": {"learning_rate_schedule": "epochs"},
    "reward-map-convolution-9": {"reward_map_convolution": 9},
    "final-foreground-weight-2": {"final_foreground_weight": 2.0},
    "head-stride-2": {"head_stride": 2},
    "published": PA3CConfig.published(width=0.25).to_dict(),
}


@dataclasses.dataclass
class Ablations:
    """Trains one PA3C per change."""

    dataset: str = "brain"
    """Data set."""
    data: tuple[str, ...] = ()
    """Its folders."""
    passes: int = 12_000
    """Network passes of one image, the same for each."""
    only: tuple[str, ...] = ()
    """Names of the changes to run; default: all."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of training."""
    batch: int = 8
    """Images per network pass."""
    out: Path = Path("benchmarks/records/ablations")
    """Folder of the records, one sub-folder per change."""


def updates_for(config: PA3CConfig, passes: int, batch: int) -> int:
    """Updates whose horizons add up to a number of network passes of one image."""
    shares = sum(config.shares)
    per_pass = sum(share / horizon for share, horizon in zip(config.shares, config.horizons, strict=True))
    return round(passes / batch * per_pass / shares)


def table(out: Path) -> str:
    """A row per change, mean Dice over the validation images after step 1 and 10."""
    lines = ["| change | seed | step 1 | step 10 | passes |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in CHANGES:
        for record in read_records(out / name):
            curve = record["evaluation"]["summary"]["dice_by_step"]
            lines.append(
                f"| {name} | {record['seed']} | {curve[0]:.3f} | {curve[-1]:.3f} | {record['image_passes']:,} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Runs the changes one after the other and prints the table."""
    options = tyro.cli(Ablations, description=__doc__)
    for name in options.only or CHANGES:
        config = PA3CConfig(**CHANGES[name]).for_task("absorbing", "masked")
        compare = Compare(
            dataset=options.dataset,
            data=options.data,
            batch=options.batch,
            updates=updates_for(config, options.passes, options.batch),
            splits=("val",),
            out=options.out / name,
            hyper=config,
        )
        for seed in options.seeds:
            compare.cell("pa3c", seed)
    print(table(options.out))


if __name__ == "__main__":
    main()
