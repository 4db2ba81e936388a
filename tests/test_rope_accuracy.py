"""The promised accuracy of rotary angles: within 2^-23 * |angle| + 1e-6, up to position 1,000,000."""

from __future__ import annotations

import metalloid as ml
import numpy as np
import pytest

POSITIONS = np.unique(
    np.concatenate([np.arange(512), np.geomspace(1, 1_000_000, 1500).astype(int), 1_000_000 - np.arange(64)])
)


@pytest.mark.parametrize("theta", [100.0, 10_000.0, 1_000_000.0])
@pytest.mark.parametrize("head_dim", [64, 72, 512])
def test_fused_head_norm_rope(dev, head_dim, theta):
    # Ones are their own RMS norm, and the weight makes each pair (cos a, sin a) of 45 degrees: a unit vector.
    x = np.ones((len(POSITIONS), 1, head_dim), np.float32)
    weight = np.full(head_dim, np.sqrt(0.5), np.float32)
    with dev.commands() as cmd:
        y = ml.ops.fused_head_norm_rope(
            cmd,
            dev.array(x),
            positions=dev.array(POSITIONS.astype(np.uint32)),
            theta=theta,
            weight=dev.array(weight),
            eps=1e-12,
        )
    angles = POSITIONS[:, None] / theta ** (2 * np.arange(head_dim // 2) / head_dim)
    expected = np.concatenate([np.cos(angles + np.pi / 4), np.sin(angles + np.pi / 4)], axis=-1)
    off = np.abs(np.asarray(y)[:, 0] - expected) / (
        2.0**-23 * np.concatenate([angles, angles], axis=-1) + 1e-6
    )
    assert off.max() <= 1, (
        f"{off.max():.2f} times the bound at position {POSITIONS[off.max(axis=1).argmax()]}"
    )


@pytest.mark.parametrize("theta", [100.0, 10_000.0])
@pytest.mark.parametrize("head_dim", [64, 72, 128])
def test_vision_2d_rope(dev, head_dim, theta):
    x = np.zeros((len(POSITIONS), 1, head_dim), np.float32)
    quarter = head_dim // 4
    x[..., :quarter] = x[..., 2 * quarter : 3 * quarter] = 1
    backwards = POSITIONS[::-1].copy()
    with dev.commands() as cmd:
        y = ml.ops.vision_2d_rope(
            cmd,
            dev.array(x),
            dev.array(POSITIONS.astype(np.int32)),
            dev.array(backwards.astype(np.uint32)),
            theta=theta,
        )
    frequencies = theta ** (-2 * np.arange(quarter) / (2 * quarter))
    angles = [p[:, None] * frequencies for p in (POSITIONS, backwards)]
    expected = np.concatenate([f(a) for a in angles for f in (np.cos, np.sin)], axis=-1)
    bound = 2.0**-23 * np.concatenate([a for a in angles for _ in range(2)], axis=-1) + 1e-6
    off = np.abs(np.asarray(y)[:, 0] - expected) / bound
    assert off.max() <= 1, f"{off.max():.2f} times the bound at row {off.max(axis=1).argmax()}"


def test_a_huge_frequency_factor_leaves_its_pair_alone(dev, rng):
    x = rng.standard_normal((5, 2, 64)).astype(np.float32)
    factors = np.where(np.arange(32) < 8, 1.0, 1e30).astype(np.float32)
    positions = dev.array(np.array([0, 1, 99, 31_337, 1_000_000], np.int32))
    with dev.commands() as cmd:
        turned = ml.ops.fused_head_norm_rope(
            cmd, dev.array(x), positions=positions, freq_factors=dev.array(factors)
        )
        left = ml.ops.fused_head_norm_rope(cmd, dev.array(x), positions=positions, half_rope_dim=0)
    turned, left = np.asarray(turned), np.asarray(left)
    for start in (8, 40):
        np.testing.assert_array_equal(turned[..., start : start + 24], left[..., start : start + 24])
    assert (turned[1:, :, :8] != left[1:, :, :8]).any()
