r"""Text from names, files, folders and the network, in pieces: UTF-8 only, newlines as ``\n``, nothing replaced."""

import codecs
import functools
import hashlib
import io
import os
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from gptviz.spelling import spelling

# name -> (URL, sha256)
DOWNLOADS = {
    "tinyshakespeare": (
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}
CORPORA = ("python-docs", *DOWNLOADS)

# A text larger than this is never held in memory: it is tokenised in a stream.
IN_MEMORY_BYTES = 256 * 2**20
PIECE_BYTES = 2**20
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Corpus:
    """A text and where it is from.

    Attributes:
        name: corpus name, absolute path or URL: what `load_corpus` takes.
        pieces: called, gives the text from its beginning, in pieces.
        n_bytes: size of what it is read from.
        download_sha256: of the file behind a URL, else None.
    """

    name: str
    pieces: Callable[[], Iterator[str]]
    n_bytes: int
    download_sha256: str | None = None

    @functools.cached_property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces())

    @functools.cached_property
    def sha256(self) -> str:
        """Of the text in UTF-8, after newlines were made one character: the same on every system."""
        return self._survey[0]

    @functools.cached_property
    def n_characters(self) -> int:
        """Length of the text."""
        return self._survey[1]

    @functools.cached_property
    def characters(self) -> str:
        """The distinct characters, sorted."""
        return self._survey[2]

    @functools.cached_property
    def _survey(self) -> tuple[str, int, str]:
        """One pass over the text: its sum, its length, its characters."""
        digest, length, characters = hashlib.sha256(), 0, set()
        for piece in self.pieces():
            digest.update(piece.encode("utf-8"))
            length += len(piece)
            characters |= set(piece)
        return digest.hexdigest(), length, "".join(sorted(characters))


def load_corpus(source: str | os.PathLike[str], *, sha256: str | None = None) -> Corpus:
    """Find a text by name, path or URL, and read it.

    "python-docs" is the documentation that CPython carries for its ``help()``: 0.45 MB of English, and no download. It
    differs between Python versions. "tinyshakespeare" is downloaded once (1.1 MB).

    Args:
        source: a name of `CORPORA`; a UTF-8 file; a folder, all of whose files are read in the order of their paths;
            or a URL. A file that is called like a corpus is ``"./python-docs"``.
        sha256: of the file behind a URL; needed for every URL that has no name here.

    Raises:
        ValueError: if it cannot be found, is empty, or is not UTF-8.
        ConnectionError: if it must be downloaded and there is no network.

    Example:
        >>> load_corpus("python-docs").text[:22]
        'The "assert" statement'
    """
    name = os.fspath(source)
    if sha256 is not None and "://" not in name:
        raise ValueError(f"sha256 pins the file behind a URL; {name!r} is none. Leave sha256 out.")
    if name == "python-docs":
        corpus = _python_docs()
    elif name in DOWNLOADS:
        corpus = _from_files(name, [download(*DOWNLOADS[name])], DOWNLOADS[name][1])
    elif "://" in name:
        corpus = _from_url(name, sha256)
    elif not Path(name).exists():
        raise ValueError(
            f"A corpus must be one of {', '.join(CORPORA)}, or a file, a folder or a URL; {name!r} is none."
            f" Check the spelling; paths start at {os.getcwd()}."
        )
    else:
        corpus = _from_files(str(Path(name).resolve()), files_of(Path(name)))
    if corpus.n_bytes <= IN_MEMORY_BYTES and not corpus.text:
        raise ValueError(f"A corpus must hold at least one character; {name!r} is empty. Pass a text.")
    return corpus


def _python_docs() -> Corpus:
    try:
        from pydoc_data.topics import topics
    except ImportError as missing:
        raise ValueError(
            'Corpus "python-docs" is read from pydoc_data, which this Python was installed without. Pass a file.'
        ) from missing
    text = "\n\n".join(topics[name] for name in sorted(topics))
    return Corpus("python-docs", lambda: iter([text]), len(text.encode("utf-8")))


def _from_url(url: str, sha256: str | None) -> Corpus:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"A corpus URL must start with https:// or http://; got {url!r}. Pass files by their path.")
    if sha256 is None:
        raise ValueError(
            f"A URL needs the sha256 of its file, so that everybody trains on the same text; got {url!r} alone. Fetch"
            " the file yourself once, look at it, and pass sha256=hashlib.sha256(data).hexdigest()."
        )
    return _from_files(url, [download(url, sha256)], sha256)


def _from_files(name: str, files: list[Path], sha256: str | None = None) -> Corpus:
    return Corpus(name, lambda: read_pieces(files), sum(file.stat().st_size for file in files), sha256)


