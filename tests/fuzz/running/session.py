"""A fuzz from its cases to its table, and from the log of one that was ended."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.case import Case, Generator
from fuzz.running.crowd import Named, chosen, tried
from fuzz.running.log import Log
from fuzz.running.sandbox import Attempt, Bounds
from fuzz.running.table import faults, table

SHOWN = 4000
"""Characters of an output that are shown of a case that is tried alone."""
EVERY = 50


@dataclass(frozen=True, kw_only=True)
class Session:
    """What is tried, and how: `number` cases of these kinds, `jobs` at once, below the folder `work`; what is finished
    is noted in `folder`."""

    kinds: dict[str, Generator]
    seed: int
    number: int
    jobs: int
    folder: Path
    work: Path
    bounds: Bounds = field(default_factory=Bounds)
    kind: str | None = None
    """Only cases of this one."""

    def cases(self) -> list[Named]:
        found = chosen(self.kinds, self.seed, self.number)
        return [(kind, case) for kind, case in found if self.kind in (None, kind)]

    def run(self, page: Path | None = None) -> int:
        """Try what isn't finished, print the table, and put it into a page; the exit code."""
        cases, log = self.cases(), Log(self.folder, self.seed)
        done = {each.whole_name for each in log.finished}
        left = [(kind, case) for kind, case in cases if f"{kind}/{case.name}" not in done]
        for each in tried(left, self.work, seed=self.seed, jobs=self.jobs, bounds=self.bounds):
            log.add(each)
            if not each.verdict.is_right:
                _say(next(faults([each])))
            elif len(log.finished) % EVERY == 0:
                _say(f"{len(log.finished)} of {len(cases)}")
        wanted = {f"{kind}/{case.name}" for kind, case in cases}
        finished = [each for each in log.finished if each.whole_name in wanted]
        wrong = list(faults(finished))
        print("\n".join(["", table(finished), "", *(wrong or ["None ended as none may."])]))
        if page is not None:
            from specvlm.bench.pocket_pairs import put
            from specvlm.machine import machine

            cold = sum(each.cold for each in finished)
            about = f"{len(finished)} inputs of seed {self.seed}, {cold} of them from a cold start; {machine()['cpu']}."
            put(page, "fuzz", f"{about}\n\n{table(finished)}")
        return int(bool(wrong))

    def alone(self, name: str) -> int:
        """Try one case, finished or not, and show all that it says; the exit code."""
        found = [(kind, case) for kind, case in self.cases() if name in (case.name, f"{kind}/{case.name}")]
        if not found:
            _say(f"there is no case {name} among {self.number}: another seed or number has others")
            return 2
        _say((found[0][1].python or f"specvlm {found[0][1].argv!r}")[:SHOWN])

        def show(case: Case, attempt: Attempt) -> None:
            _say(f"{attempt.stdout[:SHOWN]}\n--- {case.name}, exit code {attempt.code}\n{attempt.stderr[:SHOWN]}")

        [each] = tried(found[:1], self.work, seed=self.seed, jobs=1, bounds=self.bounds, on_attempt=show)
        _say("\n".join([f"{each.verdict}: {each.seconds:.1f} s, {each.memory / 2**30:.2f} GB", *faults([each])]))
        return int(not each.verdict.is_right)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
