"""Files made to do harm: none runs code, none takes memory, each is refused with a sentence.

Each builder makes one file in an empty folder and returns its path. The pickles in it would make a canary file.
"""

import io
import json
import os
import pickle
import re
import resource
import struct
import tarfile
import zipfile

import pytest
import torch

from gptviz.checkpoints import (
    build_model,
    read_checkpoint,
    read_meta,
    save_checkpoint,
    save_huggingface,
    save_nanogpt,
)
from gptviz.model import GPT, GPTConfig

SIZES = {"block_size": 8, "vocab_size": 11, "n_layer": 2, "n_head": 2, "n_embd": 8}
MEGABYTES_OF_OUR_OWN = 64  # what a refusal may cost beside the file itself: imports, the header as JSON


def model() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(**SIZES)).eval()


class Evil:
    """Unpickling it makes the canary file."""

    def __init__(self, folder):
        self.command = f"touch {folder}/CANARY"

    def __reduce__(self):
        return os.system, (self.command,)


class EvilState:
    """The same through `__setstate__`."""

    def __init__(self, folder):
        self.folder = folder

    def __getstate__(self):
        return {"folder": str(self.folder)}

    def __setstate__(self, state):
        open(f"{state['folder']}/CANARY", "w").close()


@pytest.fixture(autouse=True)
def no_code_ran_and_no_memory_was_taken(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    files = sum(path.lstat().st_blocks * 512 for path in tmp_path.rglob("*")) / 2**20
    assert not (tmp_path / "CANARY").exists(), "code in the file ran"
    assert grown <= MEGABYTES_OF_OUR_OWN + 3 * files, f"reading took {grown:.0f} MB for {files:.1f} MB of files"


def refuses(path, message, reader=read_checkpoint):
    with pytest.raises(ValueError, match=message) as caught:
        reader(path)
    assert 40 < len(str(caught.value)) < 1500, "a sentence, not the file"


def content(**changes) -> dict:
    """A whole nanoGPT checkpoint, with changes."""
    arguments = SIZES | {"bias": True, "dropout": 0.0}
    return {"model": dict(model().state_dict()), "model_args": arguments, "iter_num": 5, "config": {}} | changes


def saved(value, folder, name="ckpt.pt", **options):
    torch.save(value, folder / name, **options)
    return folder / name


def zipped(pickled: bytes, folder, name="ckpt.pt", extra=(), method=zipfile.ZIP_STORED):
    """A torch.save archive around any pickle."""
    with zipfile.ZipFile(folder / name, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        for entry, data in extra:
            archive.writestr(entry, data)
    return folder / name


def rewritten(path, change) -> None:
    """Pass every entry of a zip through `change(name, data) -> (name, data) or None`."""
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for entry in filter(None, (change(*entry) for entry in entries)):
            archive.writestr(*entry)


def test_the_pickles_here_are_live(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path)))  # noqa: S301 (the control: without it the tests below show nothing)
    assert (tmp_path / "CANARY").exists()
    (tmp_path / "CANARY").unlink()
    pickle.loads(pickle.dumps(EvilState(tmp_path)))  # noqa: S301
    assert (tmp_path / "CANARY").exists()
    (tmp_path / "CANARY").unlink()


# --- code in a torch.save file ---------------------------------------------------------------------------------------

PLACES = {
    "top level": lambda evil: evil,
    "in a list at top level": lambda evil: [evil],
    "instead of the state dict": lambda evil: content(model=evil),
    "a weight": lambda evil: content(model={"transformer.wte.weight": evil}),
    "a name of a weight": lambda evil: content(model={evil: torch.zeros(1)}),
    "model_args": lambda evil: content(model_args=evil),
    "a value of model_args": lambda evil: content(model_args=SIZES | {"n_head": evil}),
    "a key of model_args": lambda evil: content(model_args={evil: 1}),
    "iter_num": lambda evil: content(iter_num=evil),
    "config": lambda evil: content(config={"dataset": evil}),
    "the optimizer, which is not read": lambda evil: content(optimizer={"state": {0: {"step": [evil]}}}),
    "deep in containers": lambda evil: content(other=[({"a": [(1, {"b": evil})]},)]),
    "a state dict alone": lambda evil: dict(model().state_dict()) | {"x": evil},
}


