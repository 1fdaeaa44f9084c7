"""The glossary explains every word of the headings, columns and row labels that pages, tables and figures print.

They are collected from the code: calls that make tables and figures, HTML in strings, the review templates, and the
titles of the dashboard. A word is explained by a term of the glossary or stands in a short list of plain English.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
CODE = ("analysis", "cli", "evaluation", "reports", "research", "review", "search_benchmark")
EVERYDAY = frozenset(
    re.findall(
        r"\w+",
        """
        a after against age ahead an and any asked at before below best better blue by call cent check checked chosen
        close column compare confident count day depth description differ difference distinct diverging doctor dollar
        duplicate each equal every failed few finished first five for from grey if in install instant is its kind
        larger largest last least longest lower main matched mean memory method millisecond missing monthly more most
        newest next no of on once only over part past per plan processor question real recorded result right same
        saved second sort started state status step stopped text the them this time to too total two under with within
        without yet
        """,
    )
)
"""Plain English that needs no explanation. Kept short: a noun of the trade belongs into the glossary instead."""

_TABLES = {"table", "Table", "add_column"}
"""Calls whose texts are titles and columns."""
_ROWS = {"add_row", "BeliefStep", "RungSource", "BenchmarkArm"}
"""Calls whose first text is the label of a row."""
_FIGURES = {"set_title", "set_xlabel", "set_ylabel", "suptitle", "supxlabel", "supylabel"}
_DICTS = {"_LABELS", "_SORTS"}
"""Constants whose values are labels; the keys of every `cells` and of what a `_told` returns are labels, too."""
_HEADINGS = "th|h1|h2|h3|dt|label|summary|text"
_ELEMENT = re.compile(rf"<({_HEADINGS})\b[^>]*>(.*?)(?=</?(?:{_HEADINGS})\b|\Z)", re.DOTALL)
_LEGEND = re.compile(r'<ul class="legend">(.*?)</ul>', re.DOTALL)
_JINJA = re.compile(r"\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
_MACRO = re.compile(r"""\b(?:few\(|pick\("\w+",\s*)"([^"]*)\"""")
_ENTRY = re.compile(r"- \*\*(?P<term>[^*]+)\*\*(?: \((?P<also>[^)]+)\))?: (?P<says>\S.*\.)")

Known = Mapping[str, Sequence[ast.expr]]
Term = tuple[str, ...]


def literals(node: ast.AST, known: Known) -> Iterator[str]:
    """Texts in an expression. A placeholder parts a text in two; names are looked up in `known`."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield " | ".join(part.value for part in node.values if isinstance(part, ast.Constant))  # type: ignore[misc]
    elif isinstance(node, ast.Name):
        for value in known.get(node.id, ()):
            yield from literals(value, {})
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body, known)
        yield from literals(node.orelse, known)
    elif isinstance(node, ast.Starred | ast.Tuple | ast.List | ast.BinOp):
        for child in ast.iter_child_nodes(node):
            yield from literals(child, known)


def assigned(tree: ast.AST) -> dict[str, list[ast.expr]]:
    """Value of each name: by assignment, or as the target of a loop over tuples."""
    known: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Tuple) and isinstance(node.iter, ast.Tuple):
            for row in (row for row in node.iter.elts if isinstance(row, ast.Tuple)):
                for target, value in zip(node.target.elts, row.elts, strict=True):
                    if isinstance(target, ast.Name):
                        known.setdefault(target.id, []).append(value)
    return known


def headings_of_code(source: str) -> set[str]:
    """Every title, column, row label and axis label that a module prints."""
    tree = ast.parse(source)
    known, found = assigned(tree), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found.update(_of_call(node, known))
        elif isinstance(node, ast.FunctionDef) and node.name == "_told":
            found.update(key for d in ast.walk(node) if isinstance(d, ast.Dict) for key in _keys(d))
        elif isinstance(node, ast.Constant | ast.JoinedStr):
            found.update(said for text in literals(node, {}) for said in headings_of_html(text))
    for name, values in known.items():
        for value in (v for v in values if isinstance(v, ast.Dict)):
            found.update(_keys(value) if name == "cells" else ())
            found.update(said for v in value.values for said in literals(v, {}) if name in _DICTS)
    return _worded(found)


def _keys(node: ast.Dict) -> Iterator[str]:
    for key in node.keys:
        if key is not None:
            yield from literals(key, {})


def _of_call(call: ast.Call, known: Known) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    texts: Sequence[ast.expr] = ()
    if name in _TABLES | _FIGURES:
        texts = call.args
    elif name in _ROWS and (name != "add_row" or _literal(call.args)):
        texts = call.args[:1]
    elif name == "row" and call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == "th":
        texts = call.args[1:]
    for text in texts:
        yield from literals(text, known)


def _literal(args: Sequence[ast.expr]) -> bool:
    return bool(args) and isinstance(args[0], ast.Constant | ast.JoinedStr)


def headings_of_html(text: str) -> set[str]:
    """Texts of heading elements in HTML, SVG or a template, and what is handed to macros that make headings."""
    bare = _JINJA.sub(" | ", text)
    found = {said for _, said in _ELEMENT.findall(bare)} | set(_LEGEND.findall(bare)) | set(_MACRO.findall(text))
    return _worded({re.sub(r"<[^>]*>", " | ", said).strip() for said in found})


