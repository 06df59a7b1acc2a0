"""From clip to clip: ffmpeg decodes and encodes in processes of its own, between which each frame is painted."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from fractions import Fraction
from math import ceil
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import numpy as np

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path

    Paint = Callable[[np.ndarray], np.ndarray]

DEFAULT_SMOOTHING = 0.8  # of what flickers four fifths go, and nothing of what is painted alike in each frame
MAX_PIXELS = 8192 * 8192  # of a frame
MAX_RATE = 240  # files without a rate of their own claim 1000 frames a second
USUAL_RATE = Fraction(30)  # what they get

# bt709 is named wherever it can be: what isn't, players guess from the size, and each of them otherwise.
_TAGS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
_SCALING = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_H264 = ("-c:v", "libx264", "-preset", "medium", "-crf", "17")
_VP9 = ("-c:v", "libvpx-vp9", "-crf", "24", "-b:v", "0", "-cpu-used", "4", "-row-mt", "1")
_MP4_SOUND = frozenset({"aac", "mp3", "alac", "ac3", "eac3"})
_PCM = frozenset({"pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be"})
_WEBM_SOUND = frozenset({"opus", "vorbis"})


class Flicker(NamedTuple):
    """Root mean squared warping errors of a clip, in levels of 255, see `flicker.warping_index`.

    Attributes:
        source: of the source: what noise and errors of the motion leave.
        raw: of its frames, each painted for itself.
        smoothed: of the frames written.
    """

    source: float
    raw: float
    smoothed: float


class VideoReport(NamedTuple):
    """What was written: how many frames, how long a clip, whether it has sound, and its flicker."""

    frames: int
    seconds: float
    sound: bool
    flicker: Flicker


class _Format(NamedTuple):
    """How files of a suffix are read and written."""

    demuxer: str
    muxer: str
    video: tuple[str, ...]
    copied_sound: frozenset[str]  # codecs that need no conversion
    sound_codec: str


_MP4 = _Format("mov", "mp4", (*_H264, "-movflags", "+faststart"), _MP4_SOUND, "aac")
_FORMATS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _MP4._replace(muxer="mov", copied_sound=_MP4_SOUND | _PCM),
    ".mkv": _Format("matroska", "matroska", _H264, _MP4_SOUND | _WEBM_SOUND | {"flac", "pcm_s16le"}, "libopus"),
    ".webm": _Format("matroska", "webm", _VP9, _WEBM_SOUND, "libopus"),
    ".avi": _Format("avi", "avi", (*_H264, "-bf", "0"), frozenset({"mp3", "ac3", "pcm_s16le"}), "libmp3lame"),
}
VIDEO_SUFFIXES = frozenset(_FORMATS)


class _Clip(NamedTuple):
    """A source as it is decoded: upright."""

    path: Path
    width: int
    height: int
    rate: Fraction
    pixel_aspect: str  # "1:1", "0:0" if unknown
    untagged: bool  # whether the file names no colour matrix
    seconds: float  # of the longest track; 0 if unknown
    sound: tuple[str, ...]  # codec of each sound track; "none" where ffmpeg knows none


class _Running(NamedTuple):
    """An ffmpeg process and the file that takes what it complains about: a pipe would have to be drained."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]


def translate_video(
    paint: Paint,
    source: Path,
    target: Path,
    batch_size: int = 1,
    smoothing: float = DEFAULT_SMOOTHING,
    progress: Callable[[int, int], None] | None = None,
) -> VideoReport:
    """Paint each frame of a clip, smooth them along its motion, and write them with the clip's sound.

    The size stays, and the rate if it is constant. Missing folders are made, and a file under the target's name is
    never half a clip. Title, place and the like aren't handed on, nor subtitles.

    Args:
        paint: maps frames (N, H, W, 3) uint8 RGB to the same.
        source: what to read.
        target: what to write, in the format of the suffix.
        batch_size: how many frames are painted together.
        smoothing: from 0, which leaves each frame as it was painted, to below 1; see `flicker.steady`.
        progress: called with the frames done and an estimate of how many there are.

    Raises:
        UserError: a file that can't be read or written, a suffix out of VIDEO_SUFFIXES, a wrong ``smoothing``, or no
            ffmpeg on this machine.
    """
    for path in (source, target):
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            raise UserError(
                f"{path}: unknown suffix {path.suffix!r}, choose one of {', '.join(sorted(VIDEO_SUFFIXES))}"
            )
    if not source.is_file():
        raise UserError(f"{source}: no such file")
    if target.exists() and target.samefile(source):
        raise UserError(f"{target}: would overwrite its own source")
    ffmpeg = find_ffmpeg()
    clip = _probe(ffmpeg, source)
    with _unfinished(target) as partial:
        return _translate(ffmpeg, paint, clip, target, partial, batch_size, smoothing, progress)


