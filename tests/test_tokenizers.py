"""tokenizers: against tiktoken's gpt2, Hugging Face's encoder, a plain one written out here; any text comes back."""

import base64
import json
import os
import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptviz.glyphs import visible_bytes, visible_text
from gptviz.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    encode_stream,
    load_tokenizer,
    make_tokenizer,
    tokenizer_from_json,
    visible_tokens,
)

ENGLISH = (
    "It was the best of times, it was the worst of times, it was the age of wisdom; 'twas 1859, wasn't it?\n\n"
    "\tWe'd everything before us -- we'd nothing before us...  \r\n  Naïve café, Straße, 东京は東京, שלום עולם 🤷🏽‍♀️\n"
) * 8
# Texts that tokenizers are known to break on.
NASTY = [
    "",
    " ",
    "\n",
    "\x00",
    "a\x00b\x7f\x80",
    "  \t\t\n\n  ",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "e\u0301é",
    "\u0301alone",
    "שלום \u202eevil\u202c ",
    "\u2066x\u2069\u200b\ufeff",
    "Z" + "\u0335" * 50,
    "\u2028\u2029\x85\x1c",
    "<|endoftext|>",
    "<img src=x onerror=alert(1)></script>",
    "\\xf0\\u{b7}·⏎⇥\\",
    "\ufffd\U0010ffff\ue000",
    "'s't're've'm'll'd 's",
]


@pytest.fixture(scope="module")
def bpe() -> BPETokenizer:
    return BPETokenizer.train(ENGLISH, vocab_size=400)


@pytest.fixture
def gpt2(tiktoken_cache) -> BPETokenizer:
    return BPETokenizer.gpt2()


# --- ids ----------------------------------------------------------------------------------------------------


def test_characters_are_numbered_as_in_nanogpt(tinyshakespeare):
    text = tinyshakespeare.read_text(encoding="utf-8")
    tokenizer = CharTokenizer(text)
    stoi = {character: i for i, character in enumerate(sorted(set(text)))}  # nanoGPT's prepare.py
    assert tokenizer.vocab_size == 65
    assert tokenizer.encode(text[:5000]) == [stoi[character] for character in text[:5000]]


def test_bytes_are_the_text_in_utf8():
    assert ByteTokenizer().encode(ENGLISH) == list(ENGLISH.encode())
    assert ByteTokenizer().vocab_size == 256


def test_gpt2_gives_tiktokens_ids(gpt2):
    import tiktoken

    theirs = tiktoken.get_encoding("gpt2")
    assert gpt2.vocab_size == theirs.n_vocab == 50257
    assert gpt2.encode("Hello, world!") == [15496, 11, 995, 0]  # published by OpenAI
    for text in [ENGLISH, *NASTY]:
        assert gpt2.encode(text) == theirs.encode(text, disallowed_special=())
    assert gpt2.decode([15496, 50256]) == "Hello<|endoftext|>"


def test_gpt2_gives_hugging_faces_ids(gpt2):
    from tokenizers import Tokenizer as HuggingFaceTokenizer
    from tokenizers import decoders, models, pre_tokenizers

    from gptviz.byte_pairs import BYTE_OF

    # Every pair of GPT-2 in the order of its rank: a token's parts are what it becomes when it may not be used itself.
    letter = {byte: character for character, byte in BYTE_OF.items()}
    words = ["".join(letter[b] for b in token) for token in gpt2._tokens[:-1]]
    rank = {token: i for i, token in enumerate(gpt2._tokens[:-1])}
    merges = [
        tuple("".join(letter[b] for b in part) for part in split_by_rank(token, rank))
        for token in gpt2._tokens[256:-1]
    ]
    theirs = HuggingFaceTokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    for text in [ENGLISH, *NASTY]:
        assert gpt2.encode(text) == theirs.encode(text).ids


def split_by_rank(token: bytes, rank: dict[bytes, int]) -> list[bytes]:
    """The two parts that byte-pair merging stops at, one step before `token`."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: rank.get(parts[i] + parts[i + 1], len(rank)))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def reference_bpe(text: str, rank: dict[bytes, int]) -> list[int]:
    """Byte-pair encoding as Sennrich et al. describe it, one merge at a time, with the `regex` package."""
    import regex

    words = regex.findall(
        r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""", text
    )  # as OpenAI published it in gpt-2/src/encoder.py
    ids = []
    for word in words:
        parts = [bytes([b]) for b in word.encode()]
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda i: rank.get(parts[i] + parts[i + 1], len(rank)))
            if parts[best] + parts[best + 1] not in rank:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        ids += [rank[part] for part in parts]
    return ids


