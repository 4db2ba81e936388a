"""Kernels rewritten to C++ for OpenCL, token by token, so that every message of clang finds its way back.

The dialects have the same address spaces under other names. What MSL has beyond that is written out: swizzles
as calls, threadgroup variables as references, copies out of `constant` as constructors. Questions that only
the type checker can answer become assertions whose text is the number of a Question.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass

from .syntax import Declaration, Syntax
from .tokens import Token

SPACES = {
    "device": "__global",
    "threadgroup": "__local",
    "constant": "const __constant",  # so that `constexpr constant` is the same type
    "thread": "__private",
}
# Names that are free in MSL and words of OpenCL.
OPENCL = {
    *("global", "local", "generic", "pipe", "read_only", "write_only", "read_write", "event_t", "sampler_t"),
    *("queue_t", "clk_event_t", "reserve_id_t", "ndrange_t", "addrspace_cast", "vec_step", "image1d_t"),
    *("image2d_t", "image3d_t", "atomic_int", "atomic_uint", "atomic_float", "atomic_bool", "atomic_ulong"),
}
RENAMED = "lint_"
# How a loop is compiled is for Metal alone, and the macros in these are no longer defined.
_LOOP_PRAGMA = re.compile(r"#\s*pragma\s+(GCC\s+)?(unroll|nounroll|clang\s+loop)\b.*")
# Literals that are double in C++ and float in MSL.
_UNSUFFIXED = re.compile(r"(?![\d']*$)[\d']*\.?[\d']*([eE][+-]?[\d']+)?|0[xX][\da-fA-F'.]+[pP][+-]?[\d']+")
_ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<="}


@dataclass(frozen=True)
class Question:
    """What is wrong, and where, if an assertion fails."""

    rule: str
    at: int
    message: str


@dataclass(frozen=True)
class Local:
    """A declaration in the body of a function that names an address space or `static`."""

    begin: int
    space: str
    static: bool
    constexpr: bool
    declarators: tuple[
        tuple[int, int, int], ...
    ]  # name, token after it and its dimensions, initializer or -1
    nested: bool


class Rewritten:
    """The text for clang."""

    def __init__(self, text: str, places: list[list[tuple[int, int]]]) -> None:
        self.text = text
        self._places = places

    def token(self, line: int, column: int) -> int:
        """The token that was written to a place of the text."""
        places = self._places[line - 1] if 0 < line <= len(self._places) else []
        at = bisect_right(places, (column, 1 << 60)) - 1
        if places:
            return places[max(at, 0)][1]
        earlier = (row[-1][1] for row in reversed(self._places[: max(line - 1, 0)]) if row)
        return next(earlier, 0)


def is_swizzle(word: str) -> bool:
    return 2 <= len(word) <= 4 and (set(word) <= set("xyzw") or set(word) <= set("rgba"))


def _components(word: str) -> str:
    order = "xyzw" if word[0] in "xyzw" else "rgba"
    return ", ".join(str(order.index(c)) for c in word)


class Rewriter:
    def __init__(self, syntax: Syntax, threadgroup_memory: int) -> None:
        self.syntax, self.tokens = syntax, syntax.tokens
        self.limit = threadgroup_memory
        self.questions: list[Question] = []
        self._instead: dict[int, str] = {}
        self._before: dict[int, list[str]] = defaultdict(list)
        self._after: dict[int, list[str]] = defaultdict(list)
        self._names = 0
        self._specialised: set[str] = set()  # function constants, and what is computed from them

    def ask(self, condition: str, question: Question, at: int) -> None:
        """Asserts a condition in front of a token."""
        self._before[at].append(f'static_assert({condition}, "lint:{len(self.questions)}"); ')
        self.questions.append(question)

    def written(self, at: int) -> str:
        """A name as it is in the text for clang."""
        text = self.tokens[at].text
        return RENAMED + text if text in OPENCL else text

    def run(self) -> Rewritten:
        self._words()
        self._ternaries()
        for d in self.syntax.declarations:
            if d.kind == "record" and self.tokens.text(d.body[0] - 1) != "enum":
                self._record(d)
            elif d.kind == "variable":
                self._variable(d)
            elif d.kind == "function":
                self._function(d)
        self._local_records()
        self._function_pointers()
        return self._emit()

    # --- words ----------------------------------------------------------------------------------------

    def _words(self) -> None:
        t = self.tokens
        for i, (end, attributes) in self.syntax.groups.items():
            if not attributes or not all(a.kept for a in attributes):
                for j in range(i, end):
                    self._instead[j] = ""
        for i, token in enumerate(t.tokens):
            if i in self._instead:
                continue
            if token.kind == "number":
                if token.text.lower().endswith("bf") and not token.text.lower().startswith("0x"):
                    self._instead[i] = token.text[:-2] + "f"
                elif _UNSUFFIXED.fullmatch(token.text):
                    self._instead[i] = token.text + "f"
                continue
            if token.kind != "word":
                continue
            member = t.text(i - 1) in (".", "->")
            if token.text in SPACES and not member:
                self._instead[i] = SPACES[token.text]
            elif token.text == "kernel":
                self._instead[i] = ""
            elif token.text == "double":
                self._instead[i] = "float"
                if t.text(i - 1) == "long":
                    self._instead[i - 1] = ""
            elif token.text in OPENCL:
                self._instead[i] = RENAMED + token.text
            elif member and is_swizzle(token.text) and t.text(i + 1) != "(":
                following = t.text(i + 1)
                assigned = following in _ASSIGNMENTS or (following == ">" and t.text(i + 2) == ">=")
                self._instead[i] = (
                    f"sw{'_ref' * assigned}(::metal::lint_swizzle<{_components(token.text)}>())"
                )

    def _ternaries(self) -> None:
        t = self.tokens
        arguments = self._in_template_arguments()
        for i in range(len(t)):
            if t.text(i) != "?":
                continue
            colon = self._colon(i + 1)
            end = self._operand_end(colon + 1) if colon > 0 else -1
            if end < 0 or self._is_lvalue(i, end) or i in arguments:
                continue
            for begin, stop in ((i + 1, colon), (colon + 1, end)):
                if stop - begin == 1 and (t[begin].kind != "word" or t.text(begin) in ("true", "false")):
                    continue
                self._before[begin].insert(0, "::lint::value(")
                self._after[stop - 1].append(")")

    def _in_template_arguments(self) -> set[int]:
        """The '?' that are in a list of template arguments, and in no parentheses there."""
        t, found = self.tokens, set()
        for i in range(1, len(t)):
            if t.text(i) == "<" and t.is_word(i - 1) and (close := t.angle(i)) >= 0:
                j = i + 1
                while j < close:
                    if t.text(j) == "?":
                        found.add(j)
                    j = t.match[j] + 1 if t.text(j) in ("(", "[", "{") else j + 1
        return found

    def _colon(self, i: int) -> int:
        depth, t = 0, self.tokens
        while i < len(t):
            text = t.text(i)
            if text == "?":
                depth += 1
            elif text == ":":
                if depth == 0:
                    return i
                depth -= 1
            elif text in ("(", "[", "{"):
                i = t.match[i]
            elif text in (")", "]", "}", ";"):
                return -1
            i += 1
        return -1

    def _operand_end(self, i: int) -> int:
        t, begin, depth = self.tokens, i, 0
        while i < len(t):
            text = t.text(i)
            if text in ("(", "[", "{"):
                i = t.match[i]
            elif text == "<" and t.is_word(i - 1) and (close := t.angle(i)) >= 0:
                i = close
            elif text == "?":
                depth += 1
            elif text == ":" and depth:
                depth -= 1
            elif text in (",", ";", ")", "]", "}", ":") or t[i].kind == "pragma":
                break
            i += 1
        return i if i > begin else -1

    def _is_lvalue(self, i: int, end: int) -> bool:
        """Whether the conditional that ends at `end` is assigned to or has its address taken."""
        t = self.tokens
        if t.text(end) != ")":
            return False
        open_ = t.match[end]
        return open_ < i and (t.text(end + 1) in _ASSIGNMENTS or t.text(open_ - 1) == "&")

    # --- classes and variables ------------------------------------------------------------------------

    def _record(self, d: Declaration) -> None:
        t, (open_, close) = self.tokens, d.body
        head = next(
            i for i in range(d.specifiers, open_) if t.text(i) in ("struct", "class", "union", "enum")
        )
        if t.text(head) == "enum":
            return
        self._class(head, open_, close)

    def _local_records(self) -> None:
        """Classes in functions, or in the declaration of a variable."""
        t = self.tokens
        seen = {d.body[0] for d in self.syntax.declarations if d.kind == "record" and d.body}
        for i in range(len(t)):
            if t.text(i) not in ("struct", "class", "union") or t.text(i - 1) in ("enum", "<", ","):
                continue
            if (open_ := self._body(i)) >= 0 and open_ not in seen:
                self._class(i, open_, t.match[open_], local=True)

    def _body(self, head: int) -> int:
        """The '{' of the class that starts with the word at `head`; -1 where it has none."""
        t, i = self.tokens, self.syntax.after_attributes(head + 1)
        while t.text(i) in ("alignas", "__attribute__"):
            i = self.syntax.after_attributes(t.match[i + 1] + 1)
        while t.is_word(i) or t.text(i) in ("::", ":", ","):
            i += 1
        return i if t.text(i) == "{" else -1

    def _class(self, head: int, open_: int, close: int, local: bool = False) -> None:
        """Gives a class what it needs to be copied out of `constant`, and accessors to members like `xy`."""
        t = self.tokens
        name_at = self.syntax.after_attributes(head + 1)
        while t.text(name_at) in ("alignas", "__attribute__"):
            name_at = self.syntax.after_attributes(t.match[name_at + 1] + 1)
        name = t.text(name_at) if t.is_word(name_at) else ""
        if not name:
            if t.text(close + 1) == ";":
                return  # its members are those of the class around it
            self._names += 1
            name = f"{RENAMED}unnamed{self._names}"
            self._before[open_].append(f" {name} ")
        constructor = copy = assignment = opaque = False
        members: dict[str, None] = {}
        i = open_ + 1
        while i < close:
            text = t.text(i)
            if text == name and t.text(i + 1) == "(" and t.text(i - 1) not in ("~", ".", "->", "return", "="):
                constructor = True
                inside = [t.text(j) for j in range(i + 2, t.match[i + 1])]
                copy |= name in inside and "&" in inside and "," not in inside
                j = t.match[i + 1] + 1
                while t.text(j) in SPACES:
                    # One is for all others here.
                    self._instead[j] = "__constant" if t.text(j) == "constant" else ""
                    j += 1
            elif text == "operator" and t.text(i + 1) == "=":
                assignment = True
            if text in ("(", "[") or (text == "{" and t.text(i - 1) in (")", "const", *SPACES)):
                i = t.match[i]
            elif text in ("struct", "class", "union") and (inner := self._body(i)) >= 0:
                if inner > i + 1 or t.text(t.match[inner] + 1) != ";":
                    i = t.match[inner]
                else:  # its members are this class's own
                    opaque, i = True, inner
            elif t.is_word(i) and is_swizzle(text) and t.text(i + 1) in (";", ",", "[", "=", "{", ":"):
                members[text] = None
            i += 1
        added = [] if constructor else [f"{name}() = default;"]
        if not copy:
            added.append(f"LINT_{'OPAQUE' if opaque else 'COPY'}_CONSTRUCTORS({name})")
        if not assignment:
            added.append(f"LINT_{'LOCAL_' * local}ASSIGNMENTS({name})")
        for member in members:
            which = f"::metal::lint_swizzle<{_components(member)}>"
            for space in ("__private", "__global", "__local", "__constant"):
                kind = f"{space} decltype({member})&"
                added.append(f"const {kind} sw({which}) const {space}& {{ return {member}; }}")
                if space != "__constant":
                    added.append(f"{kind} sw({which}) {space}& {{ return {member}; }}")
                    added.append(f"{kind} sw_ref({which}) {space}& {{ return {member}; }}")
            added.append(f"decltype({member}) sw({which}) && {{ return {member}; }}")
        access = " public:" if t.text(head) == "class" else ""
        self._before[close].append(f"{access} {' '.join(added)} ")

    def _variable(self, d: Declaration) -> None:
        """Program-scope variables are initialised in OpenCL; function constants are not in MSL."""
        t = self.tokens
        words = {t.text(i) for i in range(d.initializer, d.end)} if d.initializer >= 0 else set()
        if d.attribute("function_constant") or words & self._specialised:
            # Computed when a pipeline is made; what is `constexpr` to Metal is no constant here.
            self._specialised.add(d.name)
            for i in range(d.specifiers, d.name_at):
                if t.text(i) == "constexpr":
                    self._instead[i] = ""
        if not self.syntax.has_specifier(d, "constant"):
            if self.syntax.has_specifier(d, "static", "constexpr") or not d.record:
                self._before[d.specifiers].append("__constant ")
        elif d.initializer < 0 and t.text(d.end - 1) == ";":
            if d.record and self.syntax.has_specifier(d, "static"):
                self._before[d.specifiers].append("inline ")
                self._before[d.end - 1].append(" = {}")
            elif not d.record and d.attribute("function_constant"):
                if not self.syntax.has_specifier(d, "const"):
                    self._before[d.specifiers].append("const ")
                self._before[d.end - 1].append(" = ::lint::unknown")
        if d.attribute("function_constant"):
            self._after[d.end - 1].append(" ")
            end = d.end
            if end < len(t):
                self.ask(
                    f"::lint::is_function_constant<decltype({d.name})>()",
                    Question(
                        "function-constant-type",
                        d.name_at,
                        f"function constant '{d.name}' needs a scalar or vector type",
                    ),
                    end,
                )

    # --- functions ------------------------------------------------------------------------------------

    def locals(self, d: Declaration) -> list[Local]:
        t, found = self.tokens, []
        assert d.body is not None
        i, open_ = d.body[0] + 1, [d.body[0]]
        start = True
        while i < d.body[1]:
            text = t.text(i)
            if start and (local := self._local(i, len(open_) > 1)):
                found.append(local)
            start = text in (";", "{", "}") or t[i].kind == "pragma"
            if text == ")":
                start = t.text(t.match[i] - 1) in ("if", "while", "for", "switch")
            elif text == "(":
                start = t.text(i - 1) == "for"
            elif text == "{":
                open_.append(i)
            elif text == "}":
                open_.pop()
            i += 1
        return found

    def _local(self, i: int, nested: bool) -> Local | None:
        t, begin = self.tokens, i
        space, static, constexpr = "", False, False
        i = self.syntax.after_attributes(i)
        while t.text(i) in ("const", "volatile", "static", "constexpr", "alignas", *SPACES):
            space = t.text(i) if t.text(i) in SPACES else space
            static |= t.text(i) == "static"
            constexpr |= t.text(i) == "constexpr"
            i = t.match[i + 1] + 1 if t.text(i) == "alignas" else i + 1
        if not (space or static):
            # `float threadgroup x[4]`
            j = i
            while t.is_word(j) or t.text(j) == "::":
                if t.text(j) in SPACES and j > i:
                    space = t.text(j)
                j += 1
            if not space:
                return None
        name, declarators = -1, []
        while i < len(t):
            text = t.text(i)
            if i in self.syntax.groups:
                i = self.syntax.groups[i][0]
                continue
            if text in SPACES or t.is_word(i):
                if text in ("alignas", "decltype", "__attribute__") and t.text(i + 1) == "(":
                    i = t.match[i + 1] + 1
                    continue
                name = i
            elif text == "<" and (close := t.angle(i)) >= 0:
                i = close
            elif text == "{" and {t.text(i - 1), t.text(i - 2)} & {"struct", "union"}:
                i = t.match[i]
            elif text == "::":
                pass
            elif text in ("[", ";", ",", "=", "{"):
                end, initializer = i, -1
                while t.text(end) == "[":
                    end = t.match[end] + 1
                i = end
                if t.text(i) in ("=", "{"):
                    initializer = i
                    while i < len(t) and t.text(i) not in (",", ";"):
                        i = t.match[i] + 1 if t.text(i) in ("(", "[", "{") else i + 1
                if name < 0:
                    return None
                declarators.append((name, end, initializer))
                if t.text(i) != ",":
                    break
                name = -1
            else:  # a pointer, a reference, or no declaration
                return (
                    None
                    if not declarators
                    else Local(begin, space, static, constexpr, tuple(declarators), nested)
                )
            i += 1
        return Local(begin, space, static, constexpr, tuple(declarators), nested) if declarators else None

    def _function(self, d: Declaration) -> None:
        t = self.tokens
        for p in self.syntax.parameters(d):
            words = [t.text(i) for i in range(p.begin, p.end)]
            if p.reference and p.space == "thread" and "const" in words and not {"*", "("} & set(words):
                # Temporaries, which have no address space in OpenCL, are bound to these.
                self._instead[p.begin + words.index("thread")] = ""
        if d.record and d.name == d.record:
            assert d.parameters is not None
            after = [t.text(i) for i in range(d.parameters[1] + 1, d.body[0] if d.body else d.end)]
            if after and after[0] in ("device", "threadgroup"):
                for i in range(d.begin, d.end):  # the one without a space is for these too
                    self._instead[i] = ""
                return
        method = d.record and d.name != d.record and not self.syntax.has_specifier(d, "static", "friend")
        if method and d.parameters:
            i = d.parameters[1]
            while t.text(i + 1) in ("const", "volatile"):
                i += 1
            if t.text(i + 1) not in (*SPACES, "&", "&&"):  # Metal's `this` is the thread's own unless told
                self._after[i].append(" __private")
        if d.body is None:
            return
        sizes: list[str] = []
        first = -1
        for local in self.locals(d):
            if local.space == "threadgroup":
                for i in range(local.begin, local.declarators[0][0]):
                    if t.text(i) == "alignas":  # of what is a reference here
                        for j in range(i, t.match[i + 1] + 1):
                            self._instead[j] = ""
                for name, end, initializer in local.declarators:
                    self._before[name].append("(&")
                    self._after[name].append(")")
                    if initializer < 0:
                        self._after[end - 1].append(" = ::lint::threadgroup")
                    first = name if first < 0 else first
                    if not local.nested:
                        sizes.append(f"sizeof({self.written(name)})")
        if sizes and d.kernel:
            self.ask(
                f"({' + '.join(sizes)}) <= {self.limit}",
                Question(
                    "threadgroup-memory",
                    first,
                    f"the threadgroup variables of kernel '{d.name}' take more than {self.limit} bytes",
                ),
                d.body[1],
            )

    def _function_pointers(self) -> None:
        t = self.tokens
        inside = {i for d in self.syntax.functions if d.parameters for i in range(*d.parameters)}
        for i in range(len(t)):
            if not (t.text(i) == "(" and t.text(i + 1) == "*" and t.text(t.match[i] + 1) == "("):
                continue
            close = t.match[i]
            named = close == i + 3 and t.is_word(i + 2)
            if close != i + 2 and not named:
                continue
            arguments = t.match[close + 1]
            begin = i
            while begin > 0 and (t.is_word(begin - 1) or t.text(begin - 1) in ("::", "*", "&")):
                begin -= 1
            if t.text(begin) in ("return", "typedef", "static", "constexpr", "const"):
                begin += 1
            if begin == i:
                continue
            template = t.text(begin - 1) in ("<", ",") and i not in inside
            for j in (i, i + 1, *([i + 2] if named and not template else []), close):
                self._instead[j] = ""
            if not template:  # a parameter of a template is adjusted to a pointer by itself
                self._before[begin].append("::lint::pointer_to<")
                self._after[arguments].append(f"> {t[i + 2].text}" if named else ">")

    # --- the text -------------------------------------------------------------------------------------

    def _emit(self) -> Rewritten:
        rows: list[str] = []
        places: list[list[tuple[int, int]]] = []
        row, place = "", []
        previous: Token | None = None
        for i, token in enumerate(self.tokens.tokens):
            if previous is not None and token.order != previous.order:
                rows.append(row)
                places.append(place)
                row, place = "", []
            elif token.spaced:
                row += " "
            previous = token
            for text in self._before.get(i, ()):
                place.append((len(row.encode()) + 1, i))
                row += text
            place.append((len(row.encode()) + 1, i))
            if not (token.kind == "pragma" and _LOOP_PRAGMA.match(token.text)):
                row += self._instead.get(i, token.text)
            for text in self._after.get(i, ()):
                row += text
        rows.append(row)
        places.append(place)
        return Rewritten("\n".join(rows) + "\n", places)
