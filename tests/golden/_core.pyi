"""The compiled part of metalloid. Use the names in the package itself."""

from metalloid._core import ops as ops


from collections.abc import Sequence
from typing import TypeAlias

from numpy import dtype as NumpyDType
from numpy.typing import DTypeLike as NumpyDTypeLike
from numpy.typing import NDArray

DTypeLike: TypeAlias = "DType | NumpyDTypeLike"

class Error(Exception):
    """The base of every error that metalloid raises."""

class ValidationError(Error, ValueError):
    """
    An argument breaks a precondition. Nothing was encoded and no buffer touched.

    The message names the operation, the argument, what it got and what it needs.
    """

class CompileError(Error):
    """A shader does not compile. ``log`` is what the compiler said."""

    log: str = ''

class DeviceError(Error):
    """
    There is no such device, it is out of memory, or a command buffer ended in an error.
    """

class KernelFault(Error):
    """
    A checked device found a kernel doing wrong. Fields: ``kind``, ``kernel``, ``buffer``,
    ``offset`` (bytes), ``threads`` (linear ids in the grid) and ``line``.
    """

    kind: str = ''

    kernel: str = ''

    buffer: str = ''

    offset: int = 0

    line: int = 0

    threads: tuple = ()

class DType:
    """
    The type of a buffer's elements. The instances are attributes of the module: float32,
    float16, bfloat16, int8 ... int64, uint8 ... uint64 and bool_.

    Wherever a dtype is wanted, a NumPy dtype, a scalar type or a name does as well.
    """

    @property
    def name(self) -> str:
        """NumPy's name of the type."""

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""

    @property
    def numpy(self) -> NumpyDType:
        """The NumPy dtype; that of ``ml_dtypes`` for bfloat16."""

    def __eq__(self, other: object, /) -> bool: ...

    def __hash__(self) -> int: ...

    def __repr__(self) -> str: ...

    def __reduce__(self) -> str: ...

float32: DType = ...

float16: DType = ...

bfloat16: DType = ...

int8: DType = ...

uint8: DType = ...

int16: DType = ...

uint16: DType = ...

int32: DType = ...

uint32: DType = ...

int64: DType = ...

uint64: DType = ...

class Buffer:
    """
    Typed memory that the host and a device share, made by a Device.

    Always contiguous, the innermost axis last. Indexing, slicing, reshape, view and flatten share
    the memory and keep it alive. Every access from the host (numpy, memoryview, DLPack, tolist,
    item, copy_from) first waits for committed work that uses the memory, and raises DeviceError
    if that work failed.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""

    @property
    def dtype(self) -> DType:
        """The type of the elements."""

    @property
    def ndim(self) -> int:
        """The number of axes."""

    @property
    def size(self) -> int:
        """The number of elements."""

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""

    @property
    def itemsize(self) -> int:
        """The bytes of one element."""

    @property
    def offset(self) -> int:
        """Where the buffer starts in its allocation, in bytes."""

    @property
    def address(self) -> int:
        """The address of the first element in the host's memory."""

    @property
    def device(self) -> Device:
        """The device that made it."""

    @property
    def readonly(self) -> bool:
        """
        Whether the memory may not be written, as that of a file mapped for reading.
        """

    def __len__(self) -> int: ...

    def __getitem__(self, key: int | slice, /) -> Buffer:
        """
        A view of one element or a range of the leading axis. Slices have step 1.
        """

    def reshape(self, *shape: int | Sequence[int]) -> Buffer:
        """
        A view of another shape with the same number of elements. One size may be -1.

        Raises ValidationError if the number of elements differs.
        """

    def view(self, dtype: DTypeLike) -> Buffer:
        """
        The same bytes as another type; the last axis takes up a change of element size.

        Raises ValidationError if the last axis or the offset is no multiple of the new element size.
        """

    def flatten(self) -> Buffer:
        """A view with one axis."""

    def numpy(self) -> NDArray:
        """
        The memory as a NumPy array, without a copy; bfloat16 as ``ml_dtypes.bfloat16``.
        """

    def tolist(self) -> list:
        """The elements as nested lists of Python numbers."""

    def item(self) -> bool | int | float:
        """
        The only element as a Python number. Raises ValidationError if there is not exactly one.
        """

    def copy_from(self, obj: object) -> None:
        """
        Overwrites the elements with those of an array-like of the same shape, converted as NumPy
        assignment does.

        Raises ValidationError if the shapes differ or the buffer is read-only.
        """

    @property
    def __array_interface__(self) -> dict: ...

    def __array__(self, dtype: NumpyDType | None = None, copy: bool | None = None) -> NDArray: ...

    def __dlpack__(self, *, stream: object = None, max_version: tuple[int, int] | None = None, dl_device: tuple[int, int] | None = None, copy: bool | None = None) -> object: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...

    def __repr__(self) -> str: ...