@pytest.mark.parametrize("evil", [Evil, EvilState])
@pytest.mark.parametrize("place", PLACES)
def test_code_in_a_torch_file(tmp_path, place, evil):
    refuses(saved(PLACES[place](evil(tmp_path)), tmp_path), "must hold data only, but it names '[^']+', which is code")


@pytest.mark.parametrize("place", ["top level", "a weight", "the optimizer, which is not read"])
def test_code_in_hugging_faces_bin(tmp_path, place):
    save_huggingface(model(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    saved(PLACES[place](Evil(tmp_path)), tmp_path, "pytorch_model.bin")
    refuses(tmp_path, "names 'posix.system', which is code")


def test_code_in_one_shard(tmp_path):
    save_huggingface(model(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    shard = saved({"transformer.wte.weight": Evil(tmp_path)}, tmp_path, "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": {"transformer.wte.weight": shard.name}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    refuses(tmp_path, "names 'posix.system', which is code")


def test_code_behind_the_name_of_safetensors(tmp_path):
    refuses(saved(Evil(tmp_path), tmp_path, "model.safetensors"), "names 'posix.system', which is code")
    (tmp_path / "bare.safetensors").write_bytes(pickle.dumps(Evil(tmp_path)))
    refuses(tmp_path / "bare.safetensors", "is a bare pickle. It was not opened")
    save_huggingface(model(), tmp_path / "folder")
    saved(Evil(tmp_path), tmp_path, "folder/model.safetensors")
    refuses(tmp_path / "folder", "is not a whole safetensors file")


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_bare_pickle(tmp_path, protocol):
    (tmp_path / "ckpt.pt").write_bytes(pickle.dumps(Evil(tmp_path), protocol=protocol))
    refuses(tmp_path / "ckpt.pt", "is a bare pickle|first bytes are")


def test_code_in_the_formats_before_torch_1_6(tmp_path):
    legacy = saved(content(config=Evil(tmp_path)), tmp_path, _use_new_zipfile_serialization=False)
    refuses(legacy, "as torch.save has written since 1.6, but is a bare pickle")
    with tarfile.open(tmp_path / "old.pt", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(Evil(tmp_path), protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    refuses(tmp_path / "old.pt", "must be a safetensors file or one of torch.save, but its first bytes are")


def test_a_torchscript_archive(tmp_path):
    path = zipped(b"\x80\x02}.", tmp_path, extra=[("archive/constants.pkl", b"\x80\x02).")])
    refuses(path, r"a program \(TorchScript\)")


# Instructions of the pickle machine, by hand: what a class can be found and called with.
GADGETS = {
    "eval": b"cbuiltins\neval\n(X\x04\x00\x00\x001+1 tR.",
    "exec": b"cbuiltins\nexec\n(X\x04\x00\x00\x00pass tR.",
    "python 2": b"c__builtin__\neval\n(X\x03\x00\x00\x001+1tR.",
    "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nX\x08\x00\x00\x00__call__tR.",
    "subprocess": b"csubprocess\nPopen\n(X\x04\x00\x00\x00truetR.",
    "nt": b"cnt\nsystem\n(X\x04\x00\x00\x00truetR.",
    "torch.load": b"ctorch\nload\n(X\x04\x00\x00\x00evil tR.",
    "torch.storage._load_from_bytes": b"ctorch.storage\n_load_from_bytes\n(X\x04\x00\x00\x00evil tR.",
    "torch.hub.load": b"ctorch.hub\nload\n(X\x04\x00\x00\x00evil tR.",
    "numpy": b"cnumpy.core.multiarray\n_reconstruct\n(tR.",
    "dotted name": b"ctorch\n_utils.os.system\n(X\x04\x00\x00\x00truetR.",
    "new line in a name": b"ctorch._utils\n_rebuild_tensor_v2\x00\n(tR.",
    "a terabyte": b"cbuiltins\nbytearray\n(\x8a\x06\x00\x00\x00\x00\x00\x01tR.",  # weights_only=True allows bytearray
    "a tensor without storage": b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(tR.",
    "a tensor's class": b"ctorch\nTensor\n(\x8a\x06\x00\x00\x00\x00\x00\x01tR.",
    "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "inst": b"(X\x04\x00\x00\x00trueios\nsystem\n.",
    "obj": b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "newobj": b"\x80\x02cos\nsystem\n)\x81.",
    "newobj without a class": b"\x80\x02})\x81.",
    "newobj_ex": b"\x80\x04})}\x92.",
    "ext": b"\x80\x02\x82\x01.",
    "build": b"\x80\x02]}X\x01\x00\x00\x00aK\x01sb.",
    "attributes of the state dict": b"\x80\x02ccollections\nOrderedDict\n)R}X\x04\x00\x00\x00keysK\x01sb.",
    "call of a dict's class": b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
    "persistent id as text": b"Pevil\n.",
    "persistent id": b"\x80\x02X\x04\x00\x00\x00evilQ.",
    "buffer": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("gadget", GADGETS)
def test_a_pickle_by_hand_as_torch_file_and_as_meta(tmp_path, gadget):
    refuses(zipped(GADGETS[gadget], tmp_path), "must hold data only|is not a whole pickle")
    (tmp_path / "meta.pkl").write_bytes(GADGETS[gadget])
    refuses(tmp_path / "meta.pkl", "must hold data only|is not a whole pickle", read_meta)


# --- sizes that lie in a torch.save file -----------------------------------------------------------------------------


def tensor_pickle(numel: int, shape: tuple, stride: tuple, offset: int = 0, copies: int = 1, key: str = "0") -> bytes:
    """A state dict whose tensors are views of storage 0 that claims `numel` floats."""
    out = [b"\x80\x02}("]
    for i in range(copies):
        out.append(_text(f"transformer.h.{i}.x.weight"))
        out.append(b"ctorch._utils\n_rebuild_tensor_v2\n((")
        out.append(_text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu") + _number(numel))
        out.append(b"tQ" + _number(offset) + _tuple(shape) + _tuple(stride))
        out.append(b"\x89ccollections\nOrderedDict\n)RtR")
    return b"".join([*out, b"u."])


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _number(n: int) -> bytes:
    data = n.to_bytes(20, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _tuple(numbers: tuple) -> bytes:
    return b"(" + b"".join(map(_number, numbers)) + b"t"


LIES = {
    "a storage of 4 TB": (tensor_pickle(2**40, (2**40,), (1,)), "claims 1099511627776 numbers, but has 64 bytes"),
    "a storage that is not there": (tensor_pickle(16, (16,), (1,), key="9"), "names a storage that the file does not"),
    "a tensor of 4 TB": (tensor_pickle(16, (2**40,), (1,)), "does not fit its 16 numbers"),
    "a tensor of 4 TB by stride 0": (tensor_pickle(16, (2**40,), (0,)), "does not fit its 16 numbers"),
    "an offset beyond the end": (tensor_pickle(16, (4,), (1,), offset=13), "does not fit its 16 numbers"),
    "a negative offset": (tensor_pickle(16, (4,), (1,), offset=-4), "by numbers that are none"),
    "a negative size": (tensor_pickle(16, (-4,), (1,)), "by numbers that are none"),
    "a negative stride": (tensor_pickle(16, (4,), (-1,)), "by numbers that are none"),
    "a stride too many": (tensor_pickle(16, (4,), (1, 1)), "by numbers that are none"),
    "a hundred axes": (tensor_pickle(16, (1,) * 100, (1,) * 100), "by numbers that are none"),
    "one storage in 1,000 weights": (
        tensor_pickle(2**16, (2**16,), (1,), copies=1000), "describes 262,144,000 bytes of weights in a file of"
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_sizes_in_a_torch_file_that_lie(tmp_path, lie):
    pickled, message = LIES[lie]
    numbers = bytes(2**18) if "1,000" in lie else bytes(64)
    refuses(zipped(pickled, tmp_path, extra=[("archive/data/0", numbers)]), message)


def test_a_zip_bomb(tmp_path):
    bomb = zipped(b"\x80\x02}.", tmp_path, extra=[("archive/data/0", bytes(2**27))], method=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**20
    refuses(bomb, "its entries are compressed")


def test_zip_entries_that_share_their_bytes(tmp_path):
    path = zipped(b"\x80\x02}.", tmp_path, extra=[(f"archive/data/{i}", bytes(4096)) for i in range(2)])
    with zipfile.ZipFile(path, "a") as archive:
        for i in range(2, 200):  # entries of the index alone, all at the place of the first
            info = zipfile.ZipInfo(f"archive/data/{i}")
            first = archive.getinfo("archive/data/0")
            info.header_offset, info.CRC, info.file_size, info.compress_size = first.header_offset, 0, 4096, 4096
            archive.filelist.append(info)
        archive._didModify = True
    refuses(path, "its entries claim [0-9,]+ bytes in a file of")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twin", ["archive/data.pkl", "archive/DATA.pkl"])
def test_two_pickles_in_one_file(tmp_path, twin):
    refuses(zipped(b"\x80\x02}.", tmp_path, extra=[(twin, pickle.dumps(Evil(tmp_path)))]), "two entries have one name")


@pytest.mark.parametrize("entry", ["../evil", "/etc/passwd", "other/data.pkl"])
def test_entries_outside_the_archives_folder(tmp_path, entry):
    refuses(zipped(b"\x80\x02}.", tmp_path, extra=[(entry, b"")]), "as torch.save writes it, but it is not torch's")


def test_a_zip_that_is_none_of_torchs(tmp_path):
    with zipfile.ZipFile(tmp_path / "ckpt.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refuses(tmp_path / "ckpt.pt", "as torch.save writes it, but it is not torch's")


def test_a_pickle_too_large_for_its_purpose(tmp_path):
    refuses(zipped(b"\x80\x02" + b"N0" * 2**23 + b"}.", tmp_path), "the pickle in it is too large")


def test_a_storage_that_was_cut(tmp_path):
    path = saved(content(), tmp_path)
    rewritten(path, lambda name, data: (name, data[:-4] if name.endswith("/data/0") else data))
    refuses(path, r"claims \d+ numbers, but has \d+ bytes")


def test_a_storage_that_is_missing(tmp_path):
    path = saved(content(), tmp_path)
    rewritten(path, lambda name, data: None if name.endswith("/data/3") else (name, data))
    refuses(path, "names a storage that the file does not have")


# --- torn and flipped files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ckpt.pt", "model.safetensors", "folder/model.safetensors", "folder/config.json"])
def test_a_file_cut_anywhere(tmp_path, kind):
    save_nanogpt(model(), tmp_path / "ckpt.pt")
    save_checkpoint(model(), tmp_path / "model.safetensors")
    save_huggingface(model(), tmp_path / "folder")
    path = tmp_path / kind
    whole = path.read_bytes()
    size = len(whole)
    for cut in (0, 1, 2, 3, 4, 7, 8, 9, 30, 100, size // 3, size // 2, size - 100, size - 8, size - 2, size - 1):
        path.write_bytes(whole[:cut])
        refuses(path.parent if "/" in kind else path, ".")


def test_a_flipped_byte_never_gives_another_model_unnoticed(tmp_path):
    """zip keeps a checksum of every entry; a flip in what nobody reads (the time of day) may pass."""
    save_nanogpt(model(), tmp_path / "ckpt.pt")
    whole = (tmp_path / "ckpt.pt").read_bytes()
    expected = model().state_dict()
    refused = 0
    for place in range(0, len(whole), len(whole) // 150):
        flipped = bytearray(whole)
        flipped[place] ^= 0x41
        (tmp_path / "ckpt.pt").write_bytes(flipped)
        try:
            loaded = read_checkpoint(tmp_path / "ckpt.pt")
        except ValueError:
            refused += 1
        else:
            assert all(torch.equal(weight, expected[name]) for name, weight in loaded.state_dict.items())
    assert refused > 50


# --- headers that lie in a safetensors file --------------------------------------------------------------------------


def safetensors_file(path, header: bytes | dict, data: bytes = b"", length: int | None = None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def entry(begin: int, end: int, shape: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "overlap": ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, 12),
    "hole": ({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, 20),
    "bytes after the last": ({"a": entry(0, 8, [2])}, 12),
    "beyond the end": ({"a": entry(0, 800, [200])}, 8),
    "end before begin": ({"a": entry(8, 0, [2])}, 8),
    "a tensor of 2**62 bytes": ({"a": entry(0, 2**62, [2**60])}, 8),
    "a product that overflows": ({"a": entry(0, 8, [2**32, 2**32, 2])}, 8),
    "a shape of another size": ({"a": entry(0, 8, [3])}, 8),
    "a negative size": ({"a": entry(0, 8, [-2])}, 8),
    "a size that is no number": ({"a": entry(0, 8, ["2"])}, 8),
    "a type that does not exist": ({"a": entry(0, 8, [2], "F33")}, 8),
    "metadata that is no text": ({"__metadata__": {"config": {}}, "a": entry(0, 8, [2])}, 8),
    "not an object": (b'[{"a":1}]', 0),
    "bad utf-8": (b'{"\xff\xfe":1}', 0),
    "the same key twice": (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"I32","shape":[1],'
                           b'"data_offsets":[0,4]}}', 4),
    "deep nesting": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 0),
    "a million dots": (b'{"a":' + b"[" * 1_000_000, 0),
    "NaN": (b'{"__metadata__":NaN}', 0),
}  # fmt: skip


@pytest.mark.parametrize("lie", HEADERS)
def test_a_header_that_lies(tmp_path, lie):
    header, n_bytes = HEADERS[lie]
    path = safetensors_file(tmp_path / "model.safetensors", header, bytes(n_bytes))
    refuses(path, "is not a whole safetensors file|the header of .* (must be|is nested)|first bytes are")


@pytest.mark.parametrize("length", [2**60, 2**63, 2**64 - 1, 100_000_000, 12])
def test_a_header_length_that_lies(tmp_path, length):
    path = safetensors_file(tmp_path / "model.safetensors", b'{"a":1}', length=length)
    refuses(path, "is not a whole safetensors file")


def test_a_header_of_100_megabytes(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 100_000_000) + b"{")
        file.truncate(100_000_008)  # a hole: costs no disk
    refuses(tmp_path / "model.safetensors", "its header claims 100,000,000 bytes")


# --- weights and configs that do not belong together -----------------------------------------------------------------

WEIGHTS = {
    "missing": (lambda w: w.pop("transformer.h.1.mlp.c_fc.bias"),
                r"lacks 'transformer.h.1.mlp.c_fc.bias', which its config needs with shape \(32,\)"),
    "extra": (lambda w: w.update({"transformer.h.1.mlp.gate": torch.zeros(3)}),
              r"holds 'transformer.h.1.mlp.gate' of shape \(3,\), which a model of its config does not have"),
    "another shape": (lambda w: w.update({"transformer.wpe.weight": torch.zeros(9, 8)}),
                      r"'transformer.wpe.weight' with shape \(9, 8\), but its config needs \(8, 8\)"),
    "transposed": (lambda w: w.update({"transformer.h.0.mlp.c_fc.weight": torch.zeros(8, 32)}),
                   r"'transformer.h.0.mlp.c_fc.weight' with shape \(8, 32\), but its config needs \(32, 8\)"),
    "NaN": (lambda w: w["transformer.h.0.attn.c_attn.weight"].__setitem__((3, 4), float("nan")),
            r"'transformer.h.0.attn.c_attn.weight' with 1 values that are not finite .* the first at \[3, 4\]"),
    "infinite": (lambda w: w["transformer.ln_f.bias"].fill_(float("-inf")),
                 "'transformer.ln_f.bias' with 8 values that are not finite"),
    "infinite as float32": (lambda w: w.update({"transformer.ln_f.bias": torch.full((8,), 1e300, dtype=torch.float64)}),
                            "too large for float32"),
    "whole numbers": (lambda w: w.update({"transformer.ln_f.bias": torch.zeros(8, dtype=torch.int64)}),
                      "'transformer.ln_f.bias' as int64; weights must be one of float32"),
    "a name twice": (lambda w: w.update({"_orig_mod.transformer.ln_f.bias": torch.zeros(8)}),
                     "holds one weight twice, as 'transformer.ln_f.bias' and as '_orig_mod"),
    "no blocks": (lambda w: [w.pop(name) for name in list(w) if ".h." in name],
                  "must hold n_layer = 2 blocks, as its config says, but holds 0"),
    "no weights": (lambda w: w.clear(), "must hold a dict of weights"),
    "a mask that looks ahead": (lambda w: w.update({"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8)}),
                                "not the causal mask"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WEIGHTS)
def test_weights_that_do_not_fit(tmp_path, fault):
    change, message = WEIGHTS[fault]
    weights = {name: weight.clone() for name, weight in model().state_dict().items()}
    change(weights)
    refuses(saved(content(model=weights), tmp_path), message)


CONFIGS = {
    "n_head that does not divide": ({"n_head": 3}, "n_embd must be divisible by n_head, but 8 is not"),
    "n_head of 0": ({"n_head": 0}, "n_head must be a whole number of at least 1, not 0"),
    "a negative size": ({"n_embd": -8}, "n_embd must be a whole number of at least 1, not -8"),
    "True for 1": ({"n_layer": True}, "must give n_layer as int .* not True"),
    "text for a number": ({"n_layer": "2"}, "must give n_layer as int .* not '2'"),
    "None": ({"vocab_size": None}, "must give vocab_size as int .* not None"),
    "a fraction": ({"block_size": 8.0}, "must give block_size as int .* not 8.0"),
    "a number for a switch": ({"bias": 1}, "must give bias as bool, not 1"),
    "NaN": ({"dropout": float("nan")}, "dropout must be at least 0 and less than 1, not nan"),
    "a billion blocks": ({"n_layer": 10**9}, "must hold n_layer = 1000000000 blocks, as its config says, but holds 2"),
    "a size beyond 64 bits": ({"vocab_size": 2**70}, "must give vocab_size as int"),
    "a size beyond memory": ({"vocab_size": 2**31 - 1}, r"\(11, 8\), but its config needs \(2147483647, 8\)"),
    "more blocks": ({"n_layer": 3}, "must hold n_layer = 3 blocks, as its config says, but holds 2"),
    "another block_size": ({"block_size": 16}, r"'transformer.wpe.weight' with shape \(8, 8\), .* needs \(16, 8\)"),
    "another width": ({"n_embd": 16}, r"with shape \(\d+, ?8?\), but its config needs \(\d+, ?(16)?\)"),
    "no bias": ({"bias": False}, r"holds 'transformer.h.0.\S+.bias' of shape \(\d+,\), which a model of its config"),
    "a switch of another model": ({"use_rotary": True}, "sets 'use_rotary', which gptviz's model does not have"),
    "a megabyte of text": ({"n_layer": "9" * 2**20}, "must give n_layer as int"),
}


@pytest.mark.parametrize("fault", CONFIGS)
def test_a_config_that_does_not_fit(tmp_path, fault):
    change, message = CONFIGS[fault]
    refuses(saved(content(model_args=SIZES | {"bias": True} | change), tmp_path), message)
    save_checkpoint(model(), tmp_path / "ours.safetensors")
    weights, metadata = torch_free_header(tmp_path / "ours.safetensors")
    metadata["config"] = json.dumps(SIZES | {"bias": True} | change)
    safetensors_file(tmp_path / "ours.safetensors", weights | {"__metadata__": metadata}, weights_of(tmp_path))
    if fault != "NaN":
        refuses(tmp_path / "ours.safetensors", message)
    else:
        refuses(tmp_path / "ours.safetensors", "NaN is not JSON")


def torch_free_header(path) -> tuple[dict, dict]:
    """Entries and metadata of a safetensors file; its numbers are kept beside it."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    (path.parent / "numbers").write_bytes(raw[8 + length :])
    header = json.loads(raw[8 : 8 + length])
    return header, header.pop("__metadata__")


def weights_of(folder) -> bytes:
    return (folder / "numbers").read_bytes()


def test_model_args_that_nest_a_billion_times(tmp_path):
    laughs = [1]
    for _ in range(60):
        laughs = [laughs, laughs]
    refuses(saved(content(model_args=SIZES | {"n_head": laughs}), tmp_path), "must give n_head as int")


def test_nothing_is_built_before_the_refusal(tmp_path, monkeypatch):
    monkeypatch.setattr("gptviz.checkpoints.checkpoint.GPT", None)
    monkeypatch.setattr(torch, "load", None)
    refuses(saved(content(model_args=SIZES | {"n_layer": 3}), tmp_path), "must hold n_layer = 3 blocks")


# --- Hugging Face folders --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    save_huggingface(model(), tmp_path / "hf")
    return tmp_path / "hf"


def reconfigured(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "llama"), ("model_type", None), ("layer_norm_epsilon", 1e-6), ("layer_norm_epsilon", "1e-5"),
        ("scale_attn_weights", False), ("scale_attn_by_inverse_layer_idx", True), ("reorder_and_upcast_attn", True),
        ("add_cross_attention", True), ("n_inner", 64), ("n_inner", "32"), ("activation_function", "relu"),
        ("activation_function", ["gelu"]), ("quantization_config", {"bits": 4}), ("n_head", 3), ("n_head", True),
        ("n_embd", "8"), ("n_embd", None), ("hidden_size", 16), ("tie_word_embeddings", "yes"), ("n_positions", 2**40),
        ("resid_pdrop", "0.1"), ("n_layer", 10**9), ("pruned_heads", {"0": [1]}), ("attn_pdrop", [0.1]),
        ("attn_pdrop", "0.1"),
    ],
)  # fmt: skip
def test_a_hugging_face_config_of_another_model(folder, field, value):
    ours = {"n_positions": "block_size", "tie_word_embeddings": "tie_weights", "resid_pdrop": "dropout"}
    ours = ours.get(field, field)
    drop = {"embd_pdrop": value, "attn_pdrop": value} if field == "resid_pdrop" else {}
    refuses(reconfigured(folder, **{field: value}, **drop), ours)


@pytest.mark.parametrize(
    "name",
    ["../outside.safetensors", "/etc/passwd", "sub/model.safetensors", "..\\outside.safetensors", "..", "", "a.txt"],
)
def test_an_index_that_points_elsewhere(folder, name):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"transformer.wte.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refuses(folder, "must name files of its own folder, but names .* It was not opened")


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {"a": {"b": "c"}}}], ids=json.dumps
)
def test_an_index_that_is_none(folder, index):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refuses(folder, "must give the file of each weight as 'weight_map'")


def test_an_index_of_a_shard_that_is_missing(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')
    refuses(folder, "must be a safetensors file, but there is no such file")


def test_a_config_of_a_gigabyte(folder):
    with (folder / "config.json").open("r+b") as file:
        file.truncate(2**30)  # a hole: costs no disk
    refuses(folder, "config.json must be at most 16,777,216 bytes long, but is 1,073,741,824")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "nested too deeply|must be JSON"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("[]", "must be a JSON object, not list"),
        ("", "must be JSON, but is not"),
        ("\x00", "must be JSON, but is not"),
        ('{"n_head": 2, "n_head": 4}', "the key 'n_head' is given twice"),
        ('{"n_head": Infinity}', "Infinity is not JSON"),
        ('{"n_head": ' + "9" * 5000 + "}", "must be JSON, but is not"),
    ],
    ids=["lists in lists", "objects in objects", "a list", "empty", "NUL", "a key twice", "Infinity", "5,000 digits"],
)
def test_a_config_that_is_not_json(folder, text, message):
    (folder / "config.json").write_text(text)
    refuses(folder, message)


def test_a_config_that_is_a_pipe_or_a_folder(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")  # reading it would wait for ever
    refuses(folder, "must be a file, but it is none")
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    refuses(folder, "must be a file, but it is none")


def test_one_weight_in_two_shards(folder):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refuses(folder, "holds one weight in two of its files")


NAMES = ["../../etc/passwd", "/not/there", "a/b/c", "gpt2;true", "a..b", ".hidden", " ", "x\ny"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_a_path_or_worse(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refuses(name, "There is no file or folder .*(no name on Hugging Face's hub, such as 'gpt2'|Correct the path)")


@pytest.mark.parametrize(
    "reference", ["../../../../evil", "/etc", "a" * 39, "a" * 10_000], ids=["above", "/etc", "short", "long"]
)
def test_a_cache_that_points_elsewhere(tmp_path, monkeypatch, reference):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--gpt2" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(reference)
    refuses("gpt2", "no file or folder 'gpt2', and as a model on .* not in the cache on this machine.* Packaged, so")


# --- meta.pkl --------------------------------------------------------------------------------------------------------

METAS = {
    "code": (lambda folder: {"itos": {0: Evil(folder)}, "stoi": {}}, "names 'posix.system', which is code"),
    "code as key": (lambda folder: {Evil(folder): 0}, "names 'posix.system', which is code"),
    "code in setstate": (lambda folder: {"itos": EvilState(folder)}, "which is code"),
    "a class": (lambda folder: {"itos": re.compile, "stoi": {}}, "names 're.compile', which is code"),
    "no vocabulary": (lambda folder: {"vocab_size": 3}, "must hold the dicts 'itos' and 'stoi'"),
    "a list": (lambda folder: [1, 2], "must hold the dicts 'itos' and 'stoi'"),
    "a gap": (lambda folder: {"itos": {0: "a", 2: "b"}, "stoi": {"a": 0, "b": 2}}, "one character for each id from 0"),
    "words": (lambda folder: {"itos": {0: "ab"}, "stoi": {"ab": 0}}, "must give one character for each id"),
    "numbers": (lambda folder: {"itos": {0: 7}, "stoi": {7: 0}}, "must give one character for each id"),
    "another order": (lambda folder: {"itos": {0: "a", 1: "b"}, "stoi": {"a": 1, "b": 0}}, "the same id in 'stoi'"),
    "another size": (lambda folder: {"itos": {0: "a"}, "stoi": {"a": 0}, "vocab_size": 9}, "vocab_size says, 9, but"),
    "a character twice": (lambda folder: {"itos": {0: "a", 1: "a"}, "stoi": {"a": 1}}, "distinct"),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("fault", METAS)
def test_a_meta_that_is_none(tmp_path, fault, protocol):
    make, message = METAS[fault]
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(make(tmp_path), protocol=protocol))
    refuses(tmp_path / "meta.pkl", message, read_meta)
    save_nanogpt(model(), tmp_path / "ckpt.pt")
    refuses(tmp_path / "ckpt.pt", message)  # which looks for a meta.pkl beside it


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "must hold the dicts"),  # a memo of 2**31 places: 16 GB in Python's own
        (b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".", "must hold the dicts"),
        (b"\x80\x02" + b"(" * 20_000 + b"t" * 20_000 + b".", "must hold the dicts|not a whole pickle"),
        (b"\x80\x02}" + b")\x85" + b"\x85" * 20_000 + b"K\x01s.", "keys that are not plain"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f", "not a whole pickle"),
        (b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".", "a number of more than 256 bits"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "not a whole pickle"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x00.", "must hold data only|not a whole pickle"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.", "must hold the dicts"),
        (b"\x80\xff}.", "must hold the dicts"),
        (b"", "not a whole pickle"),
        (b".", "not a whole pickle"),
        (b"\x80\x02h\x05.", "not a whole pickle"),
        (b"\x80\x02u.", "not a whole pickle"),
    ],
    ids=["a memo of 16 GB", "lists in lists", "a tuple of marks", "tuples in tuples as a key", "a long of 2 GB",
         "a long of 2,040 bits", "a text of 2**63 bytes", "bytes of 2**56", "a frame of 2**63 bytes", "protocol 255",
         "empty", "a stop alone", "a memo that is empty", "items without a mark"],
)
def test_a_meta_of_hand_written_instructions(tmp_path, pickled, message):
    (tmp_path / "meta.pkl").write_bytes(pickled)
    refuses(tmp_path / "meta.pkl", message, read_meta)


def test_a_meta_of_protocol_0_is_refused_and_not_called_code(tmp_path):
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": {0: "a"}, "stoi": {"a": 0}}, protocol=0))
    refuses(tmp_path / "meta.pkl", "uses the instruction DICT, which data .* does not need", read_meta)


def test_a_pipe_or_a_device_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refuses(tmp_path / "pipe", "must be a file or a folder, but is a pipe or a device")
    refuses("/dev/zero", "must be a file or a folder, but is a pipe or a device")


def test_a_meta_of_a_gigabyte(tmp_path):
    with (tmp_path / "meta.pkl").open("wb") as file:
        file.truncate(2**30)
    refuses(tmp_path / "meta.pkl", "must be at most 8,388,608 bytes long", read_meta)


def test_a_meta_elsewhere_is_not_followed(tmp_path):
    """A dataset is a folder's name: it does not lead to a file outside nanoGPT's data folder."""
    (tmp_path / "out").mkdir()
    (tmp_path / "data").mkdir()  # without it a path through it leads nowhere
    (tmp_path / "data" / "meta.pkl").write_bytes(pickle.dumps(Evil(tmp_path)))
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(Evil(tmp_path)))
    for dataset in ("..", "../..", str(tmp_path), ".", "", "x" * 5000, "a\0b", "a\nb", "\ud800"):
        loaded = read_checkpoint(saved(content(config={"dataset": dataset}), tmp_path / "out"))
        assert loaded.tokenizer is None
    assert build_model(loaded)
