"""Training text as batches of ids; where it comes from (names, files, folders, URLs) is `gptviz.texts`.

A text is split by position, as nanoGPT does: the first ``int(0.9 * n)`` of its n characters train, the others validate.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt

from gptviz.arguments import span
from gptviz.byte_pairs import whole_words
from gptviz.texts import IN_MEMORY_BYTES, Corpus, cache_folder, load_corpus
from gptviz.token_files import dtype_for, fingerprint, map_ids, take_characters, write_ids
from gptviz.token_ids import check_text
from gptviz.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    encode_stream,
    make_tokenizer,
    tokenizer_from_json,
)

TRAIN_FRACTION = 0.9
GOLDEN = (5**0.5 - 1) / 2  # the multiples of no other number are spread as evenly, however many there are
# A byte-pair vocabulary is learned from this much of such a text.
LEARN_CHARACTERS = 64 * 2**20
# A text that came from nowhere is kept in the spec of its data up to this size.
INLINE_CHARACTERS = 2**20


@runtime_checkable
class DataSource(Protocol):
    """What training reads: texts (`TextData`) or tasks (`gptviz.tasks`)."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Between text and ids."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    def batch(
        self, split: str, batch_size: int, block_size: int, rng: np.random.Generator
    ) -> tuple[Int64[np.ndarray, "batch pos"], Int64[np.ndarray, "batch pos"]]:
        """Inputs and targets of split "train" or "val"; a target of -1 is not learned."""
        ...

    def spec(self) -> dict[str, Any]:
        """JSON from which `source_from_spec` makes the same source."""
        ...


# --- batches ------------------------------------------------------------------------------------------------


