"""Extracts the texts that people read from the tracked files, for check-language and sample-language."""

import re
import subprocess
from bisect import bisect_right
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# kind: heading, paragraph, doc, comment, message, test or script; `spot` maps an offset in `text` to a line number.
Text = namedtuple("Text", "kind path text spot")

# Comments and strings of Rust, and what could be mistaken for the start of one.
RUST = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
      | (?P<raw>\bb?r(?P<hashes>\#*)"(?P<raw_text>.*?)"(?P=hashes))
      | (?P<string>"(?P<string_text>(?:\\.|[^"\\])*)")
      | (?P<char>'(?:\\[^\n]{1,10}?|[^'\\\n])')""",
    re.DOTALL | re.VERBOSE,
)
TEST = re.compile(r"#\[(?:\w+::)*test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\s+)?(?:async\s+)?fn\s+(\w+)")
# What a request, a page, a path or a format has, and a sentence has not.
DATA = re.compile(r"\\r\\n|HTTP/1\.|<\w|\{\"|^[\w-]+: [\w*/]+;?$|; error=|'self'|^[|`!;]|^[\w-]+=|charset=")
WORD = re.compile(r"[A-Za-z][a-z']+")

# Data and texts of other projects.
SKIPPED = re.compile(r"(^|/)(seeds|corpus|proptest-regressions)/|package-lock\.json$|LICENSE|\.svg$|\.lock$|autobahn\.txt$")
SCRIPTS = (".sh", ".py", ".toml", ".yml", ".yaml", ".js", ".mjs", ".html", ".conf", ".template", ".service", ".socket")


def tracked_files():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if not SKIPPED.search(name) or name.startswith("seeds/")]


def texts():
    """Yields every text of every tracked file."""
    for name in tracked_files():
        path = ROOT / name
        if not path.is_file():
            continue
        if name.endswith(".rs"):
            yield from rust(name, path.read_text())
        elif name.endswith(".md"):
            yield from markdown(name, path.read_text())
        elif path.suffix in SCRIPTS or path.read_bytes().startswith(b"#!"):
            yield joined("script", name, enumerate(path.read_text().splitlines(), 1))


def joined(kind, path, numbered_lines):
    """One text of several lines, so that a phrase is found across line breaks."""
    text, starts, numbers = "", [], []
    for number, line in numbered_lines:
        starts.append(len(text))
        numbers.append(number)
        text += " ".join(line.split()) + " "
    return Text(kind, path, text.rstrip(), lambda offset: numbers[bisect_right(starts, offset) - 1])


def markdown(path, source):
    block, is_code = [], False
    for number, line in enumerate([*source.splitlines(), ""], 1):
        is_fence = line.lstrip().startswith("```")
        is_code ^= is_fence
        is_heading = line.startswith("#") and not is_code
        if not line.strip() or is_fence or is_heading:
            if block:
                yield joined("paragraph", path, block)
            block = []
            if is_heading:
                yield joined("heading", path, [(number, line.lstrip("# "))])
        else:
            # The names of items are checked where they are declared.
            block.append((number, re.sub(r"`[\w:]+`", "`name`", line)))


def rust(path, source):
    starts = [match.end() for match in re.finditer(r"^|\n", source)]
    line_of = lambda offset: bisect_right(starts, offset)
    is_test_file = bool(re.search(r"(^|/)(tests|fuzz|seeds|benches/benches)/|/tests\.rs$", path))
    # Inline tests stand at the end of a file.
    tests = re.search(r"^#\[cfg\(test\)\]\n(#!?\[.*\n)*mod \w+ \{", source, re.MULTILINE)
    code, block, block_kind = list(source), [], None
    for match in RUST.finditer(source):
        start, end = match.span()
        code[start:end] = re.sub(r"[^\n]", " ", match[0])
        if not match["comment"]:
            text = match["string_text"] if match["string"] else match["raw_text"]
            is_test = is_test_file or (tests and tests.start() < start)
            if text and not is_test and is_message(text):
                lines = re.sub(r"\\\n\s*", "\n", text).replace("\\n", " ").replace('\\"', '"').split("\n")
                yield joined("message", path, enumerate(lines, line_of(start)))
            continue
        for number, line in enumerate(match[0].splitlines(), line_of(start)):
            prefix, text = re.match(r"\s*(//[/!]?|/\*[*!]?|\*/?)?\s?(.*)", line).groups()
            kind = "doc" if prefix in ("///", "//!") else "comment"
            if block and (number != block[-1][0] + 1 or kind != block_kind):
                yield joined(block_kind, path, block)
                block = []
            block_kind = kind
            block.append((number, text))
    if block:
        yield joined(block_kind, path, block)
    code = "".join(code)
    for match in TEST.finditer(code):
        yield joined("test", path, [(line_of(match.start(1)), match[1])])


def is_message(text):
    """Whether a string is a sentence for people rather than data."""
    return len(WORD.findall(text)) >= 3 and " " in text and not DATA.search(text)


def summary(doc):
    """The first sentence or paragraph of a doc comment."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`\[])|\s{2,}", doc.text, maxsplit=1)[0]
