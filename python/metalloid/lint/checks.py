"""The rules that a file's declarations and words decide, without types."""

from __future__ import annotations

import ast
import difflib
import itertools
import operator
import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from .clang import INCLUDE
from .rewrite import Local, Question, Rewriter
from .rules import (
    ATTRIBUTES,
    BUILTINS,
    INDICES,
    KERNEL_ATTRIBUTES,
    LOCATIONS,
    OTHER_ATTRIBUTES,
    OTHER_TYPES,
    POSITIONS,
    SINCE,
    Family,
)
from .syntax import SPACES, Attribute, Declaration, Parameter, Syntax

_NUMBERS = r"bool|char|uchar|short|ushort|int|uint|long|ulong|half|float|bfloat"
_PLAIN_TYPE = re.compile(rf"(packed_)?({_NUMBERS})[234]?|(u?int(8|16|32|64)|size|ptrdiff)_t|void")
_ATOMIC = {"int", "uint", "bool", "ulong", "float", "int32_t", "uint32_t", "uint64_t"}

_WORDS = {
    "virtual": ("virtual", "virtual functions are not supported"),
    "try": ("exception", "exceptions are not supported"),
    "throw": ("exception", "exceptions are not supported"),
    "dynamic_cast": ("rtti", "dynamic_cast is not supported"),
    "typeid": ("rtti", "typeid is not supported"),
    "new": ("new-delete", "memory cannot be allocated: new is not supported"),
    "delete": ("new-delete", "memory cannot be allocated: delete is not supported"),
    "goto": ("goto", "goto is not supported"),
    "thread_local": ("storage-class", "thread_local is not supported"),
    "register": ("storage-class", "register is not supported"),
    "asm": ("assembly", "inline assembly is not supported"),
    "__asm__": ("assembly", "inline assembly is not supported"),
}

Report = Callable[[str, int, str], None]  # rule, token, message


@lru_cache(maxsize=1)
def library_names() -> frozenset[str]:
    """The words of the lint's metal_stdlib."""
    text = "".join((INCLUDE / name).read_text() for name in ("lint_types.h", "lint_functions.h"))
    return frozenset(re.findall(r"\w+", text))


