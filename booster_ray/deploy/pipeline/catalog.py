"""Unity Catalog on Databricks: what the pipeline's storage and registry need is there.

``/Volumes/CATALOG/…`` as storage means this catalog; a model is ``CATALOG.rl_models.NAME``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from booster_ray.config import ConfigError
from booster_ray.store.remote import VOLUMES

MODELS, EXPERIMENTS = "rl_models", "experiments"
LAYOUT: Mapping[str, tuple[str, ...]] = {
    MODELS: (),
    EXPERIMENTS: ("checkpoints", "artifacts", "logs"),
}
"""Schema -> its volumes."""


def ensure(storage: str, client: Any = None) -> Iterator[str]:
    """Make the catalog, schemas and volumes of a storage that lies in a volume.

    What exists is left as it is, and needs no right to create it. With other storage there is
    nothing to do.

    Args:
        storage: as configs name it.
        client: Databricks' ``WorkspaceClient``; None: one of the environment's.

    Yields:
        A line for each that was made.

    Raises:
        ConfigError: the storage is not in a volume of :data:`LAYOUT`, or Databricks refuses.
    """
    if not storage.startswith(VOLUMES):
        return
    catalog, schema, volume, *_ = [*storage.split("/")[2:], "", "", ""]
    if volume not in LAYOUT.get(schema, ()):
        text = f"is {storage}, expected /Volumes/CATALOG/{EXPERIMENTS}/checkpoints"
        raise ConfigError("storage", text)
    try:
        client = client or _client()
        yield from _ensure(client, catalog)
    except ConfigError:
        raise
    except Exception as error:  # of the SDK, its authentication and its HTTP library
        said = str(error).partition(" Config: ")[0]  # then the SDK tells how it was set up
        text = " ".join(said.split()).rstrip(".") or type(error).__name__
        raise ConfigError("Unity Catalog", f"{catalog}: {text[:300]}") from None


def _client() -> Any:
    try:
        from databricks.sdk import WorkspaceClient
    except ImportError:
        text = "is not installed: pip install 'booster_ray[databricks]'"
        raise ConfigError("databricks-sdk", text) from None
    return WorkspaceClient()


def _ensure(client: Any, catalog: str) -> Iterator[str]:
    from databricks.sdk.service.catalog import VolumeType

    if _made(partial(client.catalogs.get, catalog), partial(client.catalogs.create, catalog)):
        yield f"Catalog {catalog} made"
    schemas, kept = client.schemas, client.volumes
    for schema, volumes in LAYOUT.items():
        path = f"{catalog}.{schema}"
        if _made(partial(schemas.get, path), partial(schemas.create, schema, catalog)):
            yield f"Schema {path} made"
        for volume in volumes:
            make = partial(kept.create, catalog, schema, volume, VolumeType.MANAGED)
            if _made(partial(kept.read, f"{path}.{volume}"), make):
                yield f"Volume {path}.{volume} made"


def _made(find: Callable[[], object], make: Callable[[], object]) -> bool:
    """Whether it was made just now, by us."""
    from databricks.sdk.errors import AlreadyExists, NotFound, ResourceAlreadyExists

    try:
        find()
    except NotFound:
        try:
            make()
        except (AlreadyExists, ResourceAlreadyExists):  # another job was faster
            return False
        return True
    return False
