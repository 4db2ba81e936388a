"""Checks that no source calls what is newer than macOS 14.0 unless metalloid::available() was asked before.

metal-cpp carries no availability: a call of macOS 26 compiles for 14.0, and there ends the process with an
unrecognized selector. What is newer is found by comparing Apple's headers of several releases (selectors and
classes, functions, enumerators, constants). The sources of the core, the operations and the bindings are then
parsed by libclang for arm64-apple-macos14.0 against the newest headers. A use of something newer is allowed

- under `if`, `?:`, `&&`, `||` or a loop whose condition says that available(device, Feature::x) is true, or
  after an `if` that leaves the scope where it is false; a const that holds the answer, and a function that
  does nothing but return it, will do. The selector or class that apple/availability.cpp looks for tells how
  new a system with the feature is; one that Apple's headers do not have is an error;
- where in the same way an object of a class that is at least as new is known not to be null: where there is
  such an object, the system is new enough. Methods of such an object need no guard at all.

Enumerators may be compared with at any time. A number must not become a value of an enumeration that has
newer ones, as nobody knows which it is, unless a comment `// availability: ...` in the three lines up to it
says how the system was asked. Structs, constants with a value and inline functions are no part of the system.
A template's calls that depend on its arguments are judged by name.

    python tools/macos_availability.py [--apple DIR] [--stubs DIR] [FILE.cpp...]
    python tools/macos_availability.py --self-test

Needs libclang from PyPI, and nanobind and Python's headers for the bindings. Exit status 1 means that
something is not guarded, 2 that the check could not be made.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import os
import re
import sys
import sysconfig
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import clang.cindex as ci
import metal_api
from clang.cindex import CursorKind as Kind
from metal_api import Broken, Trouble, canonical, qualified, version

SOURCES = ("csrc/metalloid/*.cpp", "csrc/metalloid/apple/*.cpp", "csrc/ops/*.cpp", "csrc/bindings/*.cpp")
GUARD = "metalloid::available"
FEATURES = Path("csrc/metalloid/apple/availability.cpp")

# Whether the system knows a GPU family is what supportsFamily is there to tell.
HARMLESS_ENUMERATIONS = {"MTL::GPUFamily"}

# What most sources include, parsed once.
_CORE_HEADERS = """#include <Foundation/Foundation.hpp>
#include <Metal/Metal.hpp>
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>
"""
_BINDINGS_HEADERS = """#include <nanobind/nanobind.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>
"""


# --- what is newer --------------------------------------------------------------------------------------


@dataclasses.dataclass
class Newer:
    """What appeared after the first release: names to releases.

    only_newer has names of methods, of classes that are not newer, that no older method has; answers, what
    the system can be asked for, older or not; features, the enumerators of metalloid::Feature.
    """

    first: str
    classes: dict[str, str] = dataclasses.field(default_factory=dict)
    methods: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    functions: dict[str, str] = dataclasses.field(default_factory=dict)
    values: dict[str, str] = dataclasses.field(default_factory=dict)
    enumerations: dict[str, str] = dataclasses.field(default_factory=dict)  # with newer values, to the newest
    only_newer: dict[str, str] = dataclasses.field(default_factory=dict)
    answers: dict[str, str] = dataclasses.field(default_factory=dict)
    features: dict[str, str] = dataclasses.field(default_factory=dict)


def newer(history: metal_api.History) -> Newer:
    first, api = history.first, history.newest
    found = Newer(first)
    # A class that older ones now derive from is a new name for what was there: objects of it need not be new.
    old_bases = {
        base.rsplit(", ", 1)[-1].removesuffix(">")
        for name, record in api.records.items()
        if history.record(name) == first
        for base in record.bases
    }
    old_names: set[str] = set()
    for name, record in api.records.items():
        if record.fields:
            continue
        of_class = history.record(name)
        if of_class != first and name not in old_bases:
            found.classes[name] = of_class
        found.answers[name.replace("::", "")] = of_class
        for method, overloads in record.methods.items():
            for function in overloads:
                release = max(of_class, history.method(name, method, function), key=version)
                for selector in function.selectors:
                    found.answers[selector] = min(found.answers.get(selector, release), release, key=version)
                if release == first:
                    old_names.add(method)
                    continue
                found.methods[f"{name}::{method}", function.shape] = release
                if name not in found.classes or function.shape.startswith("static "):
                    earlier = found.only_newer.get(method, release)
                    found.only_newer[method] = min(earlier, release, key=version)
    for method in old_names:
        found.only_newer.pop(method, None)
    for name in api.functions:
        found.functions[name] = history.function(name)
    for kind in ("enumerator", "constant"):
        for name, value in api.values[kind].items():
            owner = value.shape.split(" of ")[-1].split(" (")[0]
            if owner not in HARMLESS_ENUMERATIONS:
                release = found.values[name] = history.value(kind, name)
                if kind == "enumerator" and release != first:
                    found.enumerations[owner] = max(
                        found.enumerations.get(owner, release), release, key=version
                    )
    for table in (found.functions, found.values):
        for name in [name for name, release in table.items() if release == first]:
            del table[name]
    if history.unused:
        raise Trouble(
            f"KNOWN_OLDER of metal_api.py has {', '.join(sorted(history.unused))}, which is not newer anyway"
        )
    return found


def features(found: Newer, unit: ci.TranslationUnit) -> None:
    """Of which release each feature is, by what the function that is asked for it looks for."""
    functions = [
        cursor
        for top in unit.cursor.get_children()
        if top.location.file and top.location.file.name == unit.spelling
        for cursor in top.walk_preorder()
        if cursor.kind == Kind.FUNCTION_DECL and cursor.is_definition() and qualified(cursor) == GUARD
    ]
    for case in (node for f in functions for node in f.walk_preorder() if node.kind == Kind.CASE_STMT):
        place = f"{case.location.file.name}:{case.location.line}"
        names = [node.spelling for node in case.walk_preorder() if node.kind == Kind.DECL_REF_EXPR]
        looked_for = [_literal(node) for node in case.walk_preorder() if node.kind == Kind.STRING_LITERAL]
        if not names or not looked_for:
            raise Broken(f"{place}: the feature looks for nothing, needs a selector or a class")
        unknown = [text for text in looked_for if text.replace(":", "_") not in found.answers]
        if unknown:
            raise Broken(f"{place}: {names[0]} looks for {unknown[0]}, which Apple's headers do not have")
        releases = [found.answers[text.replace(":", "_")] for text in looked_for]
        found.features[names[0]] = max(releases, key=version)


def _literal(cursor: ci.Cursor) -> str:
    return cursor.spelling.strip('"')


# --- guards ---------------------------------------------------------------------------------------------

# What a condition tells: ("release", (15, 0)) or ("class", name).
Facts = frozenset

_WRAPPERS = {Kind.UNEXPOSED_EXPR, Kind.PAREN_EXPR, Kind.CXX_STATIC_CAST_EXPR, Kind.CXX_FUNCTIONAL_CAST_EXPR}
_CASTS = {Kind.CXX_STATIC_CAST_EXPR, Kind.CXX_FUNCTIONAL_CAST_EXPR, Kind.CSTYLE_CAST_EXPR}
_SCOPES = {
    Kind.FUNCTION_DECL,
    Kind.CXX_METHOD,
    Kind.CONSTRUCTOR,
    Kind.DESTRUCTOR,
    Kind.CONVERSION_FUNCTION,
    Kind.FUNCTION_TEMPLATE,
}
_LEAVING = {Kind.RETURN_STMT, Kind.CXX_THROW_EXPR, Kind.CONTINUE_STMT, Kind.BREAK_STMT, Kind.GOTO_STMT}
_OBJECT = re.compile(r"^(?:const )?(?:(MTL::\w+) \*(?: ?const)?|(?:NS::)?SharedPtr<(MTL::\w+)>)$")


class Reader:
    """The text between cursors, which libclang of this release does not give the operators of."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}

    def text(self, cursor: ci.Cursor, start: int, end: int) -> str:
        file = cursor.extent.start.file
        if file is None or end <= start:
            return ""
        if file.name not in self._texts:
            self._texts[file.name] = Path(file.name).read_bytes()
        text = self._texts[file.name][start:end].decode(errors="replace")
        return re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL).strip()

    def between(self, before: ci.Cursor, after: ci.Cursor) -> str:
        return self.text(before, before.extent.end.offset, after.extent.start.offset)

    def first(self, cursor: ci.Cursor, child: ci.Cursor) -> str:
        return self.text(cursor, cursor.extent.start.offset, child.extent.start.offset)


