from __future__ import annotations

import textwrap
from importlib import metadata

import metalloid as ml
import pytest

pytestmark = pytest.mark.skipif("simt" not in ml.devices(), reason="no checked device")
pytest_plugins = ["pytester"]

KERNEL = '''
import metalloid as ml
import numpy as np
import pytest

SOURCE = """
#include <metal_stdlib>
using namespace metal;
[[kernel]] void reversed(device uint* y [[buffer(0)]], threadgroup uint* scratch [[threadgroup(0)]],
                         uint i [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  scratch[i] = 0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  scratch[i] = i;
#ifndef RACE
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  y[i] = scratch[n - 1 - i];
}
"""

def reverse(device, length=64, **macros):
    kernel = device.compile(SOURCE, name="reversed.metal", macros=macros).kernel("reversed")
    y = device.empty((length,), np.uint32)
    with device.commands() as cmd:
        cmd.dispatch(kernel, threads=64, threadgroup=64, args=[y, ml.threadgroup_memory(256)])
    return y.numpy()
'''


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(pytester, cache_dir, monkeypatch):
    """Runs pytest on a file of tests, in a process of its own that finds the plugin by its entry point."""
    monkeypatch.setenv("METALLOID_CACHE_DIR", str(cache_dir))
    for name in ("METALLOID_SEED", "METALLOID_CHECK", "METALLOID_DEVICE"):
        monkeypatch.delenv(name, raising=False)

    def run(tests: str, *arguments: str, **outcomes: int) -> str:
        pytester.makepyfile(KERNEL + textwrap.dedent(tests))
        done = pytester.runpytest_subprocess("-v", "-rs", "-p", "no:cacheprovider", *arguments, timeout=120)
        if outcomes:
            done.assert_outcomes(**outcomes)
        return done.stdout.str() + done.stderr.str()

    return run


def test_pytest_finds_it_by_its_entry_point():
    (entry,) = metadata.entry_points(group="pytest11", name="metalloid")
    assert entry.value == "metalloid.pytest_plugin"


def test_tests_run_on_cpu_and_simt(run):
    said = run(
        """
        def test_reverse(metal_device):
            assert reverse(metal_device).tolist() == list(range(64))[::-1]
        """,
        passed=2,
    )
    assert "test_reverse[cpu]" in said and "test_reverse[simt]" in said


def test_devices_are_chosen_and_those_not_there_are_skipped(run):
    tests = """
        def test_name(metal_device):
            assert metal_device.name in ("cpu", "simt", "metal")
        """
    run(tests, "--metal-device=simt", passed=1)
    absent = {"cpu", "simt", "metal"} - set(ml.devices())
    said = run(tests, "--metal-device=cpu,simt,metal", passed=3 - len(absent), skipped=len(absent))
    for name in absent:
        assert f"this machine has no device '{name}'" in said
    assert "no device 'abacus'; there are cpu, simt, metal" in run(tests, "--metal-device=cpu,abacus")


def test_seeds(run):
    tests = """
        seen = []

        def test_seed_of_a_device(metal_device, metal_seed):
            assert ml.check_settings().seed == metal_seed

        def test_device_alone(metal_device):
            assert reverse(metal_device)[0] == 63

        def test_seed_alone(metal_seed):
            assert ml.check_settings().seed == metal_seed
            seen.append(metal_seed)

        def test_all_seen(request):
            assert seen == [int(n) for n in (request.config.getoption("--metal-seeds") or "0").split(",")]
            assert ml.check_settings().seed == 0
        """
    said = run(tests, "--metal-seeds=0,3,7", passed=2 * 4 + 3 + 1)
    for name in ("[cpu]", "[simt-seed0]", "[simt-seed3]", "[simt-seed7]"):
        assert f"test_device_alone{name}" in said
    run(tests, passed=2 * 2 + 1 + 1)
    for wrong in ("1,b", "-1", "1.5"):
        assert "needs whole numbers" in run(tests, f"--metal-seeds={wrong}")


def test_the_environment_gives_the_seed(run, monkeypatch):
    monkeypatch.setenv("METALLOID_SEED", "11")
    run(
        """
        def test_seed(metal_device, metal_seed):
            assert metal_seed == ml.check_settings().seed == 11
        """,
        passed=2,
    )