class TextData:
    """Token ids of a training and a validation text, and random batches of them.

    Made by `load_text_data`, `TextData.from_text` or `TextData.from_bins`.

    Example:
        >>> data = TextData.from_text("hello world " * 9)
        >>> x, y = data.batch("train", batch_size=2, block_size=5, rng=np.random.default_rng(0))
        >>> x.shape, bool((x[:, 1:] == y[:, :-1]).all())
        ((2, 5), True)
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: UInt[np.ndarray, "train_pos"],
        val: UInt[np.ndarray, "val_pos"],
        spec: dict[str, Any],
    ):
        self.tokenizer = tokenizer
        self.ids = {"train": train, "val": val}
        self._spec = spec

    @classmethod
    def from_text(cls, text: str, tokenizer: str | Tokenizer = "char", vocab_size: int = 1024) -> "TextData":
        """Data of a text at hand.

        Args:
            text: any text; both splits must be longer than the model's block.
            tokenizer: a tokenizer, or "char", "byte", "bpe", "gpt2".
            vocab_size: for "bpe" only.

        Raises:
            ValueError: if the text is empty or the tokenizer does not know it.
        """
        check_text(text)
        if not text:
            raise ValueError("A text to train on must hold at least one character; got an empty one. Pass a text.")
        corpus = Corpus("a text", lambda: iter([text]), len(text))
        data = _in_memory(corpus, _tokenizer_for(corpus, tokenizer, vocab_size))
        data._spec["corpus"] = None
        data._spec["text"] = text if len(text) <= INLINE_CHARACTERS else None
        return data

    @classmethod
    def from_bins(
        cls, folder: str | os.PathLike[str], tokenizer: Tokenizer, dtype: str = "uint16"
    ) -> "TextData":
        """Data of a folder with nanoGPT's ``train.bin`` and ``val.bin``, mapped and not read.

        Args:
            folder: where the two files are.
            tokenizer: what they were written with; for a character corpus nanoGPT keeps it in ``meta.pkl``.
            dtype: of the ids; nanoGPT's is "uint16".

        Raises:
            ValueError: if a file is missing or its size does not fit `dtype`.
        """
        folder = Path(folder).resolve()
        kind = np.dtype(dtype).newbyteorder("<")
        train, val = (map_ids(folder / f"{split}.bin", kind) for split in ("train", "val"))
        prints = {split: fingerprint(folder / f"{split}.bin") for split in ("train", "val")}
        spec = {"kind": "bins", "folder": str(folder), "dtype": dtype, "fingerprints": prints}
        return cls(tokenizer, train, val, spec | {"tokenizer": tokenizer.to_json()})

    @property
    def vocab_size(self) -> int:
        """Number of ids of the tokenizer."""
        return self.tokenizer.vocab_size

    def batch(
        self, split: str, batch_size: int, block_size: int, rng: np.random.Generator
    ) -> tuple[Int64[np.ndarray, "batch pos"], Int64[np.ndarray, "batch pos"]]:
        """Windows at random places; the target of a position is the token after it.

        Args:
            split: "train" or "val".
            batch_size: number of windows.
            block_size: tokens in each.
            rng: where the places are drawn from; its state is all that a resumed run needs.

        Raises:
            ValueError: if there is no such split, or it has fewer than ``block_size + 1`` tokens.
        """
        ids = self._split(split, block_size)
        starts = rng.integers(0, len(ids) - block_size, size=batch_size)
        windows = self._known(ids[starts[:, None] + np.arange(block_size + 1)])
        return windows[:, :-1], windows[:, 1:]

    def even_batch(
        self, place: int, batch_size: int, block_size: int, offset: float
    ) -> tuple[Int64[np.ndarray, "batch pos"], Int64[np.ndarray, "batch pos"]]:
        """Windows of the training split that cover it evenly: each lies where the windows before it left most room.

        The windows' starts are the golden-ratio sequence offset, offset + g, offset + 2 g, ... (modulo 1, g = 0.618).
        One batch holds windows from all over the text, and after one epoch hardly a token was left out; of windows
        drawn at random more than a third of the text would not be seen.

        Args:
            place: windows taken before; the training step times the batch size. No other state is needed to go on.
            batch_size: number of windows.
            block_size: tokens in each.
            offset: where the sequence begins, 0 to 1.

        Raises:
            ValueError: if the split has fewer than ``block_size + 1`` tokens.
        """
        ids = self._split("train", block_size)
        shares = (offset + GOLDEN * (place + np.arange(batch_size))) % 1
        starts = (shares * (len(ids) - block_size)).astype(np.int64)
        windows = self._known(ids[starts[:, None] + np.arange(block_size + 1)])
        return windows[:, :-1], windows[:, 1:]

    def windows(
        self, split: str, block_size: int, batch_size: int = 64
    ) -> Iterator[tuple[Int64[np.ndarray, "batch pos"], Int64[np.ndarray, "batch pos"]]]:
        """The whole split in order, for an exact mean loss: every token but the first is a target once.

        The last window is filled up with id 0 and targets -1.

        Raises:
            ValueError: as `batch`, and if `batch_size` is less than 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more; got {batch_size}.")
        ids = self._split(split, block_size)
        step = block_size * batch_size
        for start in range(0, len(ids) - 1, step):
            window = self._known(ids[start : start + step + 1])
            n_rows = -(-(len(window) - 1) // block_size)
            x = np.zeros(n_rows * block_size, dtype=np.int64)
            y = np.full(n_rows * block_size, -1, dtype=np.int64)
            x[: len(window) - 1], y[: len(window) - 1] = window[:-1], window[1:]
            yield x.reshape(n_rows, block_size), y.reshape(n_rows, block_size)

    def spec(self) -> dict[str, Any]:
        """Where the text is from, its sha256, and the tokenizer: JSON for `source_from_spec`."""
        return dict(self._spec)

    def _split(self, split: str, block_size: int) -> np.ndarray:
        if split not in self.ids:
            raise ValueError(f'A split is "train" or "val"; got {split!r}. Pass one of them.')
        ids = self.ids[split]
        if block_size < 1 or len(ids) < block_size + 1:
            room = f"; with this one block_size must be {span(1, len(ids) - 1)}" if len(ids) > 1 else ""
            raise ValueError(
                f"A split must have at least block_size + 1 tokens; {split!r} has {len(ids):,} and block_size is"
                f" {block_size}. Pass a longer text{room}."
            )
        return ids

    def _known(self, ids: np.ndarray) -> np.ndarray:
        """As int64. Ids in a file need not be of this tokenizer, and a model would read beyond its table."""
        if ids.size and ids.max() >= self.vocab_size:
            raise ValueError(
                f"Token ids must be below the vocabulary's {self.vocab_size}; the data holds {ids.max()}. Pass the"
                " tokenizer that the data was written with."
            )
        return ids.astype(np.int64)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split} {len(ids):,}" for split, ids in self.ids.items())
        return f"TextData({sizes} tokens, {self.tokenizer!r})"


