"""The model that a generation starts from: chosen once, written down, then read by every stage."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from flywheel.errors import ManifestError, SettingsError
from flywheel.layout import Layout
from flywheel.process.content import content_of, model_hash

SAMPLE_NAME = "sample"
FILE_NAME = "base.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Where a generation starts.

    Attributes:
        model: Folder or hub name, in Hugging Face format.
        content_hash: Hash of the folder's files; the name itself for a hub name.
        corpus: Parquet to pre-train on, where the model is the sample world's own.
    """

    model: str
    content_hash: str
    corpus: str = ""

    @property
    def is_sample(self) -> bool:
        """Whether the model is pre-trained here, on the sample corpus."""
        return bool(self.corpus)


def resolve_base(layout: Layout, generation: str, choice: str | None) -> Base:
    """Fix the base of a generation and write it down beside the run.

    Args:
        layout: Where everything lies.
        generation: Name of the generation.
        choice: Folder, hub name or "sample"; None takes the sample world's where it was
            delivered.

    Raises:
        SettingsError: Nothing was chosen and there is no sample corpus, or the folder holds no
            model.
    """
    corpus = layout.root / "sample" / "corpus.parquet"
    if choice in (None, SAMPLE_NAME):
        if not corpus.exists():
            raise SettingsError(
                f"no base model was chosen and {corpus} does not exist; name one with "
                f"--base-model FOLDER, or [base] base_model in {layout.root / 'settings.toml'}, "
                f"or deliver the sample world with `flywheel run`"
            )
        base = Base(
            model=str(layout.checkpoint("base_policy", generation)),
            content_hash="",
            corpus=str(corpus),
        )
    else:
        base = Base(model=str(choice), content_hash=_hash(str(choice)))
    path = layout.run("base_policy", generation) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(base), indent=2) + "\n")
    return base


def base_of(layout: Layout, generation: str) -> Base:
    """Read the base of a generation.

    Raises:
        ManifestError: None was chosen yet.
    """
    path = layout.run("base_policy", generation) / FILE_NAME
    if not path.exists():
        raise ManifestError(
            f"{generation} has no base model yet ({path} is missing); materialize base_policy first"
        )
    return Base(**json.loads(path.read_text()))


def _hash(choice: str) -> str:
    """Hash a model folder file by file; a hub name stands for itself."""
    folder = Path(choice)
    if not folder.is_dir():
        if choice.startswith((".", "/", "~")):
            raise SettingsError(
                f"base model {choice} is not a folder; give a folder in Hugging Face format "
                f"(config.json, *.safetensors, tokenizer.json) or a hub name"
            )
        return f"hub:{choice}"
    if not (folder / "config.json").exists():
        raise SettingsError(
            f"base model {choice} has no config.json; give a folder in Hugging Face format"
        )
    return content_of(folder)


def parent_of(model: str) -> dict[str, str]:
    """How a checkpoint names the model it started from; a hub name has no content here."""
    if not Path(model).is_dir():
        return {"model": model}
    return {"model": model, "content_hash": model_hash(model)}
