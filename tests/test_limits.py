"""The limits of Apple's GPU families on the devices that stand in for one, and limits set from outside."""

from __future__ import annotations

import os
import subprocess
import sys

import metalloid as ml
import numpy as np
import pytest
from support import needs_compiler, open_device, run_python

software = pytest.mark.skipif("metal" in ml.devices(), reason="Metal has the limits of its own GPU")

GIB = 1 << 30
HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"


@pytest.fixture(params=["cpu", "simt"])
def device(request) -> ml.Device:
    return open_device(request.param)


def said(code: str, **environment: str) -> str:
    """What the code prints in a process of its own with just these settings."""
    plain = {
        name: ""
        for name in (
            "METALLOID_GPU_FAMILY",
            "METALLOID_MAX_BUFFER_LENGTH",
            "METALLOID_MAX_THREADS_PER_THREADGROUP",
        )
    }
    done = run_python("import metalloid as ml\nimport numpy as np\n" + code, **(plain | environment))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.rstrip("\n")


REFUSALS = """
for name in ml.devices():
    try:
        ml.Device(name)
    except ml.DeviceError as e:
        print(e)
"""


# --- GPU families -------------------------------------------------------------------------------


@software
@pytest.mark.parametrize(
    ("family", "longest"), [("apple7", 4), ("apple8", 4), ("apple9", 4), ("apple10", 8)], ids=str
)
def test_a_device_takes_the_limits_of_the_family(family, longest):
    printed = said(
        """
for name in ml.devices():
    d = ml.Device(name)
    print(d.gpu_family, d.max_buffer_length, d.max_threadgroup_memory_length, *d.max_threads_per_threadgroup)
""",
        METALLOID_GPU_FAMILY=family,
    )
    lines = [line.split() for line in printed.splitlines()]
    assert len(lines) == len(ml.devices()) == 2
    for name, length, *rest in lines:
        assert name == family
        assert 0 < int(length) <= longest * GIB
        assert rest == ["32768", "1024", "1024", "1024"]


@software
def test_without_a_setting_no_family_is_imitated():
    assert said("print([ml.Device(d).gpu_family for d in ml.devices()])") == "[None, None]"


def test_a_family_has_a_name(dev):
    assert dev.gpu_family is None or dev.gpu_family.startswith("apple")


@software
@pytest.mark.parametrize("unknown", ["apple6", "m1", "Apple7"])
def test_an_unknown_family_is_named_with_those_that_there_are(unknown):
    says = (
        f'Device: METALLOID_GPU_FAMILY is "{unknown}", needs one of: '
        "apple7, apple8, apple9, apple10 (or not to be set)"
    )
    assert said(REFUSALS, METALLOID_GPU_FAMILY=unknown) == f"{says}\n{says}"


@software
@pytest.mark.parametrize(
    "setting",
    [
        {"METALLOID_MAX_BUFFER_LENGTH": "much"},
        {"METALLOID_MAX_BUFFER_LENGTH": "1"},
        {"METALLOID_MAX_THREADS_PER_THREADGROUP": "many"},
        {"METALLOID_MAX_THREADS_PER_THREADGROUP": "rms_norm_f32=384,768"},
    ],
    ids=str,
)
def test_other_settings_that_make_no_sense_are_refused(setting):
    ((name, value),) = setting.items()
    lines = said(REFUSALS, **setting).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f'Device: {name} is "{value}", needs a number of'), line


