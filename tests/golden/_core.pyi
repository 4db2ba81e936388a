"""The compiled part of metalloid. Use the names in the package itself."""

from metalloid._core import ops as ops


from collections.abc import Callable, Generator, Mapping, Sequence
from os import PathLike
from typing import Literal, TypeAlias

from numpy import dtype as NumpyDType
from numpy.typing import DTypeLike as NumpyDTypeLike
from numpy.typing import NDArray

DTypeLike: TypeAlias = "DType | NumpyDTypeLike"
Size: TypeAlias = "int | tuple[int, ...] | list[int]"
Constants: TypeAlias = "Mapping[str | int, bool | int | float | Sequence[bool | int | float]]"

class Error(Exception):
    """The base of every error that metalloid raises."""

class ValidationError(Error, ValueError):
    """
    An argument breaks a precondition. Nothing was encoded and no buffer touched.

    The message names the operation, the argument, what it got and what it needs.
    """

class CompileError(Error):
    """
    A shader does not compile. ``log`` is what the compiler said, with files and lines of the source.
    """

    log: str = ''

class DeviceError(Error):
    """
    There is no such device, it is out of memory, or a command buffer ended in an error.

    ``code`` says which one, where that is known: "out_of_memory", "timeout", "page_fault",
    "access_revoked", "not_permitted", "invalid_resource", "memoryless", "stack_overflow",
    "device_removed" or "internal"; else it is "". After "access_revoked" and
    "device_removed" the device takes no work of the process any more.
    """

    code: str = ''

class KernelFault(Error):
    """
    A checked device found a kernel doing wrong. ``str()`` is the whole report. The fields:

    kind            "threadgroup-race", "out-of-bounds", ...: the table in docs/checker.md
    kernel          its name
    label           of the encoder, its groups and the dispatch, separated by slashes
    variable        the argument or threadgroup variable; "" where it is none
    address_space   "device", "constant", "threadgroup" or ""
    offset          bytes from the start of the variable
    element         the same in elements
    bytes           how many were accessed
    threads         a FaultThread for each thread that takes part, one or two
    file, line      where the first of them was, and ``code``, the text of that line
    second_file     the same of the second, with ``second_line`` and ``second_code``
    count           how often it was found
    seed            of the order in which threads ran: METALLOID_SEED repeats it
    fatal           whether it ended the dispatch
    message         the report in one line
    text            the report of this fault alone
    faults          all of the command buffer, this one first
    """

    kind: str = ''

    kernel: str = ''

    label: str = ''

    variable: str = ''

    address_space: str = ''

    file: str = ''

    code: str = ''

    second_file: str = ''

    second_code: str = ''

    message: str = ''

    text: str = ''

    offset: int = 0

    element: int = 0

    bytes: int = 0

    line: int = 0

    second_line: int = 0

    seed: int = 0

    count: int = 1

    fatal: bool = False

    threads: tuple = ()

    faults: tuple = ()

class KernelFaultWarning(UserWarning):
    """A kernel's fault on a device whose check_mode is "warn"."""

class CheckSettings:
    """How kernels are checked; see set_check_settings()."""

    @property
    def enabled(self) -> bool:
        """Whether they are."""

    @property
    def non_finite(self) -> bool:
        """Whether the first NaN or infinity that a kernel makes is a fault."""

    @property
    def seed(self) -> int:
        """
        Of the order in which threadgroups and SIMD-groups run; 0 is their natural order.
        """

    @property
    def time_limit(self) -> float:
        """The CPU seconds that one threadgroup may take."""

    def __repr__(self) -> str: ...

def check_settings() -> CheckSettings:
    """
    How kernels on the device "simt" are checked.

    At first as the environment says: METALLOID_CHECK=off, METALLOID_CHECK_NAN=1, METALLOID_SEED and
    METALLOID_TIME_LIMIT.
    """

