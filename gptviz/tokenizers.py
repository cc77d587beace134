"""Text to token ids and back, and what a token looks like on the screen.

Three tokenizers, one protocol (`Tokenizer`): characters, bytes, and byte pairs served by tiktoken. All of them read any
Unicode text; special tokens such as ``<|endoftext|>`` in a text are ordinary text, never commands. A text that is not
valid Unicode (a lone surrogate, half of a UTF-16 pair) is an error: it has no UTF-8 form, and replacing it in silence
would change the text.
"""

import base64
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import tiktoken

from gptviz.byte_pairs import (
    MAX_VOCAB,
    SINGLE_BYTES,
    check_vocabulary,
    decode_tokens,
    learn_pairs,
    whole_words,
)
from gptviz.glyphs import EMPTY, character_name, visible_bytes, visible_text
from gptviz.spelling import spelling
from gptviz.token_ids import check_ids, check_text

# GPT-2's pre-tokenizer as tiktoken writes it. The only pattern: one read from a file could be made to run for ever.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
GPT2_SPECIAL = ("<|endoftext|>",)

MAX_FILE_BYTES = 64 * 2**20


@runtime_checkable
class Tokenizer(Protocol):
    """What every tokenizer can do; any object with these members can be used wherever a tokenizer is asked for."""

    @property
    def vocab_size(self) -> int:
        """Number of ids; an id is 0 .. vocab_size - 1."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text. `decode` gives the same text back."""
        ...

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of ids; bytes that do not form UTF-8 (a cut character) become U+FFFD."""
        ...

    def visible(self, token_id: SupportsIndex) -> str:
        """The token as it is drawn: `gptviz.glyphs` tells how."""
        ...

    def to_json(self) -> dict[str, object]:
        """Everything needed to build it again with `tokenizer_from_json`."""
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to a file that `load_tokenizer` reads."""
        ...


class CharTokenizer:
    """One token per character: the sorted distinct characters of a text, as in nanoGPT and makemore.

    Args:
        text: any text; its characters are the vocabulary.

    Raises:
        TypeError: if `text` is not a str.
        ValueError: if `text` is empty or holds a lone surrogate.

    Example:
        >>> tokenizer = CharTokenizer("hello world")
        >>> tokenizer.characters
        ' dehlorw'
        >>> tokenizer.encode("hold"), tokenizer.visible(0)
        ([3, 5, 4, 1], '·')
    """

    def __init__(self, text: str):
        check_text(text)
        self._set_characters("".join(sorted(set(text))))

    @classmethod
    def from_characters(cls, characters: str) -> "CharTokenizer":
        """A tokenizer whose ids follow the order of `characters` (nanoGPT's ``meta.pkl``, a saved vocabulary).

        Raises:
            TypeError: if `characters` is not a str.
            ValueError: if a character stands there twice, there is none, or one is a lone surrogate.

        Example:
            >>> CharTokenizer.from_characters("ba").encode("abba")
            [1, 0, 0, 1]
        """
        check_text(characters)
        if len(set(characters)) != len(characters):
            twice, _ = Counter(characters).most_common(1)[0]
            raise ValueError(
                f"The characters of a vocabulary must be distinct; got {character_name(twice)} more than once."
                " To take the vocabulary from a text, use CharTokenizer(text)."
            )
        tokenizer = cls.__new__(cls)
        tokenizer._set_characters(characters)
        return tokenizer

    def _set_characters(self, characters: str) -> None:
        if not characters:
            raise ValueError("A character vocabulary needs at least one character; got an empty text. Pass a text.")
        self.characters = characters
        self._ids = {character: i for i, character in enumerate(characters)}

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        check_text(text)
        try:
            return [self._ids[character] for character in text]
        except KeyError as unknown:
            raise ValueError(self._unknown(text, unknown.args[0])) from None

    def _unknown(self, text: str, character: str) -> str:
        known = "".join(visible_text(c) for c in self.characters[:100]) + ("..." if self.vocab_size > 100 else "")
        return (
            f"Every character must be one of the {self.vocab_size} that this tokenizer knows ({known}); got"
            f" {character_name(character)} at position {text.index(character)}. Remove or replace it, or train on a"
            f" text that has it, or with {spelling().setting('tokenizer', 'byte')}, which knows every character."
        )

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return "".join(self.characters[i] for i in check_ids(ids, self.vocab_size).tolist())

    def visible(self, token_id: SupportsIndex) -> str:
        return visible_text(self.decode([token_id]))

    def to_json(self) -> dict[str, object]:
        return {"kind": "char", "characters": self.characters}

    def save(self, path: str | os.PathLike[str]) -> None:
        _save(self, path)

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters)"


