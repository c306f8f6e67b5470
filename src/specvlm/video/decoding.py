"""Decode the frames that are wanted from a video file, and no more than is needed for them.

1. **Scan**: read all packets without decoding any. Headers lie about frame counts and rates; packets know when
   each frame is shown and where decoding can start.
2. **Choose** frames by their exact times.
3. **Decode** from the nearest keyframe on, seeking over what isn't needed, and leaving out frames that nobody asked for
   and that no other frame is decoded from; by several decoders at once, each with a stretch of the file, if there are
   cores for them. All that comes out is compared with what the packets promised, so the frames are those of a decode
   from start to end.
4. Where packets don't tell (no timestamps, damage, keyframes that are none), decode **everything** to learn which
   frames exist, and then once more to pick them. Slower, always right, and no more memory than the frames chosen.

PyAV scans, and says what is damaged; who decodes in step 3 is a matter of the backend. In which order frames are shown,
and when, is said by the packets where they agree with the decoder, and by `clock.presented` where they don't.
"""

from __future__ import annotations

from dataclasses import replace
from typing import overload

import numpy as np
from jaxtyping import Int64, Shaped

from specvlm.errors import VideoError
from specvlm.names import VideoBackend
from specvlm.video.backends import passes_by, pyav, readers
from specvlm.video.clip import Video
from specvlm.video.files.container import BinaryFile, VideoFile, blaming
from specvlm.video.files.intact.seals import broken_seals
from specvlm.video.files.packets import Scan
from specvlm.video.moving_pictures import read_pictures
from specvlm.video.sampling import Choose
from specvlm.video.screening.programme import Audience, Programme


def decode(file: BinaryFile, name: str, choose: Choose, backend: VideoBackend = "auto") -> Video:
    """Read the frames that `choose` asks for. `file` must be seekable; the video starts at its first byte.

    Frames are upright (the file's rotation and mirroring are applied, to quarter turns) and RGB, in stored pixels: a
    pixel aspect ratio other than 1 is not applied, and frames of a stream that changes its size midway are scaled
    to the first one chosen. High dynamic range is not tone-mapped. `choose` is asked a second time if the decoder finds
    fewer frames than the file promised. Raises `VideoError`, whose messages say `name`.
    """
    return decode_before(None, file, name, choose, backend)


@overload
def decode_before(
    audience: None, file: BinaryFile, name: str, choose: Choose, backend: VideoBackend = "auto"
) -> Video: ...


@overload
def decode_before(
    audience: Audience, file: BinaryFile, name: str, choose: Choose, backend: VideoBackend = "auto"
) -> Video | None: ...


def decode_before(
    audience: Audience | None, file: BinaryFile, name: str, choose: Choose, backend: VideoBackend = "auto"
) -> Video | None:
    """`decode`, but an audience is shown the frames as they are decoded, where packets tell which there will be. None
    if it was shown them all. Where they don't, or the decoder doesn't bear them out, it is the video, and what the
    audience was shown is void."""
    file = file if audience is None else audience.attending(file)
    video = read_pictures(file, name, choose)
    if video is not None:
        return video
    source = VideoFile(file, name)
    with blaming(name):
        scan = source.scan()
        if not scan.packets:
            raise VideoError(f"{name} holds no frames: its video stream is empty{scan.damage_in_brackets}")
    if audience is not None and _show_chosen(source, scan, choose, audience, backend):
        return None
    video = _decode_chosen(source, scan, choose, backend) if scan.tells_frames else None
    if video is None:
        video = _decode_everything(source, scan, choose)
    return replace(video, comment=scan.comment)


def _show_chosen(source: VideoFile, scan: Scan, choose: Choose, audience: Audience, backend: VideoBackend) -> bool:
    """Choose by what the packets tell, and show what was chosen. False if they don't tell, if the decoder doesn't bear
    them out, or if the backend gives frames all at once."""
    if not (scan.tells_frames and passes_by(scan, backend)):
        return False
    line = scan.timeline()
    chosen = choose(line)
    places, rows = np.unique(chosen, return_inverse=True)
    with blaming(source.name):
        damage = _also(scan.damage, broken_seals(source.file, scan, places))
        wall = audience.told(Programme(line, chosen, rows, source.name, damage, scan.comment))
        return pyav.show(source, scan, places, wall, audience.ahead)


def _decode_chosen(source: VideoFile, scan: Scan, choose: Choose, backend: VideoBackend) -> Video | None:
    """Choose by what the packets tell, and decode what is needed. None if the decoder doesn't bear them out."""
    line = scan.timeline()
    chosen = choose(line)
    places, rows = np.unique(chosen, return_inverse=True)
    with blaming(source.name):
        for read in readers(scan, backend):
            frames = read(source, scan, places)
            if frames is not None:
                damage = _also(scan.damage, broken_seals(source.file, scan, places))
                return Video.chosen(_repeated(frames, rows), line, chosen, source.name, damage)
    return None


def _decode_everything(source: VideoFile, scan: Scan, choose: Choose) -> Video:
    """Let the decoder say which frames there are (those without errors), then decode again to pick."""
    with blaming(source.name):
        found = pyav.survey(source, scan)
    chosen = choose(found.timeline)
    places, rows = np.unique(chosen, return_inverse=True)
    with blaming(source.name):
        frames = _repeated(pyav.read_surveyed(source, scan, found, places), rows)
        lost = f"{found.num_lost} of its frames can't be decoded" if found.num_lost else None
        damage = _also(scan.damage, lost, broken_seals(source.file, scan))
    return Video.chosen(frames, found.timeline, chosen, source.name, damage)


def _also(*damage: str | None) -> str | None:
    return "; ".join(filter(None, damage)) or None


def _repeated(
    frames: Shaped[np.ndarray, "places ..."], rows: Int64[np.ndarray, " chosen"]
) -> Shaped[np.ndarray, "chosen ..."]:
    """A frame that was chosen twice is decoded once."""
    return frames if len(rows) == len(frames) else frames[rows]