def load_text_data(
    corpus: str | os.PathLike[str],
    tokenizer: str | Tokenizer = "char",
    *,
    sha256: str | None = None,
    vocab_size: int = 1024,
    in_memory_bytes: int = IN_MEMORY_BYTES,
    progress: bool = True,
) -> TextData:
    """Training data of a corpus.

    Up to `in_memory_bytes` the text is read and tokenised in memory; above, it is read in a stream, twice, and its ids
    are kept in the cache folder (once for each text and tokenizer). Both ways give the same ids.

    Args:
        corpus: what `load_corpus` takes.
        tokenizer: a tokenizer, or "char", "byte", "bpe" (learned from the corpus), "gpt2".
        sha256: as for `load_corpus`.
        vocab_size: for "bpe" only.
        in_memory_bytes: largest text that is held in memory.
        progress: show a bar while a large text is tokenised.

    Raises:
        ValueError: as `load_corpus`, and if the tokenizer does not know a character.
        OSError: if the ids cannot be written.

    Example:
        >>> data = load_text_data("python-docs")
        >>> data.tokenizer.vocab_size < 200 and len(data.ids["train"]) > 8 * len(data.ids["val"])
        True
    """
    text = load_corpus(corpus, sha256=sha256)
    chosen = _tokenizer_for(text, tokenizer, vocab_size)
    return _tokenised(text, chosen, in_memory_bytes, progress)


def source_from_spec(spec: dict[str, Any]) -> DataSource:
    """The data that a run was trained on, or a sentence why it cannot be had again.

    Raises:
        ValueError: if the spec is not one, or the text is no longer what it was.

    Example:
        >>> source_from_spec(TextData.from_text("abc" * 9).spec()).vocab_size
        3
    """
    kind = spec.get("kind")
    if kind == "task":
        from gptviz.tasks import task_from_spec

        return task_from_spec(spec)
    if kind not in ("text", "bins") or "tokenizer" not in spec:
        raise ValueError(f'A data spec has "kind": "text", "bins" or "task"; got {str(spec)[:80]}.')
    tokenizer = tokenizer_from_json(spec["tokenizer"])
    if kind == "bins":
        data = TextData.from_bins(spec["folder"], tokenizer, spec["dtype"])
    elif spec["corpus"] is not None:
        corpus = load_corpus(spec["corpus"], sha256=_pin(spec))
        _check_unchanged(spec, "sha256", corpus.sha256)  # before a tokenizer meets characters it does not know
        data = _tokenised(corpus, tokenizer)
    elif spec.get("text") is not None:
        data = TextData.from_text(spec["text"], tokenizer)
    else:
        raise ValueError(
            f"The text of this run was passed as a str of more than {INLINE_CHARACTERS:,} characters and not kept. Save"
            " the text to a file next time, and pass the file as the corpus."
        )
    for key in ("sha256", "fingerprints"):
        _check_unchanged(spec, key, data.spec().get(key))
    return data


