"""Getting what an address names: the bytes that it holds, a file under the allowed folder, or what a public host sends.

Nothing else is opened. Of a host all addresses are looked up first, and checked; the connection is made to one of those
that were checked, so that no second look-up can lead elsewhere. Each redirect goes through the same.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import final
from urllib.parse import unquote_to_bytes

import httpx

from specvlm.errors import VideoError, brief
from specvlm.serve.errors import RefusedError, wrong
from specvlm.serve.settings import Settings
from specvlm.video.files.addresses import resolved

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses whose last 32 bits are an IPv4 address, to which a gateway translates."""


def is_public(address: IPAddress) -> bool:
    """Whether anybody may reach it: no loopback, private, link-local, metadata, multicast or reserved address, also not
    one that is wrapped in an address of IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        tunnelled = [address.sixtofour, *(address.teredo or ())]
        if address.is_site_local or any(each is not None and not is_public(each) for each in tunnelled):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


async def look_up(host: str, port: int) -> list[str]:
    """All addresses of a host, as the system knows them. Errors: OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@final
class Fetcher:
    """Gets what addresses name, under the rules of `settings`."""

    def __init__(
        self,
        settings: Settings,
        *,
        look_up: Callable[[str, int], Awaitable[list[str]]] = look_up,
        may_connect: Callable[[IPAddress], bool] = is_public,
    ) -> None:
        self._settings, self._look_up, self._may_connect = settings, look_up, may_connect
        # No proxy of the environment, which would look names up by itself.
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=settings.fetch_seconds)

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, address: str, param: str, take: Callable[[int], None]) -> bytes | Path:
        """`take` is told of the bytes that come from elsewhere, before they are kept, and may refuse them. Errors:
        RefusedError."""
        scheme = address.partition(":")[0].lower()
        if scheme == "data":
            return await asyncio.to_thread(self._inline, address, param)
        if scheme == "file":
            return await asyncio.to_thread(self._file, address, param)
        if scheme in ("http", "https"):
            return await self._fetched(address, param, take)
        raise wrong(param, f"{param}: an address begins with data:, https:, http: or file: here")

    def _inline(self, address: str, param: str) -> bytes:
        head, comma, data = address.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise wrong(param, f"{param}: expected data:video/mp4;base64, and the data")
        kind = head[len("data:") :].partition(";")[0].lower()
        if kind.partition("/")[0] not in ("video", "image") and kind not in ("", "application/octet-stream"):
            raise wrong(param, f"{param}: {brief(repr(kind), 60)} is no type of a video or image")
        if len(data) // 4 * 3 > self._settings.max_video_bytes:
            raise self._too_large(param)
        try:
            content = b64decode("".join(unquote_to_bytes(data).decode("ascii").split()), validate=True)
        except ValueError:  # of base64, and of letters beyond ASCII
            raise wrong(param, f"{param}: the base64 of its data can't be decoded") from None
        if not content:
            raise wrong(param, f"{param} holds no data")
        return content

    def _file(self, address: str, param: str) -> Path:
        folder = self._settings.allowed_media_path
        if folder is None:
            raise wrong(
                param, f"{param}: this server reads no files of its own (it was started without a folder for them)"
            )
        nothing = wrong(param, f"{param}: there is no such file in the folder that this server reads")
        try:
            named = resolved(address)
            path = Path(named).resolve(strict=True)  # behind all links
            if not path.is_relative_to(folder.resolve(strict=True)) or not path.is_file():
                raise nothing
            size = path.stat().st_size
        except (VideoError, OSError, ValueError, TypeError, RuntimeError):
            raise nothing from None
        if size > self._settings.max_video_bytes:
            raise self._too_large(param)
        return path

    async def _fetched(self, address: str, param: str, take: Callable[[int], None]) -> bytes:
        if not self._settings.fetch:
            raise wrong(param, f"{param}: this server fetches nothing: send the video itself")
        try:
            async with asyncio.timeout(self._settings.fetch_seconds):
                for _ in range(self._settings.max_redirects + 1):
                    found = await self._step(address, param, take)
                    if isinstance(found, bytes):
                        return found
                    address = found
        except TimeoutError:
            raise wrong(param, f"{param}: its host took more than {self._settings.fetch_seconds:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError):
            raise wrong(param, f"{param} can't be fetched from its host") from None
        raise wrong(param, f"{param} leads on more than {self._settings.max_redirects} times")

    async def _step(self, address: str, param: str, take: Callable[[int], None]) -> bytes | str:
        """What one host says: the content, or another address."""
        url = httpx.URL(address)
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise wrong(param, f"{param}: expected an address such as https://host/video.mp4")
        host = url.host.rstrip(".").lower()
        domains = [domain.lower().strip(".") for domain in self._settings.allowed_media_domains]
        if domains and not any(host == domain or host.endswith(f".{domain}") for domain in domains):
            raise wrong(param, f"{param}: nothing is fetched from that host here")
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        addresses = [ipaddress.ip_address(each.partition("%")[0]) for each in await self._look_up(host, port)]
        if not addresses or not all(map(self._may_connect, addresses)):
            raise wrong(param, f"{param}: its host has no public address")
        headers = {"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity", "User-Agent": "specvlm"}
        request = self._client.build_request(
            "GET", url.copy_with(host=str(addresses[0])), headers=headers, extensions={"sni_hostname": host}
        )
        response = await self._client.send(request, stream=True)
        try:
            if response.is_redirect:
                return str(url.join(response.headers["location"]))
            if response.status_code != 200:
                raise wrong(param, f"{param}: its host answers with status {response.status_code}")
            if int(response.headers.get("content-length", 0)) > self._settings.max_video_bytes:
                raise self._too_large(param)
            content = bytearray()
            async for piece in response.aiter_raw():
                if len(content) + len(piece) > self._settings.max_video_bytes:
                    raise self._too_large(param)
                take(len(piece))
                content += piece
            return bytes(content)
        finally:
            await response.aclose()

    def _too_large(self, param: str) -> RefusedError:
        most = self._settings.max_video_bytes
        return RefusedError(413, f"{param}: a video may have {most} bytes here", param=param)