def test_a_fault_fails_a_test_with_its_report(run):
    said = run(
        """
        def test_race(metal_device):
            reverse(metal_device, RACE=1)
        """,
        "--metal-device=simt",
        failed=1,
    )
    assert "threadgroup-race" in said and "reversed.metal:12" in said and "scratch[i] = i;" in said


def test_an_expected_fault_passes_on_simt_alone(run):
    said = run(
        """
        @pytest.mark.metal_fault(kind="threadgroup-race")
        def test_kind(metal_device):
            reverse(metal_device, RACE=1)

        @pytest.mark.metal_fault("threadgroup-race", kernel="reversed", variable="scratch", line=12)
        def test_all(metal_device):
            reverse(metal_device, RACE=1)

        @pytest.mark.metal_fault("threadgroup-race", line=8)
        def test_the_other_line(metal_device):
            reverse(metal_device, RACE=1)

        @pytest.mark.metal_fault("threadgroup-race")
        def test_collected(metal_device):
            metal_device.check_mode = "collect"
            reverse(metal_device, RACE=1)

        @pytest.mark.metal_fault("out-of-bounds")
        @pytest.mark.metal_fault("threadgroup-race")
        def test_two(metal_device):
            metal_device.check_mode = "collect"
            reverse(metal_device, RACE=1)
            reverse(metal_device, length=60)

        def test_and_nothing_is_left(metal_device):
            assert metal_device.check_mode == "raise" and metal_device.faults == []
        """,
        passed=7,
    )
    assert "[cpu]" in said and "test_kind[simt]" in said and "test_kind[cpu]" not in said


@pytest.mark.parametrize(
    ("mark", "body", "needs"),
    [
        ('kind="threadgroup-race"', "reverse(metal_device)", "which the checker did not find"),
        ('kind="out-of-bounds"', "reverse(metal_device, RACE=1)", "found another"),
        ('kind="threadgroup-race", kernel="other"', "reverse(metal_device, RACE=1)", "found another"),
        ('kind="threadgroup-race", variable="y"', "reverse(metal_device, RACE=1)", "found another"),
        ('kind="threadgroup-race", line=10', "reverse(metal_device, RACE=1)", "found another"),
        ('kind="threadgroup-race"', "assert reverse(metal_device)[0] == 0", "assert "),
        ('kernel="reversed"', "reverse(metal_device, RACE=1)", "metal_fault takes kind"),
        ('kind="threadgroup-race", place=1', "reverse(metal_device, RACE=1)", "metal_fault takes kind"),
    ],
)
def test_an_expectation_that_is_not_met_fails(run, mark, body, needs):
    said = run(
        f"""
        @pytest.mark.metal_fault({mark})
        def test_it(metal_device):
            {body}
        """,
        failed=1,
    )
    assert needs in said


def test_an_expectation_needs_a_device_that_checks(run, monkeypatch):
    tests = """
        @pytest.mark.metal_fault("threadgroup-race")
        def test_it(metal_device):
            reverse(metal_device, RACE=1)
        """
    assert "only simt can find" in run(tests, "--metal-device=cpu", skipped=1)
    monkeypatch.setenv("METALLOID_CHECK", "off")
    assert "METALLOID_CHECK is off" in run(tests, skipped=1)


def test_an_expectation_without_the_fixture_fails(run):
    tests = """
        @pytest.mark.metal_fault("threadgroup-race")
        def test_it():
            pass
        """
    assert "needs the fixture metal_device" in run(tests, failed=1)


def test_the_marker_is_known(run):
    run(
        """
        @pytest.mark.metal_fault("threadgroup-race")
        def test_it(metal_device):
            reverse(metal_device, RACE=1)
        """,
        "--strict-markers",
        "-W",
        "error",
        passed=1,
    )


def test_it_can_be_turned_off(run):
    tests = """
        def test_it(metal_device):
            pass
        """
    assert "fixture 'metal_device' not found" in run(tests, "-p", "no:metalloid", errors=1)


def test_nothing_heavy_is_imported_before_it_is_needed(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "metalloid.pytest_plugin" in sys.modules
            assert not {"numpy", "rich", "typer", "ml_dtypes"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_with_xdist(run):
    pytest.importorskip("xdist")
    run(
        """
        @pytest.mark.metal_fault("threadgroup-race")
        def test_race(metal_device):
            reverse(metal_device, RACE=1)

        def test_reverse(metal_device, metal_seed):
            assert reverse(metal_device)[0] == 63
        """,
        "-n2",
        "--metal-seeds=0,1",
        passed=2 + 3,
    )