def _releases(facts: Facts) -> tuple[int, ...] | None:
    found = [value for kind, value in facts if kind == "release"]
    return max(found) if found else None


def _either(left: Facts, right: Facts) -> Facts:
    facts = set(left & right)
    releases = (_releases(left), _releases(right))
    if None not in releases:
        facts.add(("release", min(releases)))
    return Facts(facts)


class Guards:
    def __init__(self, found: Newer, reader: Reader):
        self.newer, self.reader = found, reader
        self._answers: set[str] = set()  # variables and functions that are being looked into

    def of(self, condition: ci.Cursor, sense: bool) -> Facts:
        """What is known where the condition has come out as sense says."""
        kind = condition.kind
        children = list(condition.get_children())
        if kind == Kind.CALL_EXPR and condition.referenced and qualified(condition.referenced) == GUARD:
            return self._asked(condition) if sense else Facts()
        if kind == Kind.UNARY_OPERATOR and children and self.reader.first(condition, children[0]) == "!":
            return self.of(children[0], not sense)
        if kind == Kind.BINARY_OPERATOR and len(children) == 2:
            operator = self.reader.between(*children)
            if operator in ("&&", "||", "and", "or"):
                sides = [self.of(child, sense) for child in children]
                both = (operator in ("&&", "and")) == sense
                return sides[0] | sides[1] if both else _either(*sides)
            if operator in ("==", "!=") and any(self._is_null(child) for child in children):
                return self._object(children, sense == (operator == "!="))
        if kind == Kind.VAR_DECL:  # if (bool newer = available(...))
            return self._object([condition], sense) | self._held(condition, sense)
        facts = self._object([condition], sense)
        if kind in (Kind.DECL_REF_EXPR, Kind.MEMBER_REF_EXPR) and condition.referenced is not None:
            facts |= self._held(condition.referenced, sense)
        elif kind == Kind.CALL_EXPR and condition.referenced is not None:
            facts |= self._returned(condition.referenced, sense)
        converted = condition.referenced is not None and condition.referenced.kind == Kind.CONVERSION_FUNCTION
        if kind in (*_WRAPPERS, Kind.CALL_EXPR, Kind.DECL_STMT) or converted:
            # Conversions, among them the call of SharedPtr's operator bool.
            inner = [child for child in children if child.kind != Kind.TYPE_REF]
            if len(inner) == 1:
                facts |= self.of(inner[0], sense)
        return facts

    def _asked(self, call: ci.Cursor) -> Facts:
        facts = set()
        for argument in call.get_arguments():
            for node in argument.walk_preorder():
                if node.kind == Kind.DECL_REF_EXPR and node.spelling in self.newer.features:
                    facts.add(("release", version(self.newer.features[node.spelling])))
        return Facts(facts)

    @staticmethod
    def _is_null(cursor: ci.Cursor) -> bool:
        return any(c.kind == Kind.CXX_NULL_PTR_LITERAL_EXPR for c in cursor.walk_preorder())

    def _object(self, cursors: list[ci.Cursor], sense: bool) -> Facts:
        if not sense:
            return Facts()
        facts = set()
        for cursor in cursors:
            match = _OBJECT.match(canonical(cursor.type))
            name = match and (match[1] or match[2])
            if name in self.newer.classes:
                facts.add(("class", name))
                facts.add(("release", version(self.newer.classes[name])))
        return Facts(facts)

    def _held(self, variable: ci.Cursor, sense: bool) -> Facts:
        """What the value that a const variable was made with tells."""
        if (
            variable.kind not in (Kind.VAR_DECL, Kind.FIELD_DECL)
            or "const " not in f"{variable.type.spelling} "
        ):
            return Facts()
        return self._inside(variable, sense, list(variable.get_children())[-1:])

    def _returned(self, function: ci.Cursor, sense: bool) -> Facts:
        definition = function.get_definition()
        body = list(definition.get_children())[-1:] if definition else []
        statements = list(body[0].get_children()) if body and body[0].kind == Kind.COMPOUND_STMT else []
        if len(statements) != 1 or statements[0].kind != Kind.RETURN_STMT:
            return Facts()
        return self._inside(function, sense, list(statements[0].get_children()))

    def _inside(self, owner: ci.Cursor, sense: bool, values: list[ci.Cursor]) -> Facts:
        usr = owner.get_usr()
        if len(values) != 1 or usr in self._answers or not values[0].kind.is_expression():
            return Facts()
        self._answers.add(usr)
        facts = self.of(values[0], sense)
        self._answers.discard(usr)
        return facts

    def around(self, path: list[ci.Cursor]) -> Facts:
        """What is known at the end of a path of cursors, each of them a child of the one before."""
        facts: Facts = Facts()
        for parent, child in itertools.pairwise(path):
            kind = parent.kind
            if kind not in (
                Kind.IF_STMT,
                Kind.CONDITIONAL_OPERATOR,
                Kind.BINARY_OPERATOR,
                Kind.WHILE_STMT,
                Kind.FOR_STMT,
                Kind.COMPOUND_STMT,
            ):
                continue
            children = list(parent.get_children())
            position = children.index(child)
            if kind == Kind.COMPOUND_STMT:
                for before in children[:position]:
                    facts |= self._left(before)
            elif kind == Kind.IF_STMT:
                then, otherwise = self._branches(children)
                for condition in children[: then if position >= then else 0]:
                    if position in (then, otherwise):
                        facts |= self.of(condition, position == then)
            elif kind == Kind.CONDITIONAL_OPERATOR and position:
                facts |= self.of(children[0], position == 1)
            elif kind == Kind.BINARY_OPERATOR and position == 1:
                operator = self.reader.between(*children)
                if operator in ("&&", "||", "and", "or"):
                    facts |= self.of(children[0], operator in ("&&", "and"))
            elif kind == Kind.WHILE_STMT and position == len(children) - 1:
                facts |= self.of(children[0], True)
            elif kind == Kind.FOR_STMT and position == len(children) - 1:
                for condition in children[:-1]:
                    if condition.kind.is_expression():
                        facts |= self.of(condition, True)
        return facts

    def _branches(self, children: list[ci.Cursor]) -> tuple[int, int | None]:
        last = len(children) - 1
        if last >= 2 and self.reader.between(children[-2], children[-1]).lstrip("; ").startswith("else"):
            return last - 1, last
        return last, None

    def _left(self, statement: ci.Cursor) -> Facts:
        """What is known behind an `if` that leaves the scope."""
        if statement.kind != Kind.IF_STMT:
            return Facts()
        children = list(statement.get_children())
        then, otherwise = self._branches(children)
        if otherwise is not None or not self._leaves(children[then]):
            return Facts()
        facts: Facts = Facts()
        for condition in children[:then]:
            facts |= self.of(condition, False)
        return facts

    def _leaves(self, statement: ci.Cursor) -> bool:
        if statement.kind in _LEAVING:
            return True
        children = list(statement.get_children())
        if statement.kind == Kind.UNEXPOSED_EXPR:  # a throw with what it destroys
            return len(children) == 1 and self._leaves(children[0])
        return statement.kind == Kind.COMPOUND_STMT and bool(children) and self._leaves(children[-1])


