"""texts, token_files, corpora: against Python reading files, nanoGPT making batches, and tokenising a text whole."""

import hashlib
import http.server
import os
import random
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptviz.corpora import DataSource, TextData, load_text_data, source_from_spec
from gptviz.texts import load_corpus, read_pieces
from gptviz.token_files import take_characters
from gptviz.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer

TEXT = "the cat sat on the mat; the dog — naïvely — didn't.\n\n  東京 1859\t\n" * 40


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GPTVIZ_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


# --- texts --------------------------------------------------------------------------------------------------


def test_python_docs_are_english_and_the_same_every_time():
    corpus = load_corpus("python-docs")
    assert 300_000 < len(corpus.text) < 1_000_000
    assert corpus.text.count(" the ") > 2000
    assert "\r" not in corpus.text
    program = "from gptviz.texts import load_corpus; print(load_corpus('python-docs').sha256)"
    again = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, check=True
    )
    assert again.stdout.decode().strip() == corpus.sha256 == hashlib.sha256(corpus.text.encode()).hexdigest()


def test_a_file_is_read_as_python_reads_it(file):
    corpus = load_corpus(file)
    assert corpus.text == file.read_text(encoding="utf-8")
    assert corpus.name == str(file.resolve())
    assert corpus.characters == "".join(sorted(set(TEXT)))
    assert corpus.n_characters == len(TEXT)


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 5, 4096])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_pieces_may_end_within_characters_and_newlines(piece_bytes, bom, tmp_path, monkeypatch):
    monkeypatch.setattr("gptviz.texts.PIECE_BYTES", piece_bytes)
    path = tmp_path / "x.txt"
    path.write_bytes(bom + "a\r\n🤷é\rb\r\r\n\n東\ufeff\r".encode())
    assert "".join(read_pieces([path])) == "a\n🤷é\nb\n\n\n東\ufeff\n"
    assert "".join(read_pieces([path])) == path.read_text(encoding="utf-8-sig")


@pytest.mark.parametrize("piece_bytes", [1, 2, 7, 2**20])
@pytest.mark.parametrize(
    ("data", "byte", "offset"),
    [
        (b"abc\xffdef", "ff", 3),
        (b"\xef\xbb\xbfabc\x80", "80", 6),
        ("né".encode() + b"\xe2\x82", "e2", 3),  # the file ends within a character
        ("né".encode() + b"\xe2\x82(", "e2", 3),
        (b"caf\xe9 au lait", "e9", 3),
        ("hi".encode("utf-16"), "ff", 0),
    ],
)
def test_a_byte_that_is_not_utf8_is_named_with_its_offset(piece_bytes, data, byte, offset, tmp_path, monkeypatch):
    monkeypatch.setattr("gptviz.texts.PIECE_BYTES", piece_bytes)
    path = tmp_path / "x.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"UTF-8; .*x\.txt has the byte 0x{byte} at offset {offset},"):
        load_corpus(path)


def test_utf16_is_recognised(tmp_path):
    (tmp_path / "x.txt").write_text("hello", encoding="utf-16")
    with pytest.raises(ValueError, match=r"looks like UTF-16.*read_text\(\"utf-16\"\)"):
        load_corpus(tmp_path / "x.txt")


