"""What MkDocs cannot do by itself: pages from elsewhere in the repository, links out of `docs/`, formulas, solutions.

In `docs/` links are those of the repository, so that they also work where its files are read. Here they become links of
the site, or of the repository's address where the site has no such page; one to nothing stays, and MkDocs refuses it.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {  # file of the repository: page of the site
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmark/commands.md",
    "benchmarks/RESULTS.md": "benchmark/results.md",
    "benchmarks/LEADERBOARD.md": "benchmark/leaderboard.md",
    "benchmarks/LOG.md": "benchmark/log.md",
}
PICTURES = ("examples/images/*", "benchmarks/report/*.png")
LINK = re.compile(r"""(?P<before>\]\(|\b(?:src|href)=")(?P<target>(?![a-z]+:|[#/])[^)"\s#]+)(?P<anchor>#[^)"\s]*)?""")
INLINE = r'<span class="arithmatex">\\(\1\\)</span>'
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages and pictures that live elsewhere in the repository."""
    for path, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    for pattern in PICTURES:
        for picture in sorted(ROOT.glob(pattern)):
            name = str(picture.relative_to(ROOT))
            files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns the repository's links into those of the site."""
    pages = ELSEWHERE
    home = {site: path for path, site in pages.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(home), link["target"]))
        target = pages.get(path, path.removeprefix("docs/"))
        anchor = link["anchor"] or ""
        if target in files.src_uris:
            start = posixpath.dirname(page.file.src_uri) or "."
            if link["before"] != "](":  # HTML, in which MkDocs changes nothing
                return f"{link['before']}{files.src_uris[target].url_relative_to(page.file)}{anchor}"
            return f"{link['before']}{posixpath.relpath(target, start)}{anchor}"
        if not path.startswith("..") and (ROOT / path).exists():
            kind = "tree" if (ROOT / path).is_dir() else "blob"
            return f"{link['before']}{config.repo_url.rstrip('/')}/{kind}/HEAD/{path}{anchor}"
        return link[0]

    return LINK.sub(moved, markdown)


def notebook_page(content: str) -> str:
    """A notebook's page with its formulas marked as those of other pages are, and its solutions folded up."""
    page = BeautifulSoup(content, "html.parser")
    for text in [found for part in page.select(".jp-RenderedMarkdown") for found in part.find_all(string=True)]:
        if "$" in text and text.parent.name not in ("code", "pre"):
            marked = html.escape(text)
            for dollars, form in ((r"\$\$", r'<div class="arithmatex">\\[\1\\]</div>'), (r"\$", INLINE)):
                marked = re.sub(f"{dollars}(.+?){dollars}", form, marked, flags=re.DOTALL)
            text.replace_with(BeautifulSoup(marked, "html.parser"))
    for cell in page.select("div.celltag_solution[id]"):
        fold = cell.wrap(page.new_tag("details", attrs={"class": "solution"}))
        summary = page.new_tag("summary")
        summary.string = "Solution"
        fold.insert(0, summary)
    return str(page)


def on_page_content(content: str, page: Page, **_: Any) -> str:
    """Writes formulas as MathML, which browsers show by themselves."""
    if page.file.src_uri.endswith(".ipynb"):
        content = notebook_page(content)

    def written(formula: re.Match[str]) -> str:
        display = "block" if formula[2] == "[" else "inline"
        return f'<{formula[1]} class="formula">{convert(html.unescape(formula[3]), display=display)}</{formula[1]}>'

    return FORMULA.sub(written, content)
