"""What a command says when it fails: a sentence, and an exit code, in place of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pixelseg_env import PixelSegError


def exit_code(main: Callable[[], int | None]) -> int:
    """Runs a command; what users can put right is told on standard error.

    Returns:
        What the command returns, 0 for None; 2 if it was asked for what cannot be; 130 if it was interrupted.
    """
    try:
        return main() or 0
    except PixelSegError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"benchmarks: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: stopped; what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
