"""A thousand inputs that nobody should have given, each to a command in a process of its own: `make fuzz`.

Ended at any time and started again, it goes on. Exits with 1 if a case ended in a traceback, beyond its bounds,
silently wrong or in any other way than was promised, and says how to repeat it alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "TORCH_LOGS": "-all"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--number", type=int, default=1000, help="how many inputs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="where it notes what is finished")
    parser.add_argument("--kind", help="only cases of this kind")
    parser.add_argument("--only", metavar="NAME", help="only this case, finished or not, with all that it says")
    parser.add_argument("--page", type=Path, help="put the table into this page, between its comments")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="specvlm-fuzz-") as work:
        os.environ["XDG_CACHE_HOME"], os.environ["TMPDIR"] = f"{work}/cache", f"{work}/tmp"
        tempfile.tempdir = None
        Path(work, "tmp").mkdir()

        from fuzz.kinds import KINDS
        from fuzz.material import warm_up
        from fuzz.running.session import Session

        warm_up()
        session = Session(
            kinds=KINDS,
            seed=asked.seed,
            number=asked.number,
            jobs=asked.jobs,
            folder=asked.folder,
            work=Path(work, "cases"),
            kind=asked.kind,
        )
        return session.run(asked.page) if asked.only is None else session.alone(asked.only)


if __name__ == "__main__":
    sys.exit(main())