@given(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("\n\t '\r the12'll"))))
def test_trained_pairs_give_the_ids_of_a_plain_implementation(bpe, text):
    rank = {token: i for i, token in enumerate(bpe._tokens)}
    # OpenAI's pattern in tiktoken differs from the published one in a single place: white space like \x1c..\x1f,
    # which only Python's regex calls white space.
    if not any("\x1c" <= character <= "\x1f" for character in text):
        assert bpe.encode(text) == reference_bpe(text, rank)


def test_trained_pairs_give_the_tokens_of_the_trainers_own_encoder(tinyshakespeare):
    from tokenizers import Tokenizer as HuggingFaceTokenizer
    from tokenizers import models, pre_tokenizers, trainers

    from gptviz.byte_pairs import BYTE_OF

    text = tinyshakespeare.read_text(encoding="utf-8")
    theirs = HuggingFaceTokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    theirs.train_from_iterator(
        [text[:300_000]],
        trainers.BpeTrainer(vocab_size=800, min_frequency=2, initial_alphabet=alphabet, show_progress=False),
    )
    ours = BPETokenizer.train(text[:300_000], vocab_size=800)
    assert ours.vocab_size == 800
    for sample in (text[:300_000], text[-50_000:], ENGLISH, *NASTY):
        expected = [bytes(BYTE_OF[c] for c in token) for token in theirs.encode(sample).tokens]
        assert [ours._tokens[i] for i in ours.encode(sample)] == expected


def test_training_gives_the_same_vocabulary_whatever_the_threads_and_the_hash_seed():
    program = (
        "import sys; from gptviz.tokenizers import BPETokenizer; from pydoc_data.topics import topics;"
        "text = ' '.join(topics[k] for k in sorted(topics))[:200_000];"
        "print(BPETokenizer.train(text, 600).to_json())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ
            | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads, "TOKENIZERS_PARALLELISM": "true"},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "3")
    }
    assert len(outputs) == 1


def test_training_stops_when_no_pair_occurs_twice():
    assert BPETokenizer.train("abcdefg", vocab_size=500).vocab_size == 256


def test_training_reads_pieces():
    assert BPETokenizer.train(iter(["low low", "", "low"]), 258).encode("low") == [257]


# --- round trips --------------------------------------------------------------------------------------------


def every_tokenizer(text: str, bpe: BPETokenizer) -> list[Tokenizer]:
    return [*([CharTokenizer(text)] if text else []), ByteTokenizer(), bpe]


@given(st.text())  # hypothesis never draws surrogates for st.text()
def test_any_text_comes_back(bpe, text):
    for tokenizer in every_tokenizer(text, bpe):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode(np.array(ids, dtype=np.uint32)) == text
        assert all(0 <= i < tokenizer.vocab_size for i in ids)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_nasty_texts_come_back_also_from_a_saved_tokenizer(text, bpe, tmp_path):
    for tokenizer in every_tokenizer(text, bpe):
        tokenizer.save(tmp_path / "tokenizer.json")
        again = load_tokenizer(tmp_path / "tokenizer.json")
        assert type(again) is type(tokenizer)
        assert again.to_json() == tokenizer.to_json() == json.loads(json.dumps(tokenizer.to_json()))
        assert again.decode(again.encode(text)) == text
        assert again.encode(text) == tokenizer.encode(text)
    assert os.listdir(tmp_path) == ["tokenizer.json"]


def test_gpt2_comes_back_without_the_network(gpt2, tmp_path, monkeypatch):
    gpt2.save(tmp_path / "gpt2.json")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "empty"))
    again = load_tokenizer(tmp_path / "gpt2.json")
    assert again.encode(ENGLISH) == gpt2.encode(ENGLISH)
    assert again.visible(50256) == "<|endoftext|>"
    assert repr(again) == "BPETokenizer('gpt2', 50257 tokens)"


def test_a_special_token_in_a_text_is_ordinary_text(gpt2):
    ids = gpt2.encode("<|endoftext|>")
    assert 50256 not in ids
    assert gpt2.decode(ids) == "<|endoftext|>"


def test_cut_characters_decode_to_the_replacement_character(bpe):
    assert ByteTokenizer().decode([0xF0, 0x9F]) == "\ufffd"
    assert bpe.decode([0xC3]) == "\ufffd"


