"""Starts processes that needn't import torch and Lightning, which takes most of a short run's time.

    python -m tests.integration.fork_server SOCKET

Each connection sends a request (module, arguments, variables, input) with two open files for what
it writes, and gets the process's id, then its status. The process is a real one, with memory,
signals and sockets of its own: a copy of this one, which has imported the program and done nothing.
"""

import json
import os
import runpy
import signal
import socket
import sys

# All that a run imports.
from seq2seq import cli, evaluation, translation_job
from seq2seq.training import run

IMPORTED = (cli, evaluation, run, translation_job)


def serve(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that wait
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            start(connection)
            return
        connection.close()


def start(connection: socket.socket) -> None:
    """Start the process and wait for it; in the process itself, run the module."""
    message, files, _, _ = socket.recv_fds(connection, 2**20, 2)
    process = os.fork()
    if process:
        connection.sendall(f"{process}\n".encode())
        _, status = os.waitpid(process, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        return
    connection.close()
    request = json.loads(message)
    for number, file in enumerate((os.open(request["stdin"], os.O_RDONLY), *files)):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["module"], *request["words"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(sys.argv[1])
