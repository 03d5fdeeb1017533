"""Licence, source and creator are found in a file's own fields, and nothing hostile comes out of them."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from thyme.data.collect.told import MAX_CHARS, Told, plain, told_by

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:cc="http://creativecommons.org/ns#"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:Source="A museum">
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">All mine</rdf:li></rdf:Alt></dc:rights>
<dc:creator><rdf:Seq><rdf:li>Ada</rdf:li><rdf:li>Grace</rdf:li></rdf:Seq></dc:creator>
<cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/></rdf:Description></rdf:RDF></x:xmpmeta>"""


def picture(**options: object) -> Image.Image:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", **options)
    return Image.open(buffer)


def iptc(**fields: str) -> bytes:
    sets = {"creator": 80, "credit": 110, "source": 115, "licence": 116}
    data = b"".join(b"\x1c\x02" + struct.pack(">BH", sets[n], len(v)) + v.encode() for n, v in fields.items())
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"\xff\xed" + struct.pack(">H", len(block) + 2) + block


def test_xmp_tells_the_most_exact_licence() -> None:
    told = told_by(picture(xmp=XMP.encode()))
    assert told == Told("https://creativecommons.org/licenses/by/4.0/", "A museum", "Ada; Grace")


def test_exif_tells_where_nothing_else_does() -> None:
    exif = Image.Exif()
    exif[0x8298], exif[0x013B] = "CC0", "Ada"
    assert told_by(picture(exif=exif)) == Told("CC0", "", "Ada")
    assert told_by(picture(exif=exif, xmp=XMP.encode())).creator == "Ada; Grace"


def test_iptc_is_read() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = buffer.getvalue()
    block = iptc(creator="Ada", credit="An agency", licence="(c) Ada")
    with Image.open(io.BytesIO(data[:2] + block + data[2:])) as opened:
        assert told_by(opened) == Told("(c) Ada", "An agency", "Ada")


@pytest.mark.parametrize(
    "packet",
    [
        b"<x",
        b"\xff\xfe<",
        b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>',
        b"<a>" * 5000,
    ],
)
def test_a_hostile_packet_says_nothing(packet: bytes) -> None:
    assert told_by(picture(xmp=packet)) == Told()


def test_words_become_one_short_line_without_control_codes() -> None:
    assert plain(" a\n b\0c\x1b[31m ").split()[:2] == ["a", "b"]
    assert not set(plain(" a\n b\0c\x1b[31m ")) & {"\0", "\n", "\x1b"}
    assert len(plain("x" * 10_000)) == MAX_CHARS
    assert plain((b"caf\xc3\xa9", None, "b")) == "café; b"
    assert plain(b"\xff\xfe") == "\ufffd\ufffd"


def test_what_is_told_first_counts() -> None:
    assert Told("a").over(Told("b", "c")) == Told("a", "c", "")
