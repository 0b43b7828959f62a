"""Client of the server: `python -IS client.py SOCKET ARGUMENTS...` acts as `python ARGUMENTS...`.

The process that the server forks gets the streams, folder, environment and signals of this one, which ends as it does.
"""

import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(path: str, arguments: list[str]) -> int:
    """Have the server run the arguments. Returns the exit code, negative for a signal."""
    process, early = 0, list[int]()

    def forward(number: int, _: object) -> None:
        # The process may have printed, and its caller sent a signal, before its number has arrived here.
        os.kill(process, number) if process else early.append(number)

    for number in FORWARDED:
        signal.signal(number, forward)
    request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    message = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(path)
        except OSError as error:
            return failed(f"no server answers at {path}: {error}")
        socket.send_fds(server, [len(message).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(message)
        with server.makefile("r") as answers:
            process = int(answers.readline() or 0)
            for number in early if process else ():
                os.kill(process, number)
            status = answers.readline()
    return int(status) if status else failed("the server has ended without the exit status of this process")


def failed(reason: str) -> int:
    """Say so, and return an exit code that no command has."""
    print(f"forked python: {reason}", file=sys.stderr)
    return 70


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2:])
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    sys.exit(code)
