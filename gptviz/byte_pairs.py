"""Byte-pair vocabularies: learned from a text, checked before tiktoken sees them; where a text may be cut for them."""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence

from gptviz.token_ids import check_text

MAX_VOCAB = 1_000_000
SINGLE_BYTES = tuple(bytes([i]) for i in range(256))


def learn_pairs(pieces: Iterable[str], vocab_size: int) -> list[bytes]:
    """The joined tokens in the order in which Hugging Face's trainer joined them.

    Hugging Face's, not rustbpe: maintained since 2019 with wheels for every Python (rustbpe: one release), and its own
    encoder gives the same tokens as tiktoken does from these ranks (a test compares them).
    """
    import tokenizers as trainer  # 0.1 s, needed only here

    learned = trainer.Tokenizer(trainer.models.BPE())
    learned.pre_tokenizer = trainer.pre_tokenizers.ByteLevel(add_prefix_space=False)  # GPT-2's pattern
    learned.train_from_iterator(
        _valid(pieces),
        trainer.trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            initial_alphabet=trainer.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    vocabulary = learned.get_vocab()
    by_id = sorted(vocabulary, key=lambda token: vocabulary[token])
    return [bytes(BYTE_OF[character] for character in token) for token in by_id[256:]]


def _valid(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        check_text(piece)
        yield piece


def _byte_of() -> dict[str, int]:
    """GPT-2's one printable character per byte, in which Hugging Face writes byte-level tokens."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


BYTE_OF = _byte_of()


def check_vocabulary(tokens: Sequence[bytes], special: Sequence[str]) -> None:
    """Refuse what tiktoken's Rust code would panic about, or what two ids would share.

    Raises:
        ValueError: if a token is missing, empty, there twice, or there are too many.
    """
    for token in special:
        check_text(token)
    problem = None
    if len(tokens) + len(special) > MAX_VOCAB:
        problem = f"at most {MAX_VOCAB:,} tokens; got {len(tokens) + len(special):,}"
    elif len(set(tokens)) != len(tokens) or len(set(special)) != len(special):
        problem = "every token once; got one that stands there twice"
    elif not set(SINGLE_BYTES) <= set(tokens):
        problem = "each of the 256 single bytes; got a vocabulary without some of them"
    elif b"" in tokens or "" in special or {token.encode() for token in special} & set(tokens):
        problem = "tokens that are not empty, and special ones apart from the others; got one that is"
    if problem:
        raise ValueError(f"A byte-pair vocabulary must hold {problem}. Write it with the save() of a BPETokenizer.")


def decode_tokens(tokens: list) -> list[bytes]:
    """The bytes of base64 tokens; a ValueError for anything else."""
    try:
        return [base64.b64decode(token, validate=True) for token in tokens]
    except (TypeError, ValueError, binascii.Error) as reason:
        raise ValueError(
            f'The "tokens" of a vocabulary must be base64 strings in the order of their ids; got one that is not'
            f" ({reason}). Write it with the save() of a BPETokenizer."
        ) from None


# The longest start of a text that ends between a non-space and a space or newline. Python's \S is a subset of
# "not white space" in tiktoken's regex, so that what is cut here is never inside a run of white space there.
_UP_TO_A_CUT = re.compile(r".*\S(?=[ \n])", re.DOTALL)


def whole_words(chunks: Iterable[str]) -> Iterator[str]:
    """Cut a text anew, only where GPT-2's pattern cannot join: before a space or newline that follows something else.

    No match of the pattern spans such a place: spaces only start a match or are all of it. None looks across it
    either: the one look-ahead, after a run of white space, would end at a space, and the text before ends in none.

    Example:
        >>> list(whole_words(["one t", "wo  th", "ree"]))
        ['one', ' two', '  three']
    """
    waiting: list[str] = []  # no cut in them, so they are joined once and not at every chunk
    for chunk in filter(None, chunks):
        tail = waiting[-1][-1:] if waiting else ""
        cut = _UP_TO_A_CUT.match(tail + chunk)
        if cut is None:
            waiting.append(chunk)
            continue
        end = cut.end() - len(tail)
        yield "".join([*waiting, chunk[:end]])
        waiting = [chunk[end:]]
    yield "".join(waiting)
