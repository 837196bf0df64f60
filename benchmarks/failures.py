"""What a command says when it fails: a sentence, and an exit code, in place of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from pixelseg_env import PixelSegError


def exit_code(main: Callable[[], int | None]) -> int:
    """Runs a command; what users can put right is told on standard error.

    Returns:
        What the command returns, 0 for None; 1 if nobody reads what it prints; 2 if it was asked for what cannot be;
        130 if it was interrupted.
    """
    try:
        return main() or 0
    except PixelSegError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read on has had enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush complains
        return 1
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"benchmarks: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: stopped; what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
