//! HTTP requests that a program sends.

use std::future::Future;

use http::{Request, Response};
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

/// What stands between a program's requests and the network.
#[derive(Clone, Default)]
pub struct Outgoing;

type Finished = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        _request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _fut: Finished,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Finished)>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
