"""Checks that whatever softmetal's headers offer exists in Apple's metal-cpp with the same type.

Both header trees are parsed by libclang for the same target, so that types are compared as the compiler sees
them and not as they are spelt. Compared are, outside the namespace softmetal: classes with their bases and
with what may not be constructed or copied, methods and functions (parameters, result, const, static,
noexcept, default arguments, template parameters), enumerations and enumerators, struct layouts, aliases,
constants, macros and the names of the headers. What Apple has and softmetal lacks is no drift; --report lists
it, and tells what softmetal offers that is newer than macOS 14.0.

A block of Apple's and a std::function of the same signature count as one type, since gcc has no blocks.

    python tools/api_equality.py [--report] [--apple DIR] [--stubs DIR]
    python tools/api_equality.py --self-test

Needs libclang from PyPI. Exit status 1 means drift, 2 that the check could not be made.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import metal_api
from metal_api import Api, Function, Record, Trouble

SOFTMETAL = Path("csrc/softmetal/include")
_BLOCK = re.compile(r"(\w+(?: \*)?) \(\^(?: const)?\)\(([^()]*)\)")


def _public(name: str) -> bool:
    return name.split("::")[0] not in ("softmetal", "std")


def _without_blocks(shape: str) -> str:
    return _BLOCK.sub(r"const std::function<\1 (\2)> &", shape)


class Comparison:
    def __init__(self, ours: Api, apples: Api, ours_folder: Path, apples_folder: Path, root: Path):
        self.ours, self.apples = ours, apples
        self.apples_folder, self.root = apples_folder, root
        self.drift: list[str] = []
        self.compared = 0
        self._headers(ours_folder)
        for name, record in ours.records.items():
            if _public(name):
                self._record(name, record)
        for name, overloads in ours.functions.items():
            if _public(name):
                self._overloads(name, overloads, apples.functions.get(name), None)
        for kind, values in ours.values.items():
            for name, value in values.items():
                if _public(name):
                    self._value(kind, name, value)

    def _report(self, place: str, message: str) -> None:
        self.drift.append(f"{self._short(place)}: {message}")

    def _short(self, place: str) -> str:
        prefix = f"{self.root}/"
        return place.removeprefix(prefix)

    def _apples_place(self, place: str) -> str:
        return place.removeprefix(f"{self.apples_folder}/")

    def _headers(self, folder: Path) -> None:
        for header in sorted(folder.rglob("*.hpp")):
            self.compared += 1
            if not (self.apples_folder / header.relative_to(folder)).is_file():
                self._report(f"{header}:1", "Apple's metal-cpp has no header of this name")

    def _record(self, name: str, ours: Record) -> None:
        self.compared += 1
        apples = self.apples.records.get(name)
        if apples is None:
            self._report(ours.place, f"{ours.kind} {name}: Apple has no class of this name")
            return
        there = self._apples_place(apples.place)
        if ours.kind != apples.kind:
            self._report(ours.place, f"{name}: is a {ours.kind}, Apple's is a {apples.kind} ({there})")
        if ours.bases != apples.bases:
            got, need = (", ".join(bases) or "nothing" for bases in (ours.bases, apples.bases))
            self._report(ours.place, f"{name}: derives from {got}, Apple's from {need} ({there})")
        for special in sorted(apples.forbidden - ours.forbidden):
            self._report(ours.place, f"{name}: allows its {special}, which Apple's forbids ({there})")
        if (ours.fields or apples.fields) and ours.fields != apples.fields:
            got, need = (
                ", ".join(f"{type_} {field} at bit {offset}" for field, type_, offset in fields) or "none"
                for fields in (ours.fields, apples.fields)
            )
            self._report(ours.place, f"{name}: its fields are {got}; Apple's are {need} ({there})")
        elif ours.layout != apples.layout:
            self._report(
                ours.place,
                f"{name}: its size and alignment are {ours.layout}, Apple's are {apples.layout} ({there})",
            )
        for method, overloads in ours.methods.items():
            self._overloads(f"{name}::{method}", overloads, apples.methods.get(method), name)

    def _overloads(
        self, name: str, ours: list[Function], apples: list[Function] | None, record: str | None
    ) -> None:
        for function in ours:
            self.compared += 1
            if not apples:
                kind = "method" if record else "function"
                self._report(function.place, f"{name}: {function.text}: Apple has no {kind} of this name")
                continue
            same = [
                other for other in apples if function.shape in (other.shape, _without_blocks(other.shape))
            ]
            if not same:
                alike = [other for other in apples if other.parameters == function.parameters] or apples
                need = " or ".join(
                    f"{self._spelling(other, function)} ({self._apples_place(other.place)})"
                    for other in alike[:4]
                )
                self._report(
                    function.place, f"{name}: is {self._spelling(function, *alike)}, Apple's is {need}"
                )
            elif function.defaults != same[0].defaults:
                got, need = (
                    ", ".join(default or "none" for default in which.defaults)
                    for which in (function, same[0])
                )
                self._report(
                    function.place,
                    f"{name}: its default arguments are {got}, Apple's are {need}"
                    f" ({self._apples_place(same[0].place)})",
                )

    @staticmethod
    def _spelling(function: Function, *others: Function) -> str:
        """As written, unless another one is written so too."""
        written = all(function.text != other.text for other in others)
        return function.text if written else function.shape

    def _value(self, kind: str, name: str, ours: metal_api.Value) -> None:
        self.compared += 1
        apples = self.apples.values[kind].get(name)
        if apples is None:
            self._report(ours.place, f"{kind} {name}: Apple has no {kind} of this name")
        elif ours.shape != apples.shape:
            there = self._apples_place(apples.place)
            self._report(ours.place, f"{kind} {name}: is {ours.shape}, Apple's is {apples.shape} ({there})")


def _missing(comparison: Comparison) -> tuple[list[str], list[str], dict[str, int]]:
    """Lines of the report on what Apple has and softmetal lacks; the classes that it lacks; counts."""
    ours, apples = comparison.ours, comparison.apples
    lines, classes = [], []
    plural = {kind: f"{kind}es" if kind == "alias" else f"{kind}s" for kind in ours.values}
    counts = {"classes": 0, "methods": 0, "functions": 0}
    for name, record in sorted(apples.records.items()):
        there = ours.records.get(name)
        if there is None:
            if name.startswith(("NS::", "MTL::")):
                classes.append(name)
                counts["classes"] += 1
            continue
        lacks = []
        for method, overloads in sorted(record.methods.items()):
            shapes = {function.shape for function in there.methods.get(method, [])}
            number = sum(not {o.shape, _without_blocks(o.shape)} & shapes for o in overloads)
            # A block is no overload of its own where there is one with a std::function.
            if shapes and all("(^" in o.shape for o in overloads if o.shape not in shapes):
                number = 0
            if number:
                some = "" if len(overloads) == 1 else f" ({number} of {len(overloads)})"
                lacks.append(f"{method}{some}")
                counts["methods"] += number
        if lacks:
            total = sum(map(len, record.methods.values()))
            lines.append(f"{name}: lacks of {total} methods: {', '.join(lacks)}")
    for name in sorted(set(apples.functions) - set(ours.functions)):
        counts["functions"] += 1
        lines.append(f"function {name}")
    for kind in ours.values:
        lacks = sorted(set(apples.values[kind]) - set(ours.values[kind]))
        if kind == "enumerator":  # of enumerations that softmetal has
            types = {value.shape.split(" of ")[1] for value in ours.values[kind].values()}
            others = [name for name in lacks if apples.values[kind][name].shape.split(" of ")[1] not in types]
            lacks = [name for name in lacks if name not in set(others)]
        lacks = [name for name in lacks if name.startswith(("NS::", "MTL::"))]
        counts[plural[kind]] = len(lacks)
        if lacks:
            lines.append(f"{plural[kind]}: {', '.join(lacks)}")
    return lines, classes, counts


def _newer(comparison: Comparison, history: metal_api.History) -> dict[str, list[str]]:
    """What softmetal offers by the macOS release that brought it, if that is not the first."""
    found: dict[str, list[str]] = {}

    def note(release: str, name: str) -> None:
        if release != history.first and name.removeprefix("class ").startswith("MTL::"):
            found.setdefault(release, []).append(name)

    ours, apples = comparison.ours, comparison.apples
    for name, record in ours.records.items():
        there = apples.records.get(name)
        if there is None:
            continue
        release = history.record(name)
        note(release, f"class {name}")
        if release != history.first:
            continue
        for method, overloads in record.methods.items():
            for function in overloads:
                for other in there.methods.get(method, []):
                    if function.shape in (other.shape, _without_blocks(other.shape)):
                        note(history.method(name, method, other), f"{name}::{method}")
    for name in ours.functions:
        if name in apples.functions:
            note(history.function(name), name)
    for kind in ("enumeration", "enumerator", "constant"):
        for name in ours.values[kind]:
            if name in apples.values[kind]:
                note(history.value(kind, name), name)
    return found


def report(comparison: Comparison, history: metal_api.History) -> None:
    lines, classes, counts = _missing(comparison)
    print("What Apple has and softmetal lacks, of the classes and enumerations that softmetal has:")
    print("\n".join(f"  {line}" for line in lines))
    print("Classes that softmetal lacks:")
    print("\n".join(f"  {name}" for name in classes))
    print(f"What softmetal offers and macOS {history.first} lacks, by the release that brought it:")
    for release, names in sorted(_newer(comparison, history).items(), key=lambda x: metal_api.version(x[0])):
        print(f"  {release}: {', '.join(sorted(set(names)))}")
    print("Lacking: " + ", ".join(f"{number} {kind}" for kind, number in counts.items() if number))


def compare(ours: Path, apple: Path, stubs: list[Path], cache: Path, root: Path) -> Comparison:
    with ProcessPoolExecutor(max_workers=2) as pool:
        # All of Apple's namespaces, so that what ours declares outside NS and MTL can be found too.
        apples_api = pool.submit(metal_api.read, apple, cache, stubs, None, True, True)
        ours_api = pool.submit(metal_api.read, ours, cache, [], None, False, True)
        return Comparison(
            ours_api.result(), apples_api.result(), ours.resolve(), apple.resolve(), root.resolve()
        )


def _history(comparison: Comparison, cache: Path, stubs: Path) -> metal_api.History:
    older = metal_api.older_releases(cache)
    with ProcessPoolExecutor(max_workers=2) as pool:
        jobs = {release: pool.submit(metal_api.read, path, cache, [stubs]) for release, path in older.items()}
        apis = {release: job.result() for release, job in jobs.items()}
    return metal_api.History({**apis, metal_api.NEWEST: comparison.apples})


# --- the test of the check ------------------------------------------------------------------------------

_TYPES = """#pragma once
using objc_root = struct objc_object;
struct objc_object {};
namespace NS {
using UInteger = unsigned long;
template <class _Class, class _Base = class Object> class Referencing : public _Base {
 public:
  _Class* retain();
};
template <class _Class, class _Base = class Object> class Copying : public Referencing<_Class, _Base> {};
class Object : public Referencing<Object, objc_object> {
 public:
  UInteger hash() const;
 private:
  Object() = delete;
};
class String : public Copying<String> {};
}
"""

_METAL = """#pragma once
#include "../Foundation/Foundation.hpp"
namespace MTL {
enum StorageMode : NS::UInteger { StorageModeShared = 0, StorageModePrivate = 2 };
using ResourceOptions = NS::UInteger;
enum : ResourceOptions { ResourceStorageModePrivate = 1 << 5 };
extern NS::String* const Domain;
const NS::UInteger NotFound = 7;
struct Size {
  NS::UInteger width;
  NS::UInteger height;
} __attribute__((packed));
class Resource : public NS::Referencing<Resource> {
 public:
  NS::String* label() const;
  void setLabel(const NS::String* label);
};
class Buffer : public NS::Referencing<Buffer, Resource> {
 public:
  static Buffer* alloc();
  void* contents();
  NS::UInteger length() const;
  void modified(NS::UInteger offset, NS::UInteger length = 1);
};
Buffer* CreateBuffer(NS::UInteger length);
}
#define METAL_TEXT(literal) literal
"""

# What is wrong, the text, what it becomes in ours, and what the message has to say.
_PLANTED = [
    (
        "enum value",
        "StorageModePrivate = 2",
        "StorageModePrivate = 3",
        "enumerator MTL::StorageModePrivate: is 3",
    ),
    ("option value", "1 << 5", "1 << 4", "enumerator MTL::ResourceStorageModePrivate: is 16 of"),
    ("missing const", "length() const", "length()", "MTL::Buffer::length: is"),
    ("extra const", "void* contents()", "void* contents() const", "MTL::Buffer::contents: is"),
    ("return type", "void* contents()", "const void* contents()", "MTL::Buffer::contents: is"),
    ("extra method", "void* contents()", "void* bytes(); void* contents()", "MTL::Buffer::bytes"),
    (
        "extra overload",
        "void* contents()",
        "void contents(int); void* contents()",
        "MTL::Buffer::contents: is",
    ),
    ("renamed class", "Buffer", "Memory", "class MTL::Memory: Apple has no class"),
    (
        "underlying type",
        "StorageMode : NS::UInteger",
        "StorageMode : long",
        "enumeration MTL::StorageMode: is",
    ),
    (
        "option type",
        "using ResourceOptions = NS::UInteger",
        "using ResourceOptions = int",
        "alias MTL::Resource",
    ),
    ("parameter type", "setLabel(const NS::String*", "setLabel(NS::String*", "MTL::Resource::setLabel: is"),
    ("parameter width", "modified(NS::UInteger", "modified(unsigned int", "MTL::Buffer::modified: is"),
    ("base class", "Referencing<Buffer, Resource>", "Referencing<Buffer>", "MTL::Buffer: derives from"),
    ("copyable", "Copying<String>", "Referencing<String>", "NS::String: derives from"),
    (
        "default argument",
        "length = 1",
        "length = 2",
        "MTL::Buffer::modified: its default arguments are none, 2",
    ),
    ("no default", "length = 1", "length", "MTL::Buffer::modified: its default arguments are"),
    ("static", "static Buffer* alloc", "Buffer* alloc", "MTL::Buffer::alloc: is"),
    ("noexcept", "void* contents()", "void* contents() noexcept", "MTL::Buffer::contents: is"),
    ("field type", "UInteger height;", "UInteger* height;", "MTL::Size: its fields are"),
    (
        "field order",
        "width;\n  NS::UInteger height",
        "height;\n  NS::UInteger width",
        "MTL::Size: its fields",
    ),
    ("packing", " __attribute__((packed))", "", "MTL::Size: its size and alignment are (16, 8)"),
    ("constant", "NotFound = 7", "NotFound = 8", "constant MTL::NotFound: is const unsigned long = 8"),
    (
        "constant's const",
        "NS::String* const Domain",
        "const NS::String* const Domain",
        "constant MTL::Domain: is",
    ),
    ("function", "CreateBuffer(NS::UInteger", "CreateBuffer(int", "MTL::CreateBuffer: is"),
    ("extra function", "Buffer* Create", "void Extra(); Buffer* Create", "MTL::Extra: void ()"),
    ("function's scope", "}\n#define", "}\nint beside();\n#define", "beside: int ()"),
    ("construction", "Object() = delete;", "", "NS::Object: allows its default constructor"),
    (
        "template",
        "class _Base = class Object> class Copying",
        "class _Base = class Object, int _N = 0> class Copying",
        "NS::Copying: is a",
    ),
    ("macro", "METAL_TEXT", "METAL_WORDS", "macro METAL_WORDS: Apple has no macro"),
    ("class to struct", "class String :", "struct String :", "NS::String: is a struct"),
]

# Ways to spell the same, and what is softmetal's own: none of them drift.
_EQUAL = [
    ("spelling", "NS::UInteger length() const", "unsigned long length() const"),
    ("parameter name", "NS::UInteger offset", "NS::UInteger start"),
    ("less", "void* contents();", ""),
    ("our namespace", "namespace MTL {\nenum", "namespace softmetal { void own(); }\nnamespace MTL {\nenum"),
    ("private", "void* contents();", "void* contents(); private: void* own_;"),
    ("our root", "objc_object", "softmetal_object"),
]


def self_test(cache: Path) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def tree(name: str, types: str, metal: str) -> Path:
            for file, text in (("Foundation/Foundation.hpp", types), ("Metal/Metal.hpp", metal)):
                path = folder / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return folder / name

        def read(which: Path) -> Api:
            return metal_api.read(which, cache, [], None, False, True)

        apple = tree("apple", _TYPES, _METAL)
        apples = read(apple)
        for title, old, new, message in [*_PLANTED, *((*equal, None) for equal in _EQUAL)]:
            if old not in _TYPES + _METAL:
                raise Trouble(f"self-test {title}: {old!r} is not in the headers")
            ours = tree("ours", _TYPES.replace(old, new), _METAL.replace(old, new))
            drift = Comparison(read(ours), apples, ours, apple, folder).drift
            found = any(message in line and ".hpp:" in line for line in drift) if message else drift
            ok = bool(found) == bool(message)
            if not ok:
                failed += 1
                print(f"self-test {title}: reported {drift}, needs {message or 'nothing'}", file=sys.stderr)
    print(f"self-test: {len(_PLANTED)} planted differences and {len(_EQUAL)} equal spellings, {failed} wrong")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    metal_api.add_arguments(parser)
    parser.add_argument("--report", action="store_true", help="list what Apple has and softmetal lacks too")
    parser.add_argument("--self-test", action="store_true", help="plant differences and look for each")
    options = parser.parse_args()
    try:
        if options.self_test:
            return self_test(options.cache)
        apple = options.apple or metal_api.metal_cpp(metal_api.NEWEST, options.cache)
        comparison = compare(options.root / SOFTMETAL, apple, [options.stubs], options.cache, options.root)
        if options.report:
            report(comparison, _history(comparison, options.cache, options.stubs))
    except Trouble as trouble:
        print(f"api_equality: {trouble}", file=sys.stderr)
        return trouble.status
    for line in comparison.drift:
        print(line, file=sys.stderr)
    if comparison.compared < 500:  # softmetal has more: the headers were not read
        print(f"api_equality: only {comparison.compared} declarations were compared", file=sys.stderr)
        return 2
    number = len(comparison.drift)
    print(f"{comparison.compared} declarations of softmetal compared with Apple's, {number} differ")
    return 1 if comparison.drift else 0


if __name__ == "__main__":
    sys.exit(main())
