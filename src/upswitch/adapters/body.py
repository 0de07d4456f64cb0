"""The body of an HTTP answer, as h11 understands its framing."""

from upswitch.adapters.stream import Stream

_LONGEST = 65536  # bytes


def read(stream: Stream, begun: bytes) -> bytes:
    """The body, up to some 64 kB, of the answer that has `begun`. What is there of a broken one, or a note that there is none."""
    import h11  # noqa: PLC0415  (7 ms; only a body needs it)

    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "probe")]))  # opens the answer's side; never sent
    connection.receive_data(begun)
    body = b""
    try:
        while len(body) < _LONGEST:
            event = connection.next_event()
            match event:
                case h11.NEED_DATA:
                    connection.receive_data(stream.receive())
                case h11.Data():
                    body += bytes(event.data)
                case h11.EndOfMessage() | h11.ConnectionClosed() | h11.PAUSED:
                    break
                case _:  # the status and headers, already judged
                    continue
    except (h11.RemoteProtocolError, OSError) as exc:
        if not body:
            return f"(no body: {exc})".encode()
    return body
