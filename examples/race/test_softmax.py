"""Run with: python -m pytest examples/race --metal-seeds=0,1,2"""

from pathlib import Path

import metalloid as ml
import numpy as np
import pytest

HERE = Path(__file__).parent


def softmax(device: ml.Device, file: str, x: np.ndarray) -> np.ndarray:
    kernel = device.compile(HERE / file).kernel("softmax")
    y = device.empty(x.shape, np.float32)
    with device.commands() as cmd:
        cmd.dispatch(
            kernel,
            threadgroups=len(x),
            threadgroup=256,
            args={"x": device.array(x), "y": y, "dim": x.shape[1]},
        )
    return y.numpy()


@pytest.mark.parametrize("dim", [1, 37, 1000])
def test_softmax(metal_device, metal_seed, dim):
    x = np.random.default_rng(metal_seed).standard_normal((4, dim), dtype=np.float32)
    exps = np.exp(x - x.max(axis=-1, keepdims=True))
    want = exps / exps.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(softmax(metal_device, "softmax_mended.metal", x), want, rtol=1e-5, atol=1e-7)


@pytest.mark.metal_fault(kind="threadgroup-race", kernel="softmax", variable="scratch")
def test_the_race_is_found(metal_device):
    softmax(metal_device, "softmax.metal", np.ones((4, 1000), np.float32))
