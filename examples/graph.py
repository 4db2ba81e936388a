"""A layer recorded once, optimised, and run with one input after another."""

from __future__ import annotations

import metalloid as ml
import numpy as np


def layer(g: ml.Graph, x: ml.Buffer, w: dict[str, ml.Buffer], positions: ml.Buffer) -> ml.Buffer:
    """What surrounds the matrix products of a transformer layer. Its locals are the graph's own."""
    heads = ml.ops.rope_neox(g, ml.ops.rms_norm(g, x, weight=w["norm"]), positions=positions)
    gate = ml.ops.silu_mul(g, heads, x)
    return ml.ops.add(g, ml.ops.mul(g, ml.ops.rms_norm(g, gate, weight=w["post"]), heads), x)


def main() -> None:
    rng = np.random.default_rng(0)
    dev = ml.Device()
    shape = (16, 8, 128)  # tokens, heads, head_dim
    weights = {name: dev.array(rng.standard_normal(128).astype(np.float32)) for name in ("norm", "post")}
    x = dev.array(rng.standard_normal(shape).astype(np.float32))
    positions = dev.array(np.arange(16, dtype=np.int32))

    with dev.record("four layers") as g:
        g.name("x", x)
        y = x
        for i in range(4):
            with g.group(f"layer {i}"):
                y = layer(g, y, weights, positions)

    g.run()
    expected = np.array(y)
    print(f"{len(g)} dispatches, {g.barrier_count} barriers")
    g.optimize().run()
    print(f"{len(g)} dispatches, {g.barrier_count} barriers, {g.fused_count} fused; {g.memory}")
    np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-5, atol=1e-5)

    g.rebind("x", dev.array(rng.standard_normal(shape).astype(np.float32)))
    g.run()
    print("with another input:", np.asarray(y)[0, 0, :3])


if __name__ == "__main__":
    main()
