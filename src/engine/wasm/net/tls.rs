//! TLS for requests that a program sends, and for `wasi:tls`, which has only streams of sockets that it was granted to
//! work on. Trusted are the authorities of the web: there is no file of them in an empty root.

use std::sync::{Arc, LazyLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_tls::{Error, TlsProvider, TlsStream, TlsTransport, WasiTlsCtx, WasiTlsCtxBuilder};

/// The configuration of every client: made at the first use, as few programs have one.
pub(in super::super) fn client() -> Arc<ClientConfig> {
    static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the suites of TLS 1.2 and 1.3");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    CLIENT.clone()
}

/// The state of `wasi:tls`.
pub(in super::super) fn context() -> WasiTlsCtx {
    WasiTlsCtxBuilder::new().provider(Box::new(Provider)).build()
}

struct Provider;

type Connecting = std::pin::Pin<Box<dyn Future<Output = Result<Box<dyn TlsStream>, Error>> + Send>>;

impl TlsProvider for Provider {
    fn connect(&self, server_name: String, transport: Box<dyn TlsTransport>) -> Connecting {
        Box::pin(async move {
            let name = ServerName::try_from(server_name).map_err(|_| Error::msg("invalid server name"))?;
            let connected = TlsConnector::from(client()).connect(name, transport).await;
            Ok(Box::new(connected.map_err(|error| Error::msg(error.to_string()))?) as Box<dyn TlsStream>)
        })
    }
}
