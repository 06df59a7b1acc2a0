from __future__ import annotations

import io
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from monet_cyclegan.data.sources import TFRecordSource
from monet_cyclegan.data.tfrecord import Record, index_records, masked_crc, parse_example, read_example
from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def crc32c(data: bytes) -> int:
    """CRC32C bit by bit (RFC 3720, appendix B.4: reflected polynomial 0x82f63b78)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15) + (crc << 17) % 2**32 + 0xA282EAD8) % 2**32


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def example(**features: bytes) -> bytes:
    entries = [field(1, name.encode()) + field(2, field(1, field(1, value))) for name, value in features.items()]
    return field(1, b"".join(field(1, entry) for entry in entries))


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (level, level, level)).save(file, "PNG")
    return file.getvalue()


def index(data: bytes) -> list[Record]:
    return index_records(io.BytesIO(data), len(data), "some.tfrec")


def read(data: bytes, number: int = 0) -> bytes:
    return read_example(io.BytesIO(data), index(data), number, "some.tfrec").image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, natural order 2 before 10, with images of levels 0, 1 and 2."""
    records = [framed(example(image=png(k), image_name=f"name{k}".encode(), target=b"monet")) for k in range(3)]
    (tmp_path / "monet2.tfrec").write_bytes(records[0] + records[1])
    (tmp_path / "monet10.tfrec").write_bytes(records[2])
    return tmp_path


def test_the_masked_checksum_agrees_with_the_known_vector() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    # Rotated right by 15 bits that is 0x2507c60d, and 0x2507c60d + 0xa282ead8 = 0xc78ab0e5.
    assert masked_crc(b"123456789") == 0xC78AB0E5 == masked(b"123456789")


def test_records_are_found_at_the_offsets_that_the_format_gives() -> None:
    # 8 bytes of length and 4 of checksum come before the data, 4 of checksum after: 12, then 12 + 3 + 4 + 12.
    assert index(framed(b"abc") + framed(b"defgh")) == [Record(12, 3), Record(31, 5)]
    assert index(b"") == []


def test_an_index_reads_headers_only() -> None:
    data = framed(bytes(100_000)) * 3

    class Counting(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            self.count += len(found)
            return found

    file = Counting(data)
    assert len(index_records(file, len(data), "some.tfrec")) == 3
    assert file.count == 3 * 12


def test_the_image_bytes_come_back_as_they_were() -> None:
    data = framed(example(image=png(1))) + framed(example(image_name=b"x", image=png(2)))
    assert read(data, 0) == png(1)
    assert read(data, 1) == png(2)


def test_features_of_other_kinds_and_unknown_fields_are_skipped() -> None:
    number = field(1, b"width") + field(2, field(3, field(1, varint(300))))  # Feature.int64_list = 3
    unknown = varint(9 << 3) + varint(70_000) + varint(10 << 3 | 1) + bytes(8) + varint(11 << 3 | 5) + bytes(4)
    wanted = field(1, b"image") + field(2, unknown + field(1, field(1, b"pixels")))
    assert parse_example(unknown + field(1, field(1, number) + field(1, wanted))) == {"image": b"pixels"}


@pytest.mark.parametrize("kept", [5, 11, 12, 20, -1])
def test_a_truncated_file_is_refused_with_record_and_offset(kept: int) -> None:
    whole = framed(example(image=png(0)))
    cut = whole + whole[:kept]
    with pytest.raises(UserError, match=rf"^some\.tfrec: record 1 at byte {len(whole)} is cut off"):
        index(cut)


def test_a_wrong_length_is_refused_before_it_is_believed() -> None:
    data = bytearray(framed(b"abc") + framed(b"abc"))
    data[19 + 7] = 0x7F  # the second record's length becomes 2**62 and more
    with pytest.raises(UserError, match=r"some\.tfrec: record 1 at byte 19 has a wrong checksum of its length"):
        index(bytes(data))


def test_any_flipped_byte_of_the_data_or_its_checksum_is_noticed() -> None:
    whole = framed(example(image=b"pixels"))
    for position in range(12, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        with pytest.raises(UserError, match=r"some\.tfrec: record 0 at byte 0 has a wrong checksum of its data"):
            read(bytes(damaged))


def test_a_record_without_an_image_is_refused_with_what_it_holds() -> None:
    with pytest.raises(UserError, match=r"record 0 at byte 0 has no bytes feature 'image', only \['image_name'\]"):
        read(framed(example(image_name=b"x")))


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (b"\x0a\x7fshort", "longer than its message"),
        (b"\xff" * 12, "integer has no end"),
        (b"\x0a", "integer has no end"),
        (b"\x08" + b"\x80" * 10 + b"\x00", "integer has no end"),  # 64 bits take 10 bytes at most
        (b"\x0b\x00", "wire type 3"),
        (field(1, field(1, field(1, b"\xff") + field(2, field(1, field(1, b"x"))))), "utf-8"),
    ],
)
def test_garbage_with_right_checksums_is_refused(garbage: bytes, why: str) -> None:
    with pytest.raises(UserError, match=rf"record 0 at byte 0 is not a tf\.train\.Example \(.*{why}"):
        read(framed(garbage))


