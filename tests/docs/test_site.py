"""The docs site: built without a warning, every link in it leads somewhere."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import driving
import pytest

from booster_ray.config import Config
from booster_ray.config.explain import reference


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """docs/pages.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("pages", driving.ROOT / "docs" / "pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The site's folder, and what was said of it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=driving.ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(driving.ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


class Links(HTMLParser):
    """Addresses that a page names, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := told.get(name))}
        self.found += [value for name in ("href", "src") if (value := told.get(name))]


def test_the_site_is_built_without_a_warning(site: tuple[Path, str]) -> None:
    folder, said = site
    assert "WARNING" not in said, said
    for name in ("quickstart", "game", "concepts/state", "clusters/slurm", "config", "not-for"):
        assert (folder / name / "index.html").is_file(), name
    assert "sbatch cluster/slurm/smoke.sbatch" in (folder / "clusters/slurm/index.html").read_text()
    assert '<pre class="mermaid">' in (folder / "concepts/sweep/index.html").read_text()


def test_every_link_leads_somewhere(site: tuple[Path, str]) -> None:
    folder, _ = site
    read = {path: Links(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    broken = []
    for path, links in read.items():
        for link in links.found:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = read[target].anchors if target in read else None
            if not target.exists() or (
                parts.fragment and anchors and parts.fragment not in anchors
            ):
                broken.append(f"{path.relative_to(folder)}: {link}")
    assert not broken


def test_the_reference_holds_every_setting(pages: ModuleType) -> None:
    text = pages.config_page()
    for section, name in (("sac", "tau"), ("control", "kp"), ("ddpg", "anchor"), ("", "seed")):
        assert f"## {section or 'The config'}\n" in text
        assert f"\n| `{name}` | " in text
    told = {f"{s.section}.{s.name}".lstrip(".") for s in reference()}
    tree = Config().to_dict()

    def leaves(node: dict[str, object], path: str) -> set[str]:
        found: set[str] = set()
        for key, value in node.items():
            inner = isinstance(value, dict) and f"{path}{key}" not in told
            found |= leaves(value, f"{path}{key}.") if inner else {path + key}  # type: ignore[arg-type]
        return found

    assert leaves(tree, "") == told


def test_links_of_the_repository_become_the_sites(pages: ModuleType) -> None:
    for text, wanted in (
        ("[a](docs/gates.md#intervals)", "[a](gates.md#intervals)"),
        ("[`slurm/`](cluster/slurm/README.md)", "[`slurm/`](clusters/slurm.md)"),
        ("![x](docs/mlflow.png)", "![x](mlflow.png)"),
        ("[web](https://example.org/a.md)", "[web](https://example.org/a.md)"),
        ("[here](#there)", "[here](#there)"),
        ("[its code](Makefile)", "its code (`Makefile`)"),
        ('<img src="docs/mlflow.png">', '<img src="mlflow.png">'),
    ):
        assert pages.linked(text, "README.md", "index.md") == wanted
    told = pages.linked("[a](../docs/policy.md)", "benchmarks/README.md", "benchmarks.md")
    assert told == "[a](policy.md)"
    told = pages.linked("[a](../failures.md)", "docs/concepts/state.md", "concepts/state.md")
    assert told == "[a](../failures.md)"
    with pytest.raises(ValueError, match=r"README\.md: nowhere\.md leads nowhere"):
        pages.linked("[a](nowhere.md)", "README.md", "index.md")