def find_ffmpeg() -> str:
    """The ffmpeg on the PATH, or else that of the package imageio-ffmpeg; UserError if there is neither."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise UserError("videos need ffmpeg: install it, or pip install 'monet-cyclegan[video]'") from error


def _translate(
    ffmpeg: str,
    paint: Paint,
    clip: _Clip,
    target: Path,
    partial: Path,
    batch_size: int,
    smoothing: float,
    progress: Callable[[int, int], None] | None,
) -> VideoReport:
    from monet_cyclegan.inference.flicker import steady, warping_index  # OpenCV takes a while

    expected = ceil(clip.seconds * clip.rate)
    frames, errors = 0, []
    decoding = _run([ffmpeg, *_decoding(clip)], stdout=subprocess.PIPE)
    encoding = _run([ffmpeg, *_encoding(clip, target, partial)], stdin=subprocess.PIPE)
    with decoding as decoder, encoding as encoder:
        batches = _read_batches(decoder, clip, batch_size)
        for steadied in steady(_painted(paint, batches), smoothing):
            _write(encoder, steadied.frame, target)
            frames += 1
            if steadied.errors is not None:
                errors.append(steadied.errors)
            if progress is not None:
                progress(frames, max(frames, expected))
        if not frames:
            raise UserError(f"{clip.path}: no frames in it")
        _finish(encoder, target)
    return VideoReport(frames, float(frames / clip.rate), bool(_tracks(clip)), Flicker(*warping_index(errors)))


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A hidden name beside the target, which it gets at the end, if all went well; otherwise nothing is left."""
    partial = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with _told_of(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with _told_of(target):
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, target)  # noqa: PTH105 - the name says what it does
    finally:
        with suppress(OSError):  # not there, mostly
            partial.unlink()


