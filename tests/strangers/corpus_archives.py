"""Zip archives as strangers hand them over: names that lead elsewhere, bombs, lies about sizes, and good ones."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import file_doors as doors
from cases import Case
from made_archives import Member, archive, bomb, crowded, damaged, link, lying_zip64, nested, overlapping, raw, zip_of
from made_pictures import encoded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOT_A_ZIP = r"x\.zip: neither a folder nor a whole zip archive \("
LEADS_OUT = r"x\.zip: not opened, since a name in it leads to other folders: "


_READ: dict[str, Callable[[], bytes]] = {
    "stored": archive,
    "deflated": lambda: archive(method=zipfile.ZIP_DEFLATED),
    "with folders, hidden files and those of a Mac": lambda: archive(
        ("a/b/c.png", encoded("PNG")), (".hidden.png", b"x"), ("__MACOSX/._good.png", b"x"), ("a/", b"")
    ),
    "behind a program that unpacks it": lambda: b"MZ" + bytes(100_000) + archive(),
    "with a comment": lambda: archive(comment=b"holiday\n\x1b[31m" * 1000),
    "with names of two cases": lambda: archive(("a.png", encoded("PNG")), ("A.PNG", encoded("PNG"))),
    "with a name in Chinese": lambda: archive(("照片.png", encoded("PNG"))),
    "with another archive in it": lambda: archive(("more.zip", archive())),
    "with archives in archives in archives": lambda: nested(20),
    "with a NUL in a name": lambda: raw(Member("x.png\0/../../y.png", local_name=b"x.png\0/../../y.png")),
    "with other sizes before the data": lambda: raw(Member("x.png", local_size=7)),
    "of programs only": lambda: archive(("run.exe", b"MZ"), ("setup.py", b"x")),
    "with a picture twice": lambda: raw(Member("x.png"), Member("x.png")),
    "with a number of 3,000 digits in a name": lambda: archive(("1/" * 50 + "9" * 200 + ".png", encoded("PNG"))),
}

_REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "of nothing": (lambda: b"", NOT_A_ZIP),
    "that is text": (lambda: b"text" * 100, NOT_A_ZIP),
    "that is a picture": (lambda: encoded("PNG"), NOT_A_ZIP),
    "that is gzip": (lambda: b"\x1f\x8b\x08" + bytes(50), NOT_A_ZIP),
    "cut off in its middle": (lambda: archive()[: len(archive()) // 2], NOT_A_ZIP),
    "without its beginning": (lambda: archive()[150:], NOT_A_ZIP),
    "cut off in its list": (lambda: archive()[:-30], NOT_A_ZIP),
    "cut off in its end": (lambda: archive()[:-1], NOT_A_ZIP),
    "with an end in its comment that is another": (lambda: archive(comment=b"PK\5\6" + bytes(10)), NOT_A_ZIP),
    "without pictures": (lambda: b"PK\5\6" + bytes(18), "no pictures in input="),
    "with a name that leads up": (lambda: archive(("../x.png", encoded("PNG"))), LEADS_OUT),
    "with a name that leads up later": (lambda: archive(("a/../../x.png", encoded("PNG"))), LEADS_OUT),
    "with a name from the root": (lambda: archive(("/tmp/x.png", encoded("PNG"))), LEADS_OUT),
    "with a name that leads up in Windows": (lambda: archive(("..\\x.png", encoded("PNG"))), LEADS_OUT),
    "with a name of another machine": (lambda: archive(("\\\\host\\share\\x.png", encoded("PNG"))), LEADS_OUT),
    "with a name of a drive": (lambda: archive(("C:x.png", encoded("PNG"))), LEADS_OUT),
    "with a long name that leads up": (lambda: archive(("../" + "a/" * 5000 + "x.png", b"x")), LEADS_OUT),
    "with a name that leads up and breaks lines": (lambda: archive(("../a\r\nb\x1b[2J.png", b"x")), LEADS_OUT),
    "encrypted": (lambda: raw(Member("x.png", flags=1)), "is encrypted"),
    "encrypted strongly": (lambda: raw(Member("x.png", flags=0x41)), "is encrypted"),
    "of a version to come": (lambda: raw(Member("x.png", version=200)), NOT_A_ZIP),
    "with a name that is no UTF-8": (lambda: raw(Member("\udcff.png")), NOT_A_ZIP),
    "with an extra field that is cut off": (lambda: raw(Member("x.png", extra=b"\1\0\x20\0")), NOT_A_ZIP),
    "of 100,000 names for the same bytes": (lambda: overlapping(100_000), "overlap"),
    "of 50 names for the same bytes": (lambda: overlapping(50), "overlap"),
    "with a member larger than itself": (lambda: raw(Member("x.png", packed=10**9)), "overlap"),
    "of a million members": (lambda: crowded(1_000_000), r"files are too many|bytes of names"),
    "of 250,000 members": (lambda: crowded(250_000), "250,000 files are too many"),
    "whose list claims 4 GB": (lambda: raw(listing=2**32 - 2), NOT_A_ZIP),
    "whose list says that it begins beyond its end": (lambda: raw(start=2**32 - 2), NOT_A_ZIP),
    "whose second end claims 2^60 members": (lambda: lying_zip64(2**60, 2**60), NOT_A_ZIP),
    "whose second end claims a long list": (lambda: lying_zip64(3, 10**9), NOT_A_ZIP),
}

_SKIPPED: dict[str, tuple[Callable[[], bytes], str]] = {
    "with a link out of it": (lambda: archive(link("x.png", b"../../etc/passwd")), r"x\.png: a symbolic link"),
    "with a link in place of a folder": (lambda: archive(link("x.png", b"/"), ("y/x.txt", b"")), "a symbolic link"),
    "with a bomb": (lambda: raw(bomb()), r"bomb\.png: .* bytes unpack to 200,000,000"),
    "with a bomb that claims a little": (lambda: raw(bomb(size=1000, crc=0)), r"bomb\.png: (Bad CRC|not a )"),
    "with a bomb of 100 MB that claims half": (
        lambda: raw(bomb(megabytes=100, size=50 * 10**6)),
        r"bomb\.png: Bad CRC",
    ),
    "with a picture of 1.5 GB": (
        lambda: raw(Member("x.png", bytes(2 * 10**6), method=8, size=1_500_000_000)),
        "more than a picture has",
    ),
    "with a member that claims 4 GB": (lambda: raw(Member("x.png", size=2**32 - 2)), "can't be"),
    "with a member that claims more than inflating can give": (
        lambda: raw(Member("x.png", method=8, size=10**9)),
        "can't be",
    ),
    "with a member that claims too little": (lambda: raw(Member("x.png", size=20)), r"x\.png: Bad CRC|damaged|unpacks"),
    "with a wrong checksum": (lambda: damaged(30), r"x\.png: Bad CRC"),
    "with data that can't be inflated": (lambda: raw(Member("x.png", b"\xff" * 99, method=8)), r"x\.png: Error -3"),
    "compressed by bzip2": (lambda: archive(method=zipfile.ZIP_BZIP2), "compressed by bzip2"),
    "compressed by LZMA": (lambda: archive(method=zipfile.ZIP_LZMA), "compressed by lzma"),
    "compressed in a way that nobody knows": (lambda: raw(Member("x.png", method=77)), "compressed by 77"),
    "with another name before the data": (
        lambda: raw(Member("x.png", local_name=b"y.png")),
        r"x\.png: File name in directory",
    ),
    "with a name that is no UTF-8 before the data": (lambda: raw(Member("x.png", local_name=b"\xff.png")), r"x\.png: "),
    "with a member beyond its end": (lambda: raw(Member("x.png", offset=10**9)), r"x\.png: "),
    "with a member that begins within another": (lambda: raw(Member("x.png", offset=3)), r"x\.png: Bad magic"),
    "patched": (lambda: raw(Member("x.png", flags=0x20)), r"x\.png: compressed patched"),
    "with a zip named .png": (lambda: archive(("x.png", archive())), r"x\.png: not a "),
    "with text named .png": (lambda: archive(("x.png", b"text")), r"x\.png: not a "),
    "with an empty picture": (lambda: archive(("x.png", b"")), r"x\.png: not a "),
    "with a name of 10,000 characters": (
        lambda: archive(("n" * 10_000 + ".png", encoded("PNG"))),
        "File name too long",
    ),
    "with a name that breaks lines and has no picture": (lambda: archive(("a\n\x1b[31mb\x7f.png", b"")), "not a "),
    "with a folder and a file of one name": (
        lambda: archive(("x.png/y.png", encoded("PNG")), ("x.png", encoded("PNG"))),
        "can't be written",
    ),
}

_SUBMITTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "with a picture of another size": (archive, r"good\.png has 24x18 pixels"),
    "with a bomb": (lambda: raw(bomb("a.jpg")), r"good\.png has 24x18"),
    "with text": (lambda: zip_of({"a.jpg": b"text"}), r"a\.jpg: not a "),
    "with a wrong checksum": (lambda: zip_of({"a.jpg": b"text"}).replace(b"text", b"tezt", 1), r"a\.jpg: Bad CRC"),
    "with only a bomb": (lambda: zip_of({"a.jpg": bytes(200_000_000)}, zipfile.ZIP_DEFLATED), "unpack to"),
}


def _write(build: Callable[[], bytes], name: str = "x.zip") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(build())
        return folder / name

    return make


PREDICT, TRAIN, SUBMIT = "predict.py input=zip", "training on a zip", "a submission"
TRAINED = {
    name: _SKIPPED[name]
    for name in ("with a bomb", "with a wrong checksum", "with a link out of it", "compressed by bzip2")
}
CASES = [
    *(Case(name, PREDICT, _write(build), doors.predict, "read") for name, build in _READ.items()),
    *(Case(name, PREDICT, _write(build), doors.predict, "refused", says) for name, (build, says) in _REFUSED.items()),
    *(Case(name, PREDICT, _write(build), doors.predict, "skipped", says) for name, (build, says) in _SKIPPED.items()),
    *(Case(name, TRAIN, _write(build), doors.train, "refused", says) for name, (build, says) in TRAINED.items()),
    Case("stored", TRAIN, _write(archive), doors.train, "read"),
    Case(
        "of 100,000 names for the same bytes",
        TRAIN,
        _write(lambda: overlapping(100_000)),
        doors.train,
        "refused",
        "overlap",
    ),
    Case("with a bomb", "the data report", _write(lambda: raw(bomb())), doors.explore, "skipped", "unpack to"),
    Case(
        "with a bomb",
        "evaluate.py fake=",
        _write(lambda: archive(("bomb.png", b""))),
        doors.evaluate,
        "skipped",
        "not a ",
    ),
    *(Case(name, SUBMIT, _write(build), doors.submit, "skipped", says) for name, (build, says) in _SUBMITTED.items()),
    Case("that is text", SUBMIT, _write(lambda: b"text"), doors.submit, "refused", NOT_A_ZIP),
    Case("of a million members", SUBMIT, _write(lambda: crowded(1_000_000)), doors.submit, "refused", "too many"),
]
BUILDS = [*_READ.values(), *(build for build, _ in (*_REFUSED.values(), *_SKIPPED.values()))]
