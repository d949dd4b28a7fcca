"""Of the docs site, the pages that are not in this folder, and links as they are there.

mkdocs calls ``on_files`` and ``on_page_markdown``. A page stands in one place: what README.md,
CHANGELOG.md or cluster/ say is shown from there, and the config's reference follows from its
schema. Links are those of the repository. One that leads to a page of the site is made its link;
one to another file becomes that file's name, for the site does not know where the repository is
read.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from booster_ray.config.explain import Setting, reference

ROOT = Path(__file__).parents[1]

SOURCES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "cluster/README.md": "clusters/index.md",
    **{
        f"cluster/{path.parent.name}/README.md": f"clusters/{path.parent.name}.md"
        for path in sorted(ROOT.glob("cluster/*/README.md"))
    },
}
"""Files of the repository that are pages, by their names in the site."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
HTML = re.compile(r'(src|href)="([^"#]+)(#[^"]*)?"')
CODE = re.compile(r"(^```.*?^```$)", flags=re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie elsewhere."""
    from mkdocs.structure.files import File

    for source, name in SOURCES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "config.md", content=config_page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links those of the site."""
    here = page.file.src_uri
    source = {name: path for path, name in SOURCES.items()}.get(here, f"docs/{here}")
    # Not in blocks of code, where brackets mean something else.
    parts = CODE.split(markdown)
    return "".join(p if CODE.fullmatch(p) else linked(p, source, here) for p in parts)


def linked(text: str, source: str, here: str) -> str:
    """A page's text with its links as they are in the site.

    Raises:
        ValueError: a link leads nowhere.
    """

    def change(found: re.Match[str]) -> str:
        image, label, target = found.groups()
        path, _, anchor = target.partition("#")
        wanted, page = _page(source, path)
        if wanted is None:
            return found[0]
        if page is None:
            return f"`{wanted}`" if label.strip("`") in wanted else f"{label} (`{wanted}`)"
        return f"{image}[{label}]({_relative(page, here)}{'#' + anchor if anchor else ''})"

    def change_html(found: re.Match[str]) -> str:
        # Of pictures and links that are written as HTML, whose addresses mkdocs leaves alone.
        page = _page(source, found[2])[1]
        up = "../" * (len(PurePosixPath(here).with_suffix("").parts) - (here.endswith("index.md")))
        return f'{found[1]}="{up}{page}{found[3] or ""}"' if page else found[0]

    return HTML.sub(change_html, LINK.sub(change, text))


def _page(source: str, path: str) -> tuple[str | None, str | None]:
    """The file of the repository that a link means, and its page of the site, where it has one."""
    if not path or "://" in path or path.startswith("mailto:"):
        return None, None
    wanted = _normal(PurePosixPath(source).parent / path)
    if not (ROOT / wanted).exists():
        raise ValueError(f"{source}: {path} leads nowhere")
    if wanted in SOURCES:
        return wanted, SOURCES[wanted]
    return wanted, wanted.removeprefix("docs/") if wanted.startswith("docs/") else None


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _relative(page: str, here: str) -> str:
    return "../" * (len(PurePosixPath(here).parts) - 1) + page


def config_page() -> str:
    """Every setting, as the schema has it."""
    sections: dict[str, list[Setting]] = {}
    for setting in reference():
        sections.setdefault(setting.section, []).append(setting)
    lines = [
        "# Every setting",
        "",
        "From the schema (`booster_ray/config/`). Any setting may be searched instead of fixed:",
        "`{search: uniform, low: 0.1, high: 2.0}`. On the command line `section.key=value`",
        "overrides.",
    ]
    for section, settings in sections.items():
        lines += ["", f"## {section or 'The config'}", "", settings[0].about_section, ""]
        lines += ["| setting | default | expected | what it is |", "|---|---|---|---|"]
        lines += [
            f"| `{s.name}` | `{s.default}` | {_cell(s.expected)} | {_cell(s.about)} |"
            for s in settings
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