class ByteTokenizer:
    r"""One token per byte of the text's UTF-8: 256 ids, knows every text, needs no training.

    Example:
        >>> ByteTokenizer().encode("é"), ByteTokenizer().visible(0xC3)
        ([195, 169], '\\xc3')
    """

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, text: str) -> list[int]:
        check_text(text)
        return list(text.encode("utf-8"))

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return bytes(check_ids(ids, 256).tolist()).decode("utf-8", errors="replace")

    def visible(self, token_id: SupportsIndex) -> str:
        return visible_bytes(bytes(check_ids([token_id], 256).tolist()))

    def to_json(self) -> dict[str, object]:
        return {"kind": "byte"}

    def save(self, path: str | os.PathLike[str]) -> None:
        _save(self, path)

    def __repr__(self) -> str:
        return "ByteTokenizer()"


class BPETokenizer:
    """Byte pairs with GPT-2's pre-tokenizer, encoded by tiktoken; knows every text.

    Build one with `BPETokenizer.gpt2` or `BPETokenizer.train`; the constructor takes a finished vocabulary.

    Args:
        tokens: the tokens' bytes in the order of their ids; a pair merges sooner the smaller its id. All 256 single
            bytes must be among them.
        special: names of tokens that no text produces and that only `decode` knows; their ids follow the others.
        name: shown by ``repr``.

    Raises:
        ValueError: if tokens or names are missing, empty or stand there twice.
    """

    def __init__(self, tokens: Sequence[bytes], special: Sequence[str] = (), name: str = "bpe"):
        check_vocabulary(tokens, special)
        self.name = name
        self._tokens = (*tokens, *(token.encode() for token in special))
        self._special = tuple(special)
        self._encoding = tiktoken.Encoding(
            name,
            pat_str=GPT2_PATTERN,
            mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
            special_tokens={token: len(tokens) + i for i, token in enumerate(special)},
        )

    @classmethod
    def gpt2(cls) -> "BPETokenizer":
        """GPT-2's vocabulary, 50,257 ids, as tiktoken delivers it (downloaded once, then from tiktoken's cache).

        Raises:
            ConnectionError: if the vocabulary is neither in the cache nor to be fetched.
        """
        try:
            encoding = tiktoken.get_encoding("gpt2")
        except (OSError, ValueError) as reason:
            raise ConnectionError(
                "GPT-2's vocabulary (1.5 MB) must be downloaded once, and it could not be:"
                f" {type(reason).__name__}. Connect to the network once, or set TIKTOKEN_CACHE_DIR to a folder that has"
                f" it; {spelling().setting('tokenizer', 'char')}, \"byte\" and \"bpe\" need no network."
            ) from reason
        n_tokens = encoding.n_vocab - len(GPT2_SPECIAL)
        return cls([encoding.decode_single_token_bytes(i) for i in range(n_tokens)], GPT2_SPECIAL, name="gpt2")

    @classmethod
    def train(cls, text: str | Iterable[str], vocab_size: int) -> "BPETokenizer":
        """Learn a vocabulary from a text: start with the 256 bytes, join the most frequent pair, repeat.

        The same text gives the same vocabulary, whatever the number of threads.

        Args:
            text: the training text, or an iterable of pieces of it (pieces do not share words).
            vocab_size: number of ids, 257 or more. Fewer come out when no pair occurs twice any more.

        Raises:
            TypeError: if `text` is neither.
            ValueError: if the text is empty or not valid Unicode, or `vocab_size` leaves no room for a pair.

        Example:
            >>> tokenizer = BPETokenizer.train("low lower lowest " * 9, vocab_size=260)
            >>> visible_tokens(tokenizer, tokenizer.encode("lower"))
            ['low', 'e', 'r']
        """
        if not 257 <= vocab_size <= MAX_VOCAB:
            raise ValueError(
                f"A byte-pair vocabulary holds the 256 bytes and at least one pair, at most {MAX_VOCAB:,} tokens; got"
                f' vocab_size={vocab_size}. Pass 257 or more, or use tokenizer="byte" for the bytes alone.'
            )
        if text == "":
            raise ValueError("Byte pairs are learned from at least one character; got an empty text. Pass a text.")
        pieces = text if isinstance(text, Iterable) and not isinstance(text, str | bytes | bytearray) else [text]
        return cls([*SINGLE_BYTES, *learn_pairs(pieces, vocab_size)])

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        check_text(text)
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        data = b"".join(self._tokens[i] for i in check_ids(ids, self.vocab_size).tolist())
        return data.decode("utf-8", errors="replace")

    def visible(self, token_id: SupportsIndex) -> str:
        check_ids([token_id], self.vocab_size)
        return visible_bytes(self._tokens[token_id])

    def to_json(self) -> dict[str, object]:
        """The whole vocabulary (GPT-2's: 0.6 MB), so that a run reopens on a machine that cannot fetch it."""
        tokens = self._tokens[: len(self._tokens) - len(self._special)]
        return {
            "kind": "bpe",
            "name": self.name,
            "tokens": [base64.b64encode(token).decode("ascii") for token in tokens],
            "special": list(self._special),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        _save(self, path)

    def __repr__(self) -> str:
        return f"BPETokenizer({self.name!r}, {self.vocab_size} tokens)"


# --- making one ---------------------------------------------------------------------------------------------


def make_tokenizer(kind: str, text: str, vocab_size: int = 1024) -> Tokenizer:
    """The tokenizer that a configuration names.

    Args:
        kind: "char" (the text's characters), "byte", "bpe" (trained on the text) or "gpt2".
        text: what "char" and "bpe" take their vocabulary from.
        vocab_size: for "bpe" only.

    Raises:
        ValueError: if there is no such kind, or the text does not give a vocabulary.

    Example:
        >>> make_tokenizer("char", "abba")
        CharTokenizer(2 characters)
    """
    makers: dict[str, Callable[[], Tokenizer]] = {
        "char": lambda: CharTokenizer(text),
        "byte": ByteTokenizer,
        "bpe": lambda: BPETokenizer.train(text, vocab_size),
        "gpt2": BPETokenizer.gpt2,
    }
    if kind not in makers:
        raise ValueError(f"A tokenizer is one of {', '.join(makers)}; got {kind!r}. Pass one of these names.")
    return makers[kind]()


def tokenizer_from_json(data: object) -> Tokenizer:
    """Build a tokenizer from what `Tokenizer.to_json` gave; whatever else it is given, the answer is a ValueError.

    Raises:
        ValueError: if `data` does not describe a tokenizer.

    Example:
        >>> tokenizer_from_json({"kind": "char", "characters": "ab"}).decode([1, 0])
        'ba'
    """
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind == "byte":
        return ByteTokenizer()
    if kind == "char":
        return CharTokenizer.from_characters(_field(data, "characters", str))
    if kind == "bpe":
        special = _field(data, "special", list)
        if not all(isinstance(token, str) for token in special):
            raise ValueError('The "special" tokens of a vocabulary must be strings. Write it with save().')
        return BPETokenizer(decode_tokens(_field(data, "tokens", list)), special, _field(data, "name", str))
    raise ValueError(
        f'A tokenizer\'s JSON has "kind": "char", "byte" or "bpe"; got {str(kind or data)[:80]!r}.'
        " Write it with the save() of a gptviz tokenizer."
    )


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Read a tokenizer that ``tokenizer.save(path)`` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is too large, not JSON, or does not describe a tokenizer.
    """
    size = os.path.getsize(path)
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"A tokenizer file has at most {MAX_FILE_BYTES // 2**20} MB; {os.fspath(path)} has {size / 2**20:.0f} MB."
            " Pass a file that save() wrote."
        )
    try:
        data = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as reason:  # RecursionError: thousands of nested brackets
        raise ValueError(
            f"A tokenizer file must be JSON; {os.fspath(path)} is not ({type(reason).__name__})."
            " Pass a file that save() wrote."
        ) from None
    return tokenizer_from_json(data)


def _save(tokenizer: Tokenizer, path: str | os.PathLike[str]) -> None:
    """Write beside the target, then rename: a reader never sees half a vocabulary."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(tokenizer.to_json()), encoding="ascii")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _field(data: Any, name: str, kind: type) -> Any:
    value = data.get(name)
    if not isinstance(value, kind):
        raise ValueError(
            f'The JSON of a {data["kind"]!r} tokenizer has "{name}", a {kind.__name__}; got {type(value).__name__}.'
            " Write it with the save() of a gptviz tokenizer."
        )
    return value


# --- many tokens --------------------------------------------------------------------------------------------


def drawn(tokenizer: Any, token_id: SupportsIndex) -> str:
    r"""The visible form of a token by anybody's tokenizer: never nothing, and "∅" only for a token without text.

    Example:
        >>> class Foreign(CharTokenizer):
        ...     def visible(self, token_id):
        ...         return ["", "∅", "a"][token_id]
        >>> [drawn(Foreign("∅ab"), token_id) for token_id in range(3)]
        ['∅', '\\u{2205}', 'a']
    """
    word = tokenizer.visible(token_id)
    if word == EMPTY and tokenizer.decode([token_id]):
        return visible_text(EMPTY)
    return word or EMPTY


def visible_tokens(tokenizer: Tokenizer, ids: Iterable[SupportsIndex]) -> list[str]:
    """The visible form of each id; labels for axes, cells and strips.

    Example:
        >>> visible_tokens(CharTokenizer("a b"), [1, 0])
        ['a', '·']
    """
    return [drawn(tokenizer, token_id) for token_id in check_ids(ids, tokenizer.vocab_size).tolist()]


def encode_stream(tokenizer: Tokenizer, chunks: Iterable[str]) -> Iterator[list[int]]:
    """The ids of a long text, piece by piece: together exactly ``tokenizer.encode("".join(chunks))``.

    Characters and bytes can be cut anywhere, byte pairs where `whole_words` cuts. Of a tokenizer that is not ours
    nothing is known, so its text is encoded whole.
    """
    if isinstance(tokenizer, BPETokenizer):
        chunks = whole_words(chunks)
    elif not isinstance(tokenizer, CharTokenizer | ByteTokenizer):
        chunks = ["".join(chunks)]
    for chunk in chunks:
        yield tokenizer.encode(chunk)
