"""The parts of messages: what stands in them, by `type`, as text, videos and images that are still to be got."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from specvlm.errors import brief
from specvlm.prompts.lead import Slot
from specvlm.serve.errors import wrong
from specvlm.serve.requests.schema import ChatRequest, Message

FRAME_LIST = "data:video/jpeg;base64,"
"""What a list of JPEG frames begins with, each in base64, with commas between them: as vLLM has it."""

SYSTEM = ("system", "developer")


@dataclass(frozen=True)
class Link:
    """A video, or an image, that a part names: by addresses (of a list: its frames), or as one that was sent before."""

    addresses: tuple[str, ...]
    """`data:`, `http(s):` or `file:`; more than one, or one that is a list of frames, are pictures in a row."""
    uuid: str | None = None
    frames: bool = False
    """Whether each address is a picture."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """`fps`, `num_frames` and `max_frames` of this part."""
    param: str = "messages"


@dataclass(frozen=True)
class Conversation:
    """What is asked, and about what. Videos and images belong to the first question."""

    question: str
    history: tuple[tuple[str, str], ...] = ()
    lead: tuple[str | Slot, ...] = ()
    """What the first turn holds up to its last video or image, in order; none if that is videos and then images."""
    system: str | None = None
    videos: tuple[Link, ...] = ()
    images: tuple[Link, ...] = ()

    @property
    def texts(self) -> list[str]:
        said = [self.question, self.system or "", *(text for turn in self.history for text in turn)]
        return said + [each for each in self.lead if isinstance(each, str)]

    @property
    def num_bytes(self) -> int:
        """Of all its text."""
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in self.texts)


Said = str | Link
"""Text, or something to look at."""

SAMPLING = ("fps", "num_frames", "max_frames")


def _sampling(param: str, *places: Mapping[str, Any]) -> dict[str, int | float]:
    """How the frames of a part are chosen, as the first of these says that says it."""
    found = {}
    for name in SAMPLING:
        value = next((place[name] for place in places if place.get(name) is not None), None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float) if name == "fps" else int):
            raise wrong(f"{param}.{name}", f"{param}.{name} must be a number of frames")
        if name == "max_frames" and value < 1:
            raise wrong(f"{param}.{name}", f"{param}.{name} must be 1 or more")
        found[name] = float(value) if name == "fps" and abs(value) < 2**53 else value
    return found


def _text(part: Mapping[str, Any], param: str) -> Said:
    text = part.get("text")
    if not isinstance(text, str):
        raise wrong(param, f"{param}.text must be a text")
    return text


def _video(part: Mapping[str, Any], param: str) -> Said:
    """`video_url`, `input_video` and `video`: an address, an object with one, or a list of addresses of frames."""
    kind = part["type"]
    given = part.get(kind)
    if given is None and kind != "video_url":
        given = part.get("video_url")
    inner = given if isinstance(given, dict) else {}
    if isinstance(given, dict):
        given = given.get("url")
        if given is None and isinstance(inner.get("data"), str):
            given = _inline(inner["data"], inner.get("format"), f"{param}.{kind}")
    sampling = _sampling(param, inner, part)
    uuid = _uuid(part.get("uuid", inner.get("uuid")), param)
    if given is None and uuid is not None:
        return Link((), uuid, sampling=sampling, param=param)
    if isinstance(given, list):
        return _frames(given, uuid, sampling, f"{param}.{kind}")
    address = _address(given, f"{param}.{kind}")
    if address[: len(FRAME_LIST)].lower() == FRAME_LIST:
        pictures = ["data:image/jpeg;base64," + data for data in address[len(FRAME_LIST) :].split(",")]
        return _frames(pictures, uuid, sampling, f"{param}.{kind}")
    return Link((address,), uuid, sampling=sampling, param=f"{param}.{kind}")


def _file(part: Mapping[str, Any], param: str) -> Said:
    """A `file` that is a video, in itself."""
    file = part.get("file")
    if not isinstance(file, dict):
        raise wrong(f"{param}.file", f"{param}.file must be an object")
    if file.get("file_id") is not None:
        raise wrong(
            f"{param}.file.file_id", "file_id is not supported here: there is no store of files; send file_data"
        )
    address = _address(file.get("file_data"), f"{param}.file.file_data")
    if not address.lower().startswith("data:"):
        address = _inline(address, None, f"{param}.file.file_data")
    kind = address[len("data:") :].partition(",")[0].partition(";")[0].lower()
    if not kind.startswith("video/"):
        raise wrong(f"{param}.file", f"{param}.file must be of a type such as video/mp4, not {brief(repr(kind), 60)}")
    return Link((address,), _uuid(part.get("uuid"), param), sampling=_sampling(param, part), param=f"{param}.file")


def _image(part: Mapping[str, Any], param: str) -> Said:
    given = part.get("image_url")
    address = given.get("url") if isinstance(given, dict) else given
    return Link((_address(address, f"{param}.image_url"),), frames=True, param=f"{param}.image_url")


PARTS: dict[str, Callable[[Mapping[str, Any], str], Said]] = {
    "text": _text,
    "input_text": _text,
    "video_url": _video,
    "input_video": _video,
    "video": _video,
    "file": _file,
    "image_url": _image,
}


def conversation(request: ChatRequest, *, images_as_frames: bool = False) -> Conversation:
    """What the messages of a request say. Texts that follow each other are joined by newlines.

    Errors: RefusedError (400), for turns or parts that no answer can heed.
    """
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    first: list[Said] = []
    for number, message in enumerate(request.messages):
        param = f"messages.{number}"
        said = _said(message, param)
        text = "\n".join(each for each in said if isinstance(each, str))
        seen = [each for each in said if isinstance(each, Link)]
        if message.role in SYSTEM:
            if turns:
                raise wrong(f"{param}.role", "a system turn must stand in front of all others")
            if seen:
                raise wrong(param, "a system turn holds text alone")
            system.append(text)
            continue
        if message.role not in ("user", "assistant"):
            raise wrong(f"{param}.role", f"the role {brief(repr(message.role), 60)} is not supported here")
        expected = "user" if len(turns) % 2 == 0 else "assistant"
        if message.role != expected:
            raise wrong(f"{param}.role", f"turns must alternate, and here comes one of the {expected}")
        if seen and turns:
            raise wrong(param, "videos and images belong to the first turn: begin another conversation")
        if seen:
            first, text = _parted(_as_frames(said) if images_as_frames else said)
        turns.append((message.role, text))
    if len(turns) % 2 == 0:
        raise wrong("messages", "the last turn must be one of the user")
    texts = [text for _, text in turns]
    links = [each for each in first if isinstance(each, Link)]
    stills = tuple(link for link in links if _is_still(link))
    clips = tuple(link for link in links if not _is_still(link))
    return Conversation(
        question=texts[-1],
        history=tuple(zip(texts[:-1:2], texts[1::2], strict=True)),
        lead=() if first == [*clips, *stills] else tuple(_slot(each) for each in first),
        system="\n".join(system) if system else None,
        videos=clips,
        images=stills,
    )


def _said(message: Message, param: str) -> list[Said]:
    content = message.content
    if content is None:
        raise wrong(f"{param}.content", f"{param}.content is missing")
    if isinstance(content, str):
        return [content]
    said: list[Said] = []
    for number, part in enumerate(content):
        where = f"{param}.content.{number}"
        if isinstance(part, str):
            said.append(part)
            continue
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in PARTS:
            known = ", ".join(PARTS)
            raise wrong(f"{where}.type", f"there is no part of type {brief(repr(kind), 60)} here; there are {known}")
        said.append(PARTS[kind](part, where))
    return said


def _is_still(link: Link) -> bool:
    return link.param.endswith(".image_url")


def _slot(said: Said) -> str | Slot:
    return said if isinstance(said, str) else Slot.IMAGE if _is_still(said) else Slot.VIDEO


def _as_frames(said: Sequence[Said]) -> list[Said]:
    """All images as the frames of a video, which stands where they do. Errors: RefusedError, for what is in between."""
    places = [place for place, each in enumerate(said) if isinstance(each, Link) and _is_still(each)]
    if not places:
        return list(said)
    stills = [each for each in said[places[0] : places[-1] + 1] if isinstance(each, Link) and _is_still(each)]
    if len(stills) != places[-1] + 1 - places[0]:
        raise wrong("messages", "between images that are the frames of a video there may be nothing else")
    frames = tuple(address for link in stills for address in link.addresses)
    video = replace(stills[0], addresses=frames, param=stills[0].param.removesuffix(".image_url"))
    return [*said[: places[0]], video, *said[places[-1] + 1 :]]


def _parted(said: Sequence[Said]) -> tuple[list[Said], str]:
    """What stands up to the last link, and the text behind it; texts that follow each other are one."""
    joined: list[Said] = []
    for each in said:
        if joined and isinstance(each, str) and isinstance(before := joined[-1], str):
            joined[-1] = f"{before}\n{each}"
        else:
            joined.append(each)
    last = joined[-1]
    return (joined[:-1], last) if isinstance(last, str) else (joined, "")


def _frames(given: Sequence[Any], uuid: str | None, sampling: Mapping[str, Any], param: str) -> Link:
    addresses = tuple(_address(each.get("url") if isinstance(each, dict) else each, param) for each in given)
    if not addresses:
        raise wrong(param, f"{param} is a list of frames without any")
    return Link(addresses, uuid, frames=True, sampling=sampling, param=param)


def _inline(data: str, kind: Any, param: str) -> str:
    """Base64 without the address around it."""
    if kind is None:
        kind = "mp4"
    if not isinstance(kind, str) or not kind.isalnum():
        raise wrong(param, f"{param}.format must be a name such as mp4")
    return f"data:video/{kind};base64,{data}"


def _uuid(value: Any, param: str) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= 256):
        return value
    raise wrong(f"{param}.uuid", f"{param}.uuid must be a text of 1 to 256 characters")


def _address(value: Any, param: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise wrong(param, f"{param} must be an address: data:, https: or file:")
    return value.strip()
