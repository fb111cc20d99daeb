//! The state behind the functions that a program imports: what it was given, and what it has open.

use wasmtime::{StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::cli::{WasiCliCtxView, WasiCliView};
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::filesystem::{WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use wasmtime_wasi_tls::{WasiTlsCtx, WasiTlsCtxView, WasiTlsView};

use super::clock::{self, Clock};
use super::grant::outgoing::Outgoing;
use super::keyvalue::{self, Stores};
use super::net::{Access, lookup, tls};
use super::stdio::{Input, Output};
use super::view::{Board, Census, Number, Watched};
use super::{Error, Invocation, Limits, Preopen, Stdio, cause};

/// The most elements of one table, as in browsers (WebAssembly JavaScript interface, "Implementation-defined
/// limits"). A table lives outside of linear memory, so the limit on that does not count it.
const MAX_TABLE_ELEMENTS: usize = 10_000_000;
/// The most tables of a program: a component has a few for each of the modules in it.
const MAX_TABLES: usize = 1_000;
/// The most linear memories of a program. Each reserves 4 GiB of addresses, of which there are 2^47.
const MAX_MEMORIES: usize = 100;
/// The most module instances of a program.
const MAX_INSTANCES: usize = 1_000;
/// The most handles (open files, streams, sockets, pollables) of a program at a time.
const MAX_HANDLES: usize = 100_000;

/// One running instance's host.
pub(super) struct Host {
    pub(super) wasi: WasiP1Ctx,
    pub(super) limits: Watched<StoreLimits>,
    pub(super) board: Board,
    access: Access,
    census: Census,
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
            limits: Watched::new(StoreLimits::default(), Board::default()),
            board: Board::default(),
            access: Access::default(),
            census: Census::default(),
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
        self.board.add(Number::CallsComponent, 1);
        self.census.take(self.wasi.ctx().table, &self.board);
        self.wasi.ctx()
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: self.wasi.ctx().table, ctx: &mut self.http }
    }
}

impl WasiTlsView for Host {
    fn tls(&mut self) -> WasiTlsCtxView<'_> {
        WasiTlsCtxView { ctx: &mut self.tls, table: self.wasi.ctx().table }
    }
}

/// The ways by which calls of the program get here, each counted.
impl Host {
    pub(super) fn for_preview1(&mut self) -> &mut WasiP1Ctx {
        self.board.add(Number::CallsPreview1, 1);
        self.census.take(self.wasi.ctx().table, &self.board);
        &mut self.wasi
    }

    pub(super) fn for_filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        self.board.add(Number::CallsFilesystem, 1);
        self.filesystem()
    }

    pub(super) fn for_cli(&mut self) -> WasiCliCtxView<'_> {
        self.board.add(Number::CallsCli, 1);
        self.cli()
    }

    pub(super) fn for_sockets(&mut self) -> WasiSocketsCtxView<'_> {
        self.board.add(Number::CallsSockets, 1);
        self.sockets()
    }

    pub(super) fn for_names(&mut self) -> lookup::View<'_> {
        self.board.add(Number::CallsSockets, 1);
        self.board.add(Number::CallsComponent, 1);
        lookup::View { access: &self.access, table: self.wasi.ctx().table }
    }

    pub(super) fn for_clocks(&mut self) -> clock::View<'_> {
        clock::View { clock: self.clock.clone(), host: self.wasi.clocks() }
    }

    pub(super) fn for_config(&mut self) -> WasiConfig<'_> {
        self.board.add(Number::CallsComponent, 1);
        WasiConfig::new(&self.config)
    }

    pub(super) fn for_keyvalue(&mut self) -> keyvalue::View<'_> {
        self.board.add(Number::CallsComponent, 1);
        keyvalue::View { stores: &self.stores, table: self.wasi.ctx().table }
    }

    pub(super) fn for_http(&mut self) -> WasiHttpCtxView<'_> {
        self.board.add(Number::CallsHttp, 1);
        self.board.add(Number::CallsComponent, 1);
        self.http()
    }
}

impl Host {
    pub(super) fn new(invocation: &Invocation, stdio: Stdio, board: Board) -> Result<Self, Error> {
        let access = Access::new(&invocation.grants.network, &invocation.names);
        let given = &invocation.grants.given;
        let clock = given.seed.map(|_| Clock::default());
        let mut builder = context(invocation, stdio, &access)?;
        if let (Some(clock), Some(seed)) = (&clock, given.seed) {
            clock::fix(&mut builder, clock, seed);
        }
        let config = given.config.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let stores = keyvalue::open(&given.stores, &invocation.preopens)?;
        let mut wasi = builder.build_p1();
        wasi.ctx().table.set_max_capacity(MAX_HANDLES);
        let limits = Watched::new(limits(&invocation.limits), board.clone());
        let outgoing = Outgoing::new(access.clone());
        Ok(Self { wasi, limits, board, outgoing, access, clock, config, stores, ..Self::default() })
    }

    /// The clock that is the same at every run, if the program is to have that.
    pub(super) fn clock(&self) -> Option<Clock> {
        self.clock.clone()
    }
}

fn context(invocation: &Invocation, stdio: Stdio, access: &Access) -> Result<WasiCtxBuilder, Error> {
    let mut builder = WasiCtxBuilder::new();
    builder
        // The process has nothing else to do than to run this program: a read waits where it is called
        // instead of being handed to another thread and back. Must come before the directories.
        .allow_blocking_current_thread(true)
        .stdin(Input::new(stdio.stdin))
        .stdout(Output::new(stdio.stdout))
        .stderr(Output::new(stdio.stderr))
        .args(&invocation.args)
        .envs(&invocation.env)
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

fn limits(limits: &Limits) -> StoreLimits {
    let builder = StoreLimitsBuilder::new()
        .table_elements(MAX_TABLE_ELEMENTS)
        .tables(MAX_TABLES)
        .memories(MAX_MEMORIES)
        .instances(MAX_INSTANCES);
    match limits.memory {
        Some(bytes) => builder.memory_size(usize::try_from(bytes).unwrap_or(usize::MAX)),
        None => builder,
    }
    .build()
}
