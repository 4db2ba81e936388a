"""The same operations in other libraries, written the way a careful user of each would write them.

Every module has `OPERATIONS`: for each operation a function `(inputs, reuse) -> run`. `inputs` holds NumPy
arrays under the argument names of `metalloid.ops`; whatever conversion or set-up a library needs is done
there, outside the clock. `run()` computes the result, into memory allocated beforehand if `reuse` is true,
and returns it. The arithmetic is in float32, as ours is, and the result has the type of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Inputs = dict[str, Any]
Run = Callable[[], Any]
EPS = 1e-6
THETA = 10000.0
CHUNK = 64