class CommandEncoder:
    """
    Records operations into one command buffer, made by Device.commands().

    As a context manager it commits and waits at the end of the block; after an exception it discards
    everything, and nothing runs. Operations run in order, each after the one before, unless the encoder is
    concurrent: then only barrier() orders them. An encoder belongs to one thread at a time; two that use it
    at once get an Error. What it uses stays alive until the work is done.
    """

    @property
    def device(self) -> Device:
        """The device that runs it."""

    @property
    def label(self) -> str:
        """What Device.commands() was given, else ""."""

    @property
    def dispatch_count(self) -> int:
        """The dispatches encoded so far."""

    @property
    def barrier_count(self) -> int:
        """The barriers encoded so far."""

    @property
    def status(self) -> str:
        """"encoding", "committed", "completed", "error" or "discarded"."""

    @property
    def gpu_time(self) -> float | None:
        """The seconds that the device worked; None until completion."""

    def barrier(self) -> None:
        """
        Operations encoded after it see what those before it wrote. Needed in concurrent encoders only.
        """

    def commit(self) -> None:
        """
        Hands the command buffer to the device; nothing can be encoded after that.
        """

    def wait(self, timeout: float | None = None) -> None:
        """
        Waits until the committed work is done, at most ``timeout`` seconds.

        Raises DeviceError if the work failed or the time is up, Error if nothing was committed. Ctrl-C ends
        the wait, not the work.
        """

    def commit_and_wait(self) -> None:
        """commit(), then wait()."""

    def __enter__(self) -> CommandEncoder: ...

    def __exit__(self, type: object, value: object, traceback: object) -> None: ...

    def __repr__(self) -> str: ...

def devices() -> list[str]:
    """The names of the devices that Device() opens on this machine."""

class Device:
    """
    A GPU, or what stands in for one.

    ``Device()`` opens the default device, or the one that the environment variable
    METALLOID_DEVICE names; ``Device(name)`` one of devices(). Opening a device again gives the
    same object, which any thread may use. Raises DeviceError if there is no such device.
    """

    def __init__(self, name: str | None = None) -> None: ...

    @property
    def name(self) -> str:
        """The name that opens it: "cpu" or "metal"."""

    @property
    def description(self) -> str:
        """Metal's name of the device."""

    @property
    def max_buffer_length(self) -> int:
        """The bytes of the largest buffer."""

    @property
    def max_threadgroup_memory_length(self) -> int:
        """The bytes of threadgroup memory of one threadgroup."""

    @property
    def max_threads_per_threadgroup(self) -> tuple[int, int, int]:
        """The largest threadgroup along each axis."""

    @property
    def thread_execution_width(self) -> int:
        """The threads of a SIMD-group: 32 on Apple GPUs, 1 on "cpu"."""

    @property
    def has_unified_memory(self) -> bool:
        """Whether host and device work on the same memory."""

    @property
    def kernel_variant(self) -> str:
        """What the loaded kernels were compiled for, e.g. "x86-64-v4"."""

    @property
    def shader_compiler(self) -> str:
        """What compiled the loaded kernels."""

    @property
    def allocated_size(self) -> int:
        """The bytes of memory that buffers use; that of wrap() does not count."""

    @property
    def pooled_size(self) -> int:
        """The bytes of freed memory kept for the next buffers."""

    def empty_cache(self) -> None:
        """Gives the memory kept for the next buffers back to the system."""

    def synchronize(self) -> None:
        """
        Waits until everything committed so far has completed. Ctrl-C ends the wait, not the work.
        """

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike = 'float32') -> Buffer:
        """
        A buffer with undefined contents.

        Raises ValidationError for a shape that no buffer can have, DeviceError if there is no memory.
        """

    def zeros(self, shape: int | Sequence[int], dtype: DTypeLike = 'float32') -> Buffer:
        """A buffer full of zeros. Raises as empty() does."""

    def array(self, obj: object, dtype: DTypeLike | None = None) -> Buffer:
        """
        A buffer with a copy of an array-like: NumPy, DLPack, the buffer protocol, nested lists, numbers;
        any strides.

        Elements are converted only if ``dtype`` is given, but Python's own floats become float32.
        Raises ValidationError if no device has the type of the elements.
        """

    def wrap(self, obj: object) -> Buffer:
        """
        A buffer over the memory of ``obj``, without a copy: a NumPy array or memmap, a DLPack producer, an
        object with the buffer protocol. It keeps ``obj`` alive. Read-only memory gives a read-only buffer,
        which no operation takes as its output.

        The device maps whole pages: the memory starts at a multiple of mmap.PAGESIZE, and nothing else
        that a device writes may lie on its last page. Raises ValidationError if the memory is not
        page-aligned, not C-contiguous, empty, not on the host or of a type that no device has; array()
        copies instead.
        """

    def commands(self, label: str | None = None, concurrent: bool = False) -> CommandEncoder:
        """
        An encoder for one command buffer; see CommandEncoder. ``label`` shows in errors and debuggers.
        """

    def kernels(self) -> list[str]:
        """The names of the built-in kernels."""

    def __repr__(self) -> str: ...