@settings(max_examples=300)
@given(
    st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\r\t'sllvet12.,!\x1c\xa0\u2028"))),
    st.integers(0, 2**32),
)
def test_a_text_in_chunks_gives_the_ids_of_the_whole(bpe, text, seed):
    cuts = random.Random(seed)  # noqa: S311
    places = sorted(cuts.randint(0, len(text)) for _ in range(cuts.randint(0, 8)))
    chunks = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    for tokenizer in every_tokenizer(text, bpe):
        assert [i for ids in encode_stream(tokenizer, iter(chunks)) for i in ids] == tokenizer.encode(text)


def test_a_stream_of_gpt2_gives_the_ids_of_the_whole(gpt2, tinyshakespeare):
    text = tinyshakespeare.read_text(encoding="utf-8")[:100_000] + ENGLISH
    pieces = list(encode_stream(gpt2, (text[i : i + 997] for i in range(0, len(text), 997))))
    assert len(pieces) > 90
    assert [i for ids in pieces for i in ids] == gpt2.encode(text)


def test_a_tokenizer_of_somebody_else_is_given_its_text_whole():
    class Backwards:
        vocab_size = 256

        def encode(self, text):
            return list(text.encode())[::-1]

        def decode(self, ids):
            return bytes(ids)[::-1].decode()

        def visible(self, token_id):
            return chr(token_id)

        def to_json(self):
            return {}

        def save(self, path):
            pass

    assert isinstance(Backwards(), Tokenizer)
    assert list(encode_stream(Backwards(), ["ab", "c"])) == [[99, 98, 97]]


# --- what is drawn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        (" the", "·the"),
        ("  ", "··"),
        ("\n", "⏎"),
        ("\t", "⇥"),
        ("\r", r"\x0d"),
        ("\x00", r"\x00"),
        ("\x85", r"\u{85}"),
        ("\u202e", r"\u{202e}"),
        ("\u2066", r"\u{2066}"),
        ("\u200d", r"\u{200d}"),
        ("\ufeff", r"\u{feff}"),
        ("\xa0", r"\u{a0}"),
        ("\u0301", r"\u{301}"),
        (" \u0301", r"·\u{301}"),
        ("é", "é"),
        ("e\u0301", r"e\u{301}"),
        ("·", r"\u{b7}"),
        ("⏎", r"\u{23ce}"),
        ("\ufffd", r"\u{fffd}"),
        ("\u3164", r"\u{3164}"),
        ("\\", "\\"),
        (r"\n", r"\\n"),
        ("<b>", "<b>"),
        ("שלום", "שלום"),
        ("東京", "東京"),
        ("👍", "👍"),
    ],
    ids=ascii,
)
def test_the_visible_form(text, drawn):
    tokens = [*(bytes([b]) for b in range(256)), *([text.encode()] if len(text.encode()) > 1 else [])]
    tokenizer = BPETokenizer(tokens)
    token_id = tokens.index(text.encode())
    assert tokenizer.visible(token_id) == drawn
    if len(text) == 1:
        assert CharTokenizer(text).visible(0) == drawn


def test_cut_characters_are_drawn_as_bytes():
    tokenizer = BPETokenizer([*(bytes([b]) for b in range(256)), b" \xf0\x9f", b"\x91\x8da"])
    assert visible_tokens(tokenizer, [256, 257, 0xC3, 65]) == [r"·\xf0\x9f", r"\x91\x8da", r"\xc3", "A"]
    assert visible_tokens(ByteTokenizer(), list("é\n".encode())) == [r"\xc3", r"\xa9", "⏎"]


def test_no_two_tokens_look_alike(gpt2):
    assert len({ByteTokenizer().visible(i) for i in range(256)}) == 256
    assert len({visible_bytes(token) for token in gpt2._tokens}) == gpt2.vocab_size
    everything = CharTokenizer("".join(map(chr, [*range(0x3200), *range(0xF900, 0x10000), *range(0x1F000, 0x1F800)])))
    drawn = visible_tokens(everything, range(everything.vocab_size))
    assert len({unicodedata.normalize("NFC", form) for form in drawn}) == everything.vocab_size


@given(st.text(), st.text())
def test_two_texts_never_look_alike(a, b):
    drawn = [unicodedata.normalize("NFC", visible_text(text)) for text in (a, b)]
    assert (drawn[0] == drawn[1]) == (a == b)


@given(st.text())
def test_nothing_invisible_is_drawn(text):
    assert visible_text(text)
    assert visible_text(text).isprintable()
    assert " " not in visible_text(text)


