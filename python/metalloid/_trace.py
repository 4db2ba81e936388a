"""What trace() and profile() do with what the core has recorded."""

from __future__ import annotations

import os
import sys
from collections import namedtuple

from ._core import Error, _trace_finish, _trace_start, _trace_stop

# For work that something after the block would have to release.
_PATIENCE = 10.0
_HOST = 1

_CommandBuffer = namedtuple("_CommandBuffer", "label queue thread serial status reason committed ran")
_Dispatch = namedtuple(
    "_Dispatch",
    "name kernel label group command_buffer thread grid threads by_threads barrier reads writes encoded ran",
)
_Mark = namedtuple("_Mark", "kind thread queue value span")

ProfileRow = namedtuple("ProfileRow", "kernel count total mean gb_per_s share nbytes")
ProfileRow.__doc__ = """The dispatches of one kernel, in a profile.

kernel    its name
count     how many there were
total     the seconds that the device ran them, from the start of each to its end
mean      the same of one
gb_per_s  10**9 bytes for each second
share     of the seconds of all kernels, 0 to 1
nbytes    the bytes of the buffers that they read, and of those that they wrote
"""


class trace:
    """A context manager: writes what happens in its block to a file that https://ui.perfetto.dev shows.

        with ml.trace("out.json"):
            ...

    The file, in the Trace Event Format, has a track for each thread of the host, with what it encoded,
    committed and waited for, and one for each queue of a device, with its command buffers and the dispatches
    in them. It has what is encoded into command buffers that are begun and committed in the block. The end
    of the block waits for them; what has not ended some seconds later is there as unfinished. The file is
    written when an exception ends the block as well, but not by the child of a fork.

    To be timed, every dispatch has an encoder of its own: dispatches that would overlap run one after the
    other, and a graph is encoded step by step. Results are the same, but the checks of the device "simt" find
    no dispatches that lack a barrier between them. Its times are those of the checker, not of a GPU.

    Once the block has ended, ``rows`` and ``table()`` tell the times by kernel, as profile() does. After a
    million events no more are kept, which the file and the table say.

    Raises Error if another trace or profile is on, or the folder is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path: str | None = os.fspath(path)
        self._begin()

    def _begin(self) -> None:
        self._pid = 0
        self._rows: list[ProfileRow] | None = None
        self._notes: list[str] = []

    def __enter__(self):
        what = type(self).__name__
        if self._path is not None:
            folder = os.path.dirname(os.path.abspath(self._path))
            if not os.path.isdir(folder):
                raise Error(f"{what}: the folder {folder!r} is not there, needs one that is")
        limit = os.environ.get("METALLOID_TRACE_LIMIT")
        try:
            _trace_start(int(limit)) if limit else _trace_start()
        except Error:
            raise Error(f"{what}: another trace or profile is on, needs that to end first") from None
        self._pid = os.getpid()
        self._rows = None
        return self

    def __exit__(self, *exception: object) -> None:
        if os.getpid() != self._pid:
            return
        self._pid = 0
        try:
            _trace_finish(_PATIENCE)
        finally:
            self._take(_trace_stop())

    def _take(self, report: dict) -> None:
        report["command_buffers"] = [_CommandBuffer(*each) for each in report["command_buffers"]]
        report["dispatches"] = [_Dispatch(*each) for each in report["dispatches"]]
        report["marks"] = [_Mark(*each) for each in report["marks"]]
        self._notes = _notes(report)
        self._rows = _rows(report)
        if self._path is not None:
            _write(self._path, report, self._notes)

    @property
    def rows(self) -> list[ProfileRow]:
        """A ProfileRow for each kernel, the one that took longest first."""
        if self._rows is None:
            raise Error(f"{type(self).__name__}.rows: the block has not ended, needs one that has")
        return self._rows

    def table(self) -> str:
        """The rows as text."""
        return _table(self.rows, self._notes)

    def __str__(self) -> str:
        return repr(self) if self._rows is None else self.table()


class profile(trace):
    """A context manager: prints how long each kernel ran in its block, and how often.

        with ml.profile():
            ...

    ``rows`` has the same as a list of ProfileRow, ``table()`` as text; ``print=False`` prints nothing. What
    is measured, and what that costs, is as with trace().

    Raises Error if another profile or trace is on.
    """

    def __init__(self, *, print: bool = True) -> None:
        self._path = None
        self._print = print
        self._begin()

    def _take(self, report: dict) -> None:
        super()._take(report)
        if self._print:
            print(self.table())


def _notes(report: dict) -> list[str]:
    notes = []
    if report["dropped"]:
        notes.append(f"at least {report['dropped']} events were dropped: there was no room for more")
    if report["unsampled"]:
        notes.append(f"the device told no times for {report['unsampled']} dispatches")
    failed = sum(each.status == "error" for each in report["command_buffers"])
    if failed:
        notes.append(f"{failed} command buffers failed")
    unfinished = sum(each.status == "unfinished" for each in report["command_buffers"])
    if unfinished:
        notes.append(f"{unfinished} command buffers had not ended")
    if any(checked for _, _, checked in report["queues"]):
        notes.append("a device that checks kernels ran some: times are those of the checker")
    return notes


def _rows(report: dict) -> list[ProfileRow]:
    kernels: dict[str, list] = {}
    for each in report["dispatches"]:
        begin, end = each.ran
        if begin >= 0:
            sums = kernels.setdefault(each.kernel, [0, 0, 0])
            sums[0] += 1
            sums[1] += end - begin
            sums[2] += each.reads + each.writes
    whole = sum(time for _, time, _ in kernels.values())
    rows = [
        ProfileRow(
            name,
            count,
            time * 1e-9,
            time * 1e-9 / count,
            nbytes / time if time else 0.0,
            time / whole if whole else 0.0,
            nbytes,
        )
        for name, (count, time, nbytes) in kernels.items()
    ]
    return sorted(rows, key=lambda row: (-row.total, row.kernel))


def _time(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3f} {unit}"
    return f"{seconds * 1e6:.1f} us"


def _table(rows: list[ProfileRow], notes: list[str]) -> str:
    lines = [("kernel", "count", "total", "mean", "GB/s", "share")]
    for row in rows:
        lines.append(
            (
                row.kernel,
                str(row.count),
                _time(row.total),
                _time(row.mean),
                f"{row.gb_per_s:.2f}",
                f"{row.share:.1%}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    text.insert(1, "-" * len(text[0]))
    if not rows:
        text.append("nothing ran")
    return "\n".join([*text, *(f"note: {note}" for note in notes)])


def _events(report: dict, notes: list[str]):
    """The trace events, one by one. Times are microseconds since the trace began."""
    zero = report["span"][0]
    threads, queues = report["threads"], report["queues"]
    buffers = report["command_buffers"]

    def us(time: int) -> float:
        return (time - zero) / 1000

    def span(name, category, pid, tid, times, **args):
        begin, end = times
        return {
            "name": name,
            "cat": category,
            "ph": "X",
            "ts": us(begin),
            "dur": (end - begin) / 1000,
            "pid": pid,
            "tid": tid,
            "args": {key: value for key, value in args.items() if value not in ("", None)},
        }

    def instant(name, category, tid, time, **args):
        return {
            "name": name,
            "cat": category,
            "ph": "i",
            "s": "t",
            "ts": us(time),
            "pid": _HOST,
            "tid": tid,
            "args": args,
        }

    def named(what, pid, tid, name):
        return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}

    program = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"
    yield named("process_name", _HOST, 0, f"host: {program} ({os.getpid()})")
    for i, (_, name) in enumerate(threads):
        yield named("thread_name", _HOST, i + 1, name)
    devices: dict[str, int] = {}
    for i, (device, label, checked) in enumerate(queues):
        if device not in devices:
            devices[device] = _HOST + 1 + len(devices)
            name = f"device: {device}" + (" (times are those of the checker)" if checked else "")
            yield named("process_name", devices[device], 0, name)
        yield named("thread_name", devices[device], i + 1, f"queue {label}" if label else "queue")
    for note in notes:
        yield {
            "name": f"note: {note}",
            "cat": "note",
            "ph": "i",
            "s": "g",
            "ts": us(report["span"][1]),
            "pid": _HOST,
            "tid": 0,
            "args": {},
        }

    def device_of(buffer) -> tuple[int, int]:
        return devices[queues[buffer.queue][0]], buffer.queue + 1

    last: dict[int, int] = {}
    for buffer in sorted(buffers, key=lambda each: (each.queue, each.serial)):
        name = buffer.label or f"command buffer {buffer.serial}"
        args = {"serial": buffer.serial, "status": buffer.status, "error": buffer.reason}
        yield span(f"commit {name}", "commit", _HOST, buffer.thread + 1, buffer.committed, **args)
        if buffer.ran[0] >= 0:
            # Metal's may overlap at the ends, which spans of one track must not.
            begin, end = buffer.ran
            begin = max(begin, min(last.get(buffer.queue, begin), end))
            last[buffer.queue] = end
            yield span(name, "command buffer", *device_of(buffer), (begin, end), **args)
    for each in report["dispatches"]:
        buffer = buffers[each.command_buffer]
        name = each.label or each.name
        args = {
            "kernel": each.kernel,
            "label": each.label,
            "group": each.group,
            "threads" if each.by_threads else "threadgroups": list(each.grid),
            "threadgroup": list(each.threads),
            "bytes read": each.reads,
            "bytes written": each.writes,
            "barrier": True if each.barrier else None,
            "command buffer": buffer.serial,
        }
        yield span(f"encode {name}", "encode", _HOST, each.thread + 1, each.encoded, **args)
        begin, end = each.ran
        if begin >= 0:
            if end > begin:
                args["GB/s"] = round((each.reads + each.writes) / (end - begin), 3)
            yield span(name, "dispatch", *device_of(buffer), each.ran, **args)
    for mark in report["marks"]:
        begin, end = mark.span
        args = {} if mark.kind == "barrier" else {"value": mark.value}
        if mark.queue is not None:
            device, label, _ = queues[mark.queue]
            args["queue"] = f"{device} {label}".strip()
        if mark.kind == "wait":
            args["command buffer"] = args.pop("value")
        if mark.kind in ("wait", "Event.wait"):
            yield span(mark.kind, "wait", _HOST, mark.thread + 1, mark.span, **args)
        else:
            yield instant(
                mark.kind, "barrier" if mark.kind == "barrier" else "event", mark.thread + 1, begin, **args
            )


def _write(path: str, report: dict, notes: list[str]) -> None:
    import json

    # The file is there as a whole or not at all.
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write('{"displayTimeUnit": "ns", "otherData": ')
            json.dump({"program": sys.argv[:1], "notes": notes}, file)
            file.write(', "traceEvents": [\n')
            separator = ""
            for event in _events(report, notes):
                file.write(separator + json.dumps(event))
                separator = ",\n"
            file.write("\n]}\n")
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