# --- uses -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    file: str
    line: int
    message: str


class Walker:
    def __init__(self, found: Newer, root: Path):
        self.newer, self.root = found, f"{root}/"
        self.reader = Reader()
        self.guards = Guards(found, self.reader)
        self.findings: set[Finding] = set()
        self._seen: set[tuple[str, int]] = set()
        self._method_names = {full.rsplit("::", 1)[1] for full, _ in found.methods}
        self._value_names = {name.rsplit("::", 1)[1] for name in found.values}
        self._function_names = {name.rsplit("::", 1)[1] for name in found.functions}

    def unit(self, unit: ci.TranslationUnit) -> None:
        for cursor in unit.cursor.get_children():
            file = cursor.location.file
            if file is None or not file.name.startswith(self.root):
                continue
            place = (file.name, cursor.extent.start.offset)
            if place not in self._seen:  # a header's declaration is in many units
                self._seen.add(place)
                self._walk(cursor, [])

    def _walk(self, cursor: ci.Cursor, path: list[ci.Cursor]) -> None:
        path.append(cursor)
        if cursor.kind in (Kind.DECL_REF_EXPR, Kind.MEMBER_REF_EXPR, Kind.OVERLOADED_DECL_REF):
            self._use(cursor, path)
        elif cursor.kind in _CASTS:
            self._cast(cursor)
        for child in cursor.get_children():
            self._walk(child, path)
        path.pop()

    def _cast(self, cursor: ci.Cursor) -> None:
        made = cursor.type.get_canonical()
        release = self.newer.enumerations.get(qualified(made.get_declaration()))
        operands = [child for child in cursor.get_children() if child.kind.is_expression()]
        if not release or not operands or operands[-1].type.get_canonical() == made:
            return
        where = cursor.location
        before = Path(where.file.name).read_text().splitlines()[max(where.line - 3, 0) : where.line]
        if any("// availability: " in line for line in before):
            return
        self._find(
            cursor,
            f"a number becomes {made.spelling}, which has values of macOS {release}: name the enumerator",
        )

    def _find(self, cursor: ci.Cursor, message: str) -> None:
        where = cursor.location
        self.findings.add(Finding(where.file.name.removeprefix(self.root), where.line, message))

    def _use(self, cursor: ci.Cursor, path: list[ci.Cursor]) -> None:
        name = cursor.spelling
        target = cursor.referenced
        need = self._need(name, target, path)
        if need is None:
            return
        what, release = need
        # A constant outside of functions has no guard around it.
        start = next((i for i, node in enumerate(path) if node.kind in _SCOPES), 0)
        facts = self.guards.around(path[start:])
        known = _releases(facts)
        wanted = version(release)
        if known and known + (0,) * (len(wanted) - len(known)) >= wanted:
            return
        said = f"is guarded for macOS {'.'.join(map(str, known))} only" if known else "is not guarded"
        self._find(
            cursor, f"{what} is of macOS {release} and {said}: ask {GUARD}() for a feature of it first"
        )

    def _need(self, name: str, target: ci.Cursor | None, path: list[ci.Cursor]):
        """What a reference names that is newer, and the release."""
        if target is None or target.kind == Kind.OVERLOADED_DECL_REF:
            # In a template: the arguments decide, so only a name that nothing older has tells.
            if not name:
                name = next(
                    (t.spelling for t in reversed(list(path[-1].get_tokens())) if t.spelling.isidentifier()),
                    "",
                )
            release = self.newer.only_newer.get(name)
            return (name, release) if release else None
        kind = target.kind
        if kind == Kind.CXX_METHOD and name in self._method_names:
            full = qualified(target)
            entry = self.newer.methods.get((full, metal_api._function(target).shape))
            owner = full.rsplit("::", 1)[0]
            if entry is None or (owner in self.newer.classes and not target.is_static_method()):
                return None
            return full, entry
        if kind == Kind.FUNCTION_DECL and name in self._function_names:
            full = qualified(target)
            release = self.newer.functions.get(full)
            return (full, release) if release else None
        if kind in (Kind.ENUM_CONSTANT_DECL, Kind.VAR_DECL) and name in self._value_names:
            full = qualified(target)
            if kind == Kind.ENUM_CONSTANT_DECL and not target.semantic_parent.is_scoped_enum():
                scope = qualified(target.semantic_parent.semantic_parent)
                full = f"{scope}::{name}"
            release = self.newer.values.get(full)
            if release and not (kind == Kind.ENUM_CONSTANT_DECL and self._compared(path)):
                return full, release
        return None

    def _compared(self, path: list[ci.Cursor]) -> bool:
        for parent, child in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
            if parent.kind == Kind.CASE_STMT:
                return next(parent.get_children()) == child
            if parent.kind == Kind.BINARY_OPERATOR:
                return self.reader.between(*parent.get_children()) in ("==", "!=", "<", ">", "<=", ">=")
            if parent.kind not in _WRAPPERS:
                return False
        return False


