"""What each table and figure of the publication needs, made from the records, or what is still missing for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.grid.catalogue import load_study
from benchmarks.grid.cells import Cell, Protocol
from benchmarks.study import MODULE
from benchmarks.study.learners import (
    AC,
    AMP_DRL,
    NETWORKS_BY_LABELS,
    PIXELRL,
    PIXELRL_ON_UNET3P,
    Q_LEARNERS,
    REFERENCES,
    SUBJECT,
    UNET,
)
from benchmarks.study.reading import Records

ROOT = Path("benchmarks/records")
SYSTEMS_64 = ROOT / "systems"
GRID = ROOT / "grid"

_AGENTS = (SUBJECT.name, AC.name, *(one.name for one in Q_LEARNERS))
_NETWORKS = tuple(one.name for one in NETWORKS_BY_LABELS)
_PIXELRL = (PIXELRL.name, PIXELRL_ON_UNET3P.name)
NNUNET = "nnunetv2"  # the real one, whose command, environment and study are its own
NNUNET_STUDY = "benchmarks.nnunet"
_ALL = (*(one.name for one in REFERENCES), *_NETWORKS, UNET.name, AMP_DRL.name, *_PIXELRL, *_AGENTS)


@dataclass(frozen=True)
class Plan:
    """A table or figure.

    Attributes:
        title: what it shows.
        name: of the table in `report.tables`, or of the function in `figures.DRAWN`.
        agents: learners of the study, and `NNUNET`.
        settings: that they are trained under.
        folds: fifths of the patients; none: the split 70/10/20.
        datasets: the publication's.
        records: where its records are kept.
        data: whether it shows images, and so needs the data.
    """

    title: str
    name: str
    agents: tuple[str, ...]
    settings: tuple[str, ...] = ("default",)
    folds: tuple[int, ...] = ()
    datasets: tuple[str, ...] = ("brain", "cardiac")
    records: Path = GRID
    data: bool = False

    def cells(self, dataset: str, data: Sequence[str], seeds: Sequence[int], protocol: Protocol) -> Iterator[Cell]:
        """Every training that it needs; settings that change nothing about a learner are left out."""
        for seed in seeds:
            for setting in self.settings:
                for agent in self.agents:
                    module = NNUNET_STUDY if agent == NNUNET else MODULE
                    for fold in self.folds or (None,):
                        if load_study(module).learner(agent).reference and (seed, setting) != (seeds[0], "default"):
                            continue
                        cell = Cell(dataset, tuple(data), agent, setting, seed, fold, protocol, study=module)
                        if cell.applies:
                            yield cell


_SHOTS = ("fcn8s", "unet-31m", "attention-unet", "resunet++", "unet++", "unet3+")
_PET = ("unet-31m", "attention-unet", "nnunet", "transunet")
_FOLDS = ("unet-31m", "transunet")
_SAM = ("default", "no-sam", "no-dilation", "no-sam-no-dilation")


def _supervised(names: tuple[str, ...]) -> tuple[str, ...]:
    learners = {one.hyper["network"]: one.name for one in NETWORKS_BY_LABELS}
    return tuple(learners[name] for name in names)


TABLES = {
    2: Plan("every system", "table-2", (*_ALL, NNUNET), records=SYSTEMS_64),
    3: Plan("PA3C's SAM and dilation", "table-3", (SUBJECT.name,), _SAM),
    4: Plan("few training images", "table-4", (*_supervised(_SHOTS), *_AGENTS), ("50-shot", "100-shot")),
    5: Plan(
        "HECKTOR 2020, slices of PET",
        "table-5",
        (*_supervised(_PET), AMP_DRL.name, AC.name, SUBJECT.name),
        datasets=("hecktor",),
        records=ROOT / "hecktor",
    ),
    6: Plan("five folds", "table-6", (*_supervised(_FOLDS), AC.name, SUBJECT.name), folds=(0, 1, 2, 3, 4)),
}
FIGURES = {
    3: Plan("the same images by every system", "examples", _ALL, records=SYSTEMS_64, data=True),
    4: Plan("PA3C's map step by step", "carving", (SUBJECT.name,), records=SYSTEMS_64, data=True),
    5: Plan("PA3C beside PixelRL", "bars", (SUBJECT.name, *_PIXELRL), records=SYSTEMS_64),
    6: Plan("learning curves of PA3C and PixelRL", "learning", (SUBJECT.name, *_PIXELRL), records=SYSTEMS_64),
    7: Plan("trained at one t_max, judged at others", "horizons", (SUBJECT.name,), ("t_max-1", "t_max-5", "t_max-10")),
}


def missing(cells: Sequence[Cell], records: Records) -> list[Cell]:
    """The cells that have no record."""
    return [
        cell
        for cell in cells
        if not any(
            r["cell"]["seed"] == cell.seed and r["cell"]["fold"] == cell.fold
            for r in records.get(cell.agent, cell.setting, folds=cell.fold is not None)
        )
    ]
