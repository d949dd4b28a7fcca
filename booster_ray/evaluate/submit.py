"""Hands a package to the competition, through sai_rl's own client."""

from __future__ import annotations

import os
from pathlib import Path

from booster_ray.config import ConfigError
from booster_ray.policy import package
from booster_ray.policy.package import ACTION, POLICY, PREPROCESSOR, sha256

KEY = "SAI_API_KEY"
COMPETITION = "booster-soccer-showdown"


def command(directory: Path) -> str:
    """What to type to submit a package."""
    return f"{KEY}=… python -m booster_ray.submit {directory}"


def submit(directory: Path, name: str, competition: str = COMPETITION) -> str:
    """Submit a package; the submission's id.

    Args:
        directory: of the package.
        name: of the submission.
        competition: sai's id of it.

    Raises:
        ConfigError: there is no key or no sai_rl, the package was changed after its gates, or
            the competition does not answer or refuses; the package stays as it is.
    """
    loaded = package.load(directory)
    if sha256(directory / POLICY) != loaded.about["sha256"][POLICY]:
        raise ConfigError(str(directory / POLICY), "changed since its gates passed: export again")
    key = os.environ.get(KEY, "")
    if not key:
        text = f"not set: nothing submitted; the package is in {directory}, submit it with: "
        raise ConfigError(KEY, text + command(directory))
    package.rehearse(loaded)
    try:
        from sai_rl import SAIClient
    except ImportError:
        text = "is not installed: pip install 'booster_ray[submit]'"
        raise ConfigError("sai-rl", text) from None
    try:
        client = SAIClient(comp_id=competition, api_key=key)
        made = client.submit(
            name,
            str(directory / POLICY),
            action_function=str(directory / ACTION),
            preprocessor_class=str(directory / PREPROCESSOR),
            model_type="pytorch",
        )
    except (Exception, SystemExit) as error:  # sai_rl, requests and gymnasium have their own
        text = (str(error).splitlines() or [type(error).__name__])[0].replace(key, "…")
        raise ConfigError(
            "submission", f"{text}; the package stays in {directory}, try again with: "
            + command(directory),
        ) from None  # fmt: skip
    return str(getattr(made, "id", made))