def set_check_settings(*, enabled: bool | None = None, non_finite: bool | None = None, seed: int | None = None, time_limit: float | None = None) -> None:
    """
    Changes how kernels are checked, from the next dispatch on; what is None stays. See CheckSettings.

    Raises ValidationError for a time limit that is not above 0.
    """

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
    if that work failed, KernelFault if a checked device found a kernel of it doing wrong.
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

class KernelArgument:
    """What a kernel says of one of its arguments."""

    @property
    def index(self) -> int:
        """Of ``[[buffer(index)]]`` or ``[[threadgroup(index)]]``."""

    @property
    def name(self) -> str:
        """As in the source."""

    @property
    def kind(self) -> str:
        """"buffer" or "threadgroup"."""

    @property
    def address_space(self) -> str:
        """"device", "constant" or "threadgroup"; "" where Metal does not tell."""

    @property
    def element_type(self) -> str:
        """
        "float", "uint4", ...; "struct" for what is no scalar, vector or matrix; "void" for no type.
        """

    @property
    def dtype(self) -> DType | None:
        """The type of a Buffer for it; None for structs and void."""

    @property
    def access(self) -> str:
        """"read", "write" or "read-write"."""

    @property
    def size(self) -> int:
        """The bytes of one element."""

    @property
    def alignment(self) -> int:
        """What a Buffer's offset has to be a multiple of."""

    @property
    def active(self) -> bool:
        """
        False if a function constant switches it off, or the compiler found that the kernel does not
        use it: then it needs no value, and one that it is given is ignored.
        """

    def __repr__(self) -> str: ...

class KernelConstant:
    """A function constant that a kernel has."""

    @property
    def index(self) -> int:
        """Of ``[[function_constant(index)]]``."""

    @property
    def name(self) -> str:
        """As in the source."""

    @property
    def type(self) -> str:
        """"bool", "uint", ..."""

    @property
    def required(self) -> bool:
        """False if the kernel asks is_function_constant_defined() first."""

    def __repr__(self) -> str: ...

class Kernel:
    """
    A kernel that CommandEncoder.dispatch() runs, made by Library.kernel(). Any thread may use it.
    """

    @property
    def name(self) -> str:
        """The name in the library."""

    @property
    def device(self) -> Device:
        """The device that it is compiled for."""

    @property
    def arguments(self) -> tuple[KernelArgument, ...]:
        """
        Its arguments in order of position: buffers by index, then threadgroup memory by index.
        """

    @property
    def constants(self) -> tuple[KernelConstant, ...]:
        """The function constants that it has."""

    @property
    def builtins(self) -> tuple[str, ...]:
        """
        The attributes of its other arguments, e.g. "thread_position_in_grid"; empty where Metal does not
        tell.
        """

    @property
    def max_total_threads_per_threadgroup(self) -> int:
        """The threads of the largest threadgroup."""

    @property
    def thread_execution_width(self) -> int:
        """The threads of a SIMD-group."""

    @property
    def static_threadgroup_memory_length(self) -> int:
        """The bytes of threadgroup memory that it declares itself."""

    def __repr__(self) -> str: ...

class Library:
    """Compiled shaders, made by Device.compile(). Any thread may use it."""

    @property
    def kernels(self) -> list[str]:
        """The names of its kernels."""

    @property
    def label(self) -> str:
        """What messages call its source."""

    @property
    def device(self) -> Device:
        """The device that it is compiled for."""

    def constants(self, name: str) -> tuple[KernelConstant, ...]:
        """
        The function constants of a kernel. Raises ValidationError if there is no such kernel.
        """

    def kernel(self, name: str, constants: Constants | None = None) -> Kernel:
        """
        A kernel, with values for its function constants by name or by index. The same values give the
        same kernel.

        Raises ValidationError if there is no such kernel or constant, a required one has no value, or a
        value does not fit the constant's type.
        """

    def __repr__(self) -> str: ...

class Reinterpreted:
    """What reinterpret() makes."""

    @property
    def buffer(self) -> Buffer:
        """The Buffer."""

