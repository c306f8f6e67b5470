"""What a tower makes of frames: read from the disk if it was kept, and kept if it wasn't."""

from __future__ import annotations

from specvlm.families.base import Family, Seen
from specvlm.families.kept.circumstances import of_seeing
from specvlm.families.whereabouts import device_of_work
from specvlm.prompts.disk import UnbelievableError
from specvlm.prompts.prompt import Prompt


def seen(family: Family, prompt: Prompt) -> Seen:
    """`family.see(prompt)`, or what that was for the same frames of the same clips, seen together by the same tower.

    Together: in another company a frame may be rounded otherwise. So what a draft saw of some frames is never taken for
    what a target would see of all.
    """
    frame_ids = prompt.frame_ids[prompt.place_ids >= 0].unique()
    circumstances = None if prompt.album is None or not len(frame_ids) else of_seeing(family)
    if prompt.album is None or circumstances is None:
        return family.see(prompt)
    facts = {"seen": circumstances, "frames": frame_ids.tolist()}
    if (entry := prompt.album.recall(facts)) is not None:
        try:
            device = device_of_work(family.tower[0])
            states = [entry.tensor(f"state{number}").to(device) for number in range(len(entry.shapes) - 1)]
            return Seen(frame_ids, tuple(states), entry.tensor("sizes"))
        except UnbelievableError:
            pass
    made = family.see(prompt)
    states = {f"state{number}": state for number, state in enumerate(made.states)}
    prompt.album.keep(facts, {"sizes": made.sizes, **states})
    return made