def test_a_folder_is_its_files_in_the_order_of_their_paths(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name, text in {"b/z.txt": "z", "b.txt": "B\r\n", "a.md": "\ufeffa", ".hidden": "no", ".git/x": "no"}.items():
        (tmp_path / name).write_bytes(text.encode())
    assert load_corpus(tmp_path).text == "a\nz\nB\n"


def test_what_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one of python-docs, tinyshakespeare, or a file.*'hamlet' is none"):
        load_corpus("hamlet")
    with pytest.raises(ValueError, match="must hold at least one file"):
        load_corpus(tmp_path)
    (tmp_path / "train.bin").write_bytes(b"\x00\x01")
    with pytest.raises(ValueError, match=r"holds token ids .*from_bins"):
        load_corpus(tmp_path)
    with pytest.raises(ValueError, match="is none"):
        load_corpus("/dev/null")


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(data, tmp_path):
    (tmp_path / "x.txt").write_bytes(data)
    with pytest.raises(ValueError, match=r"at least one character; .*x\.txt' is empty"):
        load_corpus(tmp_path / "x.txt")
    with pytest.raises(ValueError, match="at least one character"):
        TextData.from_text("")


# --- the network --------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A web server on this machine; `.files` is what it serves, `.asked` what was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.server.files[self.path])

        def log_message(self, *args):
            pass

    served = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    served.files, served.asked = {"/text": TEXT.encode()}, []
    served.url = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_url_is_fetched_once(server, own_cache):
    pin = hashlib.sha256(TEXT.encode()).hexdigest()
    for _ in range(2):
        assert load_corpus(f"{server.url}/text", sha256=pin).text == TEXT
    assert server.asked == ["/text"]
    cached = own_cache / "downloads" / f"{pin}.txt"
    cached.write_text("changed by somebody")
    assert load_corpus(f"{server.url}/text", sha256=pin).text == TEXT
    assert len(server.asked) == 2
    data = load_text_data(f"{server.url}/text", sha256=pin)
    assert source_from_spec(data.spec()).spec() == data.spec()


def test_a_url_with_another_sum_is_refused(server, own_cache):
    real = hashlib.sha256(TEXT.encode()).hexdigest()
    with pytest.raises(ValueError, match=f"must have the sha256 {'0' * 64}; got {real}"):
        load_corpus(f"{server.url}/text", sha256="0" * 64)
    assert os.listdir(own_cache / "downloads") == []


def test_urls_need_a_sum_and_http():
    with pytest.raises(ValueError, match="needs the sha256 of its file"):
        load_corpus("https://example.org/text")
    with pytest.raises(ValueError, match="64 lower-case hexadecimal digits; got 'abc'"):
        load_corpus("https://example.org/text", sha256="abc")
    with pytest.raises(ValueError, match="must start with https:// or http://"):
        load_corpus("file:///etc/passwd", sha256="0" * 64)
    with pytest.raises(ValueError, match="pins the file behind a URL; 'python-docs' is none"):
        load_corpus("python-docs", sha256="0" * 64)


def test_without_a_network_it_says_what_works(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(ConnectionError, match=r'char-rnn.*must be fetched once.*corpus="python-docs"'):
        load_corpus("tinyshakespeare")


def test_tinyshakespeare_from_the_cache(tinyshakespeare, own_cache, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    pin = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    (own_cache / "downloads").mkdir()
    (own_cache / "downloads" / f"{pin}.txt").symlink_to(tinyshakespeare)
    data = load_text_data("tinyshakespeare")
    # What nanoGPT's data/shakespeare_char/prepare.py prints.
    assert (data.vocab_size, len(data.ids["train"]), len(data.ids["val"])) == (65, 1_003_854, 111_540)
    assert data.spec()["sha256"] == pin


# --- batches ------------------------------------------------------------------------------------------------


def test_the_split_is_nanogpts():
    data = TextData.from_text(TEXT)
    n = len(TEXT)
    assert data.tokenizer.decode(data.ids["train"]) == TEXT[: int(n * 0.9)]
    assert data.tokenizer.decode(data.ids["val"]) == TEXT[int(n * 0.9) :]
    assert data.ids["train"].dtype == np.uint16


def test_batches_are_nanogpts_get_batch():
    data = TextData.from_text(TEXT)
    x, y = data.batch("train", 12, 16, np.random.Generator(np.random.PCG64(5)))
    train = data.ids["train"].astype(np.int64)
    starts = np.random.Generator(np.random.PCG64(5)).integers(0, len(train) - 16, size=12)
    assert np.array_equal(x, np.stack([train[i : i + 16] for i in starts]))
    assert np.array_equal(y, np.stack([train[i + 1 : i + 17] for i in starts]))
    assert x.dtype == y.dtype == np.int64


def test_batches_reach_both_ends_of_the_split():
    data = TextData.from_text("abcdefghij" * 2)
    rng = np.random.default_rng(0)
    seen = {(int(x[0, 0]), int(y[0, -1])) for x, y in (data.batch("train", 1, 16, rng) for _ in range(50))}
    assert seen == {(0, 6), (1, 7)}
    only = data.batch("val", 3, 1, rng)
    assert (only[0] == 8).all()
    assert (only[1] == 9).all()


@pytest.mark.parametrize("block_size", [1, 7, 16, 100, 255])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_windows_make_every_token_a_target_once(block_size, batch_size):
    data = TextData.from_text(TEXT)
    ids = data.ids["val"].astype(np.int64)
    batches = list(data.windows("val", block_size, batch_size))
    x, y = (np.concatenate([batch[i] for batch in batches]) for i in (0, 1))
    assert x.shape[1] == block_size
    assert max(len(batch[0]) for batch in batches) <= batch_size
    assert np.array_equal(y[y >= 0], ids[1:])
    assert np.array_equal(x[y >= 0], ids[:-1])
    assert (y[:-1] >= 0).all()  # only the last window is filled up


def test_text_data_is_a_data_source():
    assert isinstance(TextData.from_text(TEXT), DataSource)


@pytest.mark.parametrize("call", ["batch", "windows"])
def test_a_text_shorter_than_the_block_is_refused(call):
    data = TextData.from_text("abcdefghij")

    def ask(split, block_size):
        if call == "windows":
            return next(data.windows(split, block_size))
        return data.batch(split, 1, block_size, np.random.default_rng(0))

    with pytest.raises(ValueError, match=r"block_size \+ 1 tokens; 'train' has 9 and block_size is 9.* must be 1 to 8"):
        ask("train", 9)
    assert ask("train", 8)[0].shape == (1, 8)
    with pytest.raises(ValueError, match=r"'val' has 1 and block_size is 1\. Pass a longer text\.$"):
        ask("val", 1)
    data = TextData.from_text("abcdefghij" * 2)
    with pytest.raises(ValueError, match=r"'val' has 2 and .* longer text; with this one block_size must be 1\.$"):
        ask("val", 2)
    with pytest.raises(ValueError, match='"train" or "val"; got \'test\''):
        ask("test", 4)


def test_ids_beyond_the_tokenizer_are_refused(tmp_path):
    for split in ("train", "val"):
        np.full(50, 70, dtype="<u2").tofile(tmp_path / f"{split}.bin")
    data = TextData.from_bins(tmp_path, CharTokenizer("abc"))
    with pytest.raises(ValueError, match="below the vocabulary's 3; the data holds 70"):
        data.batch("train", 2, 4, np.random.default_rng(0))


# --- specs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
def test_a_spec_brings_the_data_back(tokenizer, file):
    for data in (load_text_data(file, tokenizer, vocab_size=300), TextData.from_text(TEXT, tokenizer, 300)):
        again = source_from_spec(data.spec())
        assert again.spec() == data.spec()
        rng = np.random.default_rng
        assert np.array_equal(again.batch("train", 4, 8, rng(1))[0], data.batch("train", 4, 8, rng(1))[0])


def test_a_file_and_a_str_give_the_same_data(file):
    from_file, from_text = load_text_data(file, "bpe", vocab_size=300), TextData.from_text(TEXT, "bpe", 300)
    assert np.array_equal(from_file.ids["train"], from_text.ids["train"])
    assert from_file.spec()["sha256"] == from_text.spec()["sha256"]


def test_a_text_that_changed_is_refused(file):
    spec = load_text_data(file).spec()
    file.write_text(TEXT.replace("cat", "cow"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"must be what the run was trained on; .*changed since"):
        source_from_spec(spec)
    file.unlink()
    with pytest.raises(ValueError, match="is none"):
        source_from_spec(spec)


def test_a_long_text_from_nowhere_is_not_kept(monkeypatch):
    monkeypatch.setattr("gptviz.corpora.INLINE_CHARACTERS", 100)
    with pytest.raises(ValueError, match=r"not kept\. Save the text to a file"):
        source_from_spec(TextData.from_text(TEXT).spec())


@pytest.mark.parametrize("spec", [{}, {"kind": "pickle"}, {"kind": "text"}])
def test_what_is_no_spec_is_refused(spec):
    with pytest.raises(ValueError, match='A data spec has "kind"'):
        source_from_spec(spec)


# --- files of ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
@pytest.mark.parametrize("piece_bytes", [1, 10, 97, 2**20])
def test_a_stream_gives_the_ids_of_the_text_in_memory(tokenizer, piece_bytes, file, monkeypatch, own_cache):
    in_memory = load_text_data(file, tokenizer, vocab_size=300)
    monkeypatch.setattr("gptviz.texts.PIECE_BYTES", piece_bytes)
    in_files = load_text_data(file, tokenizer, vocab_size=300, in_memory_bytes=0, progress=False)
    for split in ("train", "val"):
        assert isinstance(in_files.ids[split], np.memmap)
        assert in_files.ids[split].dtype == in_memory.ids[split].dtype
        assert np.array_equal(in_files.ids[split], in_memory.ids[split])
    assert in_files.spec() == in_memory.spec()
    (folder,) = (own_cache / "tokens").iterdir()
    assert sorted(os.listdir(folder)) == ["train.bin", "val.bin"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    text=st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\t'sleft12.")), min_size=1),
    seed=st.integers(0, 2**20),
)
def test_any_text_in_a_stream_gives_the_same_ids(text, seed, tmp_path, monkeypatch):
    path = tmp_path / f"{random.Random(seed).random()}.txt"  # noqa: S311
    path.write_bytes(text.encode())
    monkeypatch.setattr("gptviz.texts.PIECE_BYTES", 1 + seed % 9)
    in_memory = load_text_data(path, BPE)
    if in_memory.ids["train"].size:  # else there is nothing to map: the text has one character
        in_files = load_text_data(path, BPE, in_memory_bytes=0, progress=False)
        for split in ("train", "val"):
            assert np.array_equal(in_files.ids[split], in_memory.ids[split])


BPE = BPETokenizer.train(TEXT, 320)


def test_the_ids_of_a_text_are_written_once(file, own_cache):
    load_text_data(file, "byte", in_memory_bytes=0, progress=False)
    written = {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.bin")}
    load_text_data(file, "byte", in_memory_bytes=0, progress=False)
    assert written == {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.bin")}
    load_text_data(file, "char", in_memory_bytes=0, progress=False)
    assert len(list(own_cache.rglob("*.bin"))) == 4


def test_a_stream_needs_no_memory_for_the_text(tmp_path):
    """48 MB of text, less than 24 MB more than a small text needs."""
    path = tmp_path / "big.txt"
    with open(path, "w", encoding="utf-8") as big:
        for i in range(48):
            big.write((f"{i} " + TEXT)[:1024] * 1024)
    program = f"""if True:
        import resource
        from gptviz.corpora import load_text_data
        load_text_data("python-docs", "byte")
        import rich.console, rich.progress
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        data = load_text_data({str(path)!r}, "byte", in_memory_bytes=0)
        n_ids = sum(len(ids) for ids in data.ids.values())
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after - before < 24_000, (before, after)
        print(n_ids, after - before)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) == path.stat().st_size
    assert "tokenising" in done.stderr


def test_a_full_disk_leaves_nothing_behind(file, own_cache):
    """A limit on the size of files is what a process can be given for a full disk."""
    program = f"""if True:
        import resource, signal
        from gptviz.corpora import load_text_data
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        load_text_data({str(file)!r}, "byte", in_memory_bytes=0, progress=False)
    """
    done = subprocess.run([sys.executable, "-B", "-c", program], capture_output=True, text=True)
    assert "Token ids must be written to" in done.stderr
    assert "GPTVIZ_CACHE_DIR to a folder on a larger disk" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("OSError: [Errno 27]")
    assert [path for path in own_cache.rglob("*") if path.is_file()] == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def test_an_unknown_character_is_refused_before_anything_is_written(file, own_cache):
    with pytest.raises(ValueError, match="this tokenizer knows"):
        load_text_data(file, CharTokenizer("the cat"), in_memory_bytes=0)
    assert list(own_cache.iterdir()) == []


def test_nanogpts_files_are_read(tmp_path):
    tokenizer = ByteTokenizer()
    ids = np.array(tokenizer.encode(TEXT), dtype=np.uint16)
    ids[:2000].tofile(tmp_path / "train.bin")  # as nanoGPT's prepare.py
    ids[2000:].tofile(tmp_path / "val.bin")
    data = TextData.from_bins(tmp_path, tokenizer)
    assert np.array_equal(data.ids["train"], np.memmap(tmp_path / "train.bin", dtype=np.uint16, mode="r"))
    assert not data.ids["train"].flags.writeable
    assert data.batch("val", 2, 8, np.random.default_rng(0))[0].shape == (2, 8)
    assert source_from_spec(data.spec()).spec() == data.spec()
    ids[1:].tofile(tmp_path / "val.bin")
    with pytest.raises(ValueError, match="has changed since"):
        source_from_spec(data.spec())


@pytest.mark.parametrize(("data", "size"), [(None, 0), (b"", 0), (b"abc", 3)])
def test_files_that_are_not_ids_are_refused(data, size, tmp_path):
    if data is not None:
        (tmp_path / "train.bin").write_bytes(data)
    with pytest.raises(ValueError, match=rf"2 bytes for each \(uint16\); .*train\.bin has {size} bytes"):
        TextData.from_bins(tmp_path, ByteTokenizer())


def test_ids_beyond_16_bits_get_32():
    tokens = [bytes([b]) for b in range(256)] + [f"{i:05}".encode() for i in range(65_281)]
    data = TextData.from_text(TEXT, BPETokenizer(tokens))
    assert data.ids["train"].dtype == np.dtype("<u4")
    assert TextData.from_text(TEXT, BPETokenizer(tokens[:-1])).ids["train"].dtype == np.dtype("<u2")


@given(st.lists(st.text(max_size=5)), st.integers(0, 30))
def test_taking_characters_cuts_where_it_says(pieces, n):
    rest, source = [], iter(pieces)
    taken = "".join(take_characters(source, n, rest))
    assert taken == "".join(pieces)[:n]
    assert taken + "".join([*rest, *source]) == "".join(pieces)


def test_even_batches_cover_the_text_evenly_and_need_no_state_but_their_place():
    data = TextData.from_text("abcdefghij" * 1000)
    n_windows = len(data.ids["train"]) - 16
    starts = []
    data.ids["train"] = np.arange(len(data.ids["train"]))  # each id is its own place
    data._known = lambda windows: windows  # type: ignore[method-assign]
    for step in range(50):
        x, y = data.even_batch(step * 12, 12, 16, offset=0.3)
        assert (x[:, 1:] == y[:, :-1]).all()
        starts += x[:, 0].tolist()
    gaps = np.diff(np.sort(starts))
    assert gaps.max() < 3 * n_windows / len(starts)  # at random the largest gap of 600 is about 6 times the mean
    again, _ = data.even_batch(7 * 12, 12, 16, offset=0.3)
    assert again[:, 0].tolist() == starts[84:96]
    with pytest.raises(ValueError, match="block_size"):
        data.even_batch(0, 2, 10_000, offset=0.0)