@software
@needs_compiler
def test_atomics_of_64_bits_are_not_for_every_family():
    code = f'''
library = ml.Device(name).compile("""{HEAD}
kernel void wide(device atomic_ulong* most [[buffer(0)]]) {{
  atomic_max_explicit(most, ulong(3), memory_order_relaxed);
}}
kernel void plain(device atomic_uint* most [[buffer(0)]]) {{
  atomic_max_explicit(most, 3u, memory_order_relaxed);
}}
""")
library.kernel("plain")
try:
    library.kernel("wide")
    print("taken")
except ml.DeviceError as e:
    print(e)
'''
    loop = "for name in ml.devices():\n" + "\n".join("    " + line for line in code.splitlines())
    refused = said(loop, METALLOID_GPU_FAMILY="apple7").splitlines()
    assert len(refused) == 2
    for line in refused:
        assert 'kernel "wide" uses atomic_ulong, needs a GPU family that has it' in line
        assert "METALLOID_GPU_FAMILY is apple7" in line
    for other in ("apple8", "apple9", ""):
        assert said(loop, METALLOID_GPU_FAMILY=other) == "taken\ntaken"


@software
def test_info_names_family_and_mistakes():
    def info(**environment):
        return subprocess.run(
            [sys.executable, "-m", "metalloid", "info"],
            env={**os.environ, "COLUMNS": "160", **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    shown = info(METALLOID_GPU_FAMILY="apple8", METALLOID_MAX_THREADS_PER_THREADGROUP="rms*=384")
    assert shown.returncode == 0, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines.count(["GPU", "family", "apple8"]) == len(ml.devices())
    assert ["METALLOID_MAX_THREADS_PER_THREADGROUP", "rms*=384"] in lines
    refused = info(METALLOID_GPU_FAMILY="m1")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "needs one of: apple7" in refused.stderr


# --- the longest buffer -------------------------------------------------------------------------


@software
def test_buffers_past_the_longest_are_refused():
    printed = said(
        """
import mmap
for name in ml.devices():
    d = ml.Device(name)
    assert d.max_buffer_length == 1 << 20
    ok = d.array(np.ones((256, 1024), np.float32))     # 1 MiB: the longest
    whole = np.frombuffer(mmap.mmap(-1, 1 << 20), np.uint8)
    assert d.wrap(whole).nbytes == 1 << 20
    for make in (
        lambda: d.empty((1 << 18) + 1),
        lambda: d.zeros((1 << 20) + 1, "uint8"),
        lambda: d.array(np.zeros((1 << 18) + 1, np.float32)),
        lambda: d.wrap(np.frombuffer(mmap.mmap(-1, (1 << 20) + 1), np.uint8)),
    ):
        try:
            make()
            print("taken")
        except ml.ValidationError as e:
            assert "needs at most 1048576 (max_buffer_length)" in str(e), e
            print(type(e).__name__)
""",
        METALLOID_MAX_BUFFER_LENGTH="1M",
    )
    assert printed.split() == ["ValidationError"] * 8


@software
def test_outputs_and_graphs_keep_to_the_longest_buffer():
    """What is planned into one allocation stays in several where one would be too long."""
    printed = said(
        """
d = ml.Device()
x = d.array(np.random.default_rng(0).standard_normal((64, 1024)).astype(np.float32))   # 256 KiB each
def chain(encoder):
    # All intermediates live at once, 1.5 MiB of them.
    parts = [ml.ops.rms_norm(encoder, x, eps=10.0 ** -k) for k in range(1, 7)]
    while len(parts) > 1:
        a, b, *parts = parts
        parts.append(ml.ops.add(encoder, a, b))
    return parts[0]
with d.commands() as cmd:
    expected = chain(cmd)
with d.record() as g:
    got = chain(g)
g.optimize().run()
np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
print("same")
""",
        METALLOID_MAX_BUFFER_LENGTH="512K",
    )
    assert printed == "same"


# --- threads ------------------------------------------------------------------------------------


@software
def test_threads_are_limited_kernel_by_kernel():
    printed = said(
        """
d = ml.Device("simt")
for name in ("rms_norm_f32", "rms_norm_f16", "add_f32"):
    print(d.kernel(name).max_total_threads_per_threadgroup)
""",
        METALLOID_MAX_THREADS_PER_THREADGROUP="rms_norm_f32=384,rms_norm_*=500,*=768",
    )
    assert printed.split() == ["384", "480", "768"]


@needs_compiler
@software
@pytest.mark.parametrize("attribute", [96, None])
def test_a_dispatch_of_more_threads_than_the_kernel_takes_is_refused(device, monkeypatch, attribute):
    most = "" if attribute is None else f"[[max_total_threads_per_threadgroup({attribute})]] "
    if attribute is None:
        monkeypatch.setenv("METALLOID_MAX_THREADS_PER_THREADGROUP", "ids=96,*=64")
    else:
        monkeypatch.delenv("METALLOID_MAX_THREADS_PER_THREADGROUP", raising=False)
    text = (
        f"{HEAD}{most}kernel void ids(device uint* y [[buffer(0)]], uint i [[thread_position_in_grid]]) "
        f"{{ y[i] = i; }} // {attribute}\n"
    )
    kernel = device.compile(text).kernel("ids")
    assert kernel.max_total_threads_per_threadgroup == 96
    y = device.zeros(192, "uint32")
    with device.commands() as cmd:
        for threadgroup in ((97,), (1, 97), (32, 2, 2), (1024,)):
            with pytest.raises(ml.ValidationError, match=r"needs at most 96 \(max_total_threads_per"):
                cmd.dispatch(kernel, threads=192, threadgroup=threadgroup, args=[y])
        assert cmd.dispatch_count == 0
        cmd.dispatch(kernel, threads=192, threadgroup=96, args=[y])
    np.testing.assert_array_equal(np.asarray(y), np.arange(192))


@needs_compiler
@software
def test_a_rule_that_makes_no_sense_is_an_error_of_the_kernel_too(device, monkeypatch):
    """The setting is read for every pipeline, so it may have changed since the device was opened."""
    library = device.compile(f"{HEAD}kernel void late(device uint* y [[buffer(0)]]) {{ y[0] = 1; }}\n")
    monkeypatch.setenv("METALLOID_MAX_THREADS_PER_THREADGROUP", "late")
    with pytest.raises(ml.DeviceError, match='METALLOID_MAX_THREADS_PER_THREADGROUP is "late"'):
        library.kernel("late")
    monkeypatch.delenv("METALLOID_MAX_THREADS_PER_THREADGROUP")
    assert library.kernel("late").name == "late"


@software
def test_operations_tell_of_such_a_rule_every_time():
    printed = said(
        """
import os
d = ml.Device("simt")
x = d.zeros((2, 64))
os.environ["METALLOID_MAX_THREADS_PER_THREADGROUP"] = "many"
for _ in range(2):
    with d.commands() as cmd:
        try:
            ml.ops.rms_norm(cmd, x)
        except ml.DeviceError as e:
            print(e)
del os.environ["METALLOID_MAX_THREADS_PER_THREADGROUP"]
with d.commands() as cmd:
    print(ml.ops.rms_norm(cmd, x).shape)
"""
    ).splitlines()
    assert len(printed) == 3 and printed[0] == printed[1] and printed[2] == "(2, 64)"
    assert 'METALLOID_MAX_THREADS_PER_THREADGROUP is "many", needs a number' in printed[0]


@software
def test_every_operation_runs_with_one_simdgroup_of_the_smallest_family():
    """The sizes that operations choose follow what each pipeline takes, and the results do not change."""
    code = """
import hashlib, sys
sys.path.insert(0, {tests!r})
from test_ops import CASES
from test_simt_ops import SMALL
d = ml.Device("simt")
chosen = [case for case in SMALL if case.error is None][::3]
for i, case in enumerate(chosen):
    arrays = case.make(np.random.default_rng(i))
    with d.commands() as cmd:
        y = case.encode(cmd, {{name: d.array(a) for name, a in arrays.items()}})
    print(hashlib.sha256(np.asarray(y).tobytes()).hexdigest())
"""
    code = code.format(tests=os.path.dirname(__file__))
    expected = said(code)
    assert len(expected.split()) > 5
    assert (
        said(code, METALLOID_GPU_FAMILY="apple7", METALLOID_MAX_THREADS_PER_THREADGROUP="*_f16=64,*=32")
        == expected
    )
