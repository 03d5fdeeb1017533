"""Fetching a picture that a stranger names, without lending the stranger this machine's place in the network.

The host's addresses are looked up once, all of them must be public (unless the host is on the list), and the connection
goes to the very address that was checked. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import httpx

from thyme.config.serve import ServeConfig
from thyme.errors import ImageError


async def fetch(url: str, config: ServeConfig, most_bytes: int) -> bytes:
    """Fetch a file.

    Args:
        url: Of scheme http or https.
        config: Which hosts, and how long.
        most_bytes: Longest answer.

    Raises:
        ImageError: It may not be fetched, or could not be.
    """
    try:
        async with asyncio.timeout(config.fetch_s):
            target = httpx.URL(url)
            address = await _address(target, config)
            return await _get(target, address, most_bytes)
    except TimeoutError:
        raise ImageError(f"the image took longer than {config.fetch_s:g} s to fetch; send it as a data URL") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        raise ImageError(f"the image could not be fetched ({str(error)[:200]}); send it as a data URL") from None


async def _address(url: httpx.URL, config: ServeConfig) -> str:
    """The address to connect to.

    Raises:
        ImageError: It is not one that may be asked.
    """
    if url.userinfo:
        raise ImageError("an image's URL must hold no user name")
    listed = url.host.lower() in {host.lower() for host in config.image_hosts}
    if config.image_hosts and not listed:
        raise ImageError(f"images are fetched from {', '.join(config.image_hosts)} only; send a data URL instead")
    port = url.port or (443 if url.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not listed and not all(map(is_public, addresses)):
        raise ImageError("the host has an address on a private network, which is not asked; send a data URL instead")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet, also where an IPv4 one is wrapped into IPv6."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if parsed not in _UNICAST:
            return False
    return parsed.is_global and not parsed.is_multicast


_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given out for the open internet; elsewhere are translations to IPv4 and sites' own networks."""


async def _get(url: httpx.URL, address: str, most_bytes: int) -> bytes:
    headers = {"host": url.netloc.decode("ascii"), "accept": "image/*", "accept-encoding": "identity"}
    extensions = {"sni_hostname": url.host}  # the certificate must still be that of the name
    data = bytearray()
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False) as client,
        client.stream("GET", url.copy_with(host=address), headers=headers, extensions=extensions) as response,
    ):
        if response.status_code != 200:
            raise ImageError(f"the image could not be fetched (status {response.status_code}; redirects do not count)")
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > most_bytes:
                raise ImageError(f"the image is longer than the {most_bytes} bytes that are left; send a smaller one")
    return bytes(data)