def test_a_token_without_text_is_seen_also_by_a_tokenizer_of_another_make():
    class Foreign(CharTokenizer):
        def visible(self, token_id):
            return ["", "∅", "a"][token_id]

    from gptviz.dashboards.tensors import visible_of
    from gptviz.model import GPT, GPTConfig
    from gptviz.trace import record

    tokenizer, seen = Foreign("ab∅"), ("∅", r"\u{2205}", "a")
    model = GPT(GPTConfig(block_size=4, vocab_size=3, n_layer=1, n_head=1, n_embd=4))
    assert record(model, [0, 1, 2], tokenizer).tokens == seen
    assert tuple(map(visible_of(tokenizer), range(3))) == tuple(visible_tokens(tokenizer, range(3))) == seen


# --- bad input ----------------------------------------------------------------------------------------------


def test_every_tokenizer_keeps_the_protocol(bpe):
    for tokenizer in every_tokenizer("abc", bpe):
        assert isinstance(tokenizer, Tokenizer)


def test_an_unknown_character_is_named():
    sentence = r"3 that this tokenizer knows \(⏎ab\); got 'é' \(U\+00E9 LATIN .*\) at position 2"
    with pytest.raises(ValueError, match=sentence):
        CharTokenizer("ab\n").encode("abé")


@pytest.mark.parametrize("make", [CharTokenizer, ByteTokenizer().encode, lambda text: BPETokenizer.train(text, 300)])
def test_a_lone_surrogate_is_refused(make):
    with pytest.raises(ValueError, match=r"valid Unicode; got a lone surrogate, U\+D83D, at position 2"):
        make("ab\ud83d")
    with pytest.raises(ValueError, match="lone surrogate"):
        CharTokenizer("ab").encode("a\udc80")


@pytest.mark.parametrize("ids", [[-1], [0, 256], [2**31], [2**70], np.array([300], dtype=np.uint16)], ids=str)
def test_ids_out_of_range_are_refused(ids):
    with pytest.raises(ValueError, match=rf"from 0 to 255 .*; got {ids[-1]} at position {len(ids) - 1}"):
        ByteTokenizer().decode(ids)
    with pytest.raises(ValueError, match="from 0 to 255"):
        visible_tokens(ByteTokenizer(), ids)


def test_wrong_types_get_a_sentence():
    """Without the type checks of the test run: what a user sees."""
    program = """if True:
        import json
        import numpy as np
        from gptviz.tokenizers import *
        from gptviz.tokenizers import CharTokenizer, ByteTokenizer, BPETokenizer, visible_tokens
        calls = [
            lambda: CharTokenizer(None), lambda: CharTokenizer(b"a"), lambda: CharTokenizer("a").encode(3),
            lambda: ByteTokenizer().encode(None), lambda: ByteTokenizer().encode(b"a"),
            lambda: BPETokenizer.train(None, 300), lambda: BPETokenizer.train(b"a", 300),
            lambda: BPETokenizer.train([b"a"], 300),
            lambda: ByteTokenizer().decode(None), lambda: ByteTokenizer().decode(3),
            lambda: ByteTokenizer().decode("a"),
            lambda: ByteTokenizer().decode([[1], [2]]), lambda: ByteTokenizer().decode([[1], [2, 3]]),
            lambda: ByteTokenizer().decode([1.0]), lambda: ByteTokenizer().decode([True]),
            lambda: ByteTokenizer().decode([None]), lambda: ByteTokenizer().decode([1, None]),
            lambda: ByteTokenizer().decode(np.array([0.5])), lambda: ByteTokenizer().visible("a"),
        ]
        said = []
        for call in calls:
            try:
                said.append(repr(call()))
            except TypeError as error:
                said.append(str(error))
        print(json.dumps(said))
    """
    said = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    texts, ids = said[:8], said[8:]
    assert [s.split(".")[0] for s in texts] == [
        f"A text must be a str; got {kind}"
        for kind in ["NoneType", "bytes", "int", "NoneType", "bytes", "NoneType", "bytes", "bytes"]
    ]
    assert all(s.startswith("Token ids must be whole numbers in one row; got ") for s in ids), ids


@pytest.mark.parametrize("vocab_size", [-1, 256, 10**9])
def test_a_vocabulary_size_that_cannot_be_is_refused(vocab_size):
    with pytest.raises(ValueError, match=rf"256 bytes and at least one pair.*vocab_size={vocab_size}"):
        BPETokenizer.train("abab", vocab_size)


