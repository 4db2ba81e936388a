"""The operations, as the compiled module binds them."""

from ._core.ops import *  # noqa: F403
