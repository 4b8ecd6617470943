"""Connections of Dask between processes of one user on one machine: sockets in a folder that only this user can enter.

Anyone who can connect to a process of Dask can run code as its owner, and to a port of a machine all its users can.

An address is ``unix://127.0.0.1/FOLDER:NUMBER``; the socket is the file NUMBER in /FOLDER. Dask takes what is before
the first slash for the host, on which its dashboards listen.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from secrets import randbelow
from typing import Any

from distributed.comm import tcp
from distributed.comm.addressing import parse_host_port
from distributed.comm.core import Comm, CommClosedError
from distributed.comm.registry import backends
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import bind_unix_socket
from tornado.tcpserver import TCPServer

SCHEME = "unix"
_HOST = "127.0.0.1"
_MODE = 0o600
_NUMBERS = 1 << 31


def host(folder: str) -> str:
    """Return what a server of Dask takes as its host, so that it listens in a folder.

    Its process must have imported this module, by ``preload`` if need be.
    """
    return f"{SCHEME}://{_HOST}{folder}"


class _Connection(tcp.TCP):
    def __init__(self, stream: IOStream, local: str, peer: str, deserialize: bool) -> None:
        # Dask leaves a stream that is closed without TCP's timeouts, which other sockets do not have.
        stream.closed = lambda: True  # type: ignore[method-assign]
        try:
            super().__init__(stream, local, peer, deserialize)
        finally:
            del stream.closed


class _Connector(tcp.BaseTCPConnector):
    prefix = f"{SCHEME}://"
    comm_class = _Connection
    # Dask may require encryption; nobody else can read these connections.
    encrypted = True

    async def connect(self, address: str, deserialize: bool = True, **_: Any) -> Comm:
        """Connect to a socket by its address without the scheme."""
        place, number = parse_host_port(address)
        folder = place.removeprefix(_HOST)
        stream = IOStream(socket.socket(socket.AF_UNIX), max_buffer_size=tcp.MAX_BUFFER_SIZE)
        try:
            await stream.connect(f"{folder}/{number}")
        except StreamClosedError as error:
            tcp.convert_stream_closed_error(self, error)
        return self.comm_class(stream, f"{self.prefix}{place}:0", self.prefix + address, deserialize)


class _Server(TCPServer):
    def __init__(self, serve: Callable[[IOStream], Awaitable[None]]) -> None:
        super().__init__(max_buffer_size=tcp.MAX_BUFFER_SIZE)
        self._serve = serve

    async def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a connection; its address is empty."""
        await self._serve(stream)


class _Listener(tcp.BaseTCPListener):
    prefix = f"{SCHEME}://"
    comm_class = _Connection
    encrypted = True
    tcp_server: TCPServer | None

    def _get_server_args(self, **_: Any) -> dict[str, Any]:
        return {}

    async def start(self) -> None:
        """Listen on a new socket in the folder."""
        self.bound_address = self.ip, self.port or 1 + randbelow(_NUMBERS)
        folder, number = self.bound_address[0].removeprefix(_HOST), self.bound_address[1]
        self.tcp_server = _Server(self._serve)
        self.tcp_server.add_socket(bind_unix_socket(f"{folder}/{number}", _MODE))

    async def _serve(self, stream: IOStream) -> None:
        if self.tcp_server is None:  # Stopped meanwhile.
            stream.close()
            return
        comm = self.comm_class(stream, self.contact_address, f"{self.prefix}{self.ip}:0", self.deserialize)
        comm.allow_offload = self.allow_offload
        try:
            await self.on_connection(comm)
        except CommClosedError:
            return
        await self.comm_handler(comm)


class _Backend(tcp.BaseTCPBackend):
    _connector_class = _Connector
    _listener_class = _Listener

    def get_address_host(self, loc: str) -> str:
        """Return the host."""
        return _HOST

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        """Return the host and the number of the socket."""
        return _HOST, parse_host_port(loc)[1]

    def resolve_address(self, loc: str) -> str:
        """Return the address: nothing in it has to be looked up."""
        return loc

    def get_local_address_for(self, loc: str) -> str:
        """Return an address in the same folder."""
        return f"{parse_host_port(loc)[0]}:0"


backends[SCHEME] = _Backend()
