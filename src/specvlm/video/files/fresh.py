"""Fresh starts: keyframes behind which nothing refers to what is stored before them, as the stream itself says.

Containers and parsers also call keyframes what a decoder may join at and be right only some frames later, or only by an
encoder's word (recovery points of H.264). Those do for a seek over a long gap, where each frame is compared with what
was promised; they aren't worth their risk where a straight decode costs little more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from specvlm.video.files.spare import Units, units_of

IDR, CODED_SLICES = 5, range(1, 6)
IRAP, HEVC_SLICES = range(16, 22), range(32)
FRAME_HEADER, FRAME = 3, 6


def h264(data: bytes, units: Units) -> bool:
    """All slices of an IDR picture (ITU-T H.264, 7.4.1.2.4)."""
    kinds = [unit[0] & 31 for unit in units(data) if unit]
    slices = [kind for kind in kinds if kind in CODED_SLICES]
    return bool(slices) and all(kind == IDR for kind in slices)


def hevc(data: bytes, units: Units) -> bool:
    """All slices of an IRAP picture (ITU-T H.265, 7.4.2.2): what refers over it is shown before it."""
    kinds = [unit[0] >> 1 & 63 for unit in units(data) if unit]
    slices = [kind for kind in kinds if kind in HEVC_SLICES]
    return bool(slices) and all(kind in IRAP for kind in slices)


def mpeg2(data: bytes, units: Units) -> bool:
    """An I picture, or a frame whose first field is one (ISO/IEC 13818-2, 6.3.9; so too in MPEG-1)."""
    pictures = [unit[2:3] for unit in units(data) if unit[:1] == b"\0"]
    return bool(pictures and pictures[0]) and pictures[0][0] >> 3 & 7 == 1


def mpeg4(data: bytes, units: Units) -> bool:
    """An I-VOP alone (ISO/IEC 14496-2, 6.3.5)."""
    pictures = [unit[1:2] for unit in units(data) if unit[:1] == b"\xb6"]
    return len(pictures) == 1 and pictures[0] != b"" and pictures[0][0] >> 6 == 0


def vp8(data: bytes, _: Units) -> bool:
    """A key frame (RFC 6386, 9.1), which replaces all that is kept."""
    return bool(data) and not data[0] & 1


def vp9(data: bytes, _: Units) -> bool:
    """A key frame (VP9 bitstream specification, 7.2), which replaces all that is kept; of profiles 0 to 2."""
    return bool(data) and data[0] >> 6 == 2 and data[0] >> 4 & 3 != 3 and not data[0] & 0b1100


def av1(data: bytes, _: Units) -> bool:
    """A key frame that is shown at once (AV1 bitstream specification, 7.20), and so replaces all that is kept."""
    for kind, payload in _open_units(data):
        if kind in (FRAME, FRAME_HEADER):
            return bool(payload) and payload[0] >> 4 == 0b0001  # not an older frame, of type 0, shown
    return False


def _open_units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The units of AV1 (5.3): their types, and the first byte of each; up to the first that can't be followed."""
    place = 0
    while place < len(data):
        header = data[place]
        place += 2 if header & 4 else 1
        size, shift = (0, 0) if header & 2 else (len(data) - place, -1)
        while shift >= 0 and place < len(data):
            byte, place = data[place], place + 1
            size, shift = size | (byte & 127) << shift, shift + 7 if byte & 128 and shift < 49 else -1
        yield header >> 3 & 15, data[place : place + 1]
        place += size


def alone(data: bytes, _: Units) -> bool:
    """Every frame of codecs that know no other kind."""
    return bool(data)


CODECS: dict[str, Callable[[bytes, Units], bool]] = {
    "h264": h264,
    "hevc": hevc,
    "mpeg1video": mpeg2,
    "mpeg2video": mpeg2,
    "mpeg4": mpeg4,
    "vp8": vp8,
    "vp9": vp9,
    "av1": av1,
    "libdav1d": av1,
    "mjpeg": alone,
    "prores": alone,
}
"""By FFmpeg's names, of codecs and of decoders."""


def reader(codec: str, extradata: bytes) -> Callable[[bytes], bool]:
    """What tells a fresh start, for a stream of FFmpeg's `codec` with that much said in front of it."""
    is_fresh, units = CODECS.get(codec), units_of(codec, extradata)
    return (lambda data: False) if is_fresh is None else (lambda data: is_fresh(data, units))
