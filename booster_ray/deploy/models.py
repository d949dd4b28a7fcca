"""``python -m booster_ray.models``: the versions of the models, in MLflow or W&B."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from booster_ray.config import Config, ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from booster_ray.track.registry import Reference, Registry, Version

DESCRIPTION = """List, show, promote and fetch the versions of models. NAME is a model's name in
MLflow, or wandb:ENTITY/PROJECT/NAME; VERSION a number or an alias, which may also stand with the
name, as in models:/NAME@ALIAS. `champion` goes only to a version that passed gate 3."""

VERSION_HELP = "number or alias (latest)"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="python -m booster_ray.models", description=DESCRIPTION)
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--storage", default="results", help="folder of the runs (results)")
        made.add_argument(
            "--uri", help="MLflow's registry; else MLFLOW_REGISTRY_URI, else that of the runs"
        )
        return made

    one = command("list", "List models, or the versions of one.")
    one.add_argument("name", metavar="NAME", nargs="?", help="or wandb:ENTITY/PROJECT")
    one = command("show", "Show a version's card.")
    one.add_argument("name", metavar="NAME")
    one.add_argument("version", metavar="VERSION", nargs="?", help=VERSION_HELP)
    one = command("promote", "Make a version that passed gate 3 the champion.")
    one.add_argument("name", metavar="NAME")
    one.add_argument("version", metavar="VERSION", nargs="?", help="number or alias")
    text = "folder with the gates.json of this version, where the gates were run later"
    one.add_argument("--gates", type=Path, metavar="DIR", help=text)
    one = command("rollback", "Make the champion before the present one champion again.")
    one.add_argument("name", metavar="NAME")
    one = command("fetch", "Bring a version here, verified by its checksums.")
    one.add_argument("name", metavar="NAME")
    one.add_argument("version", metavar="VERSION", nargs="?", help=VERSION_HELP)
    one.add_argument("--output", type=Path, metavar="DIR", help="must not exist (else: the cache)")
    one = command("register", "Make a version of a run's best checkpoint, if its config lets it.")
    one.add_argument("run", metavar="RUN", type=Path, help="folder of a run or trial")
    return p


def main(argv: list[str]) -> int:
    """Carry out one command; exit code 0, or 2 for bad input."""
    args = parser().parse_args(argv)
    from rich.console import Console

    console = Console()
    if args.command == "register":
        return _register(args, console)
    config = _config(args)
    if args.command == "list":
        return _list(config, args.name, console)
    which = getattr(args, "version", None)
    if args.command == "promote" and which is None and not _has_version(args.name):
        raise ConfigError("command line", "VERSION", "is missing, expected a number or an alias")
    reference, registry = _named(config, args.name, which)
    if args.command == "rollback":
        return _rollback(config, registry, reference, console)
    from booster_ray.track.registry import find

    version = find(registry, reference)
    if args.command == "show":
        return _show(config, registry, version, console)
    if args.command == "promote":
        return _promote(config, registry, version, args.gates, console)
    return _fetch(config, registry, version, args.output, console)


# -- the commands ----------------------------------------------------------------------------


def _list(config: Config, name: str | None, console: Console) -> int:
    from booster_ray.track.registry import Reference, find, open_registry
    from booster_ray.track.show import models_table, versions_table

    if name is None or (name.startswith("wandb:") and name.count("/") == 1):
        project = Reference("wandb", f"{name.removeprefix('wandb:')}/") if name else None
        registry = open_registry(config, project or Reference("models", ""))
        found = {one: registry.versions(one) for one in registry.names()}
        # Not the table's title, which would be broken at its width.
        console.print(f"Models in {registry.where}", soft_wrap=True)
        console.print(models_table(found))
        return 0
    reference, registry = _named(config, name, None)
    find(registry, reference)  # or say which models there are
    versions = registry.versions(reference.name)
    console.print(f"{reference.name} in {registry.where}", soft_wrap=True)
    console.print(versions_table(versions))
    return 0


def _show(config: Config, registry: Registry, version: Version, console: Console) -> int:
    from rich.markdown import Markdown

    from booster_ray.store.model_folder import CARD
    from booster_ray.track.fetch import cache_of, fetch
    from booster_ray.track.show import versions_table

    folder = fetch(registry, version, cache_of(config))
    console.print(f"{version.name} in {registry.where}", soft_wrap=True)
    console.print(versions_table([version]))
    console.print(Markdown((folder / CARD).read_text(encoding="utf-8")))
    console.print(f"Files, verified: {folder}", soft_wrap=True)
    return 0


def _promote(
    config: Config, registry: Registry, version: Version, gates: Path | None, console: Console
) -> int:
    from booster_ray.track.fetch import cache_of, fetch
    from booster_ray.track.registry import check_gate, promote

    check_gate(version, fetch(registry, version, cache_of(config)), gates)
    before = promote(registry, version)
    if before is not None and before.number == version.number:
        console.print(f"{version.name} version {version.number} is the champion already.")
        return 0
    told = f"; it was version {before.number}" if before else ""
    console.print(f"champion of {version.name} is now version {version.number}{told}.")
    return 0


def _rollback(config: Config, registry: Registry, reference: Reference, console: Console) -> int:
    from booster_ray.track.fetch import cache_of, fetch
    from booster_ray.track.registry import previous, rollback

    now, before = previous(registry, reference.name)
    fetch(registry, before, cache_of(config))  # what is damaged cannot be champion again
    rollback(registry, now, before)
    console.print(
        f"champion of {reference.name} is version {before.number} again; it was {now.number}."
    )
    return 0


def _fetch(
    config: Config, registry: Registry, version: Version, output: Path | None, console: Console
) -> int:
    import shutil

    from booster_ray.track.fetch import cache_of, fetch

    if output is not None and output.exists():
        raise ConfigError("command line", "--output", f"{output} exists, choose another folder")
    folder = fetch(registry, version, cache_of(config))
    if output is not None:
        try:
            shutil.copytree(folder, output)
        except OSError as error:
            text = f"cannot write {output}: {error.strerror or error}"
            raise ConfigError("command line", "--output", text) from None
    console.print(
        f"{version.name} version {version.number}, verified: {output or folder}", soft_wrap=True
    )
    return 0


def _register(args: argparse.Namespace, console: Console) -> int:
    from booster_ray.config import load
    from booster_ray.store.files import CONFIG, best_checkpoint
    from booster_ray.track.registry import open_registry
    from booster_ray.train.publish import located, register

    if not (args.run / CONFIG).is_file() or (source := best_checkpoint(args.run)) is None:
        text = f"{args.run} holds no {CONFIG} and best_*/, expected the folder of a run or trial"
        raise ConfigError("command line", "RUN", text)
    config = _at(located(load(args.run / CONFIG).base(), args.run), args.uri)
    if config.models.registry == "none":
        raise ConfigError(str(args.run / CONFIG), "models.registry", "is none, expected a registry")

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    register(config, source, args.run, open_registry(config), say)
    return 0


# -- arguments -------------------------------------------------------------------------------


def _config(args: argparse.Namespace) -> Config:
    """Where the versions are, as a config says it."""
    return _at(Config().model_copy(update={"storage": args.storage}), args.uri)


def _at(config: Config, uri: str | None) -> Config:
    """The same config with another registry in MLflow; its runs, and files, are there too."""
    if uri is None:
        return config
    runs = "databricks" if uri == "databricks-uc" else uri
    mlflow = config.tracking.mlflow.model_copy(update={"uri": runs})
    tracking = config.tracking.model_copy(update={"mlflow": mlflow})
    models = config.models.model_copy(update={"uri": uri})
    return config.model_copy(update={"models": models, "tracking": tracking})


def _has_version(name: str) -> bool:
    """Whether a name tells a version, as ``NAME@ALIAS`` and ``models:/NAME@ALIAS`` do."""
    if name.startswith("wandb:"):
        return ":" in name.removeprefix("wandb:")
    return any(c in name.removeprefix("models:/") for c in "/@")


def _named(config: Config, name: str, version: str | None) -> tuple[Reference, Registry]:
    """What NAME and VERSION mean, and the registry that it is in."""
    from booster_ray.track.registry import open_registry, parse

    if _has_version(name):
        if version is not None:
            text = f"{version}, but {name} names a version already"
            raise ConfigError("command line", "VERSION", text)
        full = name.startswith(("wandb:", "models:/"))
        reference = parse(name if full else f"models:/{name}")
    else:
        which = version or "latest"
        if name.startswith("wandb:"):
            reference = parse(f"{name}:{'v' * which.isdigit()}{which}")
        else:
            plain = name.removeprefix("models:/")
            reference = parse(f"models:/{plain}{'/' if which.isdigit() else '@'}{which}")
    return reference, open_registry(config, reference)
