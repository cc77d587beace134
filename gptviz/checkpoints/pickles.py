"""Files that torch.save wrote: what is in them is known, and checked, before torch reads them.

A pickle is a program. `pickled_data` steps through one with an interpreter that has no instruction for calling
anything: it knows numbers, texts, containers and, for torch.save's files, the description of a tensor. Whatever else
the program asks for ends the reading with a sentence. Only a file that passed goes to `torch.load(weights_only=True)`.
"""

import math
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gptviz.checkpoints.checkpoint import Outline, shown

DATA_LIMIT = 8 * 2**20  # bytes of pickle, without the tensors; GPT-2 XL with its optimizer takes 0.3 MB
_ENTRY_LIMIT = 100_000  # files in the zip
_STORAGES = {
    "torch.DoubleStorage": ("float64", 8), "torch.FloatStorage": ("float32", 4), "torch.HalfStorage": ("float16", 2),
    "torch.BFloat16Storage": ("bfloat16", 2), "torch.LongStorage": ("int64", 8), "torch.IntStorage": ("int32", 4),
    "torch.ShortStorage": ("int16", 2), "torch.CharStorage": ("int8", 1), "torch.ByteStorage": ("uint8", 1),
    "torch.BoolStorage": ("bool", 1),
}  # fmt: skip
_BAD_ZIP = (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, struct.error, UnicodeError)
_AGAIN = "Copy it again from where it came."
_TENSOR, _PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"
_ORDERED = "collections.OrderedDict"
_NAMED = {*_STORAGES, _TENSOR, _PARAMETER, _ORDERED}


class Named(NamedTuple):
    """Stands for a class or function that a pickle names. It is only ever compared, never looked up."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A stretch of numbers in a torch.save file."""

    key: str
    dtype: str
    item_size: int
    length: int


@dataclass(frozen=True)
class StoredTensor:
    """What a pickle says about a tensor: a view of `storage`."""

    storage: Storage
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """Name of the type of its numbers, as in `torch.float32`."""
        return self.storage.dtype

    @property
    def n_bytes(self) -> int:
        """Size of its numbers."""
        return math.prod(self.shape) * self.storage.item_size


def pickled_data(data: bytes, source: str, storages: Mapping[str, int] | None = None) -> object:
    r"""The data that a pickle describes: numbers, texts, lists, tuples, dicts; nothing in it can run.

    Args:
        data: The pickle.
        source: What to call it in a message.
        storages: For a pickle of torch.save: key and size in bytes of each stretch of numbers beside it. Tensors come
            back as `StoredTensor`. Without it a pickle that describes a tensor is refused.

    Raises:
        ValueError: it names a class or a function, or is not a pickle.

    Example:
        >>> pickled_data(b"\x80\x04}\x94\x8c\x01a\x94K\x01s.", "an example")
        {'a': 1}
    """
    try:
        return _Interpreter(storages).run(data)
    except _Refused as reason:
        raise ValueError(f"{source} must hold data only, but {reason}. Nothing in it ran. Do not open it.") from None
    except Exception as reason:  # a malformed program fails in any way: an empty stack, an unknown key, a cut number
        raise ValueError(
            f"{source} is not a whole pickle ({type(reason).__name__}: {str(reason)[:100]}). It is damaged or none."
        ) from None


