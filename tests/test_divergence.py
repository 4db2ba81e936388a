"""Random programs of branches and loops with SIMD-group functions in them, against a masked interpreter.

Lanes that part have to meet again where the statement ends in which they parted, and functions have to see
just the lanes that are there, whatever the compiler makes of the control flow.
"""

from __future__ import annotations

import random

import metalloid as ml
import numpy as np
import pytest
from support import needs_compiler

pytestmark = needs_compiler

VARIABLES = ("a", "b", "c")
FUNCTIONS = ("simd_sum", "simd_max", "simd_xor", "simd_prefix_exclusive_sum", "simd_broadcast_first")
LANES = 32


class Writer:
    """Makes up programs, as trees of tuples, and writes them as Metal."""

    RESULT = "y[lane * 3] = a; y[lane * 3 + 1] = b; y[lane * 3 + 2] = c;"

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loops = 0

    def expression(self, depth: int = 0) -> tuple:
        kind = self.random.random()
        if kind < 0.4 or depth == 2:
            return ("variable", self.random.choice(VARIABLES))
        if kind < 0.6:
            return ("number", self.random.randrange(8))
        if kind < 0.7:
            return ("lane",)
        return (self.random.choice("+*^&"), self.expression(depth + 1), self.expression(depth + 1))

    def condition(self) -> tuple:
        modulus = self.random.randrange(2, 9)
        return self.expression(), modulus, self.random.randrange(1, modulus)

    def statements(self, depth: int = 0, in_loop: bool = False) -> list[tuple]:
        out = []
        for _ in range(self.random.randrange(1, 4)):
            kind = self.random.random()
            variable = self.random.choice(VARIABLES)
            if kind < 0.3:
                out.append(("set", variable, self.expression()))
            elif kind < 0.6:
                out.append(("simd", variable, self.random.choice(FUNCTIONS), self.expression()))
            elif kind < 0.65:
                out.append(("active", variable))
            elif depth < 3 and kind < 0.85:
                other = self.statements(depth + 1, in_loop) if self.random.random() < 0.5 else []
                out.append(("if", self.condition(), self.statements(depth + 1, in_loop), other))
            elif depth < 3 and kind < 0.95:
                body = self.statements(depth + 1, True)
                form = self.random.choice(("for", "while", "do"))
                out.append((form, self.random.randrange(1, 5), self.random.random() < 0.5, body))
            elif in_loop:
                out.append((self.random.choice(("break", "continue")), self.condition()))
            elif depth and self.random.random() < 0.3:
                out.append(("return", self.condition()))
        return out

    def text_of(self, e: tuple) -> str:
        if e[0] == "variable":
            return e[1]
        if e[0] == "number":
            return f"{e[1]}u"
        return "lane" if e[0] == "lane" else f"({self.text_of(e[1])} {e[0]} {self.text_of(e[2])})"

    def write(self, statements: list[tuple], indent: str = "  ") -> str:
        out = ""
        for s in statements:
            kind = s[0]
            if kind == "set":
                out += f"{indent}{s[1]} = {self.text_of(s[2])};\n"
            elif kind == "simd":
                out += f"{indent}{s[1]} = {s[2]}({self.text_of(s[3])});\n"
            elif kind == "active":
                out += f"{indent}{s[1]} = popcount(uint(ulong(simd_active_threads_mask())));\n"
            elif kind in ("for", "while", "do"):
                self.loops += 1
                i, count = f"i{self.loops}", f"({s[1]}u + lane % 3u)" if s[2] else f"{s[1]}u"
                body = self.write(s[3], indent + "  ")
                # The counter goes on before the body, so that `continue` cannot skip it.
                if kind == "for":
                    out += f"{indent}for (uint {i} = 0; {i} < {count}; {i}++) {{\n{body}{indent}}}\n"
                elif kind == "while":
                    out += f"{indent}uint {i} = 0;\n{indent}while ({i}++ < {count}) {{\n{body}{indent}}}\n"
                else:
                    out += f"{indent}uint {i} = 0;\n{indent}do {{\n{indent}  {i}++;\n{body}{indent}}} "
                    out += f"while ({i} < {count});\n"
            else:
                e, modulus, rest = s[1]
                head = f"{indent}if ({self.text_of(e)} % {modulus}u < {rest}u)"
                if kind == "if":
                    out += f"{head} {{\n{self.write(s[2], indent + '  ')}{indent}}}"
                    out += f" else {{\n{self.write(s[3], indent + '  ')}{indent}}}\n" if s[3] else "\n"
                elif kind == "return":
                    out += (
                        f"{head} {{ y[lane * 3] = a; y[lane * 3 + 1] = b; y[lane * 3 + 2] = c; return; }}\n"
                    )
                else:
                    out += f"{head} {kind};\n"
        return out

    def kernel(self, name: str, program: list[tuple]) -> str:
        return (
            f"kernel void {name}(device uint* y [[buffer(0)]], uint lane [[thread_position_in_grid]]) {{\n"
            f"  uint a = lane * 5 + 1, b = lane ^ 3, c = 7;\n{self.write(program)}"
            f"  {self.RESULT}\n}}\n"
        )


