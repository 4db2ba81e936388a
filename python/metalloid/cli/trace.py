"""`metalloid trace`: a script under a trace."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from pathlib import Path

import metalloid as ml


class TraceError(Exception):
    """Why the script was not run, or the trace not written."""


def _status(code: object) -> int:
    """What Python makes of what a script gives to sys.exit()."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    # Without the frames that are ours and runpy's.
    ours = (__file__, runpy.__file__, "<frozen runpy>")
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename in ours:
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)


def _run_script(script: Path) -> int:
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ending:
        return _status(ending.code)
    except KeyboardInterrupt as error:
        _show(error)
        return 130
    except BaseException as error:
        _show(error)
        return 1
    return 0


def run(script: Path, arguments: list[str], out: Path, *, profile: bool) -> int:
    """Returns the exit status of the script."""
    if not script.is_file():
        raise TraceError(f"{script} is not there, needs to be a Python script")
    pid = os.getpid()
    # The script may change the working directory.
    tracing = ml.trace(out.absolute())
    sys.argv = [str(script), *arguments]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    try:
        with tracing:
            status = _run_script(script)
    except (ml.Error, OSError) as error:
        raise TraceError(error) from None
    finally:
        sys.stdout.flush()
    if os.getpid() != pid:  # a child of the script's that came to an end
        return status
    if profile:
        print(tracing.table(), file=sys.stderr)
    print(f"metalloid trace: wrote {out}", file=sys.stderr)
    return status