def read_torch_file(path: Path) -> tuple[object, int]:
    """What a torch.save file holds, with a `StoredTensor` for each tensor, and the file's size. Reads no tensor.

    Every size the file claims is held against what is really there: torch will allocate no more than the file's size.

    Raises:
        ValueError: it is not a torch.save file, it is damaged, or it holds more than data.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            folder, sizes = _check_entries(archive, size, path)
            pickle = archive.read(f"{folder}/data.pkl")
    except _BAD_ZIP as reason:
        raise ValueError(f"{path} is cut short or damaged ({str(reason)[:100]}). {_AGAIN}") from None
    prefix = f"{folder}/data/"
    storages = {name.removeprefix(prefix): n for name, n in sizes.items() if name.startswith(prefix)}
    return pickled_data(pickle, str(path), storages), size


def load_torch_weights(path: Path, names: Mapping[str, object], field: str | None = None) -> dict[str, Tensor]:
    """The state dict in a torch.save file that `read_torch_file` accepted, on the CPU.

    Args:
        path: The file.
        names: The names of the weights that were found in it.
        field: Where the state dict lies in a dict; None if it is the whole content.

    Raises:
        ValueError: torch finds the file damaged, or something else in it.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()  # torch does not look at the checksums
    if damaged:
        raise ValueError(
            f"{path} is damaged: the checksum of its entry {shown(damaged)} is wrong. {_AGAIN} (Or it was written with "
            "torch.serialization.set_crc32_options(False): save it again without.)"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
        weights = dict(content if field is None else content[field])
    except Exception as reason:  # RuntimeError, KeyError, UnpicklingError, ...: the file is bad in any case
        raise ValueError(f"{path} is damaged: torch says {str(reason)[:200]}. {_AGAIN}") from reason
    if weights.keys() != names.keys() or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise ValueError(f"{path} is damaged: torch finds other weights in it than its index names.")
    return weights


def tensor_outlines(weights: object, size: int, source: str) -> dict[str, Outline]:
    """Type and shape of each tensor of a state dict that `read_torch_file` found in a file of `size` bytes.

    Raises:
        ValueError: it is not a state dict, or its tensors are larger than the file, being views of the same numbers.
    """
    if not isinstance(weights, dict) or not weights:
        raise ValueError(f"{source} must hold a dict of weights, but holds {_kind(weights)}.")
    for name, weight in weights.items():
        if not isinstance(name, str) or not isinstance(weight, StoredTensor):
            raise ValueError(
                f"{source} must hold a tensor for each name of a weight, but holds {_kind(weight)} "
                f"for {shown(name)}."
            )
    n_bytes = sum(weight.n_bytes for name, weight in weights.items() if not name.endswith("lm_head.weight"))  # tied
    if n_bytes > size:
        raise ValueError(f"{source} describes {n_bytes:,} bytes of weights in a file of {size:,}. It is forged.")
    return {name: Outline(weight.dtype, weight.shape) for name, weight in weights.items()}


def _check_entries(archive: zipfile.ZipFile, size: int, path: Path) -> tuple[str, dict[str, int]]:
    """Name of the folder that every entry of a torch.save file lies in, and the size of each entry.

    The checks are those that make Python's zip reader, which looks, and torch's, which loads, see the same file.
    """
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    folder = names[0].split("/")[0] if names else ""
    claimed = sum(entry.file_size for entry in entries)
    inside = all(name.startswith(f"{folder}/") for name in names)
    pickle_size = max((entry.file_size for entry in entries if entry.filename.endswith("/data.pkl")), default=0)
    faults = {
        f"it has {len(entries):,} entries": len(entries) > _ENTRY_LIMIT,
        "it is not torch's": f"{folder}/data.pkl" not in names or not inside,
        "it holds a program (TorchScript); save model.state_dict() instead": f"{folder}/constants.pkl" in names,
        "two entries have one name": len({name.casefold() for name in names}) < len(names),
        "its entries are compressed": any(e.compress_type != zipfile.ZIP_STORED for e in entries),
        f"its entries claim {claimed:,} bytes in a file of {size:,}": claimed > size,
        "the pickle in it is too large": pickle_size > DATA_LIMIT,
    }
    for fault, found in faults.items():
        if found:
            raise ValueError(f"{path} must be a zip archive as torch.save writes it, but {fault}. It was not opened.")
    return folder, {entry.filename: entry.file_size for entry in entries}


def _kind(value: object) -> str:
    """A value in a message: hostile ones nest a million deep, so only plain ones are shown."""
    if isinstance(value, dict):
        return f"a dict of {shown(sorted(str(key)[:40] for key in value))}"
    return shown(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


class _Refused(Exception):
    pass


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES",
}  # fmt: skip
_KEYS = (str, int, float, bytes, type(None))  # a tuple hashes as deep as it nests


class _Interpreter:
    """A pickle machine for data: a stack, a memo, and one method per instruction that needs more than a push."""

    def __init__(self, storages: Mapping[str, int] | None):
        self.storages = storages
        self.stack: list = []
        self.below_marks: list[list] = []
        self.memo: dict[int, object] = {}

    def run(self, data: bytes) -> object:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _LITERALS:
                if isinstance(argument, int) and argument.bit_length() > 256:
                    raise _Refused("it holds a number of more than 256 bits")
                self.stack.append(argument)
            else:
                step = getattr(self, f"do_{name.lower()}", None)
                if step is None:
                    makes = "which data of torch.save or of pickle's protocols from 1 on does not need"
                    raise _Refused(f"it uses the instruction {name}, {makes}")
                step(argument)
        raise ValueError("it does not end")

    # --- containers ---

    def do_proto(self, _) -> None: ...

    def do_frame(self, _) -> None: ...

    def do_mark(self, _) -> None:
        self.below_marks.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list:
        items, self.stack = self.stack, self.below_marks.pop()
        return items

    def _pop(self, n: int) -> tuple:
        if n > len(self.stack):
            raise ValueError("it takes more from its stack than is there")
        items = tuple(self.stack[-n:])
        del self.stack[-n:]
        return items

    def do_tuple(self, _) -> None:
        items = self._since_mark()
        self.stack.append(tuple(items))

    def do_tuple1(self, _) -> None:
        self.stack.append(self._pop(1))

    def do_tuple2(self, _) -> None:
        self.stack.append(self._pop(2))

    def do_tuple3(self, _) -> None:
        self.stack.append(self._pop(3))

    def do_empty_list(self, _) -> None:
        self.stack.append([])

    def do_append(self, _) -> None:
        (item,) = self._pop(1)
        self._extend([item])

    def do_appends(self, _) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("it appends to something that is not a list")
        self.stack[-1].extend(items)

    def do_empty_dict(self, _) -> None:
        self.stack.append({})

    def do_setitem(self, _) -> None:
        self._set(list(self._pop(2)))

    def do_setitems(self, _) -> None:
        self._set(self._since_mark())

    def _set(self, items: list) -> None:
        keys, values = items[::2], items[1::2]
        if type(self.stack[-1]) is not dict or not all(isinstance(key, _KEYS) for key in keys):
            raise ValueError("it sets items of something that is not a dict, or by keys that are not plain")
        self.stack[-1].update(zip(keys, values, strict=True))

    # --- the memo ---

    def do_binput(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    do_long_binput = do_binput

    def do_memoize(self, _) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    do_long_binget = do_binget

    # --- what torch.save adds ---

    def do_global(self, module_and_name: str) -> None:
        name = ".".join(module_and_name.split(" ", 1))
        if self.storages is None or name not in _NAMED:
            raise _Refused(f"it names {shown(name)}, which is code")
        self.stack.append(Named(name))

    def do_stack_global(self, _) -> None:
        name = ".".join(part[:60] for part in self._pop(2) if isinstance(part, str))
        raise _Refused(f"it names {name!r}, which is code")

    def do_binpersid(self, _) -> None:
        (((tag, kind, key, _location, length),),) = (self._pop(1),)
        if tag != "storage" or self.storages is None or key not in self.storages:
            raise ValueError("it names a storage that the file does not have")
        dtype, item_size = _STORAGES[kind.name]
        if type(length) is not int or length * item_size != self.storages[key]:
            raise ValueError(f"storage {key[:20]!r} claims {length} numbers, but has {self.storages[key]} bytes")
        self.stack.append(Storage(key, dtype, item_size, length))

    def do_reduce(self, _) -> None:
        function, arguments = self._pop(2)
        if function == Named(_TENSOR):
            self.stack.append(_tensor(*arguments))
        elif function == Named(_PARAMETER) and isinstance(arguments[0], StoredTensor):
            self.stack.append(arguments[0])
        elif function == Named(_ORDERED) and arguments == ():
            self.stack.append({})
        else:
            raise _Refused("it calls something that is not a tensor or a dict")

    def do_build(self, _) -> None:
        (state,) = self._pop(1)  # of a state dict: the versions of its modules
        if type(self.stack[-1]) is not dict or type(state) is not dict or set(state) - {"_metadata"}:
            raise _Refused("it sets the attributes of an object")


def _tensor(storage: Storage, offset: int, shape: tuple, stride: tuple, _grad, hooks: dict, *_) -> StoredTensor:
    """A tensor that lies inside its storage and is no larger (a stride of 0 would make one number a terabyte)."""
    plain = all(type(n) is int and n >= 0 for n in (offset, *shape, *stride))
    if not plain or len(shape) != len(stride) or len(shape) > 8 or hooks:
        raise ValueError("it describes a tensor by numbers that are none")
    n_numbers = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if n_numbers and max(last, offset + n_numbers - 1) >= storage.length:
        raise ValueError(f"a tensor of shape {shown(shape)} does not fit its {storage.length} numbers")
    return StoredTensor(storage, shape)
