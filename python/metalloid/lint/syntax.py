"""The declarations of a file of kernels, as far as the rules need them: no types, no expressions."""

from __future__ import annotations

from dataclasses import dataclass, field

from .tokens import Tokens

SPACES = ("device", "constant", "threadgroup", "thread")
_NOT_CALLED = {
    *("decltype", "alignas", "alignof", "sizeof", "__attribute__", "noexcept", "if", "while", "for"),
    *("switch", "return", "static_assert", "catch", "explicit"),
}
TYPE_WORDS = {
    *("const", "volatile", "unsigned", "signed", "int", "char", "short", "long", "float", "half", "bool"),
    *("void", "auto", "struct", "class", "union", "enum", "typename", "constexpr", "double", *SPACES),
}
# Attributes that C++ or its compilers know.
_KEPT = {"maybe_unused", "nodiscard", "noreturn", "fallthrough", "likely", "unlikely", "deprecated"}


@dataclass
class Attribute:
    name: str
    at: int
    arguments: tuple[int, int] | None  # between the parentheses

    @property
    def kept(self) -> bool:
        return self.name in _KEPT or "::" in self.name


@dataclass
class Parameter:
    begin: int
    end: int
    name_at: int  # -1 if it has none
    attributes: list[Attribute]
    space: str
    pointers: int  # how many `*` and `[]`
    reference: bool


@dataclass
class Declaration:
    """A function, variable or class, at program, namespace or class scope."""

    kind: str  # function, variable, record, instantiation or other
    begin: int
    end: int
    specifiers: int  # after `template <...>`
    name: str = ""
    name_at: int = -1
    record: str = ""  # the class that it is a member of
    template: bool = False
    kernel: bool = False
    attributes: list[Attribute] = field(default_factory=list)
    parameters: tuple[int, int] | None = None  # between the parentheses
    body: tuple[int, int] | None = None  # both braces
    initializer: int = -1

    def attribute(self, name: str) -> Attribute | None:
        return next((a for a in self.attributes if a.name == name), None)


