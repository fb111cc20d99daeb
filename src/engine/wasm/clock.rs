//! Time and chance that are the same at every run: what `--deterministic` gives in place of the host's.
//!
//! ```text
//!   a look at a clock     it is a microsecond later each time, so that waiting in a loop comes to an end
//!   a sleep that ends     it is as late as was slept for; the sleep takes its real time, so that the shorter of two
//!                         ends first
//! ```
//!
//! The clock therefore tells what the program did and nothing of the machine. Wasmtime asks a clock for the time, but
//! does not tell it of sleeping: the functions that sleep are ours, for each version of WASI, and are Wasmtime's own
//! where nothing is deterministic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use wasmtime::component::{Accessor, HasData, Resource, ResourceTable};
use wasmtime::{Caller, Extern, Linker, Memory};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock as p2;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::p3::bindings::clocks::monotonic_clock as p3;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use super::host::Host;

/// When every such program starts: 2000-01-01, later than the year in which other clocks begin.
const START: Duration = Duration::from_secs(946_684_800);
/// How much later it is at each look.
const LOOK: u64 = 1_000;

/// The clock of one program, in nanoseconds since its start. Clones are the same clock.
#[derive(Clone, Default)]
pub(super) struct Clock(Arc<AtomicU64>);

impl Clock {
    fn look(&self) -> u64 {
        self.0.fetch_add(LOOK, Ordering::Relaxed) + LOOK
    }

    fn time(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A sleep until `then` has ended.
    fn reach(&self, then: u64) {
        self.0.fetch_max(then, Ordering::Relaxed);
    }

    async fn sleep_until(&self, then: u64) {
        let ahead = then.saturating_sub(self.time());
        if ahead > 0 {
            tokio::time::sleep(Duration::from_nanos(ahead)).await;
        }
        self.reach(then);
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        LOOK
    }

    fn now(&self) -> u64 {
        self.look()
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(LOOK)
    }

    fn now(&self) -> Duration {
        START + Duration::from_nanos(self.look())
    }
}

/// Gives a program the clock and the random numbers of `seed`.
pub(super) fn fix(builder: &mut WasiCtxBuilder, clock: &Clock, seed: u64) {
    builder
        .wall_clock(clock.clone())
        .monotonic_clock(clock.clone())
        .secure_random(StdRng::seed_from_u64(seed))
        .insecure_random(StdRng::seed_from_u64(seed ^ 1))
        .insecure_random_seed(u128::from(seed));
}

/// Whose interface the monotonic clock is.
pub(super) struct Clocks;

impl HasData for Clocks {
    type Data<'a> = View<'a>;
}

/// The clock that never changes, if there is to be one, and the host's.
pub(super) struct View<'a> {
    pub(super) clock: Option<Clock>,
    pub(super) host: WasiClocksCtxView<'a>,
}

/// A moment of the clock that is slept for.
struct Moment {
    clock: Clock,
    then: u64,
    /// When it comes by the host's clock.
    real: tokio::time::Instant,
}

/// The longest sleep: a year. Nobody waits longer, and the host's clock can tell when it is over.
const LONGEST: u64 = 366 * 24 * 3600 * 1_000_000_000;

impl Moment {
    fn subscribe(clock: Clock, table: &mut ResourceTable, then: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let ahead = then.saturating_sub(clock.time()).min(LONGEST);
        let real = tokio::time::Instant::now() + Duration::from_nanos(ahead);
        let moment = table.push(Self { clock, then, real })?;
        subscribe(table, moment)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Moment {
    async fn ready(&mut self) {
        // Gives way to others even if it has come already.
        tokio::task::yield_now().await;
        tokio::time::sleep_until(self.real).await;
        self.clock.reach(self.then);
    }
}

impl p2::Host for View<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        p2::Host::now(&mut self.host)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        p2::Host::resolution(&mut self.host)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        match self.clock.clone() {
            Some(clock) => Moment::subscribe(clock, self.host.table, when),
            None => p2::Host::subscribe_instant(&mut self.host, when),
        }
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        match self.clock.clone() {
            Some(clock) => {
                let then = clock.time().saturating_add(duration);
                Moment::subscribe(clock, self.host.table, then)
            }
            None => p2::Host::subscribe_duration(&mut self.host, duration),
        }
    }
}

impl p3::Host for View<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        p3::Host::now(&mut self.host)
    }

    fn get_resolution(&mut self) -> wasmtime::Result<u64> {
        p3::Host::get_resolution(&mut self.host)
    }
}

impl p3::HostWithStore<Host> for Clocks {
    async fn wait_until(accessor: &Accessor<Host, Self>, when: u64) -> wasmtime::Result<()> {
        match accessor.with(|mut access| access.get().clock) {
            Some(clock) => clock.sleep_until(when).await,
            None => {
                let hosts = accessor.with_getter::<WasiClocks>(|host| host.for_clocks().host);
                <WasiClocks as p3::HostWithStore<Host>>::wait_until(&hosts, when).await?;
            }
        }
        Ok(())
    }

    async fn wait_for(accessor: &Accessor<Host, Self>, duration: u64) -> wasmtime::Result<()> {
        match accessor.with(|mut access| access.get().clock) {
            Some(clock) => {
                let then = clock.time().saturating_add(duration);
                clock.sleep_until(then).await;
            }
            None => {
                let hosts = accessor.with_getter::<WasiClocks>(|host| host.for_clocks().host);
                <WasiClocks as p3::HostWithStore<Host>>::wait_for(&hosts, duration).await?;
            }
        }
        Ok(())
    }
}