# --- running --------------------------------------------------------------------------------------------

_state: dict = {}


def _start(found: Newer, root: Path) -> None:
    _state["walker"] = Walker(found, root)


def _check(path: str, arguments: list[str]) -> set[Finding]:
    walker = _state["walker"]
    walker.findings = set()
    # Incomplete: templates are read as they are written, so nothing need be instantiated.
    walker.unit(metal_api.parse(path, arguments, options=ci.TranslationUnit.PARSE_INCOMPLETE))
    return walker.findings


def _precompile(path: str, arguments: list[str], text: str) -> str:
    """The path of the precompiled header."""
    options = ci.TranslationUnit.PARSE_INCOMPLETE
    unit = metal_api.parse(path, [*arguments[:1], "c++-header", *arguments[2:]], text, options)
    unit.save(f"{path}.pch")
    return f"{path}.pch"


def _bindings_includes() -> list[Path]:
    nanobind = importlib.util.find_spec("nanobind")
    if nanobind is None:
        raise Trouble(f"{sys.executable} has no nanobind, which the bindings need")
    return [Path(nanobind.origin).parent / "include", Path(sysconfig.get_paths()["include"])]


def check(
    root: Path,
    files: list[Path],
    apple: Path,
    stubs: Path,
    older: dict[str, Path],
    extra: list[str],
    cache: Path,
) -> set[Finding]:
    base = [*metal_api.clang_arguments(cache, [apple, stubs]), f"-I{root}/csrc", f"-I{root}/shaders", *extra]
    bindings = root / "csrc/bindings"
    of_bindings = [file for file in files if bindings in file.parents]
    jobs = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as temporary:
        groups = [(f"{temporary}/core.hpp", base, _CORE_HEADERS, [f for f in files if f not in of_bindings])]
        if of_bindings:
            more = [*base, '-DMETALLOID_VERSION="0"']
            for include in _bindings_includes():
                more += ["-isystem", str(include)]
            groups.append((f"{temporary}/bindings.hpp", more, _CORE_HEADERS + _BINDINGS_HEADERS, of_bindings))
        with ProcessPoolExecutor(jobs) as pool:
            folders = {**older, metal_api.NEWEST: apple}
            apis = {
                release: pool.submit(metal_api.read, folder, cache, [stubs])
                for release, folder in folders.items()
            }
            # It takes longer than a source.
            headers = [
                pool.submit(_precompile, *group[:3]) if len(group[3]) > 2 else None for group in groups
            ]
            history = metal_api.History({release: job.result() for release, job in apis.items()})
            precompiled = [job and job.result() for job in headers]
        found = newer(history)
        if (root / FEATURES).is_file():
            features(found, metal_api.parse(str(root / FEATURES), base))
        tasks = []
        for (_, arguments, _, sources), header in zip(groups, precompiled, strict=True):
            arguments += ["-include-pch", header] if header else []
            tasks += [(str(source), arguments) for source in sources]
        tasks.sort(key=lambda task: -Path(task[0]).stat().st_size)
        with ProcessPoolExecutor(jobs, initializer=_start, initargs=(found, root)) as pool:
            done = [pool.submit(_check, *task) for task in tasks]
            return set().union(*(job.result() for job in done))


