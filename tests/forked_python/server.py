"""Server of forked Python processes: imports the heavy packages once and forks one process per command.

Started as `python server.py SOCKET PACKAGES...`, with a pipe as standard input that its owner holds open; it prints one
line when it listens. It stays single-threaded, so a fork is safe, and it computes nothing, so a forked process starts
like a fresh interpreter after these imports. The packages under test are not among them: each process imports them.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import re
import runpy
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

# Variables that an interpreter or a package reads once, when it starts. PYTHONPATH is applied after the fork, and cv2
# adds its own folder to LD_LIBRARY_PATH when it is imported.
READ_AT_START = re.compile(
    r"PYTHON(?!PATH$)|OMP_|MKL_|OPENBLAS_|ATEN_|ONEDNN_|TORCH|MPL|CUDA_|LD_(?!LIBRARY_PATH$)|LC_|LANG$"
)

REFUSED = 70  # exit status of a request that only a fresh interpreter can serve


def preload(packages: Iterable[str]) -> None:
    """Import the packages that are installed.

    Raises:
        RuntimeError: An import has started a thread. A fork copies the locks that it holds, and not the thread.
    """
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # the allocator of pyarrow starts a thread otherwise
    for name in packages:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)
    del os.environ["JE_ARROW_MALLOC_CONF"]
    threads = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")]
    if len(threads) != 1:
        raise RuntimeError(f"a process with threads must not be forked; the imports have left {threads}")


def wait_for_request(listener: socket.socket) -> socket.socket:
    """Fork a process for each connection until the owner leaves. Returns in the forked process only: its connection.

    A process and its own children end with their client, and all of them with the server.
    """
    owner, owner_pipe = os.getppid(), sys.stdin.fileno()
    clients: dict[int, tuple[int, socket.socket]] = {}  # by the process's descriptor: process id, connection
    connected: dict[int, int] = {}  # process id by the connection's descriptor
    poller = select.poll()
    poller.register(owner_pipe, select.POLLHUP)
    poller.register(listener, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poller.poll(1000)]
        if owner_pipe in ready or os.getppid() != owner:
            for process, _ in clients.values():
                kill_group(process)
            os._exit(0)
        for descriptor in ready:
            if descriptor == listener.fileno():
                connection, _ = listener.accept()
                process = os.fork()
                if process == 0:
                    for other, (_, theirs) in clients.items():
                        os.close(other)
                        theirs.close()
                    return connection
                start_group(process)
                process_descriptor = os.pidfd_open(process)
                clients[process_descriptor] = process, connection
                connected[connection.fileno()] = process
                poller.register(process_descriptor, select.POLLIN)
                poller.register(connection, select.POLLRDHUP)
            elif descriptor in clients:  # the process has ended
                process, connection = clients.pop(descriptor)
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                poller.unregister(descriptor)
                os.close(descriptor)
                if connected.pop(connection.fileno(), None) is not None:
                    poller.unregister(connection)
                    with contextlib.suppress(OSError):  # the client leaves at this moment
                        connection.sendall(f"{status}\n".encode())
                connection.close()
            elif descriptor in connected:  # the client has left
                poller.unregister(descriptor)
                kill_group(connected.pop(descriptor))


def start_group(process: int) -> None:
    """Make the process the leader of a group of its own; both sides of a fork do so, whichever comes first."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(process, process)


def kill_group(process: int) -> None:
    """Kill a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def take_over(connection: socket.socket, at_start: dict[str, str]) -> list[str]:
    """Turn this process into the requested one: streams, folder, environment. Returns its arguments.

    `at_start` is the environment before the imports. Variables that they have set stay, as in a fresh process.
    """
    start_group(os.getpid())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    length, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    message = bytearray()
    while len(message) < int.from_bytes(length, "big"):
        message += connection.recv(1 << 20)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    connection.sendall(f"{os.getpid()}\n".encode())
    connection.close()

    request = json.loads(message)
    environment = request["environment"]
    for name in sorted(at_start.keys() | environment.keys()):
        if READ_AT_START.match(name) and at_start.get(name) != environment.get(name):
            refuse(f"{name} is {at_start.get(name)!r} here and {environment.get(name)!r} in the request")
    by_imports = {name: value for name, value in os.environ.items() if at_start.get(name) != value}
    os.environ.clear()
    os.environ.update(by_imports | environment)
    os.chdir(request["folder"])
    return list(request["arguments"])


def refuse(reason: str) -> None:
    """End the process: only a fresh interpreter can do what was requested."""
    print(f"forked python: {reason}; start a fresh interpreter instead", file=sys.stderr, flush=True)
    os._exit(REFUSED)


def set_import_path(first: str) -> None:
    """As the interpreter would: `first`, the folders of PYTHONPATH, what is installed."""
    added = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if "." not in name}
    for folder in map(os.path.abspath, added):
        entries = list(os.scandir(folder)) if os.path.isdir(folder) else []
        # A file without `.py` is no module: a command may have the name of its package.
        modules = {entry.name.removesuffix(".py") for entry in entries if entry.is_dir() or entry.name.endswith(".py")}
        for name in sorted(modules & files.keys()):
            if files[name] and not files[name].startswith(folder + os.sep):
                refuse(f"the imported {name} is not the one in {folder}")
    sys.path[:] = [*added, *sys.path]
    importlib.invalidate_caches()


def execute(arguments: list[str]) -> None:
    """Run `-m MODULE`, `-c PROGRAM` or `FILE` with its arguments, as the interpreter would."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-c", "-m")):
        refuse(f"arguments {arguments} are neither -m MODULE, nor -c PROGRAM, nor FILE")
    if arguments[0] == "-m":
        set_import_path(os.getcwd())
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = ModuleType("__main__")
    if arguments[0] == "-c":
        set_import_path("")
        sys.argv = ["-c", *arguments[2:]]
        code = compile(arguments[1], "<string>", "exec")
    else:
        main.__file__ = arguments[0]
        set_import_path(str(Path(arguments[0]).resolve().parent))
        sys.argv = arguments
        code = compile(Path(arguments[0]).read_bytes(), arguments[0], "exec")
    exec(code, main.__dict__)


def run_and_end(arguments: list[str]) -> NoReturn:
    """Run the arguments and end this process as the interpreter would, but without freeing every imported object.

    To free them costs more than a second of processor time, and copies the memory that is shared with the server.
    """
    status, interrupted = 0, False
    try:
        execute(arguments)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            status = error.code or 0
        else:
            print(error.code, file=sys.stderr)
            status = 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status, interrupted = 1, isinstance(error, KeyboardInterrupt)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    if vars(sys.modules["__main__"]) is not globals():
        vars(sys.modules["__main__"]).clear()  # closes the files that the program has left open
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    ctypes.CDLL(None).fflush(None)
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF)


def serve(path: str, packages: list[str]) -> list[str]:
    """Import, listen at the path and fork. Returns in the forked processes only: their arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner decides when the server ends
    at_start = dict(os.environ)
    preload(packages)
    gc.collect()
    gc.freeze()  # the collector of a forked process would otherwise copy every page
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("listening", flush=True)
        connection = wait_for_request(listener)
    # Seeds from the system's entropy, as in a fresh interpreter; the module `random` does so by itself.
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    return take_over(connection, at_start)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    run_and_end(serve(sys.argv[1], sys.argv[2:]))