def test_random_bytes_never_raise_anything_but_a_value_error() -> None:
    rng = np.random.default_rng(0)
    whole = example(image=bytes(10), image_name=b"abc")
    refused = 0
    for _ in range(2000):
        damaged = bytearray(whole)
        for position in rng.integers(len(whole), size=3):
            damaged[position] = rng.integers(256)
        try:
            parse_example(bytes(damaged))
        except ValueError:
            refused += 1
    assert refused > 100


def test_a_source_reads_all_files_in_natural_order(folder: Path) -> None:
    source = TFRecordSource(folder)
    assert len(source) == 3
    assert [source.name(k) for k in range(3)] == ["name0", "name1", "name2"]
    assert [source.read(k) for k in range(3)] == [png(0), png(1), png(2)]
    np.testing.assert_array_equal(source.load(2), np.full((3, 4, 3), 2, np.uint8))


def test_names_fall_back_to_file_and_record(tmp_path: Path) -> None:
    names = [None, b"", b"\xff\xfe", b"../../up", b"twice", b"twice", b"good"]
    examples = [example(image=png(0), **({} if name is None else {"image_name": name})) for name in names]
    (tmp_path / "x.tfrecord").write_bytes(b"".join(map(framed, examples)))
    source = TFRecordSource(tmp_path)
    assert [source.name(k) for k in range(7)] == [f"x.tfrecord:{k}" for k in range(6)] + ["good"]


def test_a_damaged_record_keeps_the_others_usable(folder: Path) -> None:
    path = folder / "monet2.tfrec"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    source = TFRecordSource(folder)
    assert [source.name(k) for k in range(3)] == ["monet2.tfrec:0", "name1", "name2"]
    assert source.read(1) == png(1)
    with pytest.raises(UserError, match=r"monet2\.tfrec: record 0 at byte 0 has a wrong checksum"):
        source.load(0)


def test_an_undecodable_image_is_named_by_file_and_record(tmp_path: Path) -> None:
    (tmp_path / "x.tfrec").write_bytes(framed(example(image=png(0))) + framed(example(image=b"no image")))
    with pytest.raises(UserError, match=r"x\.tfrec: record 1: "):
        TFRecordSource(tmp_path).load(1)


def test_a_file_that_shrinks_after_it_was_opened_is_noticed(folder: Path) -> None:
    source = TFRecordSource(folder)
    path = folder / "monet10.tfrec"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"monet10\.tfrec: record 0 at byte 0 is cut off"):
        source.read(2)


def test_a_source_reads_from_within_a_compressed_archive(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "records.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in folder.glob("*.tfrec"):
            file.write(path, path.name)
    source = pickle.loads(pickle.dumps(TFRecordSource(archive)))
    assert [source.read(k) for k in (2, 0, 1)] == [png(2), png(0), png(1)]


def test_files_without_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tfrec").write_bytes(b"")
    with pytest.raises(UserError, match="no record"):
        TFRecordSource(tmp_path)
