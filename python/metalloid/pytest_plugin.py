"""The pytest plugin: tests of Metal kernels on several devices, in several orders, and of expected faults.

Loaded by pytest in every environment that has metalloid, so nothing is imported and no device opened before a
test asks for it. `-p no:metalloid` turns it off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import metalloid as ml

DEVICES = ("cpu", "simt", "metal")
CHECKED = "simt"
EXPECTATIONS = ("kind", "kernel", "variable", "line")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("metalloid", "Metal kernels")
    group.addoption(
        "--metal-device",
        metavar="NAME,...",
        help="devices for tests that use metal_device; one that this machine lacks is skipped (default: cpu "
        "and simt where they are, else the device that there is)",
    )
    group.addoption(
        "--metal-seeds",
        metavar="N,...",
        help="seeds of the order in which simt runs threads; tests that use metal_device or metal_seed run "
        "once with each (default: METALLOID_SEED, or 0)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "metal_fault(kind, kernel=None, variable=None, line=None): the test passes if the checker finds this "
        "fault and no other; several marks expect several faults. Runs on simt only.",
    )
    unknown = set(_names(config) or ()) - set(DEVICES)
    if unknown:
        raise pytest.UsageError(f"--metal-device: no device '{min(unknown)}'; there are {', '.join(DEVICES)}")
    _seeds(config)


def _names(config: pytest.Config) -> list[str] | None:
    given = config.getoption("--metal-device")
    return [name.strip() for name in given.split(",") if name.strip()] if given else None


def _seeds(config: pytest.Config) -> list[int]:
    given = config.getoption("--metal-seeds") or os.environ.get("METALLOID_SEED") or "0"
    try:
        seeds = list(dict.fromkeys(int(seed, 0) for seed in given.split(",")))
    except ValueError:
        seeds = [-1]
    if min(seeds) < 0:
        raise pytest.UsageError(f"--metal-seeds is '{given}', needs whole numbers separated by commas")
    return seeds


def _parameters(config: pytest.Config, faults: bool) -> list[Any]:
    """A device and a seed for each run of a test. Only simt has an order to vary, or faults to find."""
    import metalloid as ml

    present = ml.devices()
    names = _names(config) or [name for name in ("cpu", CHECKED) if name in present] or present
    seeds = _seeds(config)
    if faults:
        names = [name for name in names if name == CHECKED]
        if not names:
            reason = f"expects a fault, which only {CHECKED} can find"
            return [pytest.param(None, seeds[0], marks=pytest.mark.skip(reason), id=CHECKED)]
    parameters = []
    for name in names:
        absent = [] if name in present else [pytest.mark.skip(f"this machine has no device '{name}'")]
        for seed in seeds if name == CHECKED else seeds[:1]:
            some = name == CHECKED and len(seeds) > 1
            parameters.append(
                pytest.param(name, seed, marks=absent, id=f"{name}-seed{seed}" if some else name)
            )
    return parameters


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "metal_device" in metafunc.fixturenames:
        faults = metafunc.definition.get_closest_marker("metal_fault") is not None
        parameters = _parameters(metafunc.config, faults)
        metafunc.parametrize(("metal_device", "metal_seed"), parameters, indirect=True)
    elif "metal_seed" in metafunc.fixturenames:
        seeds = _seeds(metafunc.config)
        metafunc.parametrize("metal_seed", seeds, indirect=True, ids=[f"seed{seed}" for seed in seeds])


@pytest.fixture
def metal_seed(request: pytest.FixtureRequest) -> Iterator[int]:
    """The seed that the checker orders threads by during the test; good for random data too."""
    import metalloid as ml

    before = ml.check_settings().seed
    ml.set_check_settings(seed=request.param)
    yield request.param
    ml.set_check_settings(seed=before)


@pytest.fixture
def metal_device(request: pytest.FixtureRequest, metal_seed: int) -> Iterator[ml.Device]:
    """Each of the devices of --metal-device in turn. Faults are raised by the wait, whatever ran before."""
    import metalloid as ml

    device = ml.Device(request.param)
    if not hasattr(device, "check_mode"):
        yield device
        return
    before = device.check_mode
    device.check_mode = "raise"
    device.clear_faults()
    yield device
    try:
        device.synchronize()  # raises what the test did not wait for
    finally:
        device.check_mode = before
        device.clear_faults()


def _expected(item: pytest.Item) -> list[dict[str, Any]]:
    """What the marks of a test expect, the closest first."""
    expected = []
    for mark in item.iter_markers("metal_fault"):
        wanted = dict(zip(EXPECTATIONS, mark.args, strict=False)) | mark.kwargs
        if len(mark.args) > 1 or not wanted.get("kind") or set(wanted) - set(EXPECTATIONS):
            pytest.fail(
                f"{mark} is wrong: metal_fault takes {', '.join(EXPECTATIONS)}, by name", pytrace=False
            )
        expected.append({name: value for name, value in wanted.items() if value is not None})
    return expected


def _is(fault: ml.KernelFault, wanted: dict[str, Any]) -> bool:
    lines = (fault.line, fault.second_line)  # a race has two
    return all(
        value in lines if name == "line" else value == getattr(fault, name) for name, value in wanted.items()
    )


def _told(wanted: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in wanted.items())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Turns the outcome of a test around that expects faults."""
    expected = _expected(item)
    if not expected:
        return (yield)
    import metalloid as ml

    device = getattr(item, "funcargs", {}).get("metal_device")
    if device is None:
        pytest.fail("a test marked metal_fault needs the fixture metal_device", pytrace=False)
    if not ml.check_settings().enabled:
        pytest.skip("expects a fault, but METALLOID_CHECK is off")
    raised = None
    try:
        yield
        device.synchronize()
    except ml.KernelFault as error:
        raised = error
    found = [*(raised.faults or (raised,) if raised else ()), *device.faults]
    for fault in found:
        if not any(_is(fault, wanted) for wanted in expected):
            message = "; ".join(map(_told, expected))
            pytest.fail(f"expected the fault {message}, found another:\n{fault.text}", pytrace=False)
    for wanted in expected:
        if not any(_is(fault, wanted) for fault in found):
            pytest.fail(f"expected the fault {_told(wanted)}, which the checker did not find", pytrace=False)
