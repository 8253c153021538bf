"""What the documentation site adds to the pages in docs/: pages from elsewhere, and their links.

README, CONTRIBUTING, CHANGELOG and the model's README stay where readers of the repository look for
them. In all pages, links lead from file to file of the repository; here they become links from page
to page. A link to a file that is no page of the site, such as a module, becomes plain text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
FROM_ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "nsf_pipeline/model/README.md": "model.md",
}
"""The site's page by the file of the repository."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere."""
    for source, page in FROM_ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links between files of the repository links between pages."""
    here = page.file.src_uri
    sources = {own: source for source, own in FROM_ELSEWHERE.items()}
    folder = posixpath.dirname(sources.get(here, f"docs/{here}"))

    def relinked(match: re.Match[str]) -> str:
        image, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        source = posixpath.normpath(posixpath.join(folder, target))
        if not target or "://" in target or not (ROOT / source).exists():
            return match[0]  # a broken one is MkDocs' to complain about
        if source in FROM_ELSEWHERE:
            found = FROM_ELSEWHERE[source]
        elif source.startswith("docs/"):
            found = source.removeprefix("docs/")
        else:
            return text
        start = posixpath.dirname(here) or "."
        return f"{image}[{text}]({posixpath.relpath(found, start)}{anchor})"

    return LINK.sub(relinked, markdown)
