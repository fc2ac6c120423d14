"""Files of weights, told apart by their content, whatever their names say. Importing this module loads no torch."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Literal

from vclimb.pipeline.errors import SettingsError

PRETRAINED, NONE = "pretrained", "none"

WeightsFormat = Literal["safetensors", "torch", "numpy"]

_PEEKED = 4096
_MAX_SHOWN = 60
_AGAIN = "download it again"
_TAKEN = "allowed: safetensors, or a state dict saved by torch.save"

_LFS = b"version https://git-lfs"
_PAGE = re.compile(rb"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_ARCHIVES = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
}
_OTHERS = {
    b"\x89HDF\r\n": "an HDF5 file, such as Keras writes",
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a NumPy array",
    b"PAR1": "a Parquet table",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_TAR_MARK, _TAR_OFFSET = b"ustar", 257
# The magic number with which torch.save began before it wrote zip archives, as pickle protocol 2 stores it.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_LENGTH_BYTES = 8  # of the length with which a safetensors file begins


def check_weights(weights: str) -> None:
    """Refuse a setting of weights that names no file of weights, without loading it.

    Raises:
        SettingsError: the setting is neither `pretrained` nor `none`, and names no file of a known format.
    """
    if weights not in (PRETRAINED, NONE):
        weights_format(weights)


def weights_format(weights: str) -> WeightsFormat:
    """Find the format of a file of weights.

    Raises:
        SettingsError: there is no such file, or it is something else; the message says what.
    """
    path = Path(weights)
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", weights):
        raise SettingsError(f"model.weights {weights!r} is a URL; download the file, and give its path")
    if path.is_dir():
        raise SettingsError(f"model.weights {weights!r} is a folder; give the path of a file in it")
    if not path.is_file():
        raise SettingsError(
            f"model.weights {weights!r} is not a file; allowed: pretrained, none, or the path of a file"
        )
    try:
        with path.open("rb") as file:
            beginning = file.read(_PEEKED)
        known = _format(path, beginning)
    except OSError as error:
        raise SettingsError(f"model.weights {weights!r} can't be read: {error.strerror}") from None
    if isinstance(known, str):
        return known
    what, remedy = known
    raise SettingsError(f"model.weights {weights!r} is {what}; {remedy}")


def _format(path: Path, beginning: bytes) -> WeightsFormat | tuple[str, str]:
    """Find the format, or describe what the file is instead and what to do."""
    size = path.stat().st_size
    if not size:
        return "an empty file (0 bytes)", _AGAIN
    if beginning.startswith(_LFS):
        return "a pointer of Git LFS and not the file itself", "fetch the file by `git lfs pull`"
    if _PAGE.match(beginning):
        return f"a web page ({_shown(beginning)})", "download the file itself; the address may need a login"
    if beginning.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if beginning.startswith(_OLD_TORCH):
        return "torch"
    for mark, name in _ARCHIVES.items():
        if beginning.startswith(mark):
            return name, "unpack it, and give the path of the file of weights"
    if beginning[_TAR_OFFSET:].startswith(_TAR_MARK):
        return "a tar archive", "unpack it, and give the path of the file of weights"
    if _PICKLE.match(beginning):
        return "a pickle that torch did not save, which could run code and is not loaded", _TAKEN
    for mark, name in _OTHERS.items():
        if beginning.startswith(mark):
            return name, _TAKEN
    if beginning[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{":
        header = int.from_bytes(beginning[:_LENGTH_BYTES], "little")
        if _LENGTH_BYTES + header <= size:
            return "safetensors"
        return f"a safetensors file that is damaged: its header has {header:,} bytes, and the file {size:,}", _AGAIN
    if _is_text(beginning):
        return f"a text ({_shown(beginning)})", _TAKEN
    return "of no known format", _TAKEN


def _zip_format(path: Path) -> WeightsFormat | tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        return "cut short: a zip archive, as torch.save writes, without its end", _AGAIN
    if any("/code/" in f"/{name}" for name in names):
        return "a TorchScript module", "save the state_dict() of the module by torch.save"
    if any(f"/{name}".endswith("/data.pkl") for name in names):
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        if path.suffix.lower() == ".npz":
            return "numpy"
        return "a NumPy archive", "name it .npz"
    return f"a zip archive of {len(names)} files", "unpack it, and give the path of the file of weights"


def _is_text(beginning: bytes) -> bool:
    try:
        text = beginning[: _PEEKED - 4].decode("utf-8") if len(beginning) == _PEEKED else beginning.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(beginning) < _PEEKED or error.start < _PEEKED - 8:
            return False
        text = beginning[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)


def _shown(beginning: bytes) -> str:
    """Quote the beginning of a text."""
    text = " ".join(beginning.decode("utf-8", "replace").split())
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")
