"""Where things are and how they are set. Everything from outside enters the system here."""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg

from assets.storage import hold
from flywheel.errors import SettingsError
from flywheel.layout import Layout
from flywheel.process.settings import build
from flywheel.stores import StorageSettings
from flywheel.train.config_policy import RECIPES

PROJECT = Path(__file__).resolve().parent.parent  # a checkout, or where pip installed flywheel
IS_CHECKOUT = (PROJECT / "workspace.yaml").exists()
_BESIDE = PROJECT if IS_CHECKOUT else Path.cwd()
HOME = Path(os.environ.get("FLYWHEEL_HOME") or _BESIDE / "var").resolve()
PAGES = os.environ.get("FLYWHEEL_PAGES") or "http://127.0.0.1:3001"  # as `flywheel ui` serves them
BIN = Path(sys.executable).parent
if str(BIN) not in os.environ.get("PATH", "").split(os.pathsep):  # called without `make`
    os.environ["PATH"] = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
SETTINGS_FILE = "settings.toml"
TABLES: dict[str, dict[str, type] | None] = {  # None: the settings class of the stage knows them
    "landing": {
        "format": str,
        "source": str,
        "quarantine_limit": float,
        "quiet_seconds": float,
        "compression": str,
    },
    "personal_data": {"policy": str, "sources": dict, "kinds": list, "key_file": str},
    "quality": {
        "most_seconds": float,
        "most_usd": float,
        "tolerated": float,
        "tolerated_by_rule": dict,
    },
    "deduplication": {"threshold": float},
    "labels": {"strength": float, "domain_strength": float},
    "base": None,
    "train": None,  # what base, sft, reward and the policy's recipe share
    "sft": None,
    "reward": None,
    "step_reward": None,
    "policy": {"recipe": str},
    **dict.fromkeys(RECIPES),
    "evaluate": None,
    "gate": None,
    "serve": None,
    "licences": {"permitted": list, "use": str, "refused": str, "base": str, "own": dict},
    "cost": {"usd_per_hour": float},
    "collect": None,
    "people": {"pairs": int, "along": int, "seed": int},
    "rules": None,
    "storage": None,
    "automation": {"min_new_judgements": int, "alert_webhook": str},
}


class Home(dg.ConfigurableResource):
    """One root folder for data, models and decisions, and the settings that lie in it.

    `settings.toml` in that folder holds a team's choices, one table a stage (`[landing]`,
    `[storage]`, `[personal_data]`, `[quality]`, `[deduplication]`, `[labels]`, `[base]`, `[train]`
    for all training, `[sft]`, `[reward]`, `[step_reward]`, `[policy]` for the choice of recipe and
    a table of the recipe's name for its settings, `[evaluate]`, `[rules]`, `[gate]`, `[serve]`,
    `[licences]`, `[cost]`, `[collect]`, `[people]`, `[automation]`), so that the UI, the schedule
    and the command line all train alike. What it does not name keeps the default of the stage's
    settings class.
    """

    root: str = str(HOME)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Let others see whether the process of a run is still there: every step needs `home`."""
        instance, run = context.instance, context.run
        if run and instance and not instance.is_ephemeral:
            hold(self.layout, run.run_id)

    @property
    def layout(self) -> Layout:
        """Every path below the root."""
        return Layout(Path(self.root))

    @property
    def storage(self) -> StorageSettings:
        """The object stores of this home.

        Raises:
            SettingsError: As `settings`, or `[storage]` names what cannot be.
        """
        return build(StorageSettings, self.settings("storage"))

    def settings(self, stage: str) -> dict[str, Any]:
        """Return the table of one stage in `settings.toml`; empty where there is none.

        Raises:
            SettingsError: The file is not TOML, names a table that is none of `TABLES`, or the
                stage is no table or holds a setting of another name or type.
        """
        path = Path(self.root) / SETTINGS_FILE
        if not path.exists():
            return {}
        try:
            tables = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{path} is not valid TOML: {error}; repair or delete it"
            ) from error
        own = _own_recipe(tables)
        if unknown := sorted(tables.keys() - TABLES.keys() - own):
            raise SettingsError(
                f"{path} has no use for {', '.join(unknown)}; its tables are "
                f"{', '.join(f'[{name}]' for name in TABLES)}: rename or remove it. A recipe of "
                f"your own has a table where [policy] recipe names its module"
            )
        table = tables.get(stage, {})
        if not isinstance(table, dict):
            raise SettingsError(f"[{stage}] in {path} must be a table of settings; repair it")
        _check(table, stage, path)
        return table


def _own_recipe(tables: dict[str, Any]) -> set[str]:
    """The table of a policy recipe that does not come with flywheel: the module's last name."""
    policy = tables.get("policy")
    name = policy.get("recipe") if isinstance(policy, dict) else None
    return {name.rpartition(".")[2]} if isinstance(name, str) else set()


def _check(table: dict[str, Any], stage: str, path: Path) -> None:
    """Refuse a setting of another name or type, where no settings class does so later."""
    known = TABLES.get(stage)
    if known is None:
        return
    for name, value in table.items():
        if name not in known:
            raise SettingsError(
                f"[{stage}] in {path} has no setting {name!r}; it has {', '.join(known)}: rename "
                f"or remove it"
            )
        wanted = known[name]
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise SettingsError(
                f"{name} of [{stage}] in {path} must be a {wanted.__name__}, got {value!r}; "
                f"repair it"
            )


class Devices(dg.ConfigurableResource):
    """The accelerators (or, without any, the processes) that training may use."""

    count: int = int(os.environ.get("FLYWHEEL_DEVICES") or 1)