# --- the test of the check ------------------------------------------------------------------------------

_OLD = """namespace NS {
using UInteger = unsigned long;
template <class T> class SharedPtr {
 public:
  T* get() const; T* operator->() const; explicit operator bool() const;
};
}
namespace MTL {
using SEL = const char*;
namespace Private::Selector { extern SEL s_klength; extern SEL s_kwait_; extern SEL s_kold; }
enum Version : NS::UInteger { Version3 = 3 };
enum Color : NS::UInteger { Red = 1 };
class Buffer { public: NS::UInteger length() const; void old(int respelt); };
class Options { public: static Options* alloc(); void setFast(bool fast); };
inline NS::UInteger Buffer::length() const { return Private::Selector::s_klength != nullptr; }
inline void Buffer::old(int) { (void)Private::Selector::s_kold; }
struct Size { int width; };
void Create();
}
"""
_NEW = (
    _OLD.replace("void old(int respelt)", "void old(const int* respelt)")
    .replace("Buffer::old(int)", "Buffer::old(const int*)")
    .replace("Version3 = 3", "Version3 = 3, VersionThree = 3, Version4 = 4")
    .replace(
        "void setFast(bool fast);",
        "void setFast(bool fast); void setFast(int mode, int more); void setMode(int);",
    )
    .replace(
        "int width; };",
        "int width; void grow() {} };\nstruct Shape { int rank; static Shape Make() { return {}; } };",
    )
    .replace("void Create();", "void Create();\nvoid CreateNewer();\nextern const char* const Domain;")
    .replace(
        "namespace Private",
        "class Set { public: static Set* alloc(); void add(int); };\nnamespace Private",
    )
    .replace(
        "struct Size",
        "inline void Options::setMode(int) { (void)Private::Selector::s_ksetMode_; }\nstruct Size",
    )
    .replace("extern SEL s_kold;", "extern SEL s_kold; extern SEL s_ksetMode_;")
    .replace("NS::UInteger length() const;", "NS::UInteger length() const; void use(Set* set);")
)
_SOURCE = """#include <Metal/Metal.hpp>
namespace metalloid {
enum class Feature { sets, modes, lengths };
bool answers(const void* object, const char* name);
bool available(const void* object, Feature feature) {
  switch (feature) {
    case Feature::sets: return answers(object, "MTLSet");
    case Feature::modes: return answers(object, "setMode:");
    case Feature::lengths: return answers(object, "length");
  }
  return false;
}
}
using namespace metalloid;
bool new_enough() { return available(nullptr, Feature::modes); }
struct Error {};
MTL::Buffer* buffer; MTL::Options* options; MTL::Set* set; NS::SharedPtr<MTL::Set> shared; bool flag;
MTL::Version wanted;
"""
# The body of a function, and the number of findings in it; a body that begins with # is at namespace scope.
_CASES = [
    ("options->setMode(1);", 1),
    ("buffer->length(); buffer->old(nullptr); options->setFast(true); MTL::Create();", 0),
    ("options->setFast(1, 2);", 1),
    ("MTL::CreateNewer();", 1),
    ("auto* p = &MTL::CreateNewer; (void)p;", 1),
    ("auto p = &MTL::Options::setMode; (void)p;", 1),
    ("(void)MTL::Domain;", 1),
    ("(void)MTL::Set::alloc();", 1),
    ("MTL::Set::alloc()->add(1);", 1),
    ("int v = MTL::Version4; (void)v;", 1),
    ("int v = MTL::VersionThree; (void)v;", 0),
    ("if (flag == (MTL::Version4 == 4)) return;", 0),
    ("switch (wanted) { case MTL::Version4: break; default: break; }", 0),
    ("wanted = MTL::Version(3);", 1),
    ("wanted = static_cast<MTL::Version>(flag); wanted = (MTL::Version)4u;", 1),
    ("wanted = static_cast<MTL::Version>(wanted); auto n = static_cast<int>(wanted); (void)n;", 0),
    ("auto color = static_cast<MTL::Color>(1); (void)color;", 0),
    ("MTL::Shape::Make(); MTL::Size().grow();", 0),
    ("if (available(options, Feature::modes)) options->setMode(1);", 0),
    ("if (available(buffer, Feature::sets)) options->setMode(1);", 0),
    ("if (available(buffer, Feature::lengths)) options->setMode(1);", 1),
    ("if (!available(options, Feature::modes)) options->setMode(1);", 1),
    ("if (!available(options, Feature::modes)) return; options->setMode(1);", 0),
    ("if (!available(options, Feature::modes)) { throw Error(); } options->setMode(1);", 0),
    ("if (!available(options, Feature::modes)) options->setFast(true); options->setMode(1);", 1),
    ("if (available(options, Feature::modes)) return; options->setMode(1);", 1),
    ("if (available(options, Feature::modes)) { options->setFast(true); } options->setMode(1);", 1),
    ("if (available(options, Feature::modes)) { options->setFast(true); } else { options->setMode(1); }", 1),
    ("if (!available(options, Feature::modes)) { options->setFast(true); } else { options->setMode(1); }", 0),
    ("if (flag && available(options, Feature::modes)) options->setMode(1);", 0),
    ("if (flag || available(options, Feature::modes)) options->setMode(1);", 1),
    ("if (!flag || !available(options, Feature::modes)) return; options->setMode(1);", 0),
    ("flag ? (void)0 : options->setMode(1);", 1),
    ("available(options, Feature::modes) ? options->setMode(1) : options->setFast(true);", 0),
    ("available(options, Feature::modes) ? options->setFast(true) : options->setMode(1);", 1),
    ("bool b = available(options, Feature::modes) && (options->setMode(1), true); (void)b;", 0),
    ("const bool b = available(options, Feature::modes); if (b) options->setMode(1);", 0),
    ("bool b = available(options, Feature::modes); b = true; if (b) options->setMode(1);", 1),
    ("if (new_enough()) options->setMode(1);", 0),
    ("if (!new_enough()) return; auto f = [] { options->setMode(1); }; f();", 0),
    ("auto f = [] { options->setMode(1); }; if (available(options, Feature::modes)) f();", 1),
    ("set->add(1);", 0),
    ("buffer->use(set);", 1),
    ("if (set) buffer->use(set);", 0),
    ("if (shared) buffer->use(shared.get());", 0),
    ("if (!shared) return; buffer->use(shared.get());", 0),
    ("if (set != nullptr) buffer->use(set);", 0),
    ("if (set == nullptr) buffer->use(set);", 1),
    ("if (buffer) buffer->use(set);", 1),
    ("while (available(options, Feature::modes)) options->setMode(1);", 0),
    ("#template <class T> void any(T* t) { t->setMode(1); }", 1),
    ("#template <class T> void any(T* t) { if (available(options, Feature::modes)) t->setMode(1); }", 0),
    ("#template <class T> void any(T* t) { t->setFast(1, 2); }", 0),
    (
        "#struct A { MTL::Version v = available(options, Feature::modes) ? MTL::Version4 : MTL::Version3; };",
        0,
    ),
    ("#struct A { A() : v(available(0, Feature::modes) ? MTL::Version4 : one) {} MTL::Version one, v; };", 0),
    ("#struct A { A() : v(MTL::Version4) {} MTL::Version v; };", 1),
    ("#const MTL::Version all[] = {MTL::Version3, MTL::Version4};", 1),
    ("#template <class T> struct S { void f(T t) { auto g = [&] { MTL::CreateNewer(); }; g(); } };", 1),
    # Last, as the comment counts for the lines after it, too.
    ("wanted = MTL::Version(3);  // availability: asked\n", 0),
]