/// The size of a subscription and of an event of preview 1, and where their parts are (WASI preview 1, `subscription`
/// and `event`).
const SUBSCRIPTION: usize = 48;
const EVENT: usize = 32;
/// What a subscription is to: a clock, or else a file.
const CLOCK: u8 = 0;
/// The flag of a time that is not counted from now.
const ABSOLUTE: u16 = 1;
/// The clock that the wall shows.
const REALTIME: u32 = 0;
/// The codes of errors.
const SUCCESS: i32 = 0;
const FAULT: i32 = 21;
const INVALID: i32 = 28;
/// The most subscriptions of one call: as many as a program has handles.
const MAX_SUBSCRIPTIONS: usize = 100_000;

/// Puts `poll_oneoff` of a fixed clock into a linker of preview 1, in place of the one that is there.
pub(super) fn fix_poll(linker: &mut Linker<Host>, version: &str) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap_async(version, "poll_oneoff", |mut caller, (from, to, count, told): (u32, u32, u32, u32)| {
        Box::new(async move { poll(&mut caller, from as usize, to as usize, count as usize, told as usize).await })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Files are always ready, as reading and writing wait by themselves: so nothing of the machine decides which event is
/// first. Where there are only clocks, the earliest is slept for.
async fn poll(caller: &mut Caller<'_, Host>, from: usize, to: usize, count: usize, told: usize) -> i32 {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return FAULT };
    let Some(clock) = caller.data().clock() else { return INVALID };
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return INVALID;
    }
    let Some(bytes) = read(&memory, caller, from, count * SUBSCRIPTION) else { return FAULT };
    let subscriptions: Vec<Subscription> =
        bytes.chunks_exact(SUBSCRIPTION).map(|bytes| Subscription::of(bytes, clock.time())).collect();
    let earliest = subscriptions.iter().map(|subscription| subscription.then).min().unwrap_or_default();
    clock.sleep_until(earliest).await;
    let now = clock.time();
    let due = subscriptions.iter().filter(|subscription| subscription.then <= now);
    let events: Vec<u8> = due.flat_map(Subscription::event).collect();
    let number = u32::try_from(events.len() / EVENT).unwrap_or(u32::MAX);
    let written =
        memory.write(&mut *caller, to, &events).and_then(|()| memory.write(caller, told, &number.to_le_bytes()));
    if written.is_ok() { SUCCESS } else { FAULT }
}

fn read(memory: &Memory, caller: &Caller<'_, Host>, from: usize, length: usize) -> Option<Vec<u8>> {
    memory.data(caller).get(from..from.checked_add(length)?).map(<[u8]>::to_vec)
}

/// One thing that is waited for.
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    /// When it comes by the program's clock.
    then: u64,
}

impl Subscription {
    fn of(bytes: &[u8], now: u64) -> Self {
        let at = |from: usize| -> [u8; 8] { std::array::from_fn(|n| bytes[from + n]) };
        let [id @ .., _, _, _, _] = at(16);
        let [low, high, ..] = at(40);
        let timeout = u64::from_le_bytes(at(24));
        let absolute = u16::from_le_bytes([low, high]) & ABSOLUTE != 0;
        let start = START.as_nanos().try_into().unwrap_or(u64::MAX);
        let then = match (bytes[8], absolute) {
            (CLOCK, false) => now.saturating_add(timeout),
            (CLOCK, true) if u32::from_le_bytes(id) == REALTIME => timeout.saturating_sub(start),
            (CLOCK, true) => timeout,
            _ => now,
        };
        Self { userdata: at(0), kind: bytes[8], then }
    }

    /// Of a file, that there is at least a byte.
    fn event(&self) -> [u8; EVENT] {
        let mut event = [0; EVENT];
        event[..8].copy_from_slice(&self.userdata);
        event[10] = self.kind;
        event[16] = u8::from(self.kind != CLOCK);
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_clock_tells_what_was_done_with_it() {
        let read = async || {
            let clock = Clock::default();
            let first = HostMonotonicClock::now(&clock);
            clock.sleep_until(first + 2_000_000).await;
            (first, HostMonotonicClock::now(&clock), HostWallClock::now(&clock))
        };
        assert_eq!(read().await, read().await);
        assert_eq!(read().await.1, 2_000_000 + 2 * LOOK);
    }

    #[test]
    fn subscriptions_of_preview_1() {
        let mut bytes = [0; SUBSCRIPTION];
        bytes[..8].copy_from_slice(&7u64.to_le_bytes());
        bytes[24..32].copy_from_slice(&100u64.to_le_bytes());
        assert_eq!(Subscription::of(&bytes, 5).then, 105);
        bytes[40] = 1;
        assert_eq!(Subscription::of(&bytes, 5).then, 0, "a time before the start is over");
        bytes[16] = 1;
        assert_eq!(Subscription::of(&bytes, 5).then, 100);
        bytes[8] = 1;
        let file = Subscription::of(&bytes, 5);
        assert_eq!((file.then, file.event()[0], file.event()[10], file.event()[16]), (5, 7, 1, 1));
    }
}