@contextmanager
def _told_of(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{target}: can't be written ({error})") from error


@contextmanager
def _run(command: list[str], stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL) -> Iterator[_Running]:
    """A process that has ended when the block is left, however it is left.

    In a session of its own, Ctrl-C doesn't reach it: it ends with us, and not before us as if it had failed.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=log, start_new_session=True)
        try:
            yield _Running(process, log)
        finally:
            process.kill()  # does nothing to one that has ended
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what it didn't read
                        pipe.close()
            process.wait()


def _input(clip_path: Path) -> list[str]:
    """Arguments that open a file as what its suffix says, so that it can't name other files or hosts to read."""
    demuxer = _FORMATS[clip_path.suffix.lower()].demuxer
    return ["-protocol_whitelist", "file,pipe", "-f", demuxer, "-i", f"file:{clip_path}"]


def _quietly(level: str) -> list[str]:
    return ["-hide_banner", "-nostdin", "-loglevel", f"level+{level}"]


def _probe(ffmpeg: str, source: Path) -> _Clip:
    """Decode one frame: the y4m header has what exact numbers there are, the log has the rest."""
    command = [ffmpeg, *_quietly("info"), "-max_pixels", str(MAX_PIXELS), *_input(source), "-map", "0:V:0"]
    command += ["-frames:v", "1", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "pipe:1"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False)
    log = done.stderr.decode(errors="replace")
    header = re.match(rb"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+) [^\n]*?A(\d+:\d+)", done.stdout)
    if done.returncode or header is None:
        tracks = re.findall(r"^\[info\] +Stream #0:\d+\S*: (\w+)", log, re.MULTILINE)
        why = (
            "no moving picture in it" if tracks and "Video" not in tracks else f"can't be read ({_reason(log, source)})"
        )
        raise UserError(f"{source}: {why}")
    width, height, above, below = (int(number) for number in header.groups()[:4])
    rate = Fraction(above, below) if above and below else USUAL_RATE
    return _Clip(
        source,
        width,
        height,
        rate if rate <= MAX_RATE else USUAL_RATE,
        header[5].decode(),
        not re.search(r"^\[info\] +Stream #0:\d+\S*: Video:.*\b(bt709|bt470|smpte|bt2020|fcc|gbr)", log, re.MULTILINE),
        _seconds(log),
        tuple(re.findall(r"^\[info\] +Stream #0:\d+\S*: Audio: (\w+)", log, re.MULTILINE)),
    )


def _seconds(log: str) -> float:
    found = re.search(r"^\[info\] +Duration: (\d+):(\d+):([\d.]+)", log, re.MULTILINE)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else 0.0


def _decoding(clip: _Clip) -> list[str]:
    """Arguments for raw RGB frames at a constant rate, the first at the time 0 of the sound."""
    # What names no matrix is bt601 to ffmpeg, which large pictures rarely are.
    matrix = "in_color_matrix=bt709:" if clip.untagged and min(clip.width, clip.height) >= 720 else ""
    filters = f"fps={clip.rate}:start_time=0,scale={matrix}{_SCALING},format=rgb24"
    # A damaged frame is an error, not a grey one.
    arguments = [*_quietly("error"), "-xerror", "-max_pixels", str(MAX_PIXELS), *_input(clip.path), "-map", "0:V:0"]
    return [*arguments, "-vf", filters, "-f", "rawvideo", "pipe:1"]


def _encoding(clip: _Clip, target: Path, partial: Path) -> list[str]:
    """Arguments for a file of raw RGB frames from a pipe, and the source's sound."""
    target_format = _FORMATS[target.suffix.lower()]
    size = f"{clip.width}x{clip.height}"
    arguments = [*_quietly("error"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", size]
    arguments += ["-framerate", str(clip.rate), "-i", "pipe:0"]
    tracks = _tracks(clip)
    arguments += _input(clip.path) if tracks else []
    arguments += ["-map", "0:v:0"]
    for position, (track, codec) in enumerate(tracks):
        arguments += ["-map", f"1:a:{track}"]
        if codec in target_format.copied_sound:
            arguments += [f"-c:a:{position}", "copy"]
        else:  # encoders differ in the kinds of surround sound they take
            arguments += [f"-c:a:{position}", target_format.sound_codec]
            arguments += [f"-filter:a:{position}", "aformat=channel_layouts=stereo|mono"]
    # H.264 has no odd sizes with colours at half the width and height, as all players read them. A frame more or less
    # would be another size; and what has an odd size in H.264 is 4:4:4 already, so who plays the source plays this.
    odd = target_format.video[1] == "libx264" and (clip.width % 2 or clip.height % 2)
    filters = [f"scale=out_color_matrix=bt709:out_range=tv:{_SCALING}", f"format=yuv4{'44' if odd else '20'}p"]
    if "0" not in clip.pixel_aspect.split(":"):
        filters.append(f"setsar={clip.pixel_aspect.replace(':', '/')}")
    filters.append("setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709")
    arguments += ["-filter:v", ",".join(filters), *target_format.video, *_TAGS]
    # Bitexact: no random identifiers, so that the same frames give the same file.
    return [*arguments, "-fflags", "+bitexact", "-f", target_format.muxer, "-y", f"file:{partial}"]


def _tracks(clip: _Clip) -> list[tuple[int, str]]:
    """Number and codec of the sound tracks that ffmpeg understands."""
    return [(track, codec) for track, codec in enumerate(clip.sound) if codec != "none"]


def _read_batches(decoder: _Running, clip: _Clip, batch_size: int) -> Iterator[np.ndarray]:
    """Frames (N, H, W, 3) uint8, at most ``batch_size`` at once; UserError if the decoder couldn't read them all."""
    pipe = cast("BufferedReader", decoder.process.stdout)
    while True:
        frames = np.empty((batch_size, clip.height, clip.width, 3), np.uint8)
        count = pipe.readinto(frames.data.cast("B")) // frames[0].nbytes
        if count:
            yield frames[:count]
        if count < batch_size:
            break
    complaints = _ended(decoder)
    # A file that was cut off is no error to ffmpeg.
    if decoder.process.returncode or re.search(r"partial file|ended prematurely", complaints):
        raise UserError(f"{clip.path}: damaged or cut off ({_reason(complaints, clip.path)})")


def _painted(paint: Paint, batches: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each frame and its painting."""
    for frames in batches:
        paintings = paint(frames)
        if paintings.shape != frames.shape or paintings.dtype != np.uint8:
            got = f"{paintings.dtype} {paintings.shape}"
            raise ValueError(f"paint made {got} of uint8 {frames.shape}")
        yield from zip(frames, paintings, strict=True)


def _write(encoder: _Running, frame: np.ndarray, target: Path) -> None:
    try:
        cast("IO[bytes]", encoder.process.stdin).write(np.ascontiguousarray(frame).data)
    except OSError as error:  # the pipe is broken; not every system calls it so
        raise UserError(f"{target}: can't be written ({_reason(_ended(encoder), target)})") from error


def _finish(encoder: _Running, target: Path) -> None:
    """Let the encoder end its file; UserError if it couldn't."""
    with suppress(OSError):  # then its status tells
        cast("IO[bytes]", encoder.process.stdin).close()
    complaints = _ended(encoder)
    if encoder.process.returncode:
        raise UserError(f"{target}: can't be written ({_reason(complaints, target)})")


def _ended(running: _Running) -> str:
    """What a process complained of until its end."""
    running.process.wait()
    running.log.seek(0)
    return running.log.read().decode(errors="replace")


# What follows from another error, which was told before.
_CONSEQUENCE = re.compile(
    r"Error (selecting|opening|processing|parsing|submitting|muxing|writing|closing|while|(re)?init)"
    r"|Task finished|Terminating thread|Conversion failed|Nothing was written|Last message repeated|Failed to set value"
    r"|To ignore this|Cannot determine format|Could not open encoder before EOF"
)


def _reason(log: str, path: Path) -> str:
    """The last line of ffmpeg's log about ``path`` that tells a reason, without its origin."""
    lines = [line for line in log.splitlines() if re.search(r"\[(error|fatal|panic)\]", line)]
    told = [re.sub(r"^(\[[^]]*\] *)+", "", line).strip() for line in lines]
    reasons = [line for line in told if line and not _CONSEQUENCE.match(line)] or told
    if not reasons:
        return "ffmpeg doesn't say why"
    return reasons[-1].removeprefix(f"file:{path}: ").removeprefix("Error opening input files: ")
