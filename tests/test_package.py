"""What the installed package consists of."""

from __future__ import annotations

import ast
import inspect
import pathlib

import metalloid as ml
import pytest
from metalloid import reference
from support import run_python

HERE = pathlib.Path(ml.__file__).parent
OPERATIONS = reference.__all__


def test_everything_public_is_there_and_documented():
    for name in ml.__all__:
        assert getattr(ml, name, None) is not None, name
    for public in (ml, ml.ops, ml.Device, ml.Buffer, ml.CommandEncoder, ml.DType, reference):
        assert public.__doc__, public
    for cls in (ml.Device, ml.Buffer, ml.CommandEncoder):
        for name, member in vars(cls).items():
            if not name.startswith("_"):
                assert inspect.getdoc(member), f"{cls.__name__}.{name}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_and_its_oracle_take_the_same_arguments(name):
    """Read from the stub, so that this also says that the stub is right about them."""
    tree = ast.parse((HERE / "ops.pyi").read_text())
    stub = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    arguments = [a.arg for a in stub.args.args], [a.arg for a in stub.args.kwonlyargs]
    parameters = inspect.signature(getattr(reference, name)).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    positional, by_keyword = ([p.name for p in parameters if p.kind == kind] for kind in kinds)
    assert arguments == (["cmd", *positional], [*by_keyword, "out"])
    assert ast.get_docstring(stub) or getattr(ml.ops, name).__doc__


def test_the_package_is_typed():
    assert (HERE / "py.typed").exists()
    classes = {
        n.name for n in ast.parse((HERE / "_core.pyi").read_text()).body if isinstance(n, ast.ClassDef)
    }
    assert {"Device", "Buffer", "CommandEncoder", "DType", "Error", "ValidationError"} <= classes


def test_errors_form_one_family():
    for error in (ml.ValidationError, ml.CompileError, ml.DeviceError, ml.KernelFault):
        assert issubclass(error, ml.Error)
        assert error.__module__ == "metalloid"
    assert issubclass(ml.ValidationError, ValueError)


def test_a_library_that_is_not_there_is_named():
    done = run_python(
        """
        import metalloid as ml
        dev = ml.Device()
        try:
            ml.ops.rms_norm(dev.commands(), dev.zeros((2, 2)))
        except ml.DeviceError as e:
            print(e)
        """,
        METALLOID_LIBRARY="/no/such/library.metallib",
    )
    assert "/no/such/library.metallib" in done.stdout, done.stderr