class Syntax:
    """A file's declarations and attributes."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.groups: dict[int, tuple[int, list[Attribute]]] = {}  # of attributes: first token -> end
        self.declarations: list[Declaration] = []
        self._find_attributes()
        self._scope(0, len(tokens), "")

    @property
    def functions(self) -> list[Declaration]:
        return [d for d in self.declarations if d.kind == "function"]

    @property
    def kernels(self) -> list[Declaration]:
        return [d for d in self.functions if d.kernel and not d.record]

    def has_specifier(self, d: Declaration, *words: str) -> bool:
        return any(self.tokens.text(i) in words for i in self._specifiers(d))

    def _specifiers(self, d: Declaration) -> list[int]:
        t, found, i = self.tokens, [], d.specifiers
        while i < (d.name_at if d.name_at >= 0 else d.end):
            if i in self.groups:
                i = self.groups[i][0]
                continue
            if t.text(i) in ("(", "[", "{"):
                i = t.match[i] + 1
                continue
            found.append(i)
            i += 1
        return found

    def result(self, d: Declaration) -> str:
        """The type that a function returns, as written."""
        skip = {"kernel", "inline", "static", "extern", "constexpr", "virtual", "METAL_FUNC"}
        words, t, i = [], self.tokens, d.specifiers
        while i < d.name_at:
            if i in self.groups:
                i = self.groups[i][0]
                continue
            if t.text(i) == "__attribute__":
                i = t.match[i + 1] + 1
                continue
            if t[i].text not in skip and t[i].kind != "string":
                words.append(t[i].text)
            i += 1
        return " ".join(words)

    def parameters(self, d: Declaration) -> list[Parameter]:
        if d.parameters is None:
            return []
        parts = self.tokens.split(*d.parameters)
        return [
            self._parameter(*part)
            for part in parts
            if part[0] < part[1] and self.tokens.source(*part) not in ("void", "...")
        ]

    def _parameter(self, begin: int, end: int) -> Parameter:
        t = self.tokens
        p = Parameter(begin, end, -1, [], "", 0, False)
        last, types, i = -1, 0, begin
        while i < end:
            text = t.text(i)
            if i in self.groups:
                p.attributes += self.groups[i][1]
                i = self.groups[i][0]
                continue
            if text == "=":
                break
            if text == "(":  # `T (&name)[n]`, or the parameters of a function
                for j in range(i + 1, t.match[i]):
                    p.pointers += t.text(j) == "*"
                    p.reference |= t.text(j) == "&"
                    if t.is_word(j) and t.text(j) not in TYPE_WORDS and t.text(i + 1) in ("*", "&"):
                        last = j
                types += 1
                i = t.match[i]
            elif text == "[":
                if t.text(i - 1) != ")":
                    p.pointers += 1
                i = t.match[i]
            elif text == "<":
                if (close := t.angle(i, end)) >= 0:
                    i = close
                types, last = types + 1, -1
            elif t.is_word(i):
                if text in SPACES and not p.space:
                    p.space = text
                if text in TYPE_WORDS:
                    last = -1
                    types += text not in ("const", "volatile", *SPACES)
                else:
                    types += last >= 0
                    last = i
            else:
                p.pointers += text == "*"
                p.reference |= text in ("&", "&&")
                types += last >= 0
                if text != "::":
                    last = -1
            i += 1
        if last >= 0 and types > 0:
            p.name_at = last
        return p

    # --- reading --------------------------------------------------------------------------------------

    def _find_attributes(self) -> None:
        t, i = self.tokens, 0
        while i < len(t):
            if t.text(i) == "[" and t.text(i + 1) == "[" and t.match[i] == t.match[i + 1] + 1:
                end = t.match[i] + 1
                self.groups[i] = (end, [self._attribute(*part) for part in t.split(i + 2, end - 2)])
                i = end
            elif t.text(i) == "coherent" and t.text(i + 1) == "(" and t.match[i + 1] == i + 3:
                # `coherent(device)` says nothing of the type.
                self.groups[i] = (i + 4, [])
                i += 4
            else:
                i += 1

    def _attribute(self, begin: int, end: int) -> Attribute:
        t, name, at = self.tokens, "", begin
        while at < end and t.text(at) != "(":
            name += t[at].text
            at += 1
        return Attribute(name, begin, (at + 1, t.match[at]) if at < end else None)

    def after_attributes(self, i: int) -> int:
        while i in self.groups:
            i = self.groups[i][0]
        return i

    def _attributes(self, begin: int, end: int) -> list[Attribute]:
        """Those of a range that are outside its parentheses."""
        found, i, t = [], begin, self.tokens
        while i < end:
            if i in self.groups:
                found += self.groups[i][1]
                i = self.groups[i][0]
                continue
            i = t.match[i] + 1 if t.text(i) in ("(", "[", "{") else i + 1
        return found

    def _scope(self, begin: int, end: int, record: str) -> None:
        t, i = self.tokens, begin
        while i < end:
            text = t.text(i)
            if t[i].kind == "pragma" or text in (";", "}"):
                i += 1
            elif text in ("public", "private", "protected") and t.text(i + 1) == ":":
                i += 2
            elif not record and (inside := self._namespace(i)) >= 0:
                i = inside
            else:
                i = self._declaration(i, end, record)

    def _namespace(self, i: int) -> int:
        """The token after the '{' of a namespace or linkage specification; -1 where none starts."""
        t = self.tokens
        if t.text(i) == "extern" and i + 2 < len(t) and t[i + 1].kind == "string":
            return i + 3 if t.text(i + 2) == "{" else -1
        if t.text(i) == "inline":
            i += 1
        if t.text(i) != "namespace":
            return -1
        i = self.after_attributes(i + 1)
        while t.is_word(i) or t.text(i) == "::":
            i += 1
        return i + 1 if t.text(i) == "{" else -1

    def _declaration(self, begin: int, limit: int, record: str) -> int:
        """Reads one declaration and gives the token after it."""
        t = self.tokens
        d = Declaration("other", begin, begin, begin, record=record)
        i = self.after_attributes(begin)
        instantiation = False
        while t.text(i) == "template":
            if t.text(i + 1) != "<":
                instantiation = True
                i = self.after_attributes(i + 1)
                break
            close = t.angle(i + 1)
            if close < 0:
                break
            d.template = True
            i = self.after_attributes(close + 1)
        d.specifiers = i
        using = t.text(i) in ("using", "typedef", "friend", "static_assert", "namespace")
        record_at = type_end = last = arguments_end = -1
        assigned = constructor = False
        while i < limit:
            if i in self.groups:
                i = self.groups[i][0]
                continue
            text = t.text(i)
            if t[i].kind == "pragma" or text in (";", "}"):
                break
            if t.is_word(i):
                if not assigned and d.parameters is None:
                    if text in ("struct", "class", "union", "enum") and record_at < 0:
                        record_at = i
                    d.kernel |= text == "kernel"
                    last, arguments_end = i, -1
                    if text == "operator":
                        open_ = i + 3 if t.text(i + 1) == "(" and t.text(i + 2) == ")" else i + 1
                        while open_ < limit and t.text(open_) not in ("(", ";", "{"):
                            open_ += 1
                        arguments_end, i = open_, open_ - 1
            elif text == "<" and t.is_word(i - 1) and not assigned:
                if (close := t.angle(i)) >= 0:
                    i = close
                    if d.parameters is None:
                        arguments_end = close + 1
            elif text == "(":
                # Attributes may stand between a name and its arguments.
                named = last >= 0 and i in map(self.after_attributes, (last + 1, arguments_end))
                named &= t.text(last) not in _NOT_CALLED and not self._declarator(i)
                if named and d.parameters is None and not assigned and type_end < 0 and not using:
                    d.parameters = (i + 1, t.match[i])
                i = t.match[i]
            elif text == "[":
                i = t.match[i]
            elif text == "=":
                if not assigned and d.parameters is None:
                    d.initializer = i
                assigned = True
            elif text == ":" and d.parameters is not None:
                constructor = True
            elif text == "{":
                close = t.match[i]
                if d.parameters is not None and not assigned:
                    if not (constructor and (t.is_word(i - 1) or t.text(i - 1) == ">")):
                        d.body = (i, close)
                        i = close + 1
                        break
                elif record_at >= 0 and not assigned and type_end < 0:
                    d.kind, type_end, d.body = "record", close + 1, (i, close)
                elif not assigned:
                    d.initializer, assigned = i, True
                i = close
            i += 1
        d.end = max(i + 1 if t.text(i) == ";" else i, begin + 1)
        d.attributes = self._attributes(begin, d.parameters[0] - 1 if d.parameters else d.end)
        d.kernel |= any(a.name == "kernel" for a in d.attributes)
        if last >= 0:
            d.name, d.name_at = t[last].text, last
        if instantiation:
            d.kind = "instantiation"
        elif d.kind == "record":
            self._record(d, record_at)
        elif d.parameters is not None:
            d.kind = "function"
        elif d.name_at >= 0 and not using and d.name_at > d.specifiers and d.name not in TYPE_WORDS:
            d.kind = "other" if record_at >= 0 and t.text(record_at + 1) == d.name else "variable"
        self.declarations.append(d)
        return d.end

    def _declarator(self, i: int) -> bool:
        """Whether parentheses hold a declarator, as in `T (*name)[n]`."""
        return self.tokens.text(i + 1) in ("*", "&") and self.tokens.text(self.tokens.match[i] + 1) in (
            "[",
            "(",
        )

    def _record(self, d: Declaration, at: int) -> None:
        t = self.tokens
        assert d.body is not None
        name_at = self.after_attributes(at + 1)
        while t.text(name_at) in ("alignas", "__attribute__"):
            name_at = self.after_attributes(t.match[name_at + 1] + 1)
        name = t.text(name_at) if t.is_word(name_at) else ""
        if t.text(at) != "enum":
            self._scope(d.body[0] + 1, d.body[1], name or "<unnamed>")
        d.name, d.name_at = name, name_at if name else d.body[0]
