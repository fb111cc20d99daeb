"""An HTTP server of WASI 0.2: `/` says hello, `/sum?N` adds up the numbers to N, and `/echo` says what it was told."""

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path, _, query = (request.path_with_query() or "/").partition("?")
        if path == "/":
            answer(response_out, 200, b"hello from Python\n")
        elif path == "/sum":
            answer(response_out, 200, b"%d\n" % sum(range(int(query) + 1)))
        elif path == "/echo":
            answer(response_out, 200, body(request))
        else:
            answer(response_out, 404, b"there is nothing\n")


def body(request: IncomingRequest) -> bytes:
    content = b""
    with request.consume() as incoming, incoming.stream() as stream:
        try:
            while True:
                content += stream.blocking_read(65536)
        except Exception:  # the end of a stream
            return content


def answer(out: ResponseOutparam, status: int, content: bytes) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
    response.set_status_code(status)
    outgoing = response.body()
    ResponseOutparam.set(out, Ok(response))
    with outgoing.write() as stream:
        for start in range(0, len(content), 4096):
            stream.blocking_write_and_flush(content[start:start + 4096])
    OutgoingBody.finish(outgoing, None)
