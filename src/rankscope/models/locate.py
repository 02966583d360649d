"""Where a model lies and which one it is. In: a ModelRef as the user wrote it. Out: the same with its content key.

No torch and no weights are read beyond hashing. A model is the bundled one (``demo``), a local folder in the Hugging
Face layout, a GGUF file, or a hub id with an optional revision. Knows nothing about what is in the weights.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from rankscope.errors import ModelError
from rankscope.provenance import content_key, file_key, folder_key
from rankscope.records import ModelRef

BUNDLED = "demo"
_FILES = ("*.safetensors", "config.json", "tokenizer*.json", "*.model", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class Place:
    """What ``from_pretrained`` needs: ``source`` is a folder or a hub id, ``gguf`` a file name inside the folder."""

    source: str
    revision: str | None = None
    gguf: str | None = None

    @property
    def is_local(self) -> bool:
        return Path(self.source).is_dir()


def place(ref: ModelRef) -> Place:
    """Turn the user's id into something that can be opened. Raises ModelError if there is no such file."""
    if ref.id == BUNDLED:
        return Place(str(Path(__file__).parent.parent / "demo" / "model"))
    path = Path(ref.id).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError("no such GGUF file", got=ref.id)
        return Place(str(path.parent), gguf=path.name)
    if path.is_dir():
        if (path / "config.json").is_file():
            return Place(str(path))
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) == 1:
            return Place(str(path), gguf=ggufs[0].name)
        raise ModelError("this folder holds no model: neither config.json nor exactly one .gguf file", got=ref.id)
    looks_local = ref.id.startswith((".", "/", "~")) or ref.id.count("/") > 1 or ref.id.count("/") == 0
    if looks_local:
        raise ModelError("no such model folder", got=ref.id, hint="Give a folder, a .gguf file, a hub id like "
                         "'HuggingFaceTB/SmolLM2-135M-Instruct', or 'demo'")  # fmt: skip
    return Place(ref.id, revision=ref.revision)


def resolve(ref: ModelRef) -> ModelRef:
    """The same reference with ``key`` filled: a hash of the files, or of the hub id and its commit.

    A hub id is resolved to a commit by the local cache first and by the hub if it is not there, so that a study that
    ran once needs no network. Raises ModelError when it's nowhere to be found.
    """
    at = place(ref)
    if at.gguf:
        return replace(ref, key=file_key(Path(at.source) / at.gguf))
    if at.is_local:
        folder = Path(at.source)
        for file in sorted(folder.glob("*.safetensors")):
            check_safetensors(file)
        return replace(ref, key=folder_key(folder, _FILES))
    commit = _commit(at)
    return replace(ref, revision=commit, key=content_key([at.source, commit]))


def check_safetensors(file: Path) -> dict:
    """The header of a safetensors file. Raises ModelError if the file is cut short or is none."""
    size = file.stat().st_size
    try:
        with open(file, "rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length))
        end = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
    except (struct.error, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise ModelError("this is not a readable safetensors file", where=str(file), hint="Copy it again") from error
    if size < 8 + length + end:
        raise ModelError(f"this safetensors file is cut short: {size} bytes of {8 + length + end}", where=str(file),
                         hint="Copy it again")  # fmt: skip
    return header


def shape(ref: ModelRef) -> dict | None:
    """Sizes from config.json, for predictions: hidden_size, intermediate_size, layers, kv width, vocab; None if not local."""
    at = place(ref)
    path = Path(at.source) / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text())
    try:
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        return {
            "hidden": config["hidden_size"],
            "inner": config["intermediate_size"],
            "layers": config["num_hidden_layers"],
            "q": heads * head,
            "kv": config.get("num_key_value_heads", heads) * head,
            "vocab": config["vocab_size"],
        }
    except KeyError:
        return None


def _commit(at: Place) -> str:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        cached = snapshot_download(at.source, revision=at.revision, local_files_only=True)
        return Path(cached).name
    except LocalEntryNotFoundError:
        pass
    try:
        return HfApi().model_info(at.source, revision=at.revision).sha
    except (HfHubHTTPError, OSError) as error:
        raise ModelError("no such model in the local cache, and the hub did not give it", got=at.source,
                         hint="Give a local folder or a .gguf file to work offline") from error  # fmt: skip
