"""The network interface through which another machine is reached."""

import socket
import struct

_GET_ADDRESS = 0x8915  # Linux's SIOCGIFADDR
_ADDRESS = slice(20, 24)  # where an interface's request holds its IPv4 address
_ANY_PORT = 9  # nothing is sent


def own_address(towards: str) -> str:
    """Say by which IPv4 address of its own this machine reaches another; empty where by none."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, _ANY_PORT))
            return probe.getsockname()[0]
    except OSError:
        return ""


def interface_towards(address: str) -> str | None:
    """Name the interface through which an IPv4 address is reached; none where that isn't known."""
    own = own_address(address)
    names = [name for _, name in socket.if_nameindex()] if own else []
    return next((name for name in names if _address_of(name) == own), None)


def _address_of(name: str) -> str:
    try:
        import fcntl  # neither Windows nor all that looks like Unix has it

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            answer = fcntl.ioctl(asked, _GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
        return socket.inet_ntoa(answer[_ADDRESS])
    except (ImportError, OSError):  # it has no such address
        return ""