class ThreadgroupMemory:
    """What threadgroup_memory() makes."""

    @property
    def nbytes(self) -> int:
        """The length."""

def reinterpret(buffer: Buffer) -> Reinterpreted:
    """
    As an argument of CommandEncoder.dispatch(): the buffer, whatever its element type is. Size and
    alignment are still checked.
    """

def threadgroup_memory(nbytes: int) -> ThreadgroupMemory:
    """
    As an argument of CommandEncoder.dispatch(): that many bytes of threadgroup memory, rounded up to a
    multiple of 16.

    Raises ValidationError for fewer than one.
    """

class Queue:
    """
    A queue of a device, made by Device.queue().

    What is committed to a queue runs in the order of the commits. The work of different queues may
    overlap, and nothing but an Event orders it. Any thread may use it.
    """

    @property
    def label(self) -> str:
        """What Device.queue() was given, else ""."""

    @property
    def device(self) -> Device:
        """The device that it belongs to."""

    def __repr__(self) -> str: ...

class Event:
    """
    A number that devices and the host raise and wait for, made by Device.event().

    CommandEncoder.signal() and wait_for() order the work of different queues by it. It starts at 0 and
    should only grow. Any thread may use it.
    """

    @property
    def device(self) -> Device:
        """The device that made it."""

    @property
    def value(self) -> int:
        """The value now."""

    def signal(self, value: int) -> None:
        """
        Sets the value, from the host. Raises ValidationError unless it is 1 to 2**64 - 1.
        """

    def wait(self, value: int, timeout: float | None = None) -> None:
        """
        Waits until the event has ``value`` or more, at most ``timeout`` seconds. Ctrl-C ends the wait.

        Raises DeviceError if the time is up, ValidationError as signal() does.
        """

    def __repr__(self) -> str: ...

class Submission:
    """
    Work that was committed, made by CommandEncoder.commit().

    ``await`` waits for it without holding up the event loop, and raises what wait() would; cancelling
    what awaits ends the wait, not the work. Any thread may use it.
    """

    @property
    def label(self) -> str:
        """What Device.commands() was given, else ""."""

    @property
    def queue(self) -> Queue:
        """The queue that it was committed to."""

    @property
    def status(self) -> str:
        """"committed", "completed" or "error"."""

    @property
    def gpu_time(self) -> float | None:
        """The seconds that the device worked; None until completion."""

    def done(self) -> bool:
        """Whether the work has ended, well or not."""

    def wait(self, timeout: float | None = None) -> None:
        """
        Waits until the work is done, at most ``timeout`` seconds.

        Raises DeviceError if the work failed or the time is up, KernelFault if a checked device found a
        kernel doing wrong. Ctrl-C ends the wait, not the work.
        """

    def exception(self, timeout: float | None = None) -> Exception | None:
        """
        Waits as wait() does, and returns what it would raise for the work, None if nothing.

        Raises DeviceError if the time is up.
        """

    def add_done_callback(self, fn: Callable[[Submission], object], /) -> None:
        """
        Has ``fn(submission)`` called once, when the work has ended: at once if it has, else from another
        thread. What it raises goes to sys.unraisablehook. Callbacks of a queue are called one after
        another in the order of the work; what has not been called when the process ends or forks is not
        called any more, or only in the parent.
        """

    def __await__(self) -> Generator[object, None, None]: ...

    def __repr__(self) -> str: ...

class Group:
    """A debug group, made by Encoder.group()."""

    def __enter__(self) -> None: ...

    def __exit__(self, type: object, value: object, traceback: object) -> None: ...