def _check_unchanged(spec: dict[str, Any], key: str, now: object) -> None:
    if spec.get(key) != now:
        raise ValueError(
            f"The data must be what the run was trained on; {spec.get('corpus') or spec.get('folder')!r} has changed"
            f" since ({key} {spec.get(key)}, now {now}). Bring the old text back (python-docs: use the Python version"
            " of the run), or start a new run."
        )


def _pin(spec: dict[str, Any]) -> str | None:
    return spec.get("download_sha256") if "://" in spec["corpus"] else None


# --- text to ids --------------------------------------------------------------------------------------------


def _tokenizer_for(corpus: Corpus, tokenizer: str | Tokenizer, vocab_size: int) -> Tokenizer:
    if not isinstance(tokenizer, str):
        return tokenizer
    if tokenizer == "char":
        return CharTokenizer(corpus.characters)
    if tokenizer == "bpe":
        return BPETokenizer.train(whole_words(take_characters(corpus.pieces(), LEARN_CHARACTERS, [])), vocab_size)
    return make_tokenizer(tokenizer, "")


def _spec_of(corpus: Corpus, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "kind": "text",
        "corpus": corpus.name,
        "sha256": corpus.sha256,
        "download_sha256": corpus.download_sha256,
        "tokenizer": tokenizer.to_json(),
    }


def _n_train(corpus: Corpus) -> int:
    return int(TRAIN_FRACTION * corpus.n_characters)


def _tokenised(
    corpus: Corpus, tokenizer: Tokenizer, in_memory_bytes: int = IN_MEMORY_BYTES, progress: bool = True
) -> TextData:
    if corpus.n_bytes <= in_memory_bytes:
        return _in_memory(corpus, tokenizer)
    return _in_files(corpus, tokenizer, progress)


def _in_memory(corpus: Corpus, tokenizer: Tokenizer) -> TextData:
    text, n_train = corpus.text, _n_train(corpus)
    dtype = dtype_for(tokenizer.vocab_size)
    train, val = (np.array(tokenizer.encode(part), dtype) for part in (text[:n_train], text[n_train:]))
    return TextData(tokenizer, train, val, _spec_of(corpus, tokenizer))


def _in_files(corpus: Corpus, tokenizer: Tokenizer, progress: bool) -> TextData:
    spec, dtype = _spec_of(corpus, tokenizer), dtype_for(tokenizer.vocab_size)
    if isinstance(tokenizer, CharTokenizer):
        tokenizer.encode(corpus.characters)  # an unknown character is refused before any work
    key = hashlib.sha256(json.dumps([corpus.sha256, spec["tokenizer"]]).encode()).hexdigest()[:32]
    folder = cache_folder() / "tokens" / key
    if not (folder / "val.bin").is_file():  # written last
        folder.mkdir(parents=True, exist_ok=True)
        _write_splits(corpus, tokenizer, folder, dtype, progress)
    return TextData(tokenizer, map_ids(folder / "train.bin", dtype), map_ids(folder / "val.bin", dtype), spec)


def _write_splits(corpus: Corpus, tokenizer: Tokenizer, folder: Path, dtype: np.dtype, progress: bool) -> None:
    rest: list[str] = []
    with _bar(corpus.n_characters, progress) as advance:
        pieces = _counted(corpus.pieces(), advance)
        train = take_characters(pieces, _n_train(corpus), rest)
        write_ids(folder / "train.bin", encode_stream(tokenizer, train), dtype)
        write_ids(folder / "val.bin", encode_stream(tokenizer, itertools.chain(rest, pieces)), dtype)


def _counted(pieces: Iterator[str], advance: Callable[[int], None]) -> Iterator[str]:
    for piece in pieces:
        yield piece
        advance(len(piece))


@contextmanager
def _bar(total: int, progress: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; gives the function that moves it."""
    from rich.console import Console  # 0.1 s, needed only here
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("tokenising", total=total)
        yield lambda n_characters: bar.advance(task, n_characters)
