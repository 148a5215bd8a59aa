"""The socket that a server listens on: it is there before anything heavy is imported."""

import socket
import sys

_PATIENCE = 30  # seconds for a client that reads nothing of its answer


def listen(host: str, port: int) -> socket.socket:
    """Listen; ValueError for a port that is taken, or a host that is not this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ValueError(
            f"port {port} of {host} can't be listened on ({error.strerror}): choose another --port, "
            "or a --host of this machine"
        ) from None
    if sys.platform == "linux":
        # An answer that nobody takes is given up: its bytes would lie in memory for as long as the client likes.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _PATIENCE * 1000)
    return listening


def address(listening: socket.socket, host: str) -> str:
    """Where a browser finds it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