class Encoder:
    """
    What operations and kernels are encoded into: a CommandEncoder or a Graph.
    """

    @property
    def device(self) -> Device:
        """The device that runs it."""

    def dispatch(self, kernel: Kernel, *, threads: Size | None = None, threadgroups: Size | None = None, grid: Size | None = None, threadgroup: Size, args: Sequence[object] | Mapping[str, object] = (), reads: Sequence[Buffer] | None = None, writes: Sequence[Buffer] | None = None, label: str | None = None) -> None:
        """
        Runs a kernel in threadgroups of ``threadgroup`` threads.

        threads, grid  how many threads there are, two words for one thing: the last threadgroups of a
                       row may be smaller
        threadgroups   how many threadgroups there are instead
        args           the values of ``kernel.arguments``, as a list or tuple in their order (without
                       those that are not active, if you like) or as a dict of names; values of those
                       that are not active are ignored
        reads, writes  the buffers, or views of them, that the kernel reads, and those that it writes all
                       bytes of, where that is less or more than its arguments tell: otherwise a buffer that
                       may be written counts as read and written from end to end. A kernel with both lists
                       does nothing else, so that a graph may move or remove it
        label          what a graph, a trace or a debugger calls it; the kernel's name by default

        Sizes are an integer or up to three, x first; a grid of none runs nothing. A value is a Buffer
        of the argument's type (vectors and matrices are of their scalar's type, structs of uint8),
        reinterpret(buffer) for one of another type, threadgroup_memory(bytes) for a threadgroup
        argument, or, where the kernel only reads, up to 4096 bytes: a Python or NumPy number, which is
        converted to the argument's type, a sequence of them, an array of that type, and for a struct a
        structured NumPy value, bytes, or what else has its memory.

        Raises ValidationError if anything does not fit, and then nothing was encoded: an argument that
        is missing, unknown, of the wrong kind, type, size or alignment, out of its type's range,
        read-only but written, or on another device; a threadgroup or its memory beyond the limits.
        """

    def barrier(self) -> None:
        """
        Operations encoded after it see what those before it wrote. Needed only where hazards are
        "manual", or where memory is reached in ways that no argument tells.
        """

    def group(self, name: str) -> Group:
        """
        A context manager: what is encoded in its block is in a debug group, which shows in errors,
        traces and debuggers. Groups nest.
        """

class CommandEncoder(Encoder):
    """
    Records operations into one command buffer, made by Device.commands().

    As a context manager it commits and waits at the end of the block; after an exception it discards
    everything, and nothing runs. Operations that do not depend on each other may overlap; a barrier goes
    in where one touches memory that an earlier one wrote, or writes memory that it touched. An encoder
    belongs to one thread at a time; two that use it at once get an Error. What it uses stays alive until
    the work is done.
    """

    @property
    def label(self) -> str:
        """What Device.commands() was given, else ""."""

    @property
    def concurrent(self) -> bool:
        """Whether dispatches may overlap."""

    @property
    def hazards(self) -> str:
        """"automatic" or "manual": where barriers come from."""

    @property
    def dispatch_count(self) -> int:
        """The dispatches encoded so far."""

    @property
    def barrier_count(self) -> int:
        """The barriers encoded so far."""

    @property
    def conflict_count(self) -> int:
        """The arguments encoded so far that needed a barrier."""

    @property
    def status(self) -> str:
        """"encoding", "committed", "completed", "error" or "discarded"."""

    @property
    def gpu_time(self) -> float | None:
        """The seconds that the device worked; None until completion."""

    @property
    def queue(self) -> Queue:
        """The queue that it is committed to."""

    def signal(self, event: Event, value: int) -> None:
        """
        On the device, the event gets ``value`` once everything encoded so far is done.

        Raises ValidationError unless the value is 1 to 2**64 - 1 and the event is of the same device.
        """

    def wait_for(self, event: Event, value: int) -> None:
        """
        On the device, what is encoded after it waits until the event has ``value`` or more, and so does
        what is committed to the queue later. Raises as signal() does.
        """

    def commit(self) -> Submission:
        """
        Hands the command buffer to the device; nothing can be encoded after that.
        """

    def wait(self, timeout: float | None = None) -> None:
        """
        Waits until the committed work is done, at most ``timeout`` seconds.

        Raises DeviceError if the work failed or the time is up, KernelFault if a checked device found a
        kernel doing wrong, Error if nothing was committed. Ctrl-C ends the wait, not the work.
        """

    def commit_and_wait(self) -> None:
        """commit(), then wait()."""

    def __enter__(self) -> CommandEncoder: ...

    def __exit__(self, type: object, value: object, traceback: object) -> None: ...

    def __repr__(self) -> str: ...

