"""Cases that end as none may, one of each way, to see that they are noticed: `python -m fuzz.planted FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fuzz.case import Case, nothing
from fuzz.running.sandbox import Bounds
from fuzz.running.session import Session

BOUNDS = Bounds(seconds=2.0, memory=2**29)
REFUSE = "from specvlm.errors import OptionError; raise OptionError('no')"
LARGE = "held = bytearray(2**29 + 2**26); held[::4096] = bytes(len(held[::4096]))"

CASES = [
    Case("right", [], nothing, "answers", "right", "print('all right')"),
    Case("refused", [], nothing, "refused", None, REFUSE),
    Case("traceback", [], nothing, "either", None, "1 / 0"),
    Case("signal", [], nothing, "either", None, "import os; os.kill(os.getpid(), 11)"),
    Case("hang", [], nothing, "either", None, "import time; time.sleep(600)"),
    Case("large", [], nothing, "either", None, f"import time\n{LARGE}\ntime.sleep(600)"),
    Case("large-for-a-moment", [], nothing, "either", None, f"{LARGE}\ndel held"),
    Case("wrong", [], nothing, "answers", "right", "print('something else')"),
    Case("answered", [], nothing, "refused", None, "print('never mind')"),
    Case("two-lines", [], nothing, "refused", None, f"import sys; print('well', file=sys.stderr)\n{REFUSE}"),
    Case("refused-for-nothing", [], nothing, "answers", None, REFUSE),
    Case("unheard", [], lambda here: (here / "stdout").symlink_to("/dev/full"), "answers", None, "print('all')"),
]


def cases(seed: int) -> Iterator[Case]:
    yield from CASES


def main() -> int:
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as work:
        return Session(
            kinds={"planted": cases},
            seed=0,
            number=len(CASES),
            jobs=4,
            folder=folder,
            work=Path(work, "cases"),
            bounds=BOUNDS,
        ).run()


if __name__ == "__main__":
    sys.exit(main())
