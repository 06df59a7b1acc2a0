from __future__ import annotations

import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference import video
from monet_cyclegan.inference.video import VIDEO_SUFFIXES, find_ffmpeg, translate_video

FFMPEG = find_ffmpeg()
HELP = subprocess.run([FFMPEG, "-hide_banner", "-h", "long"], capture_output=True, text=True).stdout
RATES = "-fps_mode" if "-fps_mode" in HELP else "-vsync"  # its name until ffmpeg 5.1
SIZE = (64, 48)
RATE = "24000/1001"
PATCHES = np.array(
    [
        [[200, 40, 60], [30, 160, 70], [40, 60, 190], [220, 200, 50]],
        [[128, 128, 128], [20, 20, 20], [235, 235, 235], [120, 80, 60]],
    ],
    np.uint8,
)


def ffmpeg(*arguments: object, given: bytes = b"") -> bytes:
    """Run ffmpeg and return its standard output."""
    command = [FFMPEG, "-v", "error", *map(str, arguments)]
    return subprocess.run(command, input=given, check=True, capture_output=True).stdout


def described(path) -> str:
    """What ffmpeg says of a file."""
    return subprocess.run([FFMPEG, "-hide_banner", "-i", f"file:{path}"], capture_output=True, text=True).stderr


def waves(count: int = 10, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Soft colours that move to the right."""
    t, y, x, channel = np.ogrid[:count, : size[1], : size[0], :3]
    wave = np.sin((x - 1.5 * t) / 6 + 2 * channel) + np.cos(y / 7 + channel)
    return (128 + 45 * wave).astype(np.uint8)


def make_clip(path, frames, rate=RATE, sound=True, pixels="yuv420p", matrix="bt601", filters="null", options=()):
    """Write frames (N, H, W, 3) with a tone as long."""
    size, seconds = f"{frames.shape[2]}x{frames.shape[1]}", len(frames) / 24
    tone = ["-f", "lavfi", "-i", f"sine=440:duration={seconds}"] if sound else []
    codec = ["libvpx-vp9", "-crf", "4", "-b:v", "0"] if path.suffix == ".webm" else ["libx264", "-crf", "1"]
    filters = f"scale=out_color_matrix={matrix}:flags=accurate_rnd+full_chroma_int,format={pixels},{filters}"
    ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", size, "-framerate", rate, "-i", "-", *tone),
        *("-vf", filters, "-c:v", *codec, *options, f"file:{path}"),
        given=frames.tobytes(),
    )
    return path


def frames_of(path, size=SIZE) -> np.ndarray:
    raw = ffmpeg(
        *("-i", f"file:{path}", "-map", "0:v", "-sws_flags", "bicubic+accurate_rnd+full_chroma_int"),
        *(RATES, "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"),
    )
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)


def sound_of(path) -> np.ndarray:
    """Samples at 8 kHz from the time 0 on, in [-1, 1]."""
    raw = ffmpeg(*("-i", f"file:{path}", "-map", "0:a:0", "-af", "aresample=8000:async=1:first_pts=0"), *PCM)
    return np.frombuffer(raw, np.int16) / 32768


PCM = ("-ac", "1", "-f", "s16le", "-")


def same(frames: np.ndarray) -> np.ndarray:
    return frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", waves(), options=("-movflags", "+faststart"))


@pytest.fixture
def started(monkeypatch) -> list[subprocess.Popen]:
    """All processes that were started."""
    processes: list[subprocess.Popen] = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(video.subprocess, "Popen", Recorded)
    return processes


def refused(source, target, paint=same) -> str:
    """The line that says why there is no target; and nothing is there."""
    with pytest.raises(UserError) as caught:
        translate_video(paint, source, target)
    line = str(caught.value)
    assert "\n" not in line
    assert not target.parent.exists() or not [*target.parent.iterdir()]
    return line


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_a_clip_keeps_its_frames_size_rate_length_and_sound(clip, tmp_path, suffix):
    target = tmp_path / "deep" / f"painted{suffix}"
    report = translate_video(same, clip, target, batch_size=4)
    assert (report.frames, report.sound) == (10, True)
    assert report.seconds == pytest.approx(10 * 1001 / 24000)
    source, painted = frames_of(clip).astype(int), frames_of(target).astype(int)
    assert painted.shape == source.shape
    assert np.abs(painted - source).mean() < 4
    header = ffmpeg("-i", f"file:{target}", "-frames:v", 1, "-f", "yuv4mpegpipe", "-").split(b"\n")[0].decode()
    assert header.startswith("YUV4MPEG2 W64 H48 F24000:1001 ")
    energy = [np.square(sound_of(path)).sum() for path in (clip, target)]
    assert energy[1] == pytest.approx(energy[0], rel=0.1)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize(
    ("pixels", "matrix", "tag", "size"),
    [
        ("yuv420p", "bt601", "unknown", SIZE),
        ("yuv420p", "bt709", "bt709", SIZE),
        ("yuv444p", "bt709", "bt709", SIZE),
        ("yuvj420p", "bt601", "smpte170m", SIZE),
        ("yuv420p", "bt709", "unknown", (1280, 720)),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_colours_survive_whatever_the_source_says_of_them(tmp_path, pixels, matrix, tag, size, suffix):
    picture = PATCHES.repeat(size[1] // 2, axis=0).repeat(size[0] // 4, axis=1)
    options = ("-colorspace", tag) if tag != "unknown" else ()  # for an older ffmpeg
    named, still = f"setparams=colorspace={tag}", picture[None].repeat(2, axis=0)
    source = make_clip(tmp_path / "clip.mp4", still, pixels=pixels, matrix=matrix, filters=named, options=options)
    assert (tag if tag != "unknown" else "") in described(source)
    assert tag != "unknown" or not re.search("bt709|bt470|smpte", described(source))
    seen = []
    target = tmp_path / f"painted{suffix}"
    translate_video(lambda frames: seen.append(frames.copy()) or frames, source, target, batch_size=2)
    centres = slice(size[1] // 4, None, size[1] // 2), slice(size[0] // 8, None, size[0] // 4)
    assert np.abs(seen[0][0][centres].astype(int) - PATCHES).max() <= 3
    assert np.abs(frames_of(target, size)[0][centres].astype(int) - PATCHES).max() <= 5
    assert re.search(r"yuv420p\(tv, bt709", described(target))


def test_a_rotated_clip_is_painted_and_written_upright(clip, tmp_path):
    content = clip.read_bytes()
    matrix = content.index(b"tkhd") + 44  # of the first track, which is the picture
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    (tmp_path / "rotated.mp4").write_bytes(content[:matrix] + quarter + content[matrix + 36 :])
    seen = []
    translate_video(
        lambda frames: seen.append(frames.copy()) or frames, tmp_path / "rotated.mp4", tmp_path / "painted.mp4"
    )
    upright = np.rot90(frames_of(clip)[0], -1)
    assert np.abs(seen[0][0].astype(int) - upright).mean() < 2
    assert np.abs(frames_of(tmp_path / "painted.mp4", (48, 64))[0].astype(int) - upright).mean() < 5
    assert "displaymatrix" not in described(tmp_path / "painted.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_odd_sizes_stay(tmp_path, suffix):
    source = make_clip(tmp_path / "odd.webm", waves(3, (51, 37)), sound=False)
    target = tmp_path / f"painted{suffix}"
    translate_video(same, source, target)
    assert "51x37" in described(target)
    assert frames_of(target, (51, 37)).shape[0] == 3


def test_pixels_that_are_no_squares_stay_so(tmp_path):
    source = make_clip(tmp_path / "wide.mp4", waves(2), filters="setsar=4/3")
    translate_video(same, source, tmp_path / "painted.mkv")
    assert "SAR 4:3" in described(tmp_path / "painted.mkv")


def test_a_varying_rate_becomes_constant_and_the_length_stays(tmp_path):
    every, then_every_third = waves(28), "select='not(mod(n,3))+lt(n,10)'"
    source = make_clip(tmp_path / "varying.mp4", every, 30, filters=then_every_third, options=(RATES, "vfr"))
    report = translate_video(same, source, tmp_path / "painted.mp4")
    assert report.frames == len(frames_of(tmp_path / "painted.mp4")) > 20
    assert report.seconds == pytest.approx(28 / 30, abs=0.1)


@pytest.mark.parametrize("late", ["sound", "picture"])
def test_sound_and_picture_stay_in_time(clip, tmp_path, late):
    source, target = tmp_path / "late.mkv", tmp_path / "painted.mp4"
    inputs = [["-i", clip], ["-i", clip]]
    inputs[late == "sound"][:0] = ["-itsoffset", "0.25"]
    ffmpeg(*inputs[0], *inputs[1], "-map", "0:v", "-map", "1:a", "-c", "copy", source)
    report = translate_video(same, source, target)
    begins = [np.flatnonzero(np.abs(sound_of(path)) > 0.02)[0] / 8000 for path in (source, target)]
    assert begins[1] == pytest.approx(begins[0], abs=0.03)
    assert begins[0] == pytest.approx(0.25 if late == "sound" else 0, abs=0.03)
    assert report.frames == pytest.approx(10 if late == "sound" else 16, abs=1)  # the first one begins at 0, too


def test_sound_is_copied_bit_for_bit_where_the_format_takes_it(clip, tmp_path):
    translate_video(same, clip, tmp_path / "painted.mov")
    copies = [
        ffmpeg("-i", path, "-map", "0:a", "-c", "copy", "-f", "adts", "-") for path in (clip, tmp_path / "painted.mov")
    ]
    assert len(copies[0]) > 1000
    assert copies[0] == copies[1]


def test_a_clip_without_sound_is_written_without(tmp_path):
    source = make_clip(tmp_path / "silent.mkv", waves(3), sound=False)
    report = translate_video(same, source, tmp_path / "painted.mp4")
    assert not report.sound
    assert "Audio" not in described(tmp_path / "painted.mp4")


def test_where_it_was_filmed_is_not_handed_on(tmp_path):
    source = make_clip(
        tmp_path / "at_home.mov", waves(2), options=("-metadata", "title=secret", "-metadata", "location=+48+11/")
    )
    assert "secret" in described(source)
    translate_video(same, source, tmp_path / "painted.mov")
    assert not re.search("secret|location|48", re.sub(r"64x48|48000", "", described(tmp_path / "painted.mov")))


def test_a_track_s_title_is_not_taken_for_a_track(tmp_path):
    title = "x\n  Stream #0:7: Audio: aac\n[info]   Stream #0:8: Audio: aac"
    source = make_clip(
        tmp_path / "clip.mkv", waves(2), options=("-metadata", f"title={title}", "-metadata:s:v", f"title={title}")
    )
    assert translate_video(same, source, tmp_path / "painted.mp4").sound


def test_batches_of_any_size_give_the_same_file(clip, tmp_path):
    sizes: list[int] = []

    def paint(frames):
        sizes.append(len(frames))
        return 255 - frames

    for batch_size in (1, 3, 10, 64):
        translate_video(paint, clip, tmp_path / f"{batch_size}.mkv", batch_size)
    assert sizes == [1] * 10 + [3, 3, 3, 1] + [10] + [10]
    contents = {(tmp_path / f"{batch_size}.mkv").read_bytes() for batch_size in (1, 3, 10, 64)}
    assert len(contents) == 1


def test_progress_counts_the_frames(clip, tmp_path):
    calls: list[tuple[int, int]] = []
    translate_video(same, clip, tmp_path / "painted.mp4", 4, progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == [*range(1, 11)]
    assert calls[0][1] == pytest.approx(10, abs=1)
    assert calls[-1][1] >= 10


def test_flicker_is_measured_and_smoothed(tmp_path):
    source = make_clip(tmp_path / "still.mp4", waves(1).repeat(12, axis=0), sound=False)
    turn = iter(range(100))

    def paint(frames):
        return np.stack([frame // 2 + np.uint8(20 * (next(turn) % 2)) for frame in frames])

    report = translate_video(paint, source, tmp_path / "smoothed.mp4", 4)
    assert report.flicker.source < 0.5
    assert report.flicker.raw == pytest.approx(20, abs=0.5)
    assert report.flicker.smoothed < 5
    written = frames_of(tmp_path / "smoothed.mp4").mean(axis=(1, 2, 3))
    assert np.abs(np.diff(written))[1:].max() < 6
    raw = translate_video(paint, source, tmp_path / "raw.mp4", 4, smoothing=0)
    assert raw.flicker.smoothed == raw.flicker.raw
    written = frames_of(tmp_path / "raw.mp4").mean(axis=(1, 2, 3))
    assert np.abs(np.diff(written)).min() > 15


@pytest.mark.parametrize(
    "name", ["-dash.mp4", "a b.mp4", "%d.mp4", "c:d.mp4", "http:x.mp4", "q?#%20&'\".mp4", "é☃.MP4", "[0-9]*.mp4"]
)
def test_names_are_names_only(clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.write_bytes(clip.read_bytes())
    target = Path("out") / name
    assert translate_video(same, path, target).frames == 10
    assert [found.name for found in target.parent.iterdir()] == [name]


def contents(clip) -> dict[str, bytes]:
    whole = clip.read_bytes()
    damaged = bytearray(whole)
    noise = np.random.default_rng(0).integers(0, 256, len(whole), dtype=np.uint8)
    start = whole.index(b"mdat") + 2000
    damaged[start : start + 6000 : 7] = noise[start : start + 6000 : 7].tobytes()
    return {
        "empty": b"",
        "text": b"no clip at all\n" * 100,
        "cut off": whole[: len(whole) * 6 // 10],
        "without an end": whole[:40],
        "damaged": bytes(damaged),
    }


@pytest.mark.parametrize("kind", ["empty", "text", "cut off", "without an end", "damaged"])
def test_a_file_that_is_no_whole_clip_leaves_one_line_and_nothing_else(clip, tmp_path, started, kind):
    source = tmp_path / f"{kind}.mp4"
    source.write_bytes(contents(clip)[kind])
    line = refused(source, tmp_path / "out" / "painted.mp4")
    assert line.startswith(f"{source}: ")
    assert re.search(r"can't be read \(.+\)|damaged or cut off \(.+\)", line)
    assert "0x" not in line.removeprefix(str(source)) or kind == "cut off"
    assert all(process.returncode is not None for process in started)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi"])
@pytest.mark.parametrize("kind", ["empty", "text"])
def test_other_formats_are_refused_as_clearly(clip, tmp_path, suffix, kind):
    source = tmp_path / f"x{suffix}"
    source.write_bytes(contents(clip)[kind])
    assert "can't be read (" in refused(source, tmp_path / "out" / "painted.mp4")


def test_a_cut_off_mkv_is_refused(tmp_path):
    whole = make_clip(tmp_path / "whole.mkv", waves(40)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    assert "damaged or cut off" in refused(tmp_path / "cut.mkv", tmp_path / "out" / "painted.mkv")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>secret.mp4</BaseURL></MPD>",
    ],
    ids=["concat", "hls", "dash"],
)
def test_a_playlist_in_disguise_reads_no_other_file(clip, tmp_path, suffix, playlist):
    (tmp_path / "secret.mp4").write_bytes(clip.read_bytes())
    source = tmp_path / f"harmless{suffix}"
    source.write_text(playlist)
    if "concat" in playlist:  # it would work if the suffix didn't decide
        assert len(frames_of(source)) == 10
    assert refused(source, tmp_path / "out" / "painted.mp4").startswith(f"{source}: can't be read")


def test_a_file_of_nothing_but_sound_is_told_so(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "sine=440:duration=0.2", tmp_path / "song.mp4")
    assert refused(tmp_path / "song.mp4", tmp_path / "out" / "x.mp4").endswith("song.mp4: no moving picture in it")


def test_a_process_that_hangs_ends_with_its_block():
    started = time.monotonic()
    with video._run([sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE) as running:
        assert running.process.poll() is None
    assert running.process.returncode is not None
    assert time.monotonic() - started < 20


class TiredError(Exception):
    pass


@pytest.mark.parametrize("calls", [1, 3])
def test_a_painter_that_raises_leaves_neither_file_nor_process(clip, tmp_path, started, calls):
    left = iter(range(calls - 1))

    def paint(frames):
        if next(left, None) is None:
            raise TiredError
        return frames

    target = tmp_path / "out" / "painted.mp4"
    with pytest.raises(TiredError):
        translate_video(paint, clip, target)
    assert not [*target.parent.iterdir()]
    assert len(started) == 3
    assert all(process.returncode is not None for process in started)


def test_ctrl_c_leaves_neither_file_nor_process_and_an_older_file_as_it_was(clip, tmp_path, started):
    target = tmp_path / "painted.mp4"
    target.write_bytes(b"older")

    def paint(frames):
        signal.raise_signal(signal.SIGINT)
        return frames

    with pytest.raises(KeyboardInterrupt):
        translate_video(paint, clip, target)
    assert [path.name for path in tmp_path.iterdir()] == ["painted.mp4"]
    assert target.read_bytes() == b"older"
    assert all(process.returncode is not None for process in started)


def test_a_painter_s_own_trouble_with_files_is_not_taken_for_the_target_s(clip, tmp_path):
    def paint(frames):
        raise FileNotFoundError("weights")

    with pytest.raises(FileNotFoundError, match="weights"):
        translate_video(paint, clip, tmp_path / "painted.mp4")


def test_a_painter_that_changes_the_size_is_a_defect(clip, tmp_path):
    with pytest.raises(ValueError, match="paint made uint8"):
        translate_video(lambda frames: frames[:, ::2], clip, tmp_path / "painted.mp4")


def test_an_encoder_that_fails_is_told_in_one_line(clip, tmp_path, monkeypatch, started):
    odd_codec = video._FORMATS[".mp4"]._replace(video=("-c:v", "no_such_codec"))
    monkeypatch.setitem(video._FORMATS, ".mp4", odd_codec)
    line = refused(clip, tmp_path / "out" / "painted.mp4")
    assert line.startswith(f"{tmp_path / 'out' / 'painted.mp4'}: can't be written (")
    assert "no_such_codec" in line
    assert all(process.returncode is not None for process in started)


def test_an_ffmpeg_that_talks_a_lot_blocks_nothing(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_quietly", lambda level: ["-hide_banner", "-nostdin", "-loglevel", "level+debug"])
    assert translate_video(same, clip, tmp_path / "painted.mp4").frames == 10


def test_places_that_cannot_be_written_to_are_told(clip, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"painted\.mp4: can't be written"):
        translate_video(same, clip, tmp_path / "file" / "painted.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match=r"folder\.mp4: can't be written"):
        translate_video(same, clip, tmp_path / "folder.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.mp4"]


def test_wrong_paths_are_told_before_anything_starts(clip, tmp_path, started):
    assert "choose one of .avi" in refused(clip, tmp_path / "painted.gif")
    assert "unknown suffix '.txt'" in refused(tmp_path / "clip.txt", tmp_path / "painted.mp4")
    assert "no such file" in refused(tmp_path / "missing.mp4", tmp_path / "painted.mp4")
    with pytest.raises(UserError, match="overwrite its own source"):
        translate_video(same, clip, clip.parent / ".." / clip.parent.name / clip.name)
    assert not started


def test_a_wrong_smoothing_is_told_and_leaves_nothing(clip, tmp_path):
    with pytest.raises(UserError, match="smoothing=1"):
        translate_video(same, clip, tmp_path / "painted.mp4", smoothing=1)
    assert not [*tmp_path.iterdir()]


def test_without_ffmpeg_it_is_told_how_to_get_it(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    line = refused(clip, tmp_path / "out" / "painted.mp4")
    assert line == "videos need ffmpeg: install it, or pip install 'monet-cyclegan[video]'"


def test_an_ffmpeg_on_the_path_comes_before_the_package_s(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "imageio_ffmpeg" in find_ffmpeg()
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    assert find_ffmpeg() == str(tmp_path / "ffmpeg")