class Interpreter:
    """Runs a program on 32 lanes at once, with a mask of those that take part."""

    def __init__(self) -> None:
        self.lane = np.arange(LANES, dtype=np.uint32)
        self.values = {"a": self.lane * 5 + 1, "b": self.lane ^ 3, "c": self.lane * 0 + 7}

    def value(self, e: tuple) -> np.ndarray:
        if e[0] == "variable":
            return self.values[e[1]]
        if e[0] == "number":
            return np.full(LANES, e[1], np.uint32)
        if e[0] == "lane":
            return self.lane
        a, b = self.value(e[1]), self.value(e[2])
        return {"+": np.add, "*": np.multiply, "^": np.bitwise_xor, "&": np.bitwise_and}[e[0]](a, b)

    def holds(self, condition: tuple) -> np.ndarray:
        e, modulus, rest = condition
        return self.value(e) % modulus < rest

    def store(self, name: str, value: np.ndarray, mask: np.ndarray) -> None:
        self.values[name] = np.where(mask, value, self.values[name]).astype(np.uint32)

    def simd(self, function: str, v: np.ndarray, mask: np.ndarray) -> np.ndarray:
        own = np.where(mask, v, 0).astype(np.uint32)
        if function == "simd_prefix_exclusive_sum":
            return np.cumsum(own, dtype=np.uint32) - own
        result = {
            "simd_sum": lambda: own.sum(dtype=np.uint32),
            "simd_max": lambda: v[mask].max(),
            "simd_xor": lambda: np.bitwise_xor.reduce(own),
            "simd_broadcast_first": lambda: v[mask][0],
        }[function]()
        return np.full(LANES, result, np.uint32)

    def run(self, statements: list[tuple], mask: np.ndarray, breaks=None, continues=None) -> np.ndarray:
        """The lanes that come to the end."""
        for s in statements:
            kind = s[0]
            if not mask.any():
                return mask
            if kind == "set":
                self.store(s[1], self.value(s[2]), mask)
            elif kind == "active":
                self.store(s[1], np.uint32(mask.sum()), mask)
            elif kind == "simd":
                self.store(s[1], self.simd(s[2], self.value(s[3]), mask), mask)
            elif kind == "if":
                taken = mask & self.holds(s[1])
                other = mask & ~taken
                mask = self.run(s[2], taken, breaks, continues) | self.run(s[3], other, breaks, continues)
            elif kind in ("for", "while", "do"):
                count = s[1] + (self.lane % 3 if s[2] else 0 * self.lane)
                left, rounds = np.zeros(LANES, bool), 0
                while True:
                    done = mask & (rounds >= count) if rounds or kind != "do" else mask & False
                    left, mask = left | done, mask & ~done
                    if not mask.any():
                        break
                    broke, continued = np.zeros(LANES, bool), np.zeros(LANES, bool)
                    mask = self.run(s[3], mask, broke, continued) | continued
                    left |= broke
                    rounds += 1
                mask = left
            else:
                leaving = mask & self.holds(s[1])
                mask = mask & ~leaving
                if kind != "return":
                    (breaks if kind == "break" else continues)[leaving] = True
        return mask


@pytest.mark.parametrize("name", ml.devices())
def test_lanes_meet_again(name, rng):
    dev = ml.Device(name)
    writer = Writer(int(rng.integers(1 << 32)))
    programs = [writer.statements() for _ in range(60)]
    source = "#include <metal_stdlib>\nusing namespace metal;\n"
    kernels = [writer.kernel(f"k{n}", program) for n, program in enumerate(programs)]
    library = dev.compile(source + "".join(kernels))
    for n, program in enumerate(programs):
        interpreter = Interpreter()
        interpreter.run(program, np.ones(LANES, bool))
        want = np.stack([interpreter.values[v] for v in VARIABLES], 1)
        y = dev.zeros((LANES, 3), ml.uint32)
        with dev.commands() as cmd:
            cmd.dispatch(library.kernel(f"k{n}"), threads=LANES, threadgroup=LANES, args=[y])
        np.testing.assert_array_equal(np.asarray(y), want, err_msg=kernels[n])
