from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import threading
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from monet_cyclegan.data.sources import FolderSource, Source, TFRecordSource, ZipSource, find_domains, open_folders
from monet_cyclegan.data.tfrecord import masked_crc
from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (level, level, level)).save(file, "PNG")
    return file.getvalue()


def write_folder(root: Path, files: Mapping[str, int]) -> Path:
    for name, level in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(level))
    return root


def write_zip(path: Path, files: Mapping[str, int | bytes], prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content if isinstance(content, bytes) else png(content))
    return path


def levels(source: Source | None) -> list[int]:
    """What the images show, which tells them apart."""
    assert source is not None
    return [int(source.load(index)[0, 0, 0]) for index in range(len(source))]


KAGGLE = {"photo_jpg/a.png": 1, "photo_jpg/b.png": 2, "monet_jpg/c.png": 3}
CLASSIC = {"trainA/a.png": 1, "trainB/b.png": 2, "testA/c.png": 3, "testB/d.png": 4}


def test_a_folder_is_listed_recursively_in_natural_order(tmp_path: Path) -> None:
    write_folder(tmp_path, {"img10.png": 10, "img2.png": 2, "img1.PNG": 1, "deep/er/img3.png": 3})
    source = FolderSource(tmp_path)
    assert [source.name(k) for k in range(len(source))] == ["deep/er/img3", "img1", "img2", "img10"]
    assert levels(source) == [3, 1, 2, 10]


def test_hidden_and_foreign_files_are_skipped(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.png": 1, ".b.png": 2, ".cache/c.png": 3, "__MACOSX/._a.png": 4, "sub/__MACOSX/d.png": 5})
    (tmp_path / "notes.txt").write_text("no image")
    assert levels(FolderSource(tmp_path)) == [1]


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    assert levels(FolderSource(write_folder(tmp_path / ".cache" / "data", {"a.png": 1}))) == [1]


def test_names_keep_their_suffix_where_the_stem_is_not_unique(tmp_path: Path) -> None:
    source = FolderSource(write_folder(tmp_path, {"a.png": 1, "a.webp": 2, "b.png": 3}))
    assert [source.name(k) for k in range(3)] == ["a.png", "a.webp", "b.png"]


def test_an_archive_reads_like_the_folder_it_was_made_of(tmp_path: Path) -> None:
    files = {"x/img10.png": 10, "x/img9.png": 9, "__MACOSX/x/._img9.png": 0, "x/.hidden.png": 0}
    archived = ZipSource(write_zip(tmp_path / "x.zip", files))
    folder = FolderSource(write_folder(tmp_path / "folder", files))
    assert levels(archived) == levels(folder) == [9, 10]
    assert [archived.name(k) for k in range(2)] == [folder.name(k) for k in range(2)]


def test_an_archive_can_be_entered_at_a_folder(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a/1.png": 1, "ab/2.png": 2, "3.png": 3})
    source = ZipSource(path, "a")
    assert (levels(source), source.name(0), source.location) == ([1], "1", f"{path}/a")


@pytest.mark.parametrize("name", ["../up.png", "/root.png", "a/../../up.png", "a\\..\\up.png", "C:up.png"])
def test_an_archive_with_names_that_lead_out_of_it_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"x\.zip: not opened, since a name in it leads to other folders: .*\.png"):
        ZipSource(write_zip(tmp_path / "x.zip", {name: 1, "good.png": 2}))


def test_an_open_archive_survives_pickling_threads_and_forks(tmp_path: Path) -> None:
    source = ZipSource(write_zip(tmp_path / "x.zip", {f"{k}.png": k for k in range(20)}))
    assert levels(source) == list(range(20))  # the handle is open now
    assert levels(pickle.loads(pickle.dumps(source))) == list(range(20))

    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(levels(source))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(20))] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of 3.12, about forking beside torch's threads
