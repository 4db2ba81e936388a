from __future__ import annotations

import os
import secrets
import zlib

import metalloid as ml
import numpy as np
import pytest
from support import skip_if_lacking

# Fresh data every run; METALLOID_TEST_SEED=<the seed printed above> repeats one.
SEED = int(os.environ.get("METALLOID_TEST_SEED") or secrets.randbits(32))


def pytest_report_header() -> str:
    return f"metalloid {ml.__version__} from {os.path.dirname(ml.__file__)}, METALLOID_TEST_SEED={SEED}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    if report.failed:
        report.sections.append(("random data", f"METALLOID_TEST_SEED={SEED}"))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call():
    """What the device cannot run is no failure of the test."""
    try:
        return (yield)
    except ml.DeviceError as error:
        skip_if_lacking(error)
        raise


pytest_fixture_setup = pytest_pyfunc_call


@pytest.fixture(scope="session")
def dev() -> ml.Device:
    return ml.Device()


@pytest.fixture
def rng(request) -> np.random.Generator:
    """Random numbers that depend on the seed of the run and the name of the test, not on what ran before."""
    return np.random.default_rng([SEED, zlib.crc32(request.node.nodeid.encode())])