class Checker:
    def __init__(
        self, syntax: Syntax, rewriter: Rewriter, family: Family, version: tuple[int, int], report: Report
    ) -> None:
        self.syntax, self.tokens, self.rewriter = syntax, syntax.tokens, rewriter
        self.family, self.version, self.report = family, version, report
        self._other_types: list[int] = []  # tokens that are types which are not linted

    def run(self) -> None:
        self._unsupported()
        self._words()
        self._attributes()
        for d in self.syntax.declarations:
            if d.kind == "function":
                self._function(d)
            elif d.kind == "variable":
                self._variable(d)
        self._host_names()
        self._function_constants()
        self._kernel_calls()
        self._recursion()

    def is_linted(self, begin: int, end: int) -> bool:
        """Whether a range names none of the types that are not."""
        return not any(begin <= i < end for i in self._other_types)

    # --- types beyond kernels on buffers --------------------------------------------------------------

    def _unsupported(self) -> None:
        t = self.tokens
        # All but the words that the file declares itself, or uses for variables.
        free = {word for word in {token.text for token in t.tokens} if OTHER_TYPES.fullmatch(word)}
        uses = [i for i in range(len(t)) if t.text(i) in free] if free else []
        free -= {t.text(i) for i in uses if self._is_variable(i) or self._is_declared(i)}
        aliases = [
            d
            for d in self.syntax.declarations
            if t.text(d.specifiers) in ("using", "typedef") and t.text(d.specifiers + 1) != "namespace"
        ]
        free -= {d.name for d in aliases}
        self._other_types = [i for i in uses if t.text(i) in free and self._is_type(i)]
        if names := {d.name for d in aliases if not self.is_linted(d.begin, d.end)}:
            self._other_types += [i for i in range(len(t)) if t.text(i) in names]
        for i in self._other_types:
            self.report(
                "unsupported", i, f"'{t.text(i)}' is beyond kernels on buffers, which is what is linted"
            )

    def _is_declared(self, i: int) -> bool:
        """Whether a word becomes a type or a namespace."""
        t = self.tokens
        before = t.text(i - 1)
        return before in ("struct", "class", "union", "enum", "typename") or (
            before == "namespace" and t.text(i + 1) == "{"
        )

    def _is_type(self, i: int) -> bool:
        """Whether a word that is free for other uses stands where a type or a namespace does."""
        t = self.tokens
        if not t.is_word(i) or t.text(i - 1) in (".", "->"):
            return False
        if t.text(i + 1) == "<":
            return t.angle(i + 1) >= 0 and (t.is_word(i + 2) or t.text(i + 2) == ">")
        if t.text(i + 1) == "::" or "namespace" in (t.text(i - 1), t.text(i - 3)):
            return True
        qualifiers = ("const", "constexpr", "static", *SPACES)
        declares = t.is_word(i + 1) and t.text(i + 1) not in ("and", "or", "xor", "bitand", "bitor", "not_eq")
        refers = t.text(i + 1) in ("&", "*") and t.text(i - 1) in qualifiers
        aliases = t.text(i - 1) == "=" and t.text(i - 3) == "using"
        after_type = t.is_word(i - 1) and t.text(i - 1) not in qualifiers
        return aliases or refers or (declares and not after_type)

    def _is_variable(self, i: int) -> bool:
        """Whether a word is declared as a variable, or used as one."""
        t = self.tokens
        after = t.is_word(i - 1) or t.text(i - 1) in ("*", "&", ">")
        after &= t.text(i - 1) not in ("namespace", "const", *SPACES)
        return t.is_word(i) and after and t.text(i + 1) in ("=", ";", ",", ")", "[", "{")

    # --- words ----------------------------------------------------------------------------------------

    def _words(self) -> None:
        t = self.tokens
        for i in range(len(t)):
            if not t.is_word(i) or t.text(i - 1) in (".", "->"):
                continue
            word = t.text(i)
            if word in _WORDS and not (word == "delete" and t.text(i - 1) == "="):
                self.report(_WORDS[word][0], i, _WORDS[word][1])
            elif word == "double":
                name = "long double" if t.text(i - 1) == "long" else "double"
                self.report("double", i, f"{name} is not supported; needs float")
            elif word == "long" and t.text(i + 1) == "long":
                self.report("long-long", i, "long long is not supported; long has 64 bits")
            elif word == "atomic" and t.text(i + 1) == "<" and (close := t.angle(i + 1)) >= 0:
                of = t.source(i + 2, close)
                if _PLAIN_TYPE.fullmatch(of) and of not in _ATOMIC:
                    self.report("atomic-type", i, f"atomic<{of}>; needs int, uint, bool, ulong or float")
            elif word == "std" and t.text(i + 1) == "::":
                self.report(
                    "std-namespace", i, f"there is no namespace std; metal may have '{t.text(i + 2)}'"
                )
            if word == "coherent" and i not in self.syntax.groups:
                continue
            for pattern, version in SINCE:
                if re.fullmatch(pattern, word) and self.version < tuple(map(int, version.split("."))):
                    mine = ".".join(map(str, self.version))
                    self.report("language-version", i, f"'{word}' came with Metal {version}; this is {mine}")

    # --- attributes -----------------------------------------------------------------------------------

    def _attributes(self) -> None:
        allowed = set()
        for d in self.syntax.declarations:
            of_kernel = d.kernel or d.kind == "instantiation"
            for a in d.attributes:
                if (a.name in KERNEL_ATTRIBUTES and of_kernel) or (
                    a.name == "function_constant" and d.kind == "variable" and not d.record
                ):
                    allowed.add(a.at)
            if d.parameters:
                for p in self.syntax.parameters(d):
                    # Functions that a kernel hands its arguments on to may repeat what they hold.
                    allowed |= {a.at for a in p.attributes if a.name not in KERNEL_ATTRIBUTES}
        for i in range(len(self.tokens)):
            # So may the type of a kernel, which instantiations are declared with.
            if self.tokens.text(i) in ("typedef", "using"):
                allowed |= {a.at for a in self._of_arguments(i) if a.name not in KERNEL_ATTRIBUTES}
        for _, attributes in self.syntax.groups.values():
            for a in attributes:
                if a.kept:
                    continue
                if a.name == "id":
                    what = (
                        "argument buffers with [[id]] are not supported by metalloid; a struct of pointers is"
                    )
                    self.report("unsupported", a.at, what)
                elif a.name == "required_threads_per_threadgroup":
                    what = "a kernel takes any threadgroup size up to its maximum"
                    self.report("unsupported", a.at, f"[[{a.name}]] is not supported by metalloid: {what}")
                elif a.name in OTHER_ATTRIBUTES:
                    self.report("unsupported", a.at, f"[[{a.name}]] is beyond kernels on buffers")
                elif a.name not in ATTRIBUTES:
                    near = difflib.get_close_matches(a.name, ATTRIBUTES, 1, 0.7)
                    hint = f"; is [[{near[0]}]] meant?" if near else ""
                    self.report("attribute-unknown", a.at, f"unknown attribute [[{a.name}]]{hint}")
                elif a.at not in allowed:
                    place = "a kernel" if a.name in KERNEL_ATTRIBUTES else "an argument of a kernel"
                    if a.name == "function_constant":
                        place += " or a program-scope constant"
                    self.report(
                        "attribute-place", a.at, f"[[{a.name}]] has no meaning here: it belongs to {place}"
                    )

    def _of_arguments(self, i: int) -> Iterator[Attribute]:
        """The attributes in the parentheses of the declaration at i."""
        t, depth = self.tokens, 0
        while i < len(t) and (depth or t.text(i) not in (";", "{", "}")):
            depth += (t.text(i) == "(") - (t.text(i) == ")")
            if i in self.syntax.groups:
                i, attributes = self.syntax.groups[i]
                yield from attributes if depth else ()
            else:
                i += 1

    def _index(self, a: Attribute, rule: str, last: int) -> int | None:
        """The index that an attribute gives; None where it has none or it cannot be told."""
        if a.arguments is None or a.arguments[0] == a.arguments[1]:
            self.report("attribute-index", a.at, f"[[{a.name}]] needs an index")
            return None
        index = self._value(self.tokens.source(*a.arguments))
        if index is not None and not 0 <= index <= last:
            self.report(rule, a.at, f"[[{a.name}({index})]] is out of range, needs 0 to {last}")
            return None
        return index

    def _value(self, text: str) -> int | None:
        """The value of an expression of literals."""
        operators = {
            ast.Add: operator.add,
            ast.Sub: operator.sub,
            ast.Mult: operator.mul,
            ast.USub: operator.neg,
        }

        def value(node: ast.expr) -> int:
            if isinstance(node, ast.Constant) and isinstance(node.value, int):
                return node.value
            if isinstance(node, ast.BinOp):
                return operators[type(node.op)](value(node.left), value(node.right))
            if isinstance(node, ast.UnaryOp):
                return operators[type(node.op)](value(node.operand))
            raise ValueError(text)

        try:
            return value(
                ast.parse(re.sub(r"\b(\d+|0[xX][\da-fA-F]+)[uUlL]+\b", r"\1", text), mode="eval").body
            )
        except (SyntaxError, ValueError, KeyError, MemoryError, RecursionError):
            return None

    # --- functions ------------------------------------------------------------------------------------

    def _function(self, d: Declaration) -> None:
        t = self.tokens
        assert d.parameters is not None
        if t.text(d.parameters[1] - 1) == "..." and t.text(d.parameters[1] - 2) in (",", "(", ")"):
            self.report(
                "variadic", d.parameters[1] - 1, f"function '{d.name}' takes any arguments; needs types"
            )
        if d.kernel:
            self._kernel(d)
        elif d.name != "operator":
            for p in self.syntax.parameters(d):
                points = {t.text(i) for i in range(p.begin, p.end)} & {"*", "&"}
                if points and not p.space and not self._is_function_pointer(p):
                    self.report(
                        "pointer-space",
                        p.begin,
                        f"argument '{self._name(p)}' of function '{d.name}' is a pointer or reference; "
                        "needs device, constant, threadgroup or thread",
                    )
        if d.body:
            for local in self.rewriter.locals(d):
                self._local(d, local)
            self._pointers(d.body[0] + 1, d.body[1])

    def _name(self, p: Parameter) -> str:
        return self.tokens[p.name_at].text if p.name_at >= 0 else self.tokens.source(p.begin, p.end)

    def _is_function_pointer(self, p: Parameter) -> bool:
        t = self.tokens
        words = [t.text(i) for i in range(p.begin, p.end)]
        return "&&" in words or any(
            a == "(" and b in ("*", "&") and t.text(t.match[p.begin + i] + 1) == "("
            for i, (a, b) in enumerate(itertools.pairwise(words))
        )

    def _kernel(self, d: Declaration) -> None:
        result = self.syntax.result(d)
        if result != "void":
            self.report(
                "kernel-result", d.name_at, f"kernel '{d.name}' returns {result}, needs to return void"
            )
        if d.name == "main":
            self.report("kernel-name", d.name_at, "a kernel cannot be called main")
        if d.record:
            self.report("kernel-member", d.name_at, f"kernel '{d.name}' is a member of '{d.record}'")
        if a := d.attribute("max_total_threads_per_threadgroup"):
            most = self.family.threads_per_threadgroup
            value = self._value(self.tokens.source(*a.arguments)) if a.arguments else None
            if a.arguments is None or (value is not None and not 1 <= value <= most):
                self.report("max-threads", a.at, f"[[{a.name}]] needs a number from 1 to {most}")
        used: dict[str, dict[int, str]] = {"buffer": {}, "threadgroup": {}}
        buffers = 0
        for p in self.syntax.parameters(d):
            buffers += (p.pointers > 0 or p.reference) and p.space in ("device", "constant")
            if self._argument(d, p):
                for a in p.attributes:
                    if a.name in LOCATIONS:
                        self._location(d, p, a, used[a.name])
        if buffers > self.family.buffers:
            self.report(
                "buffer-count",
                d.name_at,
                f"kernel '{d.name}' has {buffers} buffers, needs at most {self.family.buffers}",
            )

    def _location(self, d: Declaration, p: Parameter, a: Attribute, used: dict[int, str]) -> None:
        last = (self.family.buffers if a.name == "buffer" else self.family.threadgroup_arguments) - 1
        index = self._index(a, f"{a.name}-range", last)
        if index is None:
            return
        if index in used:
            self.report(
                f"{a.name}-duplicate",
                a.at,
                f"arguments '{used[index]}' and '{self._name(p)}' of kernel '{d.name}' "
                f"both have [[{a.name}({index})]]",
            )
        used.setdefault(index, self._name(p))

    def _argument(self, d: Declaration, p: Parameter) -> bool:
        """Checks what an argument is; False if what its attributes say is of no use."""
        t = self.tokens
        if not self.is_linted(p.begin, p.end):
            return False
        name = f"argument '{self._name(p)}' of kernel '{d.name}'"
        holds = [a for a in p.attributes if a.name in BUILTINS or a.name in LOCATIONS]
        at = p.name_at if p.name_at >= 0 else p.begin
        if len(holds) > 1:
            names = " and ".join(f"[[{a.name}]]" for a in holds)
            self.report("attribute-conflict", holds[1].at, f"{name} has {names}, needs one of them")
            return False
        unknown = any(not a.kept and a.name not in ATTRIBUTES for a in p.attributes)
        if p.pointers or p.reference:
            if holds and holds[0].name in BUILTINS:
                self.report("builtin-type", holds[0].at, f"{name} is a pointer or reference; needs a value")
            elif not p.space:
                self.report("argument-space", at, f"{name} needs device, constant or threadgroup")
            elif p.space == "thread":
                self.report(
                    "argument-space", at, f"{name} is in thread memory; needs device, constant or threadgroup"
                )
            elif holds and holds[0].name == "buffer" and p.space == "threadgroup":
                self.report(
                    "buffer-type", holds[0].at, f"{name} is in threadgroup memory; needs [[threadgroup]]"
                )
            elif holds and holds[0].name == "threadgroup" and p.space != "threadgroup":
                self.report(
                    "threadgroup-type", holds[0].at, f"{name} is in {p.space} memory; needs [[buffer]]"
                )
            elif [t.text(i) for i in range(p.begin, at)].count("*") > 1:
                self.report("argument-pointer", at, f"{name} points to pointers")
            else:
                self._inline_size(d, p)
                return True
            return False
        if not holds:
            # A declaration may leave to the definition what arguments hold.
            other = unknown or any(a.name in OTHER_ATTRIBUTES for a in p.attributes)
            if d.body is not None and not other:
                self.report(
                    "argument-attribute",
                    at,
                    f"{name} is passed by value without an attribute; needs one such as "
                    "[[thread_position_in_grid]], or to be a pointer or reference",
                )
        elif holds[0].name == "buffer":
            self.report(
                "buffer-type", holds[0].at, f"{name} is passed by value; needs a pointer or reference"
            )
        elif holds[0].name == "threadgroup":
            self.report(
                "threadgroup-type", holds[0].at, f"{name} is passed by value; needs a threadgroup pointer"
            )
        else:
            self._builtin_type(d, p, holds[0])
        return False

    def _builtin_type(self, d: Declaration, p: Parameter, a: Attribute) -> None:
        if d.body is None or p.name_at < 0:
            return
        assert a.name in POSITIONS or a.name in INDICES
        position = a.name in POSITIONS
        needs = "ushort or uint, or a vector of 2 or 3 of them" if position else "ushort or uint"
        kind, name = "position" if position else "index", self.rewriter.written(p.name_at)
        self.rewriter.ask(
            f"::lint::is_{kind}<decltype({name})>()",
            Question(
                "builtin-type",
                p.begin,
                f"argument '{self._name(p)}' of kernel '{d.name}' has [[{a.name}]]; needs type {needs}",
            ),
            d.body[1],
        )

    def _inline_size(self, d: Declaration, p: Parameter) -> None:
        if d.body is None or p.name_at < 0 or p.space != "constant" or p.pointers or not p.reference:
            return
        most = self.family.inline_bytes
        self.rewriter.ask(
            f"sizeof({self.rewriter.written(p.name_at)}) <= {most}",
            Question(
                "inline-size",
                p.name_at,
                f"what argument '{self._name(p)}' of kernel '{d.name}' refers to has more than the {most} "
                "bytes that setBytes takes: bind a buffer and allow it with `// lint: allow inline-size`, or "
                "take a pointer",
            ),
            d.body[1],
        )

    # --- variables ------------------------------------------------------------------------------------

    def _local(self, d: Declaration, local: Local) -> None:
        t = self.tokens
        for name, _, initializer in local.declarators:
            variable = f"variable '{t[name].text}'"
            if local.space == "threadgroup":
                if not d.kernel:
                    self.report(
                        "threadgroup-scope",
                        name,
                        f"threadgroup {variable} in function '{d.name}'; needs to be in a kernel",
                    )
                elif initializer >= 0:
                    self.report("threadgroup-initializer", name, f"threadgroup {variable} has an initializer")
            elif local.static and local.space != "constant":
                self.report("storage-class", name, f"static {variable} in a function; needs constant")
            elif local.space == "device":
                self.report(
                    "address-space", name, f"{variable} cannot be in device memory; only pointers can"
                )

    def _pointers(self, begin: int, end: int) -> None:
        """Declarations such as `float* p = ...`, in the body of a function or a class."""
        t, i, start = self.tokens, begin, True
        records = {d.name for d in self.syntax.declarations if d.kind == "record" and not d.template}
        while i < end:
            if start:
                j = i
                while t.text(j) in ("const", "volatile", "static", "constexpr"):
                    j += 1
                if _PLAIN_TYPE.fullmatch(t.text(j)) or t.text(j) in records:
                    k = j + 1
                    while t.text(k) == "const":
                        k += 1
                    declares = t.text(k) in ("*", "&") and t.is_word(k + 1)
                    if declares and t.text(k + 1) not in SPACES and t.text(k + 2) in ("=", ";", ",", "{"):
                        self.report(
                            "pointer-space",
                            k + 1,
                            f"'{t.text(k + 1)}' is a pointer or reference; needs device, constant, "
                            "threadgroup or thread",
                        )
            start = t.text(i) in (";", "{", "}") or t[i].kind == "pragma"
            i += 1

    def _variable(self, d: Declaration) -> None:
        t = self.tokens
        if not self.is_linted(d.begin, d.end):
            return
        if d.record:
            if not self.syntax.has_specifier(d, "static", *SPACES, "using", "typedef"):
                pointer = t.text(d.name_at - 1) in ("*", "&") and t.text(d.name_at + 1) in (";", "=", ",")
                if pointer:
                    self.report(
                        "pointer-space",
                        d.name_at,
                        f"member '{d.name}' is a pointer or reference; needs device, constant, threadgroup "
                        "or thread",
                    )
                return
            if self.syntax.has_specifier(d, "static") and not self.syntax.has_specifier(d, "constant"):
                self.report(
                    "program-scope-space",
                    d.name_at,
                    f"static member '{d.name}' needs the constant address space",
                )
            return
        if d.attribute("function_constant") and self.syntax.has_specifier(d, "constant"):
            return
        if not self.syntax.has_specifier(d, "constant"):
            what = "a threadgroup variable can be declared only in a kernel"
            if not self.syntax.has_specifier(d, "threadgroup"):
                what = "it needs the constant address space"
            self.report("program-scope-space", d.name_at, f"program-scope variable '{d.name}': {what}")
        elif d.initializer < 0 and t.text(d.end - 1) == ";" and not self.syntax.has_specifier(d, "extern"):
            self.report("constant-initializer", d.name_at, f"constant '{d.name}' needs an initializer")

    def _function_constants(self) -> None:
        used: dict[int, str] = {}
        for d in self.syntax.declarations:
            a = d.attribute("function_constant") if d.kind == "variable" and not d.record else None
            if a is None:
                continue
            index = self._index(a, "function-constant-range", 65535)
            if d.initializer >= 0:
                self.report(
                    "function-constant-initializer",
                    d.name_at,
                    f"function constant '{d.name}' has an initializer",
                )
            if index is None:
                continue
            if index in used:
                self.report(
                    "function-constant-duplicate",
                    a.at,
                    f"function constants '{used[index]}' and '{d.name}' both have index {index}",
                )
            used.setdefault(index, d.name)

    # --- kernels together -----------------------------------------------------------------------------

    def _host_names(self) -> None:
        t = self.tokens
        used: set[str] = set()
        templates = {d.name for d in self.syntax.kernels if d.template and d.body}
        for d in self.syntax.declarations:
            a = d.attribute("host_name")
            at, name = d.name_at, ""
            if a:
                strings = [i for i in range(*(a.arguments or (0, 0))) if t[i].kind == "string"]
                if not strings:
                    self.report(
                        "host-name-form", a.at, '[[host_name]] needs a string, as in [[host_name("x")]]'
                    )
                    continue
                at, name = a.at, "".join(t[i].text.strip('"') for i in strings)
            elif d.kind == "instantiation":
                names = [i for i in range(d.specifiers, d.end) if t.text(i) in templates]
                if names:
                    called = t[names[0]].text
                    self.report(
                        "host-name-form",
                        names[0],
                        f"the instantiation of kernel '{called}' needs [[host_name(\"...\")]] to be found by",
                    )
                continue
            elif d.kernel and d.kind == "function" and d.body and not d.template and not d.record:
                name = d.name
            if not name or not (d.kernel or d.kind == "instantiation"):
                continue
            if name in used:
                self.report("host-name-clash", at, f"there is a kernel '{name}' already")
            used.add(name)

    def _kernel_calls(self) -> None:
        # Where kernels share a name with other functions, those are the ones that are called.
        shared = library_names() | {d.name for d in self.syntax.functions if not d.kernel}
        kernels = {d.name: d for d in self.syntax.kernels if d.name not in shared}
        for d in self.syntax.functions:
            for called, at in self._calls(d, kernels) if d.body else ():
                self.report(
                    "kernel-call", at, f"'{d.name}' calls kernel '{called}'; needs a function that both call"
                )

    def _recursion(self) -> None:
        defined: dict[str, list[Declaration]] = {}
        for d in self.syntax.functions:
            if d.body and d.name != d.record:
                defined.setdefault(d.name, []).append(d)
        # One definition of a name: with more, which one a call means is for the type checker.
        functions = {
            name: ds[0]
            for name, ds in defined.items()
            if len(ds) == 1
            and not ds[0].kernel
            and name not in library_names()
            and not self.syntax.has_specifier(ds[0], "constexpr", "consteval")
        }
        calls = {name: dict(self._calls(d, functions)) for name, d in functions.items()}

        def reaches(start: str, goal: str) -> bool:
            seen, todo = set(), [start]
            while todo:
                name = todo.pop()
                if name == goal:
                    return True
                if name not in seen:
                    seen.add(name)
                    todo += calls[name]
            return False

        said: set[str] = set()
        for name in functions:
            for called, at in calls[name].items():
                if name not in said and called not in said and reaches(called, name):
                    through = f" through '{called}'" if called != name else ""
                    self.report(
                        "recursion", at, f"function '{name}' calls itself{through}: there is no stack for it"
                    )
                    said |= {name, called}

    def _calls(self, d: Declaration, functions: dict[str, Declaration]) -> Iterator[tuple[str, int]]:
        t = self.tokens
        assert d.body is not None
        own = {t[p.name_at].text for p in self.syntax.parameters(d) if p.name_at >= 0}
        own |= {t.text(i) for i in range(*d.body) if t.is_word(i) and t.text(i + 1) == "="}
        for i in range(d.body[1] - 1, d.body[0], -1):
            name = t.text(i)
            if name in functions and name not in own and t.text(i + 1) == "(":
                member = t.text(i - 1) in (".", "->", "::") and t.text(i - 2) != "this"
                declares = t.is_word(i - 1) and t.text(i - 1) not in ("return", "else", "case")
                if not member and not declares:
                    yield name, i