# --- files ---------------------------------------------------------------------------------------------------


def read_pieces(files: Iterable[Path]) -> Iterator[str]:
    r"""The text of the files one after the other, a newline between two of them, about a megabyte at a time.

    A byte order mark is dropped; ``\\r\\n`` and ``\\r`` become ``\\n``.

    Raises:
        ValueError: if a file is not UTF-8; says where.
    """
    for i, file in enumerate(files):
        if i:
            yield "\n"
        yield from _read_file(file)


def _read_file(file: Path) -> Iterator[str]:
    utf8 = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = 0
    with open(file, "rb") as stream:
        if stream.read(3) == codecs.BOM_UTF8:
            offset = 3
        stream.seek(offset)
        while True:
            data = stream.read(PIECE_BYTES)
            waiting = len(utf8.getstate()[0])  # bytes of a character that the last piece cut
            try:
                text = utf8.decode(data, final=not data)
            except UnicodeDecodeError as wrong:
                raise ValueError(_not_utf8(file, offset - waiting + wrong.start, wrong)) from None
            offset += len(data)
            if piece := newlines.decode(text, final=not data):
                yield piece
            if not data:
                return


def _not_utf8(file: Path, offset: int, wrong: UnicodeDecodeError) -> str:
    byte = wrong.object[wrong.start]
    wide = offset == 0 and wrong.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    guess = "utf-16" if wide else "latin-1"
    return (
        f"A corpus must be text in UTF-8; {file} has the byte 0x{byte:02x} at offset {offset:,}, where UTF-8 cannot"
        f" have it{' (the file looks like UTF-16)' if wide else ''}. If it is a text, convert it:"
        f' path.write_text(path.read_text("{guess}"), "utf-8"); if it is none, take it out of the folder.'
    )


def files_of(path: Path) -> list[Path]:
    """The file itself, or every file below a folder in the order of its relative path; hidden ones are left out.

    Raises:
        ValueError: if there is no such file or folder, the folder has no file, or it holds token ids.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"A corpus must be a name, a file or a folder; {path} is none. Check the spelling.")
    if (path / "train.bin").is_file():
        raise ValueError(
            f"A folder of texts was expected; {path} holds token ids (train.bin). Read it with"
            " TextData.from_bins(folder, tokenizer)."
        )
    found = []
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    if not found:
        raise ValueError(f"A folder of texts must hold at least one file; {path} holds none. Put a text there.")
    return sorted(found, key=lambda file: file.relative_to(path).parts)


# --- the network ---------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where downloads and token files are kept: GPTVIZ_CACHE_DIR, or the user's cache folder."""
    return Path(os.environ.get("GPTVIZ_CACHE_DIR") or platformdirs.user_cache_path("gptviz"))


def download(url: str, sha256: str) -> Path:
    """The file behind a URL, fetched once and then read from the cache; only these very bytes are accepted.

    Args:
        url: https:// or http:// (the sum protects either way).
        sha256: of the file's bytes, 64 hexadecimal digits.

    Raises:
        ValueError: if `sha256` is not a sum, or the file has another one.
        ConnectionError: if the file is neither in the cache nor to be fetched.
    """
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError(
            f"A URL needs the sha256 of its file, 64 lower-case hexadecimal digits; got {sha256[:80]!r}. Fetch the file"
            " yourself once, look at it, and pass sha256=hashlib.sha256(data).hexdigest()."
        )
    target = cache_folder() / "downloads" / f"{sha256}.txt"
    if target.is_file() and _sum_of(target) == sha256:
        return target
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        found = _fetch(url, temporary)
        if found != sha256:
            raise ValueError(
                f"The file behind {url} must have the sha256 {sha256}; got {found}. It has changed since the sum was"
                " taken, or something on the way changed it: look at it before you pass the new sum."
            )
        temporary.replace(target)
    except OSError as reason:
        raise ConnectionError(
            f"{url} must be fetched once, and it could not be: {reason}. Connect to the network (or set"
            " GPTVIZ_CACHE_DIR to a folder that can be written), or use what needs no network:"
            f" {spelling().setting('corpus', 'python-docs')}, or a file of yours."
        ) from reason
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _fetch(url: str, target: Path) -> str:
    """Write what a URL answers into a file; returns its sha256."""
    digest = hashlib.sha256()
    # load_corpus lets only http and https through, and download checks what came.
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, open(target, "wb") as file:  # noqa: S310
        while data := answer.read(PIECE_BYTES):
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def _sum_of(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
