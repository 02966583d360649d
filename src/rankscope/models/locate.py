"""Where a model lies and which one it is. In: a ModelRef as the user wrote it. Out: the same with its content key.

No torch and no weights are read beyond hashing. A model is the bundled one (``demo``), a local folder in the Hugging
Face layout, a GGUF file, or a hub id with an optional revision. Knows nothing about what is in the weights.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from rankscope.errors import HubUnreachable, ModelError
from rankscope.provenance import content_key, file_key, folder_key
from rankscope.records import Arm, ModelRef

BUNDLED = "demo"
_IDS = "Give a folder, a .gguf file, a hub id like 'HuggingFaceTB/SmolLM2-135M-Instruct', or 'demo'"
# Ids from before the hub had owners; adapters' configs still name their bases by them.
_OLD_IDS = {"gpt2": "openai-community", "gpt2-medium": "openai-community", "gpt2-large": "openai-community",
            "gpt2-xl": "openai-community", "distilgpt2": "distilbert"}  # fmt: skip
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
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
        raise ModelError("this folder holds no model: neither config.json nor exactly one .gguf file", got=ref.id,
                         hint="Give the folder that save_pretrained wrote")  # fmt: skip
    if path.is_file():
        raise ModelError("this is a file, and a model is a folder or a .gguf file", got=ref.id, hint=_IDS)
    if ref.id in _OLD_IDS:
        return Place(f"{_OLD_IDS[ref.id]}/{ref.id}", revision=ref.revision)
    looks_local = ref.id.startswith((".", "/", "~")) or ref.id.count("/") > 1 or ref.id.count("/") == 0
    if looks_local:
        raise ModelError("no such model folder", got=ref.id, hint=_IDS)
    return Place(ref.id, revision=ref.revision)


def resolve(ref: ModelRef) -> ModelRef:
    """The same reference with ``key`` filled: a hash of the files, or of the hub id and its commit.

    A hub id is resolved to a commit by the local cache first and by the hub if it is not there, so that a study that
    ran once needs no network. Raises ModelError when it's nowhere to be found, HubUnreachable if the hub is silent.
    """
    at = place(ref)
    if at.gguf:
        return replace(ref, key=file_key(Path(at.source) / at.gguf))
    if at.is_local:
        folder = Path(at.source)
        check_weights(folder)
        return replace(ref, key=folder_key(folder, (*_FILES, *(["*.py"] if ref.trust_remote_code else []))))
    commit = _commit(at)
    return replace(ref, revision=commit, key=content_key([at.source, commit]))


def adapter_folder(path: str) -> Path:
    """The folder of a PEFT adapter: a local one, or that of a hub id, from the local cache or fetched once.

    Raises ModelError if there is none.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelError("this is a file, and an adapter is a folder", got=path,
                         hint="Give the folder that PEFT saved, with adapter_config.json in it")  # fmt: skip
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise ModelError("no such folder of an adapter", got=path, hint="Give the folder that PEFT saved, or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    for is_offline in (True, False):
        try:
            return Path(snapshot_download(path, allow_patterns=list(ADAPTER_FILES), local_files_only=is_offline))
        except HFValidationError as error:
            raise ModelError("neither a folder nor a hub id", got=path) from error
        except LocalEntryNotFoundError as error:
            reason = error
        except (*HfHubHTTPError.__bases__, OSError) as error:
            reason = error
    raise ModelError("no such adapter in the local cache, and the hub did not give it", got=path,
                     hint="Give a local folder to work offline") from reason  # fmt: skip


def resolve_given(arm: Arm) -> Arm:
    """An adapter or checkpoint with ``key`` filled: a hash of its files. Raises ModelError if it's nowhere."""
    if arm.kind == "checkpoint":
        return replace(arm, key=resolve(ModelRef(arm.path)).key)
    return replace(arm, key=folder_key(adapter_folder(arm.path), ADAPTER_FILES))


def check_weights(folder: Path) -> None:
    """Raises ModelError if a model's folder has no safetensors file, lacks one its index names, or one is damaged."""
    files = sorted(folder.glob("*.safetensors"))
    if not files and (pickles := sorted(p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt*")))):
        raise ModelError("weights are read from safetensors only: a pickle can run any code", got=pickles[0],
                         where=str(folder), hint="Load it where you trust it, and save_pretrained")  # fmt: skip
    if not files:
        raise ModelError("this folder holds a config.json but no weights (*.safetensors)", where=str(folder),
                         hint="Save it with save_pretrained, or copy it again")  # fmt: skip
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError("this index of weights can't be read", where=str(index), hint="Copy it again") from error
        if missing := sorted(named - {file.name for file in files}):
            raise ModelError(f"{len(missing)} of {len(named)} files of weights are missing", got=missing[0],
                             where=str(folder), hint="Copy them again")  # fmt: skip
    for file in files:
        check_safetensors(file)


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
    """Sizes from config.json, for predictions: hidden and intermediate size, layers, kv width, vocab.

    None if the model is neither local nor in the hub's local cache.
    """
    folder = local_folder(ref)
    if folder is None or not (folder / "config.json").is_file():
        return None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    is_tied = config.get("tie_word_embeddings", True)
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
            **({} if is_tied else {"untied": 1}),
        }
    except KeyError:
        return None


def local_folder(ref: ModelRef) -> Path | None:
    """Where the model's files lie here: its own folder, or the hub's local cache; None if nowhere. Asks no network."""
    at = place(ref)
    if at.is_local:
        return Path(at.source)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(at.source, "config.json", revision=at.revision)
    return Path(found).parent if isinstance(found, str) else None


def max_positions(ref: ModelRef) -> int | None:
    """Most tokens the model takes, from config.json; None if the model isn't local or the file doesn't say."""
    path = Path(place(ref).source) / "config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    found = config.get("max_position_embeddings") or config.get("n_positions")
    return found if isinstance(found, int) else None


def _commit(at: Place) -> str:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        cached = snapshot_download(at.source, revision=at.revision, local_files_only=True)
        return Path(cached).name
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise ModelError("neither a folder nor a hub id", got=at.source, hint=_IDS) from error
    try:
        return HfApi().model_info(at.source, revision=at.revision).sha
    # The hub's own errors and, by their common base, those of the HTTP client it uses (no connection, time out).
    except (*HfHubHTTPError.__bases__, OSError) as error:
        has_answered = isinstance(error, HfHubHTTPError) and getattr(error, "response", None) is not None
        kind = ModelError if has_answered else HubUnreachable
        raise kind("no such model in the local cache, and the hub did not give it", got=at.source,
                   hint="Give a local folder or a .gguf file to work offline") from error  # fmt: skip