def self_test(cache: Path) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        apis = {}
        for release, text in (("14.0", _OLD), ("15.0", _NEW)):
            (root / release / "Metal").mkdir(parents=True)
            (root / release / "Metal/Metal.hpp").write_text(text)
            apis[release] = metal_api.read(root / release, cache, [])
        found = newer(metal_api.History(apis, set()))
        arguments = metal_api.clang_arguments(cache, [root / "15.0"])
        (root / "sources").mkdir()
        lines, wanted = _SOURCE.splitlines(), {}
        for number, (body, count) in enumerate(_CASES):
            scope = body.startswith("#")
            lines.append(f"namespace case{number} {{ {body[1:] if scope else f'void run() {{ {body} }}'} }}")
            wanted[len(lines)] = (body, count)
        source = root / "sources/cases.cpp"
        source.write_text("\n".join(lines) + "\n")
        unit = metal_api.parse(str(source), arguments)
        features(found, unit)
        walker = Walker(found, root / "sources")
        walker.unit(unit)
        for line, (body, count) in wanted.items():
            got = [finding.message for finding in walker.findings if finding.line == line]
            if len(got) != count:
                failed += 1
                print(f"self-test {body}: reported {got}, needs {count} findings", file=sys.stderr)
        source.write_text(source.read_text().replace('"setMode:"', '"setModus:"'))
        for title, wrong in (
            (
                "a feature that looks for an unknown selector",
                lambda: features(found, metal_api.parse(str(source), arguments)),
            ),
            (
                "an exception for what is not newer",
                lambda: newer(metal_api.History(apis, {"MTL::Buffer::length"})),
            ),
        ):
            try:
                wrong()
                failed += 1
                print(f"self-test: {title} is accepted", file=sys.stderr)
            except Trouble:
                pass
    print(f"self-test: {len(_CASES) + 2} cases, {failed} wrong")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    metal_api.add_arguments(parser)
    parser.add_argument("files", nargs="*", type=Path, help="sources to check; all of them unless given")
    parser.add_argument("--self-test", action="store_true", help="check small sources with known findings")
    parser.add_argument("--argument", action="append", default=[], help="one more argument for clang")
    options = parser.parse_args()
    try:
        if options.self_test:
            return self_test(options.cache)
        root = options.root.resolve()
        files = [file.resolve() for file in options.files]
        files = files or [file for pattern in SOURCES for file in sorted(root.glob(pattern))]
        if not files:
            raise Trouble(f"{root}: has no {' '.join(SOURCES)}")
        apple = options.apple or metal_api.metal_cpp(metal_api.NEWEST, options.cache)
        findings = check(
            root,
            files,
            apple.resolve(),
            options.stubs.resolve(),
            metal_api.older_releases(options.cache),
            options.argument,
            options.cache,
        )
    except Trouble as trouble:
        print(f"macos_availability: {trouble}", file=sys.stderr)
        return trouble.status
    for finding in sorted(findings):
        print(f"{finding.file}:{finding.line}: {finding.message}", file=sys.stderr)
    print(f"{len(files)} sources checked for calls newer than macOS 14.0, {len(findings)} not guarded")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
