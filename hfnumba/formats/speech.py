"""Shared by corpora of recordings: samples, log-mel features, and frame labels."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError, encoding_hint
from hfnumba.formats.extras import require

FRAME_MS, SHIFT_MS = 25.0, 10.0
FORMATS = {"WAV", "WAVEX", "NIST"}
SAMPLE_NBYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}
FULL_SCALE = 2**15
"""Scale of the samples: Kaldi computes features from samples in the range of 16-bit integers."""

MAX_DIFFERENCE_S = 1.0
HEAD_NBYTES = 4096
MAX_LABELS = 2**24
"""Largest number of bytes of a label file."""


class Sound(Protocol):
    """Options of a recording: its required samples per second, and the number of mel energies of a frame."""

    @property
    def sample_rate(self) -> int: ...  # noqa: D102
    @property
    def n_mels(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Segments:
    """Consecutive segments of time, with the phone spoken in each.

    Attributes
    ----------
    ends : ndarray of float64
        Ends of the segments in seconds, ascending; each begins where the one before ends, the first at ``start``.
    phones : tuple of str
    start : float
    """

    ends: NDArray[np.float64]
    phones: tuple[str, ...]
    start: float = 0.0


def segments(ends: list[float], phones: list[str], start: float = 0.0) -> Segments:
    """Make segments from the times of a label file.

    Raises
    ------
    ValueError
        If the times are not finite, or decrease.
    """
    times = np.array([start, *ends], np.float64)
    if not np.isfinite(times).all() or start < 0 or (np.diff(times) < 0).any():
        first = int(np.argmax(~(np.diff(times) >= 0)))
        raise ValueError(f"the times of label {first + 1} do not follow those before it")
    return Segments(times[1:], tuple(phones), start)


def check_end(spoken: Segments, duration_s: float) -> None:
    """Check that the last label ends within a second of the end of the recording.

    Raises
    ------
    ValueError
        If it does not.
    """
    if abs(spoken.ends[-1] - duration_s) > MAX_DIFFERENCE_S:
        raise ValueError(f"the labels end at {spoken.ends[-1]:.2f} s, the recording at {duration_s:.2f} s")


def read_text(path: Path) -> list[str]:
    """Read the lines of a small text file."""
    try:
        if path.stat().st_size > MAX_LABELS:
            raise DataError(f"{path} is larger than {MAX_LABELS} bytes, expected a file of labels")
        return path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read: {encoding_hint(error.object)}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def frame_labels(
    where: str, n_frames: int, spoken: Segments, numbers: dict[str, int], states: int
) -> NDArray[np.int64]:
    """Label each frame by the phone spoken at its middle.

    Parameters
    ----------
    where : str
        Name of the utterance in error messages.
    n_frames : int
    spoken : Segments
        Segments; frames before the first and after the last get the label of that one.
    numbers : dict of str to int
        Class number of each phone.
    states : {1, 3}
        Number of classes per phone; with 3, the class is ``3 * phone + third``, with thirds of equal length.

    Raises
    ------
    DataError
        If labels and recording differ by more than a second in length.
    """
    duration = (n_frames * SHIFT_MS + FRAME_MS - SHIFT_MS) / 1000
    try:
        check_end(spoken, duration)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    middles = (np.arange(n_frames) * SHIFT_MS + FRAME_MS / 2) / 1000
    at = np.minimum(np.searchsorted(spoken.ends, middles, side="right"), len(spoken.ends) - 1)
    labels: NDArray[np.int64] = np.array([numbers[phone] for phone in spoken.phones], np.int64)[at]
    if states == 1:
        return labels
    begins = np.concatenate([[spoken.start], spoken.ends[:-1]])
    length = np.maximum(spoken.ends - begins, 1e-9)
    third = np.clip(np.floor(states * (middles - begins[at]) / length[at]), 0, states - 1)
    return np.asarray(states * labels + third, np.int64)


def recording_s(path: Path) -> float:
    """Length of a recording in seconds, by its header.

    Raises
    ------
    DataError
        If it is not a recording.
    """
    soundfile = require("soundfile", "speech")
    try:
        found = soundfile.info(os.fsencode(path))
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} is not a recording that can be read: {error}") from error
    return float(found.frames / found.samplerate)


def read_samples(path: Path, options: Sound) -> NDArray[np.float32]:
    """Read a recording (WAV or NIST SPHERE, one channel, uncompressed) in the range of 16-bit integers.

    Raises
    ------
    DataError
        If the recording has another format, is truncated, or has another sample rate than the recipe says.
    """
    soundfile = require("soundfile", "speech")
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            kind = (file.format, file.subtype)
            if file.format not in FORMATS or file.subtype not in SAMPLE_NBYTES:
                raise DataError(f"{path} is {' '.join(kind)}, expected uncompressed WAV or NIST SPHERE")
            if file.channels != 1 or file.samplerate != options.sample_rate:
                raise DataError(
                    f"{path} has {file.channels} channels at {file.samplerate} Hz, expected 1 at {options.sample_rate}"
                )
            # libsndfile shortens the claimed length to that of the file; a truncated recording is refused here instead.
            if (claimed := _claimed_samples(path)) != file.frames:
                raise DataError(f"{path} claims {claimed} samples and holds {file.frames}; it is truncated or damaged")
            samples: NDArray[np.float32] = file.read(dtype="float32")
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} is not a recording that can be read: {error}") from error
    return samples * np.float32(FULL_SCALE)


def _claimed_samples(path: Path) -> int | None:
    """Number of samples of one channel in the header of a WAV or NIST SPHERE file; None if it is not given."""
    with path.open("rb") as file:
        head = file.read(HEAD_NBYTES)
        if head.startswith(b"NIST_1A"):
            match = re.search(rb"sample_count -i (\d{1,18})\s", head)
            return int(match[1]) if match else None
        at, width = 12, 1
        while at + 8 <= (size := path.stat().st_size):
            file.seek(at)
            chunk = file.read(24)
            kind, nbytes = chunk[:4], int.from_bytes(chunk[4:8], "little")
            if kind == b"fmt ":
                width = max(1, int.from_bytes(chunk[20:22], "little"))
            if kind == b"data":
                return nbytes // width
            if nbytes > size:
                break
            at += 8 + nbytes + nbytes % 2
    return None


def log_mel(path: Path, options: Sound) -> NDArray[np.float32]:
    """Compute the logarithmic mel energies of a recording with Kaldi's code, without dither, so reproducibly.

    Returns
    -------
    ndarray of float32, shape (frames, n_mels)
        Features of frames of 25 ms, one every 10 ms.
    """
    knf = require("kaldi_native_fbank", "speech")
    samples = read_samples(path, options)
    settings = knf.FbankOptions()
    settings.frame_opts.samp_freq = options.sample_rate
    settings.frame_opts.dither = 0.0
    settings.frame_opts.frame_length_ms = FRAME_MS
    settings.frame_opts.frame_shift_ms = SHIFT_MS
    settings.mel_opts.num_bins = options.n_mels
    fbank = knf.OnlineFbank(settings)
    fbank.accept_waveform(options.sample_rate, samples)
    fbank.input_finished()
    n = fbank.num_frames_ready
    if n == 0:
        raise DataError(f"{path} is shorter than a frame of {FRAME_MS:g} ms")
    return np.stack([fbank.get_frame(t) for t in range(n)])


def class_names(phones: list[str], states: int) -> tuple[str, ...]:
    """Names of the classes in the order of their numbers."""
    return tuple(phones) if states == 1 else tuple(f"{phone}_{k}" for phone in phones for k in range(states))
