"""MkDocs hooks: pages made from the repository, and an error if a page loads a remote file."""

import ast
import html.parser
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "imgcls"
# Files of the repository that are pages too.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
# Attributes whose address a browser fetches when it shows the page.
FETCHED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
}
REMOTE = re.compile(r"(?:https?:)?//")


def on_files(files, config):
    """Adds the pages that are files of the repository, and those of the API reference."""
    # A local import, so that the tests can import this file without mkdocs.
    from mkdocs.structure.files import File

    pages = {PAGES[name]: _page(ROOT / name) for name in PAGES}
    reference = reference_pages()
    for path, content in {**pages, **reference}.items():
        files.append(File.generated(config, path, content=content))
    titles = [{pathlib.PurePath(path).stem: path} for path in reference]
    config.nav.append({"API reference": titles})
    return files


def _page(path: pathlib.Path) -> str:
    """Returns a Markdown file of the repository, with its links rewritten for the site."""

    def link(match: re.Match) -> str:
        text, target = match.groups()
        target = PAGES.get(target, target.removeprefix("docs/"))
        return f"[{text}]({target})" if target.partition("#")[0].endswith(".md") else text

    return re.sub(r"\[([^\]]+)\]\(((?!https?:)[^)]+)\)", link, path.read_text(encoding="utf-8"))


def reference_pages() -> dict[str, str]:
    """Returns one page by path for each package of imgcls, with the modules directly inside it."""
    pages = {}
    for init in sorted(PACKAGE.rglob("__init__.py")):
        name = ".".join(init.parent.relative_to(ROOT).parts)
        # Names that a package only imports are described with the module that defines them.
        untitled = {"show_root_heading": "false", "show_root_toc_entry": "false"}
        members = {"members": _definitions(init) or "false"}
        sections = [f"# {name}", _reference(name, untitled | members)]
        for path in sorted(init.parent.glob("[!_]*.py")):
            sections.append(_reference(f"{name}.{path.stem}", {"heading_level": 2}))
        pages[f"api/{name}.md"] = "\n\n".join(sections) + "\n"
    return pages


def on_post_build(config):
    """Ends the build if a page of the site fetches something from another host."""
    from mkdocs.exceptions import PluginError

    remote = remote_files(pathlib.Path(config.site_dir))
    if remote:
        raise PluginError("the site loads files from elsewhere:\n" + "\n".join(remote))


def _reference(name: str, options: dict) -> str:
    """Returns lines that mkdocstrings replaces by the description of a module."""
    lines = [f"      {key}: {value}" for key, value in options.items()]
    return "\n".join([f"::: {name}", "    options:", *lines])


def _definitions(path: pathlib.Path) -> list[str]:
    """Returns the names of the public functions and classes that a file defines."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, kinds)]
    return [node.name for node in nodes if not node.name.startswith("_")]


def remote_files(site: pathlib.Path) -> list[str]:
    """Returns the remote files that pages and style sheets load, `["page: address"]`."""
    remote = []
    for path in sorted(site.rglob("*.html")):
        parser = _Addresses()
        parser.feed(path.read_text(encoding="utf-8"))
        remote += [f"{path.relative_to(site)}: {x}" for x in parser.addresses if REMOTE.match(x)]
    for path in sorted(site.rglob("*.css")):
        loaded = re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", path.read_text("utf-8"))
        remote += [f"{path.relative_to(site)}: {x}" for x in loaded if REMOTE.match(x)]
    return remote


class _Addresses(html.parser.HTMLParser):
    """Collects the addresses of the files that a page loads."""

    def __init__(self):
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        # A canonical link names a page but does not load it.
        loads = tag != "link" or "canonical" not in (values.get("rel") or "")
        for name in FETCHED.get(tag, ()) if loads else ():
            value = values.get(name) or ""
            parts = value.split(",") if name == "srcset" else [value]
            self.addresses += [part.strip().split(" ")[0] for part in parts if part.strip()]
