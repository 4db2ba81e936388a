"""Metal kernels held against the rules of the language, on any machine that has a clang.

The preprocessor's output is read by `tokens` and `syntax`; `checks` are the rules that need no types. The
rest is clang's: `rewrite` makes C++ for OpenCL of the kernels, which has the address spaces of Metal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from . import clang
from .checks import Checker
from .clang import ClangError, Message
from .rewrite import OPENCL, RENAMED, Question, Rewriter, Rewritten
from .rules import FAMILIES, RULES, VERSIONS, Rule
from .syntax import Syntax
from .tokens import Tokens, Unbalanced

__all__ = ["FAMILIES", "RULES", "VERSIONS", "ClangError", "Finding", "Options", "Rule", "lint", "lint_each"]


@dataclass(frozen=True, order=True)
class Finding:
    """Something that breaks a rule."""

    file: str
    line: int
    column: int
    rule: str
    message: str

    @property
    def section(self) -> str:
        return RULES[self.rule].section


@dataclass(frozen=True)
class Options:
    include_dirs: Sequence[Path] = ()
    macros: Sequence[str] = field(default_factory=tuple)  # NAME or NAME=VALUE
    language_version: str = VERSIONS[-1]
    gpu_family: str = "apple7"


def lint(files: Sequence[Path], options: Options, jobs: int | None = None) -> list[Finding]:
    """What breaks a rule in files and what they include, each once. Raises ClangError if clang fails."""
    return list(dict.fromkeys(f for findings in lint_each(files, options, jobs) for f in findings))


def lint_each(files: Sequence[Path], options: Options, jobs: int | None = None) -> list[list[Finding]]:
    """The same, file by file."""
    clang.find()
    with ThreadPoolExecutor(jobs) as pool:  # clang does the work, in processes of its own
        return [sorted(found) for found in pool.map(lambda file: lint_file(file, options), files)]


def lint_file(file: Path, options: Options) -> list[Finding]:
    version = tuple(int(part) for part in options.language_version.split("."))
    major, minor = version[0], version[1]
    text, errors = clang.preprocess(file, options.include_dirs, options.macros, major * 100 + minor * 10)
    if errors:
        return [_preprocessing(error) for error in errors]
    try:
        tokens = Tokens(text, str(file))
    except Unbalanced as error:
        token = error.tokens[error.at]
        return [Finding(token.file, token.line, error.tokens.column(error.at), "syntax", str(error))]
    return _File(file, text, tokens, options, (major, minor)).run()


def _preprocessing(error: Message) -> Finding:
    missing = re.match(r"'(.*)' file not found", error.text)
    own = bool(missing) and "." not in missing[1] and "/" not in missing[1]
    message = f"there is no header <{missing[1]}> in Metal" if missing and own else error.text
    rule = "std-header" if own else "preprocessor"
    return Finding(error.file, error.line, error.column, rule, message)


class _File:
    """One file on its way through the lint."""

    def __init__(
        self, file: Path, text: str, tokens: Tokens, options: Options, version: tuple[int, int]
    ) -> None:
        self.file, self.text, self.tokens = file, text, tokens
        self.options, self.version = options, version
        self.findings: dict[tuple[str, str, int], Finding] = {}
        self.beyond: list[tuple[int, int]] = []

    def run(self) -> list[Finding]:
        family = FAMILIES[self.options.gpu_family]
        syntax = Syntax(self.tokens)
        if syntax.kernels and str(clang.INCLUDE / "metal") not in self.text:
            self.report("stdlib-include", syntax.kernels[0].begin, "nothing includes <metal_stdlib>")
        rewriter = Rewriter(syntax, family.threadgroup_memory)
        checker = Checker(syntax, rewriter, family, self.version, self.report)
        checker.run()
        # What clang finds where there are types that it does not know follows from them.
        self.beyond = [(d.begin, d.end) for d in syntax.declarations if not checker.is_linted(d.begin, d.end)]
        settled = {(f.file, f.line) for f in self.findings.values()}
        rewritten = rewriter.run()
        for message in clang.check(rewritten.text, [f"LINT_ATOMICS_64={int(family.atomics_64)}"]):
            self._message(message, rewritten, rewriter.questions, settled)
        return [finding for finding in self.findings.values() if not _is_allowed(finding)]

    def report(self, rule: str, at: int, message: str) -> None:
        token = self.tokens[at]
        finding = Finding(token.file, token.line, self.tokens.column(at), rule, message)
        self.findings.setdefault((rule, token.file, token.line), finding)

    def _message(
        self, message: Message, rewritten: Rewritten, questions: list[Question], settled: set[tuple[str, int]]
    ) -> None:
        """Makes a finding of an error, unless a rule of ours has said what is wrong with the line."""
        if _is_of_no_concern(message.text) or _is_of_a_temporary(message):
            return
        if asked := re.search(r"\"?lint:(\d+)", message.text):
            question = questions[int(asked[1])]
            at, rule, text = question.at, question.rule, question.message
            note = next((n.text for n in message.notes if "evaluates to" in n.text), "")
            if number := re.search(r"'(\d+) <= \d+'", note):
                text = text.replace("more than", f"{number[1]} bytes, more than", 1)
        else:
            place = next((m for m in (message, *message.notes) if m.file == "<stdin>"), None)
            if place is None:
                raise ClangError(f"this clang cannot read the lint's own declarations: {message.text}")
            at = rewritten.token(place.line, place.column)
            if any(begin <= at < end for begin, end in self.beyond):
                return
            token = self.tokens[at].text
            text = plain(message.text)
            if "'sw'" in text or "'sw_ref'" in text:
                text = text.replace("'sw_ref'", f"'{token}'").replace("'sw'", f"'{token}'")
            reason = next((n.text for n in message.notes if n.text.startswith("candidate")), "")
            if reason and "'sw" not in message.text:
                text += f"; {plain(reason)}"
            rule = classify(message)
            if tagged := re.search(r"\[([a-z-]+)\] (.*)$", text):
                rule, text = tagged[1], tagged[2]
        token = self.tokens[at]
        if (token.file, token.line) not in settled:
            self.report(rule, at, text)
            if not asked:  # what follows on a line follows from it
                settled.add((token.file, token.line))


def _is_allowed(finding: Finding) -> bool:
    """Whether the line, or the one above if that is a comment alone, has `lint: allow RULE`."""
    try:
        lines = Path(finding.file).read_text(errors="replace").splitlines()
    except OSError:
        return False
    here, above = lines[finding.line - 1 : finding.line], lines[max(finding.line - 2, 0) : finding.line - 1]
    near = here + [line for line in above if line.lstrip().startswith("//")]
    return any(re.search(rf"//.*\blint: allow {finding.rule}(?![\w-])", line) for line in near)


_HINT = re.compile(r"; did you mean '([^']*)'\?")
_SPACES = {"__global": "device", "__local": "threadgroup", "__constant": "constant", "__private": "thread"}


def plain(text: str) -> str:
    """A message of clang in the words of Metal."""
    text = _HINT.sub(lambda m: "" if m[1] in OPENCL or m[1].startswith("__") else m[0], text)
    text = re.sub(r"\b__generic\s?", "", text)
    text = re.sub(rf"'{RENAMED}\w*<[^']*>' \(aka ('[^']*')\)", r"\1", text)
    text = re.sub(r"\b__bf16\b", "bfloat", text)
    # Where a variable itself lies goes without saying.
    text = re.sub(r"(\*|&|\]|\w>?) ?__private(?=['\s)])", r"\1", text)
    text = re.sub(r"'(const )?__private (?=[^'*&]*')", r"'\1", text)
    text = re.sub(r"\bconst __constant\b", "__constant", text)
    text = re.sub(r"\b__(global|local|constant|private)\b", lambda m: _SPACES[m[0]], text)
    text = (
        text.replace(RENAMED, "").replace("C++ for OpenCL version 2021", "Metal").replace("OpenCL", "Metal")
    )
    text = re.sub(
        r"cannot initialize object parameter of type ('[^']*') with an expression of type ('[^']*')",
        r"the method is for \1, not for \2; needs the address space after its arguments",
        text,
    )
    text = re.sub(r"\bunsigned (int|char|short|long)\b", r"u\1", text)
    text = re.sub(r"\b(metal::)?packed_vec<(\w+), ([234])>", r"packed_\2\3", text)
    text = re.sub(r"\b(metal::)?vec<(\w+), ([234])>", r"\2\3", text)
    return re.sub(r"('[^']*') \(aka \1\)", r"\1", text)


def _is_of_no_concern(text: str) -> bool:
    """Whether an error is about what Metal allows, such as float to half, and casts of half and bfloat."""
    if "its type does not have linkage" in text:  # a function of the lint, for a class in a function
        return True
    if "loses floating-point precision" in text:
        return "__bf16" not in text or "computation result" in text
    cast = re.search(r"(static_cast|functional-style cast|C-style cast|conversion) from (.*) to (.*)", text)
    return (
        bool(cast) and "cast" in cast[1] and {"half", "__bf16"} == set(re.findall(r"\bhalf\b|__bf16", text))
    )


def _is_of_a_temporary(message: Message) -> bool:
    """Whether a method is called on a temporary, which has no address space in OpenCL."""
    called = re.match(r"cannot initialize object parameter of type '.*' with .* type '(.*)'", message.text)
    if called:
        return not re.match(r"((const|volatile) )*__(global|local|constant)\b", called[1])
    return any("'this' object is in default address space" in note.text for note in message.notes)


def _differ(text: str) -> bool:
    """Whether a message sets types against each other that point to different spaces."""
    spaces = [
        set(re.findall(r"__(?:global|local|constant|private)\b(?=[^']*[*&<])", quoted))
        for quoted in re.findall(r"'([^']*)'", text)
    ]
    spaces = [found for found in spaces if found]
    return len(spaces) > 1 and spaces[0] != spaces[1]


def classify(message: Message) -> str:
    """The rule that an error of clang is about."""
    text = message.text
    everything = " ".join((text, *(note.text for note in message.notes)))
    if re.search(r"read-only variable is not assignable|cannot assign to (variable|non-static|return)", text):
        return "constant-write" if "__constant" in everything or "read-only" in text else "type"
    if "__bf16" in text and ("loses floating-point precision" in text or re.search(r"'[^']*\bhalf'", text)):
        return "bfloat-conversion"
    if re.search(r"address space|object parameter", everything) or any(
        _differ(m.text) for m in (message, *message.notes)
    ):
        return "address-space"
    if re.search(
        r"undeclared identifier|unknown type name|no (type|member|template) named|no matching .* in name",
        text,
    ):
        return "undeclared"
    if re.search(r"no matching (function|member)|too (few|many) arguments|is ambiguous", text):
        return "call"
    if re.match(r"expected|extraneous|unexpected", text):
        return "syntax"
    return "type"
