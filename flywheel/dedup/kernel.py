"""The C version of what `arrays.py` does in numpy: finding it, and calling it.

`kernel.c` is compiled when the package is installed, to `_kernel.*.so` beside this file. Where
there was no compiler, or the file is older than this module, `library()` is None, `state()` says
why, and numpy computes the same. Calls release the interpreter lock.
"""

import ctypes
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flywheel.compiled import load
from flywheel.dedup.sets import (
    SIGNATURE,
    SIGNS,
    Counts,
    Hashes,
    Ints,
    Sets,
    blocks,
    wanted_prefixes,
    words_of,
)

VERSION = 3  # KERNEL_VERSION in kernel.c
COUNTERS = (  # functions that answer a number
    "count_words",
    "hash_words",
    "shingle_texts",
    "find_prefixes",
    "count_common",
    "join_prefixes",
    "find_runs",
)
SILENT = ("find_plain", "part_signs", "count_texts", "sign_sets")  # functions that answer nothing
HIGHEST = 0x20000  # code points that are looked up; others go through Python


def library() -> ctypes.CDLL | None:
    """The compiled kernel, or None where numpy must do."""
    return _load()[0]


def state() -> str:
    """Which version computes, and why: "C kernel" or "numpy: ..."."""
    return _load()[1]


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    found, why = load(__file__, "kernel", VERSION, "numpy")
    for name in COUNTERS if found else ():
        getattr(found, name).restype = ctypes.c_int64
    for name in SILENT if found else ():
        getattr(found, name).restype = None
    return found, why


