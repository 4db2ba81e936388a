"""Preprocessed Metal Shading Language as tokens that know where in the user's files they come from."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

_TOKEN = re.compile(
    r"""(?P<newline>\n)
    |(?P<space>[ \t\f\v\r]+)
    |(?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*")
    |(?P<character>(?:u8|[uUL])?'(?:\\.|[^'\\\n])*')
    |(?P<number>\.?\d(?:[eEpP][+-]|'\w|[\w.])*)
    |(?P<word>[A-Za-z_$][\w$]*)
    |(?P<punctuator>::|->\*|->|\+\+|--|<<=|>>=|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\.\.\.|<<|.)""",
    re.VERBOSE | re.DOTALL,
)
_MARKER = re.compile(r'#(?:line)? (\d+)(?: "((?:\\.|[^"\\])*)")?')
_PARTNER = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class Token:
    text: str
    kind: str
    file: str
    line: int
    order: int  # of its line in the preprocessed text
    spaced: bool  # there is white space before it


class Unbalanced(Exception):
    """A bracket without its partner."""

    def __init__(self, tokens: Tokens, at: int, message: str) -> None:
        super().__init__(message)
        self.tokens, self.at = tokens, at


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(errors="replace").split("\n")
    except OSError:
        return []


class Tokens:
    """The tokens of a file, its brackets matched."""

    def __init__(self, text: str, file: str) -> None:
        self.tokens = _lex(text, file)
        self._files: dict[str, list[str]] = {}  # read for columns alone
        self._firsts = [i for i, t in enumerate(self.tokens) if i == 0 or t.order != self.tokens[i - 1].order]
        self.match = self._brackets()

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, i: int) -> Token:
        return self.tokens[i]

    def text(self, i: int) -> str:
        """The text of a token; '' beyond the ends and for strings, which no syntax depends on."""
        if not 0 <= i < len(self.tokens) or self.tokens[i].kind in ("string", "character"):
            return ""
        return self.tokens[i].text

    def is_word(self, i: int) -> bool:
        return 0 <= i < len(self.tokens) and self.tokens[i].kind == "word"

    def source(self, begin: int, end: int) -> str:
        """A range as written, white space as single spaces."""
        parts = []
        for i in range(begin, end):
            parts.append((" " if parts and self.tokens[i].spaced else "") + self.tokens[i].text)
        return "".join(parts)

    def angle(self, i: int, end: int | None = None) -> int:
        """The '>' that closes the '<' at i; -1 where that is no list of template arguments."""
        depth, end = 0, min(i + 4096, len(self) if end is None else end)
        while i < end:
            text = self.text(i)
            if text == "<":
                depth += 1
            elif text == ">":
                depth -= 1
                if depth == 0:
                    return i
            elif text in ("(", "["):
                i = self.match[i]
            elif text in ("{", "}", ")", "]", ";", "||") or self.tokens[i].kind == "pragma":
                return -1
            i += 1
        return -1

    def split(self, begin: int, end: int) -> list[tuple[int, int]]:
        """The parts of a range between commas that are outside all brackets."""
        parts, start, i = [], begin, begin
        while i < end:
            text = self.text(i)
            if text == ",":
                parts.append((start, i))
                start = i + 1
            elif text in ("(", "[", "{"):
                i = self.match[i]
            elif text == "<" and self.is_word(i - 1) and (close := self.angle(i, end)) >= 0:
                i = close
            i += 1
        if start < end or parts:
            parts.append((start, end))
        return parts

    def column(self, at: int) -> int:
        """The column of a token in its file, from 1. What a macro expands to has that of the macro."""
        first = self._firsts[bisect_right(self._firsts, at) - 1]
        token = self.tokens[at]
        if token.file not in self._files:
            self._files[token.file] = _lines(token.file)
        lines = self._files[token.file]
        line = lines[token.line - 1] if 0 < token.line <= len(lines) else ""
        cursor = column = len(line) - len(line.lstrip())
        for i in range(first, at + 1):
            text = self.tokens[i].text
            found = _find(line, text, cursor)
            if found >= 0:
                column, cursor = found, found + len(text)
        return column + 1

    def _brackets(self) -> list[int]:
        match, open_ = [-1] * len(self.tokens), []
        for i, token in enumerate(self.tokens):
            if token.kind != "punctuator":
                continue
            if token.text in "([{":
                open_.append(i)
            elif token.text in _PARTNER:
                if not open_ or self.tokens[open_[-1]].text != _PARTNER[token.text]:
                    raise Unbalanced(self, i, f"'{token.text}' without a matching '{_PARTNER[token.text]}'")
                match[i] = open_[-1]
                match[open_.pop()] = i
        if open_:
            raise Unbalanced(self, open_[-1], f"'{self.tokens[open_[-1]].text}' is never closed")
        return match


def _find(line: str, text: str, start: int) -> int:
    """Where a token is written in a line from `start` on, not as a part of a longer word."""
    word = bool(re.match(r"\w", text))
    while (found := line.find(text, start)) >= 0:
        before = line[found - 1] if found else " "
        after = line[found + len(text)] if found + len(text) < len(line) else " "
        if not word or not (re.match(r"\w", before) or re.match(r"\w", after)):
            return found
        start = found + 1
    return -1


def _lex(text: str, file: str) -> list[Token]:
    tokens: list[Token] = []
    line, order = 1, 0
    for row in text.split("\n"):
        order += 1
        if row.startswith("#"):
            marker = _MARKER.match(row)
            if marker:
                line = int(marker[1])
                if marker[2] is not None:
                    file = re.sub(r"\\(.)", r"\1", marker[2])
            else:  # a pragma
                tokens.append(Token(row, "pragma", file, line, order, False))
                line += 1
            continue
        spaced = False
        for match in _TOKEN.finditer(row):
            kind = match.lastgroup or ""
            if kind == "space":
                spaced = True
                continue
            tokens.append(Token(match[0], kind, file, line, order, spaced))
            spaced = False
        line += 1
    return tokens
