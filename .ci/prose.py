"""Check the words of the project: docstrings, comments, help texts and Markdown.

Run by ``make check``. Prints one line per fault, ``file:line: fault``, and exits with 1 on any fault.
``--draw N SEED`` prints N random sentences of the package and its pages for proofreading instead.
"""

from __future__ import annotations

import ast
import io
import random
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUMMARY = 79  # characters of a docstring's first line
SENTENCE = 35  # words
README = 120  # lines
# words that must not begin a summary
OPENINGS = re.compile(r"(what|whether|how|who|whose|where|when|which|why|that|those|these|it|if)\b", re.I)
# private terms of earlier versions and unclear phrases
TURNS = re.compile(
    r"\b(twins?|rivals?|likeness|strangeness|whoever|whatever|thereof|therein|lest|anew|"
    r"(?<!out )of which|given back|gives back|that there (?:is|are)|tells? of|what (?:is|are) (?:there|left)|"
    r"what of|(?<!there )(?:is|are) no (?!more|less|worse|\w+er\b)\w+)\b",
    re.I,
)
HEADINGS = {
    "bundles/*/docs/README.md": ("Overview", "Intended use", "Data", "Training", "Results", "Limits"),
    "docs/adr/*.md": ("Context", "Decision", "Consequences"),
}
CODE = re.compile(
    r"```.*?```|(?<=\n\n)(?:    [^\n]*\n)+|``[^`]*``|`[^`]*`|\$[^$\n]*\$|https?://\S+|\]\([^)]*\)", re.S
)
SENTENCE_END = re.compile(r"[.:;?!](?:[*_)\"']*)(?:\s+|$)")

Fault = tuple[int, str]


def plain(text: str) -> str:
    """Replace code and links by one word each; keep line breaks."""
    return CODE.sub(lambda found: "\n" * found[0].count("\n") + "code", text)


def turns(text: str, line: int) -> Iterator[Fault]:
    """Find listed phrases in a text that starts at `line`."""
    for number, row in enumerate(plain(text).splitlines(), line):
        for found in TURNS.finditer(row):
            yield number, f"say it plainly: {found[0]!r}"


def sentences(text: str, line: int) -> Iterator[Fault]:
    """Find sentences with too many words."""
    for sentence in SENTENCE_END.split(" ".join(plain(text).split())):
        n_words = len(sentence.split())
        if n_words > SENTENCE:
            yield line, f"a sentence of {n_words} words: {' '.join(sentence.split()[:6])} …"


def docstring(text: str, line: int) -> Iterator[Fault]:
    """Check the summary, sentences and phrases of a docstring."""
    summary, _, rest = text.strip().partition("\n")
    if len(summary) > SUMMARY:
        yield line, f"a summary of {len(summary)} characters, expected at most {SUMMARY}"
    if OPENINGS.match(summary):
        yield line, f"a summary that begins with {summary.split()[0]!r}: begin with the verb or the noun"
    yield from turns(text, line)
    # exclude doctests, tables and numpydoc headings
    prose = re.sub(r"^ *(>>>|\.\.\.|\||-{3,}|\S+ : ).*$", "", rest, flags=re.M)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[-*] )", prose):
        yield from sentences(paragraph, line)


def python(source: str) -> Iterator[Fault]:
    """Check the docstrings, comments, help texts and error messages of a module."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield from docstring(text, node.body[0].lineno)
        is_help = isinstance(node, ast.keyword) and node.arg in ("help", "description")
        if is_help or isinstance(node, ast.Raise):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield from turns(part.value, part.lineno)
                    if is_help and OPENINGS.match(part.value):
                        yield part.lineno, f"a help text that begins with {part.value.split()[0]!r}"
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from turns(token.string, token.start[0])


def yaml_comments(source: str) -> Iterator[Fault]:
    """Check the comments of a configuration."""
    for number, row in enumerate(source.splitlines(), 1):
        found = re.search(r"(?:^|\s)# (.*)", row)
        if found:
            yield from turns(found[1], number)


def markdown(source: str) -> Iterator[Fault]:
    """Check the paragraphs and table cells of a page."""
    yield from turns(source, 1)
    line = 1
    for block in re.split(r"(\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\.) ?))", plain(source)):
        if not block.lstrip().startswith("|"):
            yield from sentences(block, line + len(block) - len(block.lstrip("\n")))
        line += block.count("\n")


def check(path: Path) -> Iterator[Fault]:
    """Check one file of the project."""
    source = path.read_text(encoding="utf-8")
    relative = path.relative_to(ROOT)
    if path.suffix == ".py":
        yield from python(source)
    elif path.suffix == ".yaml":
        yield from yaml_comments(source)
    elif path.suffix == ".md":
        yield from markdown(source)
        for pattern, headings in HEADINGS.items():
            if relative.match(pattern):
                found = re.findall(r"^## (.*)$", source, re.M)
                yield from ((1, f"expected a heading '## {name}'") for name in headings if name not in found)
        n_lines = source.count("\n")
        if str(relative) == "README.md" and n_lines >= README:
            yield n_lines, f"expected fewer than {README} lines, got {n_lines}"


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring, help text or paragraph of a file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        line = 1
        for block in re.split(r"(\n\s*\n)", plain(source)):
            if not re.match(r"\s*(\||#|code\s*$|$)", block):
                yield line, block
            line += block.count("\n")
        return
    for node in ast.walk(ast.parse(source)) if path.suffix == ".py" else ():
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            text = ast.get_docstring(node) or ""
            yield node.body[0].lineno, re.sub(r"^ *(>>>|\.\.\.|-{3,}|\S+ : ).*$", "", text, flags=re.M)
        elif isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            yield node.value.lineno, " ".join(re.findall(r"[\"'](.*?)[\"']", ast.unparse(node.value)))


def draw(paths: list[Path], number: int, seed: int) -> None:
    """Print random sentences with their locations."""
    package = [
        p for p in paths if p.relative_to(ROOT).parts[0] in ("qcanet_monai", "bundles", "docs", "README.md")
    ]
    found = [
        f"{path.relative_to(ROOT)}:{line}: {sentence}"
        for path in sorted(package)
        for line, text in prose(path)
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
        if len(sentence.split()) > 3
    ]
    print("\n".join(random.Random(seed).sample(found, number)))


def main(arguments: list[str]) -> int:
    """Check the given files, or all files in git."""
    names = arguments
    if not names or names[0] == "--draw":
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    paths = [ROOT / name for name in names if Path(name).suffix in (".py", ".yaml", ".md")]
    paths = [path for path in paths if path.is_file()]
    if arguments[:1] == ["--draw"]:
        draw(paths, int(arguments[1]), int(arguments[2]))
        return 0
    faults = [(path, *fault) for path in paths for fault in check(path)]
    for path, line, fault in faults:
        print(f"{path.relative_to(ROOT)}:{line}: {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