def hash_words(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """Hash of every word of the texts, one after the other, and the number of words of each."""
    given = _Texts(texts)
    words = np.empty(_call("count_words", *given.arguments), np.uint64)
    counts = np.empty(len(texts), np.int64)
    _call("hash_words", *given.arguments, _at(words), _at(counts))
    return words, counts


def shingle_sets(texts: Sequence[str]) -> Sets:
    """See `sets.shingle_sets`. Texts are encoded block by block, their hashes lie in one array."""
    letters = np.array([len(text) for text in texts], np.int64)
    hashes, sizes, count, done = np.empty(0, np.uint64), [np.zeros(1, np.int64)], 0, 0
    for block in blocks(letters):
        given = _Texts(texts[block])
        room = count + _call("count_words", *given.arguments)
        done += int(letters[block].sum())
        if room > len(hashes):  # as much as the rest will need if it is like the texts so far
            hashes.resize(
                room + room * (int(letters.sum()) - done) // done * 21 // 20, refcheck=False
            )
        start = np.empty(len(texts[block]) + 1, np.int64)
        count += _call("shingle_texts", *given.arguments, _at(hashes[count:]), _at(start))
        sizes.append(np.diff(start))
    return Sets(hashes[:count], np.cumsum(np.concatenate(sizes)))


def count_texts(sets: Sets, table: Counts) -> None:
    """Add to a table of `engine.frequencies`."""
    _call("count_texts", _at(sets.hash), _n(len(sets.hash)), _bits(table), _at(table))


def find_prefixes(sets: Sets, frequency: Counts, threshold: float, skip_unique: bool) -> Sets:
    """See `sets.prefixes`."""
    out = np.empty(int(wanted_prefixes(sets.sizes, threshold).sum()) + 1, np.uint64)
    start = np.empty(len(sets) + 1, np.int64)
    count = _call(
        "find_prefixes",
        *_given(sets),
        *(_at(frequency), _bits(frequency), ctypes.c_double(threshold), int(skip_unique)),
        *(_at(out), _at(start)),
    )
    return Sets(out[:count], start)


def count_common(sets: Sets, first: Ints, second: Ints) -> Ints:
    """Number of shingles that each pair of sets has in common; quick where `first` is sorted."""
    first, second = np.ascontiguousarray(first), np.ascontiguousarray(second)
    common = np.empty(len(first), np.int64)
    sized = (_at(sets.hash), _at(sets.start), _n(len(first)))
    _call("count_common", *sized, _at(first), _at(second), _at(common))
    return common


def sign_sets(sets: Sets) -> Hashes:
    """256 bits for each set, of which every shingle sets one, [D, 4]."""
    bits = np.zeros((len(sets), SIGNATURE), np.uint64)
    _call("sign_sets", *_given(sets), _at(bits))
    return bits


def join_prefixes(
    sets: Sets, prefix: Sets, bits: Hashes, threshold: float
) -> tuple[Ints, Ints, Ints]:
    """First, second and number in common of the pairs that reach `threshold`, in any order."""
    found = ctypes.POINTER(ctypes.c_int64)()
    met = ctypes.c_int64()
    count = _call(
        "join_prefixes",
        *_given(sets),
        *(_at(prefix.hash), _at(prefix.start), _at(bits), ctypes.c_double(threshold)),
        *(ctypes.byref(found), ctypes.byref(met)),
    )
    first, second, common = _taken(found, count).T
    return first, second, common


def find_runs(
    texts: Sequence[str], sizes: Sequence[int], wanted: Hashes
) -> tuple[Ints, Ints, Ints]:
    """Text, place of the first word and index in `wanted` of each run whose hash stands there.

    Args:
        texts: Where to look.
        sizes: Numbers of words of the runs, at most 16 different ones.
        wanted: Hashes of runs as `arrays.hash_runs` makes them, each once.
    """
    given = _Texts(texts)
    lengths = np.array(sizes, np.int64)
    found = ctypes.POINTER(ctypes.c_int64)()
    count = _call(
        "find_runs",
        *given.arguments,
        *(_at(lengths), _n(len(lengths)), _at(wanted), _n(len(wanted)), ctypes.byref(found)),
    )
    text, place, index = _taken(found, count).T
    return text, place, index


class _Texts:
    """Texts as addresses and lengths of UTF-8 that the kernel can lower-case and split."""

    def __init__(self, texts: Sequence[str]) -> None:
        whole = _encoded(texts)
        address, length = _places(whole)
        self._kept = [whole, address, length]
        self.arguments: tuple[Any, ...] = (_at(address), _at(length), _n(len(texts)))
        letters = np.frombuffer(whole.buffers()[2] or b"", np.uint8)
        if not len(letters) or letters.max() < 0x80:
            return
        plain = np.empty(len(texts), np.uint8)
        tables = _at(_plain_code_points()), _at(_signs())
        _call("find_plain", *self.arguments, *tables, _at(plain))
        signed = np.flatnonzero(plain == 2)
        given, sizes = address[signed], length[signed]
        room = sizes // 3 * 2 + sizes  # a sign has three bytes or more, and gets two spaces
        parted = np.empty(int(room.sum()), np.uint8)
        places = (parted.ctypes.data + np.cumsum(room) - room).astype(np.uint64)
        counted = _at(given), _at(sizes), _n(len(signed))
        _call("part_signs", *counted, _at(_signs()), _at(places))
        address[signed], length[signed] = places, sizes
        self._kept.append(parted)
        others = np.flatnonzero(plain == 0)
        mended = _encoded([" ".join(words_of(texts[place])) for place in others.tolist()])
        address[others], length[others] = _places(mended)
        self._kept.append(mended)


def _encoded(texts: Sequence[str]) -> pa.LargeBinaryArray:
    try:
        return pa.array(texts, pa.large_string()).cast(pa.large_binary())
    except UnicodeEncodeError:  # a lone surrogate
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        return pa.array(encoded, pa.large_binary())


def _places(texts: pa.LargeBinaryArray) -> tuple[Hashes, Ints]:
    _, offsets, data = texts.buffers()
    ends = np.zeros(1, np.int64)
    if len(texts):
        ends = np.frombuffer(offsets, np.int64, len(texts) + 1, texts.offset * 8)
    base = data.address if data else 0
    return (ends[:-1] + base).astype(np.uint64), np.diff(ends)


@cache
def _plain_code_points() -> npt.NDArray[np.uint8]:
    """A bit for each code point that NFC and lower() leave as it is, whatever stands beside it."""
    plain = np.zeros(HIGHEST, bool)
    for point in range(0x80, HIGHEST):
        letter = chr(point)
        plain[point] = (
            unicodedata.category(letter)[0] not in "MC"  # marks join what is before them
            and not 0x1160 <= point < 0x1200  # and so do these parts of Korean syllables
            and letter.lower() == letter
            and not letter.isspace()
            and unicodedata.is_normalized("NFC", letter)
        )
    return np.packbits(plain, bitorder="little")


@cache
def _signs() -> npt.NDArray[np.uint8]:
    """A bit for each code point that is a word by itself."""
    signs = np.zeros(HIGHEST, bool)
    for first, last in SIGNS:
        signs[first : last + 1] = True
    return np.packbits(signs, bitorder="little")


def _call(name: str, *arguments: Any) -> int:
    loaded = library()
    assert loaded is not None, "engine() gives this module where it is loaded only"
    result = getattr(loaded, name)(*arguments)
    if result == -1:
        raise MemoryError(f"the machine has no memory left for {name} of flywheel's kernel")
    return int(result or 0)


def _given(sets: Sets) -> tuple[Any, ...]:
    return _at(sets.hash), _at(sets.start), _n(len(sets))


def _bits(table: Counts) -> int:
    return len(table).bit_length() - 1


def _at(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def _n(number: int) -> ctypes.c_int64:
    return ctypes.c_int64(number)


def _taken(found: Any, count: int) -> Ints:
    """Copy rows of three numbers out of the kernel's memory and release it, [count, 3]."""
    rows = np.ctypeslib.as_array(found, (count, 3)).copy() if count else np.zeros((0, 3), np.int64)
    _call_release(found)
    return rows


def _call_release(memory: Any) -> None:
    loaded = library()
    if loaded is not None:
        loaded.release.restype = None
        loaded.release(memory)
