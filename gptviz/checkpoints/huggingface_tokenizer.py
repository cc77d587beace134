"""GPT-2's byte-pair vocabulary as Hugging Face writes it: `vocab.json` and `merges.txt`."""

from pathlib import Path

from gptviz.byte_pairs import BYTE_OF
from gptviz.checkpoints.documents import read_json, read_small
from gptviz.tokenizers import BPETokenizer, Tokenizer


def read_tokenizer(folder: Path, vocab_size: int) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The tokenizer of a folder, or None and a note that says why.

    Args:
        folder: The folder of the model.
        vocab_size: Of the model; a vocabulary that is larger belongs to another one.

    Raises:
        ValueError: a file is there but is not a byte-pair vocabulary in GPT-2's order.
    """
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if vocabulary.is_file() and merges.is_file():
        tokens, special = _tokens(vocabulary, merges)
        return BPETokenizer(tokens, special, name=folder.name), ()
    if vocab_size == 50257:
        try:
            return BPETokenizer.gpt2(), ("The tokenizer is GPT-2's, by the vocabulary of 50,257 tokens.",)
        except ConnectionError as reason:
            return None, (f"The tokenizer should be GPT-2's. {reason}",)
    return None, (f"No tokenizer: {folder} holds no vocab.json with merges.txt.",)


def _tokens(vocabulary: Path, merges: Path) -> tuple[list[bytes], list[str]]:
    """The tokens' bytes by id, and the names of special tokens, which follow them."""
    ids = read_json(vocabulary)
    by_id = {number: token for token, number in ids.items() if type(number) is int}
    if sorted(by_id) != list(range(len(ids))):
        raise ValueError(f"{vocabulary} must give the ids 0 to {len(ids) - 1}, each once, but does not.")
    pairs = [line for line in _lines(merges) if line and not line.startswith("#version")]
    n_pairs = 256 + len(pairs)
    for i, pair in enumerate(pairs):
        if by_id.get(256 + i) != pair.replace(" ", "", 1):
            raise ValueError(
                f"{merges} must list pairs in the order of their ids, as GPT-2's does, but pair {i} ({pair[:40]!r}) "
                f"is not token {256 + i} of {vocabulary.name}."
            )
    try:
        tokens = [bytes(BYTE_OF[character] for character in by_id[i]) for i in range(n_pairs)]
    except KeyError as unknown:
        raise ValueError(f"{vocabulary} must spell tokens in GPT-2's byte alphabet, which lacks {unknown}.") from None
    return tokens, [by_id[i] for i in range(n_pairs, len(ids))]


def _lines(path: Path) -> list[str]:
    try:
        return read_small(path).decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be UTF-8 text, but is not.") from None
