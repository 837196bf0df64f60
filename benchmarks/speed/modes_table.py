"""The table of modes, from the records of `benchmarks.speed.modes`.

    python -m benchmarks.speed.modes_table benchmarks/records/speed/modes-{cpu,compiled}.json

Every mode's column is of the first record that has it. All ratios are to float32 within the record that they are of.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.records import read_record
from benchmarks.speed.modes import MODES
from benchmarks.speed.report import Record, markdown


def table(records: Sequence[Record]) -> str:
    """Markdown: a row for every size, width and network of the first record, a column for every mode of any record."""
    found = [{(row["network"], row["size"], row["width"]): row["modes"] for row in each["modes"]} for each in records]
    modes = [name for name in map(str, MODES[1:]) if any(name in row for each in found for row in each.values())]
    header = ["network", "size", "width", f"{MODES[0]}, ms", *modes]
    rows = []
    for key, first in found[0].items():
        of: list[Record] = [
            next((each[key][mode] for each in found if mode in each.get(key, {})), {}) for mode in modes
        ]
        ratios = [f"{one['of_fp32']:.2f}" if "of_fp32" in one else "" for one in of]
        rows.append([key[0], str(key[1]), f"{key[2]:g}", f"{first[str(MODES[0])]['ms']:.0f}", *ratios])
    return markdown([header, *rows])


if __name__ == "__main__":
    print(table([read_record(Path(name)) for name in sys.argv[1:]]))