def test_forked_processes_do_not_share_an_archive_handle(tmp_path: Path) -> None:
    # Stored and large, so that each read moves the handle's position far.
    noise = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for k, image in enumerate(noise):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            archive.writestr(f"{k}.png", file.getvalue())
    source = ZipSource(tmp_path / "x.zip")
    source.load(0)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_check_images, args=(source, noise)) for _ in range(2)]
    for worker in workers:
        worker.start()
    _check_images(source, noise)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


def _check_images(source: Source, expected: np.ndarray) -> None:
    for _ in range(20):
        for index, image in enumerate(expected):
            np.testing.assert_array_equal(source.load(index), image)


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.png": 1})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # general purpose flag, bit 0, in the central directory
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x\.zip: is encrypted"):
        ZipSource(path)


def test_a_half_downloaded_archive_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", KAGGLE)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"x\.zip: neither a folder nor a whole zip archive"):
        find_domains(path)


def test_a_damaged_file_in_an_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dir/a.png", png(1))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x\.zip/dir/a\.png: Bad CRC-32"):
        ZipSource(path).load(0)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg: "):
        FolderSource(tmp_path).load(0)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    source = FolderSource(write_folder(tmp_path, {"a.png": 1}))
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"a\.png: No such file"):
        source.load(0)


def test_the_fingerprint_follows_names_sizes_and_times(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.png": 1, "b.png": 2})
    seen = [FolderSource(tmp_path).fingerprint()]
    assert FolderSource(tmp_path).fingerprint() == seen[0]
    os.utime(tmp_path / "a.png", ns=(0, 1))
    seen.append(FolderSource(tmp_path).fingerprint())
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    seen.append(FolderSource(tmp_path).fingerprint())
    (tmp_path / "c.png").unlink()
    seen.append(FolderSource(tmp_path).fingerprint())
    assert len(set(seen)) == 4


def test_the_fingerprint_of_an_archive_follows_its_contents(tmp_path: Path) -> None:
    contents = [b"same size", b"same size", b"size same"]
    sources = [ZipSource(write_zip(tmp_path / f"{k}.zip", {"a.png": c})) for k, c in enumerate(contents)]
    first, again, other = (source.fingerprint() for source in sources)
    assert first == again != other


def test_the_competitions_folders_are_found_with_photos_as_a(tmp_path: Path) -> None:
    domains = find_domains(write_folder(tmp_path, KAGGLE))
    assert (levels(domains.train_a), levels(domains.train_b)) == ([1, 2], [3])
    assert domains.val_a is None
    assert domains.val_b is None


def test_the_classic_folders_are_found_with_their_test_sets(tmp_path: Path) -> None:
    write_folder(tmp_path, CLASSIC)
    assert [levels(source) for source in find_domains(tmp_path)] == [[1], [2], [3], [4]]
    assert [levels(source) for source in find_domains(str(tmp_path), swap=True)] == [[2], [1], [4], [3]]


def test_each_test_set_is_optional(tmp_path: Path) -> None:
    domains = find_domains(write_folder(tmp_path, {k: v for k, v in CLASSIC.items() if "testA" not in k}))
    assert domains.val_a is None
    assert levels(domains.val_b) == [4]


@pytest.mark.parametrize("prefix", ["", "gan-getting-started/"])
def test_the_folders_are_found_within_an_archive(tmp_path: Path, prefix: str) -> None:
    path = write_zip(tmp_path / "data.zip", {**KAGGLE, "sample_submission.csv": b""}, prefix)
    for root in (path, tmp_path):
        domains = find_domains(root)
        assert isinstance(domains.train_a, ZipSource)
        assert (levels(domains.train_a), levels(domains.train_b)) == ([1, 2], [3])


@pytest.mark.parametrize("end", ["", "/"])
def test_a_download_that_is_still_packed_is_found_under_the_name_of_its_folder(tmp_path: Path, end: str) -> None:
    write_zip(tmp_path / "v1.5.zip", KAGGLE)
    assert levels(find_domains(f"{tmp_path}/v1.5{end}").train_a) == [1, 2]
    write_folder(tmp_path / "v1.5", {"photo_jpg/a.png": 7, "monet_jpg/b.png": 8})
    assert levels(find_domains(f"{tmp_path}/v1.5{end}").train_a) == [7]


def test_an_unpacked_folder_wins_over_the_archive_beside_it(tmp_path: Path) -> None:
    write_zip(tmp_path / "data.zip", KAGGLE)
    assert isinstance(find_domains(write_folder(tmp_path, KAGGLE)).train_a, FolderSource)
    inner = write_folder(tmp_path / "outer" / "inner", KAGGLE).parent
    write_zip(inner / "data.zip", KAGGLE)
    assert isinstance(find_domains(inner).train_a, FolderSource)


def test_an_archive_of_something_else_does_not_disturb(tmp_path: Path) -> None:
    write_zip(tmp_path / "code.zip", {"main.py": b""})
    write_zip(tmp_path / "monet2photo.zip", CLASSIC, "monet2photo/")
    assert levels(find_domains(tmp_path).val_b) == [4]


def test_two_fitting_archives_are_refused(tmp_path: Path) -> None:
    write_zip(tmp_path / "one.zip", KAGGLE)
    write_zip(tmp_path / "two.zip", CLASSIC)
    with pytest.raises(UserError, match=r"one\.zip.*two\.zip"):
        find_domains(tmp_path)


def test_images_are_preferred_to_tfrecords(tmp_path: Path) -> None:
    write_folder(tmp_path, KAGGLE)
    for name in ("photo_tfrec", "monet_tfrec"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "broken.tfrec").write_bytes(b"never opened")
    assert isinstance(find_domains(tmp_path).train_a, FolderSource)


def test_tfrecord_folders_are_found(tmp_path: Path) -> None:
    for name in ("photo_tfrec", "monet_tfrec"):
        (tmp_path / name).mkdir()
        # A record of one byte; what is in it, only reading it would tell.
        length = (1).to_bytes(8, "little")
        framed = length + masked_crc(length).to_bytes(4, "little") + b"x" + masked_crc(b"x").to_bytes(4, "little")
        (tmp_path / name / "x.tfrec").write_bytes(framed)
    domains = find_domains(tmp_path)
    assert isinstance(domains.train_a, TFRecordSource)
    assert (len(domains.train_a), len(domains.train_b)) == (1, 1)


def test_any_two_folders_or_archives_can_be_opened(tmp_path: Path) -> None:
    a = write_folder(tmp_path / "a", {"x.png": 1})
    b = write_zip(tmp_path / "b.zip", {"y.png": 2})
    domains = open_folders(a, str(b))
    assert (levels(domains.train_a), levels(domains.train_b)) == ([1], [2])


def test_a_missing_root_tells_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_domains(tmp_path / "nowhere")
    message = str(caught.value)
    assert str(tmp_path / "nowhere") in message
    assert "kaggle competitions download -c gan-getting-started -p data`" in message
    assert "python train.py experiment=demo" in message
    assert "\n" not in message


def test_an_unknown_layout_tells_what_is_there_and_what_is_known(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"class{k}/a.png": k for k in range(8)})
    with pytest.raises(UserError, match=r"class0/, class1/.* and 3 more.*photo_jpg/.*photo_tfrec/.*trainA/") as caught:
        find_domains(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_half_a_layout_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds monet_jpg/, but no known layout"):
        find_domains(write_folder(tmp_path, {"monet_jpg/a.png": 1}))


def test_an_empty_domain_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"photo_jpg/a.png": 1})
    (tmp_path / "monet_jpg").mkdir()
    with pytest.raises(UserError, match=r"monet_jpg is empty"):
        find_domains(tmp_path)


def test_a_domain_without_images_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("")
    with pytest.raises(UserError, match=r"holds labels\.csv: there is no file in it that ends in .*\.jpg"):
        open_folders(tmp_path, tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_folders(tmp_path / "nowhere", tmp_path)
