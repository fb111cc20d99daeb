//! The state behind the functions that a program imports: what it was given, and what it has open.

use wasmtime_wasi::cli::{WasiCliCtxView, WasiCliView};
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::filesystem::{WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use wasmtime_wasi_tls::{WasiTlsCtx, WasiTlsCtxView, WasiTlsView};

use super::ceiling::Ceiling;
use super::clock::{self, Clock};
use super::grant::outgoing::Outgoing;
use super::keyvalue::{self, Stores};
use super::net::{Access, lookup, tls};
use super::stdio::{Input, Output};
use super::view::{Board, Calls, Number, Watched};
use super::{Error, Invocation, Preopen, Stdio, cause};

/// The most bytes of a program's arguments and environment together: what execve(2) takes of a native program's.
const MAX_ARGUMENTS: usize = 2 << 20;

/// One running instance's host.
pub(super) struct Host {
    pub(super) wasi: WasiP1Ctx,
    pub(super) limits: Watched<Ceiling>,
    access: Access,
    calls: Calls,
    clock: Option<Clock>,
    config: WasiConfigVariables,
    stores: Stores,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    tls: WasiTlsCtx,
}

impl Default for Host {
    /// A host that gives nothing.
    fn default() -> Self {
        Self {
            wasi: WasiCtxBuilder::new().build_p1(),
            limits: Watched::new(Ceiling::default(), Board::default()),
            access: Access::default(),
            calls: Calls::new(Board::default()),
            clock: None,
            config: WasiConfigVariables::new(),
            stores: Stores::new(),
            http: WasiHttpCtx::new(),
            outgoing: Outgoing::default(),
            tls: tls::context(),
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.calls.count(Number::CallsComponent);
        self.tell_if_due();
        self.wasi.ctx()
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: self.wasi.ctx().table, ctx: &mut self.http }
    }
}

/// The three streams, which the instances of a server share.
#[derive(Clone)]
pub(super) struct Streams {
    stdin: Input,
    stdout: Output,
    pub(super) stderr: Output,
}

impl From<Stdio> for Streams {
    fn from(stdio: Stdio) -> Self {
        Self { stdin: Input::new(stdio.stdin), stdout: Output::new(stdio.stdout), stderr: Output::new(stdio.stderr) }
    }
}

impl WasiTlsView for Host {
    fn tls(&mut self) -> WasiTlsCtxView<'_> {
        WasiTlsCtxView { ctx: &mut self.tls, table: self.wasi.ctx().table }
    }
}

/// The ways by which calls of the program get here, each counted.
impl Host {
    fn tell_if_due(&mut self) {
        if self.calls.is_due() {
            self.calls.tell(self.wasi.ctx().table);
        }
    }

    pub(super) fn for_preview1(&mut self) -> &mut WasiP1Ctx {
        self.calls.count(Number::CallsPreview1);
        self.tell_if_due();
        &mut self.wasi
    }

    pub(super) fn for_filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        self.calls.count(Number::CallsFilesystem);
        self.filesystem()
    }

    pub(super) fn for_cli(&mut self) -> WasiCliCtxView<'_> {
        self.calls.count(Number::CallsCli);
        self.cli()
    }

    pub(super) fn for_sockets(&mut self) -> WasiSocketsCtxView<'_> {
        self.calls.count(Number::CallsSockets);
        self.sockets()
    }

    pub(super) fn for_names(&mut self) -> lookup::View<'_> {
        self.calls.count(Number::CallsSockets);
        self.calls.count(Number::CallsComponent);
        lookup::View { access: &self.access, table: self.wasi.ctx().table }
    }

    pub(super) fn for_clocks(&mut self) -> clock::View<'_> {
        clock::View { clock: self.clock.clone(), host: self.wasi.clocks() }
    }

    pub(super) fn for_config(&mut self) -> WasiConfig<'_> {
        self.calls.count(Number::CallsComponent);
        WasiConfig::new(&self.config)
    }

    pub(super) fn for_keyvalue(&mut self) -> keyvalue::View<'_> {
        self.calls.count(Number::CallsComponent);
        keyvalue::View { stores: &self.stores, table: self.wasi.ctx().table }
    }

    pub(super) fn for_http(&mut self) -> WasiHttpCtxView<'_> {
        self.calls.count(Number::CallsHttp);
        self.calls.count(Number::CallsComponent);
        self.tell_if_due();
        self.http()
    }
}

impl Host {
    pub(super) fn new(invocation: &Invocation, streams: Streams, board: Board) -> Result<Self, Error> {
        let access = Access::new(&invocation.grants.network, &invocation.names);
        let given = &invocation.grants.given;
        let clock = given.seed.map(|_| Clock::default());
        let mut builder = context(invocation, streams, &access)?;
        if let (Some(clock), Some(seed)) = (&clock, given.seed) {
            clock::fix(&mut builder, clock, seed);
        }
        let config = given.config.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let stores = keyvalue::open(&given.stores, &invocation.preopens)?;
        let mut wasi = builder.build_p1();
        let limit = &invocation.grants.limit;
        wasi.ctx().table.set_max_capacity(limit.handles);
        let limits = Watched::new(Ceiling::new(invocation.limits.memory, limit), board.clone());
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limit.fields);
        let outgoing = Outgoing::new(access.clone());
        let calls = Calls::new(board);
        let tls = tls::context();
        Ok(Self { wasi, limits, access, calls, clock, config, stores, http, outgoing, tls })
    }

    /// The clock that is the same at every run, if the program is to have that.
    pub(super) fn clock(&self) -> Option<Clock> {
        self.clock.clone()
    }
}

fn context(invocation: &Invocation, streams: Streams, access: &Access) -> Result<WasiCtxBuilder, Error> {
    check_arguments(invocation)?;
    let mut builder = WasiCtxBuilder::new();
    builder
        // The process has nothing else to do than to run this program: a read waits where it is called
        // instead of being handed to another thread and back. Must come before the directories.
        .allow_blocking_current_thread(true)
        .stdin(streams.stdin)
        .stdout(streams.stdout)
        .stderr(streams.stderr)
        .args(&invocation.args)
        .envs(&invocation.env)
        .max_random_size(invocation.grants.limit.random)
        // Names are looked up by us. Without a grant there is not even a socket.
        .allow_tcp(access.is_granted())
        .allow_udp(access.is_granted())
        .allow_ip_name_lookup(false)
        .socket_addr_check({
            let access = access.clone();
            move |address, purpose| Box::pin(std::future::ready(access.may_use(address, purpose)))
        });
    for Preopen { host, guest, readonly } in &invocation.preopens {
        let permissions = if *readonly { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        if let Err(error) = builder.preopened_dir(host, guest, permissions) {
            return Err(Error::Preopen { host: host.clone(), guest: guest.clone(), source: cause(error) });
        }
    }
    Ok(builder)
}

/// The program can ask for all of them at once, and they are copied then.
fn check_arguments(invocation: &Invocation) -> Result<(), Error> {
    let env = invocation.env.iter().map(|(name, value)| name.len() + value.len() + 2);
    let size = invocation.args.iter().map(|arg| arg.len() + 1).chain(env).sum::<usize>();
    if size > MAX_ARGUMENTS { Err(Error::TooManyArguments { limit: MAX_ARGUMENTS }) } else { Ok(()) }
}