@pytest.mark.parametrize("make", [CharTokenizer, lambda text: BPETokenizer.train(text, 300)])
def test_an_empty_text_gives_no_vocabulary(make):
    with pytest.raises(ValueError, match="at least one character; got an empty text"):
        make("")


def test_gpt2_without_its_vocabulary_says_what_works(monkeypatch, tmp_path):
    import tiktoken.load
    import tiktoken.registry

    def unplugged(url):
        raise ConnectionError(url)

    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr(tiktoken.load, "read_file", unplugged)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(ConnectionError, match=r'downloaded once.*TIKTOKEN_CACHE_DIR.*"char", "byte" and "bpe"'):
        BPETokenizer.gpt2()


def test_a_name_makes_a_tokenizer(bpe):
    assert make_tokenizer("char", "abba").encode("ab") == [0, 1]
    assert make_tokenizer("byte", "").vocab_size == 256
    assert make_tokenizer("bpe", ENGLISH, 400).to_json() == bpe.to_json()
    with pytest.raises(ValueError, match="one of char, byte, bpe, gpt2; got 'word'"):
        make_tokenizer("word", "abba")


BYTES = [base64.b64encode(bytes([b])).decode() for b in range(256)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, '"kind": "char", "byte" or "bpe"; got'),
        ([], '"kind": "char"'),
        ({"kind": "pickle"}, "got 'pickle'"),
        ({"kind": ["char"]}, '"kind": "char"'),
        ({"kind": "char"}, "has \"characters\", a str; got NoneType"),
        ({"kind": "char", "characters": ["a"]}, "a str; got list"),
        ({"kind": "char", "characters": ""}, "at least one character"),
        ({"kind": "char", "characters": "aba"}, r"distinct; got 'a' \(U\+0061 .*\) more than once"),
        ({"kind": "char", "characters": "a\ud800"}, "lone surrogate"),
        ({"kind": "bpe"}, 'has "special", a list'),
        ({"kind": "bpe", "special": [], "tokens": BYTES}, 'has "name", a str'),
        ({"kind": "bpe", "special": [], "tokens": [1], "name": ""}, "base64 strings"),
        ({"kind": "bpe", "special": [], "tokens": ["é"], "name": ""}, "base64 strings"),
        ({"kind": "bpe", "special": [], "tokens": ["a"], "name": ""}, "base64 strings"),
        ({"kind": "bpe", "special": [], "tokens": BYTES[1:], "name": ""}, "256 single bytes"),
        ({"kind": "bpe", "special": [], "tokens": [*BYTES, BYTES[3]], "name": ""}, "every token once"),
        ({"kind": "bpe", "special": [], "tokens": [*BYTES, ""], "name": ""}, "not empty"),
        ({"kind": "bpe", "special": ["x", "x"], "tokens": BYTES, "name": ""}, "every token once"),
        ({"kind": "bpe", "special": ["A"], "tokens": BYTES, "name": ""}, "special ones apart"),
        ({"kind": "bpe", "special": [3], "tokens": BYTES, "name": ""}, "must be strings"),
        ({"kind": "bpe", "special": ["\ud800"], "tokens": BYTES, "name": ""}, "lone surrogate"),
        ({"kind": "bpe", "special": [], "tokens": [""] * 1_000_001, "name": ""}, "at most 1,000,000"),
    ],
)
def test_json_that_is_no_tokenizer_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        tokenizer_from_json(data)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.sampled_from(["char", "byte", "bpe"])),
        lambda inner: st.lists(inner)
        | st.dictionaries(st.sampled_from(["kind", "characters", "tokens", "special", "name"]), inner),
    )
)
def test_any_json_is_a_tokenizer_or_a_value_error(data):
    try:
        tokenizer = tokenizer_from_json(data)
    except ValueError:
        return
    assert tokenizer.decode(range(tokenizer.vocab_size)) is not None


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[" * 100_000, b'"' + b"\xc3" + b'"'])
def test_a_file_that_is_not_json_is_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match="must be JSON"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "tokenizer.json", "wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ValueError, match="at most 64 MB"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_vocabulary_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "tokenizer.json"
    CharTokenizer("ab").save(path)

    class Broken(CharTokenizer):
        def to_json(self):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Broken("xyz").save(path)
    assert load_tokenizer(path).vocab_size == 2
    assert os.listdir(tmp_path) == ["tokenizer.json"]
