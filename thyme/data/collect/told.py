"""What a picture's own fields say of its licence, its source and who made it: XMP, IPTC and EXIF, in this order.

They are strangers' words: short, plain text is all that is taken of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

from PIL import Image, ImageFile, IptcImagePlugin

from thyme.view.terminal import clean

logger = logging.getLogger(__name__)

MAX_CHARS: Final = 500
"""Of a field; the rest is cut."""
_MAX_XMP: Final = 1 << 20
_DC: Final = "{http://purl.org/dc/elements/1.1/}"
_RIGHTS: Final = "{http://ns.adobe.com/xap/1.0/rights/}"
_PHOTOSHOP: Final = "{http://ns.adobe.com/photoshop/1.0/}"
_CC: Final = "{http://creativecommons.org/ns#}"
_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_XMP: Final[dict[str, tuple[str, ...]]] = {
    "licence": (f"{_CC}license", f"{_RIGHTS}WebStatement", f"{_RIGHTS}UsageTerms", f"{_DC}rights"),
    "source": (f"{_DC}source", f"{_PHOTOSHOP}Source", f"{_PHOTOSHOP}Credit"),
    "creator": (f"{_DC}creator", f"{_CC}attributionName"),
}
"""Fields of XMP (ISO 16684-1; Creative Commons' own) by what they tell, the most exact first."""
_IPTC: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "licence": ((2, 116),),
    "source": ((2, 115), (2, 110)),
    "creator": ((2, 80),),
}
"""Datasets of IPTC-IIM: copyright notice; source, credit; by-line."""
_EXIF: Final[dict[str, tuple[int, ...]]] = {"licence": (0x8298,), "creator": (0x013B,)}
"""Tags of EXIF: copyright; artist."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of where a picture comes from; empty where nothing is."""

    licence: str = ""
    source: str = ""
    creator: str = ""

    def over(self, other: Told) -> Told:
        """This, and the other where this says nothing."""
        return Told(self.licence or other.licence, self.source or other.source, self.creator or other.creator)


def plain(value: object) -> str:
    """A stranger's value as one line of text."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, tuple | list):
        return plain("; ".join(filter(None, map(plain, value))))
    return " ".join(clean(str(value).replace("\0", " ")).split())[:MAX_CHARS] if value is not None else ""


def told_by(picture: Image.Image) -> Told:
    """What a picture's fields say.

    Args:
        picture: Its header is enough; of a PNG file the pixels have to be loaded where the fields stand behind them.
    """
    found: dict[str, str] = {}
    for reader in (_xmp, _iptc, _exif):
        try:
            fields = dict(reader(picture))
        except Exception as error:  # parsers of strangers' bytes raise nearly anything, and the picture is good without
            logger.warning("some fields of a %s file cannot be read (%s)", picture.format, type(error).__name__)
            continue
        for name, value in fields.items():
            found[name] = found.get(name) or value
    return Told(**found)


def _xmp(picture: Image.Image) -> Iterator[tuple[str, str]]:
    packet = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    data = packet.encode() if isinstance(packet, str) else bytes(packet)
    if not data or len(data) > _MAX_XMP or b"<!" in data:  # no packet needs entities, which can be made to explode
        return
    root = ElementTree.fromstring(data.strip(b"\0 \n\r\t"))
    for name, fields in _XMP.items():
        yield name, next((text for field in fields if (text := _field(root, field))), "")


def _field(root: ElementTree.Element, name: str) -> str:
    """A field, which may be an attribute, an element, or an element that holds a list or a resource."""
    for element in root.iter():
        if text := plain(element.attrib.get(name)):
            return text
        if element.tag == name:
            resource = plain(element.attrib.get(f"{_RDF}resource"))
            if text := resource or plain([part.strip() for part in element.itertext() if part.strip()]):
                return text
    return ""


def _iptc(picture: Image.Image) -> Iterator[tuple[str, str]]:
    if isinstance(picture, ImageFile.ImageFile):
        yield from _first(IptcImagePlugin.getiptcinfo(picture) or {}, _IPTC)


def _exif(picture: Image.Image) -> Iterator[tuple[str, str]]:
    yield from _first(picture.getexif(), _EXIF)


def _first(values: Mapping[Any, Any], wanted: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str]]:
    for name, keys in wanted.items():
        yield name, next((text for key in keys if (text := plain(values.get(key)))), "")
