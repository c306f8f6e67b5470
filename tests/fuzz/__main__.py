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
SEED, NUMBER = 21, 1000
SHOWN = 4000
"""Characters of an output that are shown of a case that is tried alone."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--number", type=int, default=NUMBER, help="how many inputs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="where it notes what is finished")
    parser.add_argument("--kind", help="only cases of this kind")
    parser.add_argument(
        "--only", metavar="NAME", help="only this case, with all that it says; it is tried, finished or not"
    )
    parser.add_argument("--page", type=Path, help="put the table into this page, between its comments")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="specvlm-fuzz-") as work:
        os.environ["XDG_CACHE_HOME"], os.environ["TMPDIR"] = f"{work}/cache", f"{work}/tmp"
        tempfile.tempdir = None
        Path(work, "tmp").mkdir()
        return _run(asked, Path(work))


def _run(asked: argparse.Namespace, work: Path) -> int:
    from fuzz.kinds import KINDS
    from fuzz.material import warm_up
    from fuzz.running.crowd import chosen, tried
    from fuzz.running.log import Log
    from fuzz.running.sandbox import Bounds
    from fuzz.running.table import faults, table

    warm_up()
    bounds = Bounds()
    cases = chosen(KINDS, asked.seed, asked.number)
    if asked.kind:
        cases = [(kind, case) for kind, case in cases if kind == asked.kind]
    if asked.only:
        return _alone(cases, asked, work, bounds)
    log = Log(asked.folder, asked.seed)
    done = {each.whole_name for each in log.finished}
    left = [(kind, case) for kind, case in cases if f"{kind}/{case.name}" not in done]
    for each in tried(left, work / "cases", seed=asked.seed, jobs=asked.jobs, bounds=bounds):
        log.add(each)
        if not each.verdict.is_right:
            _say(next(faults([each])))
        elif len(log.finished) % 50 == 0:
            _say(f"{len(log.finished)} of {len(cases)}")
    wanted = {f"{kind}/{case.name}" for kind, case in cases}
    finished = [each for each in log.finished if each.whole_name in wanted]
    text = table(finished)
    print(f"\n{text}")
    wrong = list(faults(finished))
    print("\n".join(["", *wrong]) if wrong else "\nNone ended as none may.")
    if asked.page is not None:
        from specvlm.bench.pocket_pairs import put
        from specvlm.machine import machine

        cold = sum(each.cold for each in finished)
        about = f"{len(finished)} inputs of seed {asked.seed}, {cold} of them from a cold start; {machine()['cpu']}."
        put(asked.page, "fuzz", f"{about}\n\n{text}")
    return int(bool(wrong))


def _alone(cases: list, asked: argparse.Namespace, work: Path, bounds: object) -> int:
    """Try one case, and show what it said."""
    from fuzz.running.crowd import tried
    from fuzz.running.table import faults

    found = [(kind, case) for kind, case in cases if asked.only in (case.name, f"{kind}/{case.name}")]
    if not found:
        _say(f"there is no case {asked.only} among {len(cases)}: another seed or number has others")
        return 2
    _, case = found[0]
    _say(f"specvlm {case.argv!r}"[:SHOWN] if not case.python else case.python)

    def show(_: object, attempt: object) -> None:
        _say(f"{attempt}"[:SHOWN])

    wrong = [
        fault
        for each in tried(found[:1], work / "cases", seed=asked.seed, jobs=1, bounds=bounds, on_attempt=show)
        for fault in (f"{each.verdict}", *faults([each]))
    ]
    _say("\n".join(wrong))
    return int(len(wrong) > 1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
