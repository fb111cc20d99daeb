//! An HTTP server of WASI 0.2. The path says what it does:
//!
//! | path | answer |
//! |---|---|
//! | `/` | `hello` |
//! | `/echo` | the request's body, as it comes |
//! | `/headers` | the request's method, path and header fields, one a line |
//! | `/slow/MS` | `slow`, after that many milliseconds |
//! | `/drip/N` | N times `drip`, 100 ms apart |
//! | `/big/N` | N bytes |
//! | `/counter` | how many requests this instance has seen |
//! | `/env` | the environment, one variable a line |
//! | `/print` | `printed`, and a line on standard output and one on standard error |
//! | `/status/CODE` | an empty answer of that status |
//! | `/trap`, `/loop`, `/grow`, `/silent` | a trap; no end; memory until there is no more; no answer at all |

use std::sync::atomic::{AtomicU64, Ordering};

use wasip2::cli::{environment, stderr, stdout};
use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::{OutputStream, StreamError};

wasip2::http::proxy::export!(Server);

static SEEN: AtomicU64 = AtomicU64::new(0);

struct Server;

impl wasip2::exports::http::incoming_handler::Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
        let path = request.path_with_query().unwrap_or_default();
        let (what, argument) = path.trim_start_matches('/').split_once('/').unwrap_or((&path[1..], ""));
        let number = || argument.parse::<u64>().unwrap_or_default();
        match what {
            "" => answer(out, 200, |body| write(body, b"hello\n")),
            "echo" => echo(&request, out),
            "headers" => answer(out, 200, |body| write(body, describe(&request).as_bytes())),
            "slow" => {
                sleep(number());
                answer(out, 200, |body| write(body, b"slow\n"));
            }
            "drip" => answer(out, 200, |body| {
                (0..number()).try_for_each(|_| {
                    sleep(100);
                    write(body, b"drip\n")
                })
            }),
            "big" => answer(out, 200, |body| big(body, number())),
            "counter" => answer(out, 200, |body| write(body, format!("{seen}\n").as_bytes())),
            "env" => answer(out, 200, |body| {
                let variables = environment::get_environment();
                variables.iter().try_for_each(|(name, value)| write(body, format!("{name}={value}\n").as_bytes()))
            }),
            "print" => {
                stdout::get_stdout().blocking_write_and_flush(b"to stdout\n").unwrap();
                stderr::get_stderr().blocking_write_and_flush(b"to stderr\n").unwrap();
                answer(out, 200, |body| write(body, b"printed\n"));
            }
            "status" => answer(out, number() as u16, |_| Ok(())),
            "trap" => core::arch::wasm32::unreachable(),
            "loop" => loop {
                std::hint::black_box(());
            },
            "grow" => while core::arch::wasm32::memory_grow(0, 16) != usize::MAX {},
            "silent" => {}
            _ => answer(out, 404, |body| write(body, b"there is nothing\n")),
        }
    }
}

fn answer(out: ResponseOutparam, status: u16, fill: impl FnOnce(&OutputStream) -> Result<(), StreamError>) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    // Who asked may have gone away.
    let filled = fill(&stream);
    drop(stream);
    if filled.is_ok() {
        OutgoingBody::finish(body, None).ok();
    }
}

fn write(body: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    bytes.chunks(4096).try_for_each(|chunk| body.blocking_write_and_flush(chunk))
}

fn big(body: &OutputStream, bytes: u64) -> Result<(), StreamError> {
    let block = [b'x'; 4096];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(block.len() as u64);
        write(body, &block[..part as usize])?;
        left -= part;
    }
    Ok(())
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    answer(out, 200, |body| {
        loop {
            match input.blocking_read(65536) {
                Ok(chunk) => write(body, &chunk)?,
                Err(StreamError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    drop(input);
}

fn describe(request: &IncomingRequest) -> String {
    let method = match request.method() {
        Method::Other(name) => name,
        known => format!("{known:?}"),
    };
    let mut text = format!("{method} {}\n", request.path_with_query().unwrap_or_default());
    for (name, value) in request.headers().entries() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    text
}

fn sleep(milliseconds: u64) {
    monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
}
