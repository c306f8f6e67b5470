"""How fast files became frames, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from specvlm.bench.reading.measuring import STAGES
from specvlm.bench.reading.readers import OWN
from specvlm.bench.showing.report import Grid


def grid_of(record: Mapping[str, Any]) -> Grid:
    """What `run` found: a row for each reader of each film."""
    rows, problems = [], []
    for film in record["films"]:
        answered = film["first_token"]
        for line in film["readers"]:
            if line.get("problem"):
                rows.append((f"{film['film']}: {line['reader']}", *["-"] * 6))
                problems.append(f"{line['reader']} gives no frames of {film['film']}: {line['problem']}.")
                continue
            frames = statistics.median(line["seconds"])
            whole = statistics.median(
                answered["from_file"] if line["reader"] == OWN else [frames + each for each in answered["from_frames"]]
            )
            stages = [f"{answered['stages'][name]:.2f}" for name in STAGES]
            same = "yes" if line["same"] else "no"
            rows.append((f"{film['film']}: {line['reader']}", f"{frames:.2f}", same, *stages, f"{whole:.2f}"))
    about, host = record["reading"], record["machine"]
    note = (
        f"{about['num_frames']} frames of films of {about['seconds']:g} s; medians of {about['repeats']} turns, all "
        f"readers in turn; {host['cpu']}, {host['cores']} cores. `frames`: seconds from the file to RGB frames, and "
        "whether they are those of a straight decode to the bit. The stages are those of frames that are there, "
        f"with {about['pair']}. `first token`: of specvlm from the file, measured in one piece; of others what they "
        "take for the frames, and then as long as these frames need. "
        + ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        + "."
    )
    head = ("film, reader", "frames (s)", "same", *STAGES, "first token (s)")
    return Grid("From a file to the first token", head, tuple(rows), (note, *problems))