def _worded(texts: set[str]) -> set[str]:
    return {text for text in texts if re.search("[A-Za-z]", text)}


def all_headings() -> dict[str, str]:
    """Every heading, and the file that it stands in."""
    files = [file for folder in CODE for file in sorted((ROOT / "agent" / folder).rglob("*.py"))]
    found = {said: file.name for file in files for said in headings_of_code(file.read_text(encoding="utf-8"))}
    for file in sorted((ROOT / "agent" / "review" / "templates").glob("*.html")):
        found |= dict.fromkeys(headings_of_html(file.read_text(encoding="utf-8")), file.name)
    panels: Any = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8"))["panels"]
    return found | {str(panel["title"]): "grafana-dashboard.json" for panel in panels}


def words(text: str) -> Term:
    """Lower-case words in the singular; "|" parts what does not belong together."""
    bare = re.sub(r"\[/?[a-z ]+\]|\d+", " ", text.lower())
    return tuple(singular(word) for word in re.findall(r"[a-z][a-z'-]*|\|", bare))


def singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "ches", "shes", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is", "ias")) and len(word) > 3 else word


def unexplained(heading: str, terms: frozenset[Term]) -> list[str]:
    """Words of a heading that are neither plain English nor part of a term that stands there whole."""
    said, left, at = words(heading), list[str](), 0
    longest = max(map(len, terms))
    while at < len(said):
        size = next((n for n in range(longest, 0, -1) if said[at : at + n] in terms), 0)
        if not size and said[at] not in EVERYDAY and said[at] != "|":
            left.append(said[at])
        at += size or 1
    return left


def entries() -> list[tuple[str, list[str], str]]:
    """Each line of the glossary: term, other names of it, and what it means."""
    found = []
    for line in GLOSSARY.read_text(encoding="utf-8").splitlines():
        if line.startswith("- "):
            entry = _ENTRY.fullmatch(line)
            assert entry is not None, f"not a term and a sentence: {line}"
            found.append((entry["term"], (entry["also"] or "").split(", ") if entry["also"] else [], entry["says"]))
    return found


def explained() -> frozenset[Term]:
    return frozenset(words(name) for term, also, _ in entries() for name in (term, *also))


def test_every_word_of_a_heading_is_explained() -> None:
    terms = explained()
    lacking = {
        f"{file}: {heading}": left for heading, file in all_headings().items() if (left := unexplained(heading, terms))
    }
    assert not lacking, "explain these in docs/glossary.md, or use its terms"


def test_headings_of_every_kind_are_found() -> None:
    found = all_headings()
    for known, file in {
        "deflated Sharpe": "page.py",
        "Statistical significance": "backtest.py",
        "log Bayes factor": "logview.py",
        "longest gap": "data.py",
        "exposure": "halt.py",
        "stopped by the gate": "summary.py",
        "J/token": "monitor.py",
        "model asked": "monitor.py",
        "Reliability diagram, and Brier score by coverage": "figures.py",
        "observed frequency of YES": "figures.py",
        "capped shift": "buildup.py",
        "placebo: outcomes": "ladder.py",
        "inference cost": "versus.py",
        "Calibration": "overview.html",
        "Shrinkage weight  |": "decision.html",
        "Largest losses": "overview.html",
        "Loop lag": "grafana-dashboard.json",
    }.items():
        assert known in found, f"{known} of {file}"
    assert len(found) > 200


def test_a_new_column_has_to_be_explained() -> None:
    terms = explained()
    for source in (
        'rows = table("Runs", "run", "Foo", right=("Foo",))',
        'made.add_column("Foo")',
        'rows.add_row("Foo", value)',
        'rows.add_row(f"Foo of {name}", value)',
        'head = pages.row("th", "arm", "Foo")',
        'axis.set_xlabel("Foo")',
        'columns = ("run", "Foo")\nrows = table("Runs", *columns)',
        'page = f"<h2>Foo {name}</h2>"',
        'cells = {"Foo": value}',
    ):
        assert {left for said in headings_of_code(source) for left in unexplained(said, terms)} == {"foo"}, source
    for template in (
        "<table><tr><th scope='col'>run</th><th scope='col' class='n'>Foo</th></tr></table>",
        "<h2>Foo {{ value }}</h2>",
        "<dl><dt>Foo</dt><dd>{{ bar }}</dd></dl>",
        '{{ few("Foo", rows) }}',
        '<ul class="legend"><li>Foo</li></ul>',
    ):
        assert [left for said in headings_of_html(template) if (left := unexplained(said, terms))] == [["foo"]], (
            template
        )


def test_a_phrase_explains_no_word_outside_it() -> None:
    terms = frozenset({("log", "score"), ("gain",)})
    assert unexplained("log score gain", terms) == []
    assert unexplained("score log", terms) == ["score", "log"]


def test_the_glossary_is_one_line_a_term_in_alphabetical_order_and_names_nothing_twice() -> None:
    found = entries()
    assert len(found) > 150
    for (before, _, _), (after, _, _) in pairwise(found):
        assert before.lower() < after.lower()
    names = [name.lower() for term, also, _ in found for name in (term, *also)]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)


def test_plain_words_are_used_and_are_no_terms() -> None:
    used = {word for heading in all_headings() for word in words(heading)}
    assert used >= EVERYDAY, EVERYDAY - used
    assert not {(word,) for word in EVERYDAY} & explained()
