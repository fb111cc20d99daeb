//! An HTTP server of WASI 0.3. The path says what it does, as with `http2`:
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
//! | `/print` | `printed`, and a line on standard output |
//! | `/status/CODE` | an empty answer of that status |
//! | `/fail` | the error `internal-error` in place of an answer |
//! | `/trap`, `/loop`, `/grow` | a trap; no end; memory until there is no more |

use std::sync::atomic::{AtomicU64, Ordering};

use wasip3::cli::{environment, stdout};
use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamWriter};
use wasip3::{wit_bindgen, wit_future, wit_stream};

wasip3::http::service::export!(Server);

static SEEN: AtomicU64 = AtomicU64::new(0);

struct Server;

impl wasip3::exports::http::handler::Guest for Server {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
        let path = request.get_path_with_query().unwrap_or_default();
        let (what, argument) = path.trim_start_matches('/').split_once('/').unwrap_or((&path[1..], ""));
        let number = argument.parse::<u64>().unwrap_or_default();
        Ok(match what {
            "" => text(200, "hello\n".into()),
            "echo" => echo(request),
            "headers" => text(200, describe(&request)),
            "slow" => {
                sleep(number).await;
                text(200, "slow\n".into())
            }
            "drip" => streamed(200, async move |mut body| {
                for _ in 0..number {
                    sleep(100).await;
                    if !body.write_all(b"drip\n".to_vec()).await.is_empty() {
                        return;
                    }
                }
            }),
            "big" => streamed(200, async move |mut body| {
                let mut left = number;
                while left > 0 {
                    let part = left.min(65536);
                    if !body.write_all(vec![b'x'; part as usize]).await.is_empty() {
                        return;
                    }
                    left -= part;
                }
            }),
            "counter" => text(200, format!("{seen}\n")),
            "env" => {
                let variables = environment::get_environment();
                text(200, variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect())
            }
            "print" => {
                print(b"to stdout\n").await;
                text(200, "printed\n".into())
            }
            "status" => text(number as u16, String::new()),
            "fail" => return Err(ErrorCode::InternalError(Some("as asked".into()))),
            "trap" => core::arch::wasm32::unreachable(),
            "loop" => loop {
                std::hint::black_box(());
            },
            "grow" => {
                while core::arch::wasm32::memory_grow(0, 16) != usize::MAX {}
                text(200, "grown\n".into())
            }
            _ => text(404, "there is nothing\n".into()),
        })
    }
}

fn text(status: u16, text: String) -> Response {
    streamed(status, async move |mut body| drop(body.write_all(text.into_bytes()).await))
}

fn streamed(status: u16, fill: impl AsyncFnOnce(StreamWriter<u8>) + 'static) -> Response {
    let (body, receiver) = wit_stream::new();
    let response = respond(status, receiver);
    wit_bindgen::spawn_local(fill(body));
    response
}

fn respond(status: u16, body: StreamReader<u8>) -> Response {
    let (trailers, end) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(Fields::new(), Some(body), end);
    response.set_status_code(status).unwrap();
    response
}

fn echo(request: Request) -> Response {
    let (done, result) = wit_future::new(|| Ok(()));
    drop(done);
    let (body, _trailers) = Request::consume_body(request, result);
    respond(200, body)
}

fn describe(request: &Request) -> String {
    let method = match request.get_method() {
        Method::Other(name) => name,
        known => format!("{known:?}"),
    };
    let mut text = format!("{method} {}\n", request.get_path_with_query().unwrap_or_default());
    for (name, value) in request.get_headers().copy_all() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    text
}

async fn print(bytes: &[u8]) {
    let (mut sender, receiver) = wit_stream::new();
    let written = stdout::write_via_stream(receiver);
    sender.write_all(bytes.to_vec()).await;
    drop(sender);
    written.await.ok();
}

async fn sleep(milliseconds: u64) {
    monotonic_clock::wait_for(milliseconds * 1_000_000).await;
}
