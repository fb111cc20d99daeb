// An HTTP server of WASI 0.2: `/` says hello, `/sum?N` adds up the numbers to N, and `/echo` says what it was told.
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.12';

export const incomingHandler = {
  handle(request, out) {
    const [path, query] = (request.pathWithQuery() ?? '/').split('?');
    if (path === '/') return answer(out, 200, 'hello from JavaScript\n');
    if (path === '/echo') return answer(out, 200, body(request));
    if (path === '/sum') {
      let sum = 0;
      for (let n = Number(query); n > 0; n--) sum += n;
      return answer(out, 200, `${sum}\n`);
    }
    return answer(out, 404, 'there is nothing\n');
  },
};

function body(request) {
  const stream = request.consume().stream();
  const bytes = [];
  try {
    for (;;) bytes.push(...stream.blockingRead(65536n));
  } catch {
    return new Uint8Array(bytes); // the end of a stream
  }
}

function answer(out, status, content) {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  const response = new OutgoingResponse(new Fields());
  response.setStatusCode(status);
  const outgoing = response.body();
  ResponseOutparam.set(out, { tag: 'ok', val: response });
  const stream = outgoing.write();
  for (let at = 0; at < bytes.length; at += 4096) stream.blockingWriteAndFlush(bytes.subarray(at, at + 4096));
  stream[Symbol.dispose]();
  OutgoingBody.finish(outgoing, undefined);
}