class GraphNode:
    """What there is to know of one dispatch of a graph. A copy."""

    @property
    def name(self) -> str:
        """The operation, or the name of the kernel."""

    @property
    def label(self) -> str:
        """What dispatch(label=) was given, else ""."""

    @property
    def group(self) -> str:
        """The debug groups that it is in, separated by slashes."""

    @property
    def origins(self) -> list[int]:
        """
        The places of the recorded dispatches that it stands for; several if it is fused.
        """

    @property
    def reads(self) -> list[tuple[int, int, int]]:
        """
        The bytes that it reads: (allocation, begin, end), with a number for each allocation.
        """

    @property
    def writes(self) -> list[tuple[int, int, int]]:
        """The bytes that it writes, in the same way."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """The threadgroups, or the threads, along each axis."""

    @property
    def by_threads(self) -> bool:
        """Whether ``grid`` counts threads."""

    @property
    def threadgroup(self) -> tuple[int, int, int]:
        """The threads of a threadgroup along each axis."""

    @property
    def barrier(self) -> bool:
        """Whether it waits for all dispatches before it."""

    @property
    def pure(self) -> bool:
        """Whether it does nothing but write what ``writes`` says."""

    @property
    def nbytes(self) -> int:
        """The bytes of the buffers that it reads and writes."""

    def __repr__(self) -> str: ...

class MemoryPlan:
    """How the buffers that live only inside a graph share memory."""

    @property
    def buffers(self) -> int:
        """How many there are."""

    @property
    def unshared(self) -> int:
        """The bytes that they would take each for itself."""

    @property
    def peak(self) -> int:
        """The bytes that they take together."""

    def __repr__(self) -> str: ...

class Graph(Encoder):
    """
    Dispatches recorded once and run any number of times, made by Device.record().

    It takes operations and dispatches like a CommandEncoder, to the end of its ``with`` block or until
    finish(); nothing runs meanwhile. After that run() replays them in one call. What nobody but the graph
    refers to by then is the graph's own: optimize() may do without it, or have it share memory. Buffers
    that the program keeps hold their results after every run. A graph belongs to one thread at a time.
    """

    @property
    def label(self) -> str:
        """What Device.record() was given, else ""."""

    @property
    def recording(self) -> bool:
        """Whether it still records."""

    @property
    def optimized(self) -> bool:
        """Whether optimize() was called."""

    def finish(self) -> None:
        """Ends the recording, as the end of a ``with`` block does."""

    def __enter__(self) -> Graph: ...

    def __exit__(self, type: object, value: object, traceback: object) -> None: ...

    def optimize(self, *, remove_dead: bool = True, fuse: bool = True, reorder: bool = True, plan_memory: bool = True, depth: int = 4096, max_live_bytes: int | None = None) -> Graph:
        """
        Makes the graph cheaper to run and returns it. The results stay what they are: bit for bit, but
        where fuse leaves out the rounding of what it does not store any more.

        remove_dead     leaves out dispatches whose results nobody reads
        fuse            makes one dispatch of rms_norm and a mul or rope_neox that alone reads its result
        reorder         puts independent dispatches side by side, so that fewer barriers are needed
        plan_memory     lets the graph's own buffers share memory by lifetime
        depth           how many dispatches ahead of its place one may be moved
        max_live_bytes  what the graph's own buffers may take at once for the sake of fewer barriers;
                        twice what they take as recorded, at least 64 MiB, by default

        Dispatches of kernels of your own are not moved, and none across them, unless dispatch() was told
        what they read and write.
        """

    def name(self, name: str, buffer: Buffer) -> None:
        """
        Names a buffer, or a view of one, for rebind(). What dispatches were given that lies inside it goes
        along; what reaches beyond it, such as the whole of a cache of which this is a part, stays.

        Raises ValidationError if the name is taken or the memory has a name.
        """

    @property
    def names(self) -> dict[str, Buffer]:
        """The named buffers that the dispatches use now."""

    def rebind(self, name: str, buffer: Buffer) -> None:
        """
        Has the dispatches use another buffer of the same shape and type, or another part of the same one,
        in the place of the named one, from the next run on.

        It may overlap what other dispatches use: then the graph is optimised anew, if it was. Raises
        ValidationError for another shape, type or device, an offset that differs by no multiple of 16
        bytes, or read-only memory for what is written.
        """

    def update(self, node: str | int, **values: object) -> None:
        """
        Changes values that a dispatch was given in the place of buffers, from the next run on.

        node    the label that dispatch() was given, or the place of the dispatch in the recording
        values  by the names of the kernel's arguments; of operations ``eps`` or ``scale``

        Raises ValidationError for unknown names and values that dispatch() would refuse.
        """

    def encode(self, cmd: CommandEncoder, start: int | None = None, stop: int | None = None) -> None:
        """
        Encodes the nodes, or those of a slice, into a command buffer. Where hazards are "automatic" they
        run after all before them and before all after them.
        """

    def commit(self, start: int | None = None, stop: int | None = None, *, early: int = 0, queue: Queue | None = None) -> Submission:
        """
        Hands the nodes, or those of a slice, to the device, and returns without waiting.

        early  how many of them to hand over first, for the device to begin with while the others are
               being encoded
        queue  where to; the device's own by default. A run on another queue than the last one waits for
               that, as they share the graph's memory
        """

    def run(self, start: int | None = None, stop: int | None = None) -> None:
        """
        Runs the nodes, or those of a slice, and waits for them. Raises as CommandEncoder.wait() does.
        """

    def clone(self) -> Graph:
        """
        Another graph with the same dispatches, names and optimisations, to be changed and run by itself.
        Both use the buffers that the program keeps; each has memory for the graph's own.
        """

    def __len__(self) -> int: ...

    @property
    def nodes(self) -> list[GraphNode]:
        """The dispatches, as they run."""

    @property
    def edges(self) -> list[tuple[int, int]]:
        """
        Which nodes have to run before which, because both touch the same bytes.
        """

    @property
    def nbytes(self) -> int:
        """The bytes that all nodes read and write."""

    @property
    def barrier_count(self) -> int:
        """The barriers of a run."""

    @property
    def conflict_count(self) -> int:
        """The arguments that needed a barrier."""

    @property
    def removed_count(self) -> int:
        """The dispatches left out."""

    @property
    def fused_count(self) -> int:
        """The pairs of dispatches that became one."""

    @property
    def memory(self) -> MemoryPlan:
        """How the graph's own buffers share memory, if optimize() planned that."""

    def to_svg(self, path: str | PathLike[str] | None = None) -> str:
        """
        A drawing of the nodes, their dependencies, fusions and barriers, as SVG; also written to a file
        if ``path`` is given.
        """

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
        """The name that opens it: "cpu", "simt" or "metal"."""

    @property
    def description(self) -> str:
        """Metal's name of the device."""

    @property
    def gpu_family(self) -> str | None:
        """
        The newest of Apple's GPU families that the device has, e.g. "apple8". Off macOS the one whose
        limits METALLOID_GPU_FAMILY asks for; None if it asks for none.
        """

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
        """
        The threads of a SIMD-group of built-in kernels: 32 on Apple GPUs and "simt", 1 on "cpu".
        """

    @property
    def has_unified_memory(self) -> bool:
        """Whether host and device work on the same memory."""

    @property
    def kernel_variant(self) -> str:
        """
        What the loaded kernels were compiled for, e.g. "x86-64-v4"; on Metal their form, "metallib"
        or "source".
        """

    @property
    def shader_compiler(self) -> str:
        """What compiled the loaded kernels."""

    @property
    def library_path(self) -> str:
        """
        The file of the built-in kernels. One that ends in .metal is compiled when it is first used.
        """

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

        Raises KernelFault for faults of work that nobody has waited for.
        """

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike = 'float32', checked: bool = True) -> Buffer:
        """
        A buffer with undefined contents.

        On a checked device it is a fault if a kernel reads what nobody wrote, unless ``checked`` is False.

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

    def commands(self, label: str | None = None, concurrent: bool = True, hazards: Literal['automatic', 'manual'] = 'automatic', queue: Queue | None = None) -> CommandEncoder:
        """
        An encoder for one command buffer; see CommandEncoder.

        label       shows in errors, traces and debuggers
        concurrent  whether dispatches that do not depend on each other may overlap; else each runs after
                    the one before
        hazards     "automatic" puts a barrier where a dispatch touches memory that an earlier one wrote,
                    or writes what it touched; with "manual" only barrier() orders the dispatches of a
                    concurrent encoder
        queue       where it is committed to; the device's own by default
        """

    def queue(self, label: str | None = None) -> Queue:
        """
        The queue of that label, made when it is first asked for; the device's own without one. See Queue.

        Raises Error for more than eight.
        """

    def event(self) -> Event:
        """A new event with the value 0; see Event."""

    def record(self, label: str | None = None) -> Graph:
        """
        A graph that records what is encoded into it; see Graph. ``label`` shows in traces and debuggers.
        """

    def kernels(self) -> list[str]:
        """The names of the built-in kernels."""

    def kernel(self, name: str, constants: Constants | None = None) -> Kernel:
        """A built-in kernel, as Library.kernel() gives one."""

    def compile(self, source: str | PathLike[str], *, name: str | None = None, include_dirs: Sequence[str | PathLike[str]] = (), headers: Mapping[str, str] | None = None, macros: Mapping[str, str | int | float | bool | None] | None = None, fast_math: bool = True, language_version: str | None = None, simd_width: Literal['any', 32] | None = None) -> Library:
        """
        Compiles Metal shaders.

        source            the text, or a file: a path, or a str without a line break that ends in .metal or .h
        name              what messages call it; the path by default
        include_dirs      where included files are looked up, after the file's own directory
        headers           included files in memory, looked up first: name to text
        macros            name to replacement; True is 1, False 0, None nothing
        fast_math         whether arithmetic may be regrouped
        language_version  of Metal, e.g. "3.1"; the newest by default
        simd_width        "any" promises that the kernels do not depend on how many threads a SIMD-group
                          has, which makes them faster on "cpu"

        What was compiled before comes from a cache on disk; `metalloid cache` says where that is. The
        other threads run meanwhile.

        Raises CompileError, whose log has what the compiler says with files and lines of the source, or
        what to install where there is no compiler; ValidationError if an argument does not fit.
        """

    @property
    def checked(self) -> bool:
        """Whether kernels are checked while they run."""

    @property
    def check_mode(self) -> str:
        """
        What becomes of the faults that checks find: "raise" has waits and reads of results raise
        KernelFault, "warn" has them issue a KernelFaultWarning, "collect" gathers them in ``faults``,
        "off" forgets them.
        """

    @check_mode.setter
    def check_mode(self, mode: Literal['raise', 'warn', 'collect', 'off'], /) -> None: ...

    @property
    def faults(self) -> list[KernelFault]:
        """The faults gathered so far, if check_mode is "collect"."""

    def clear_faults(self) -> None:
        """Forgets the faults gathered so far."""

    def __repr__(self) -> str: ...
