//! Ending by signal where the kernel would not: the first process of a pid namespace ignores every
//! signal that it has no handler for (pid_namespaces(7)), so `stop` would wait for its whole grace
//! time and kill.

#![expect(unsafe_code, reason = "sigaction(2) and a signal handler have no safe wrapper")]

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use super::{Result, named};

/// The signals whose default action ends a process and that are sent by people. The synchronous ones
/// (SIGSEGV and its like) belong to the Wasm engine, SIGKILL needs no handler.
const ENDING: [libc::c_int; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGXCPU,
];

/// From now on a signal that ends other processes ends this one, with the status 128 + its number.
pub fn end_on_signals() -> Result<()> {
    for signal in ENDING {
        set(signal, end as extern "C" fn(libc::c_int) as libc::sighandler_t)?;
    }
    Ok(())
}

/// From now on writing to a pipe that nobody reads is an error and not the end of this process.
pub fn survive_closed_pipes() -> Result<()> {
    set(libc::SIGPIPE, libc::SIG_IGN)
}

/// What [`end_after`] says and the status it ends with, for a handler that may not allocate.
static LAST_WORDS: OnceLock<(String, u8)> = OnceLock::new();

/// Ends this process after `time`, with `words` on its standard error and with `status`, whatever it is doing then. Once
/// in a process.
pub fn end_after(time: Duration, words: String, status: u8) -> Result<()> {
    LAST_WORDS.get_or_init(|| (words, status));
    set(libc::SIGALRM, end_by_alarm as extern "C" fn(libc::c_int) as libc::sighandler_t)?;
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: time.subsec_micros() as libc::suseconds_t,
    };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: `timer` is valid and outlives the call, and a null pointer asks for nothing back.
    let done = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    named(if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }, || format!("setitimer({time:?})"))
}

extern "C" fn end_by_alarm(_signal: libc::c_int) {
    let (words, status) = LAST_WORDS.get().map_or(("", 1), |(words, status)| (words.as_str(), *status));
    // SAFETY: write and _exit are async-signal-safe (signal-safety(7)), and the words live as long as the process.
    unsafe {
        libc::write(2, words.as_ptr().cast(), words.len());
        libc::_exit(status.into())
    }
}

/// The signals by which an operator tells a server to end.
#[cfg(target_os = "linux")]
const TOLD: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// Where [`tell`] tells of a signal.
#[cfg(target_os = "linux")]
static TELL: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

/// From now on the signals that tell a server to end do not end this process: they show as something to read in the
/// descriptor that is returned, whichever thread they came to. Called once.
#[cfg(target_os = "linux")]
pub fn collect() -> Result<std::os::fd::OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    use std::os::fd::IntoRawFd;
    let event = named(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK), || "eventfd2()".into())?;
    let told = named(event.try_clone(), || "fcntl(F_DUPFD_CLOEXEC)".into())?;
    // Never closed again: a signal may come at any time.
    TELL.store(told.into_raw_fd(), std::sync::atomic::Ordering::SeqCst);
    for signal in TOLD {
        set(signal, tell as extern "C" fn(libc::c_int) as libc::sighandler_t)?;
    }
    Ok(event)
}

/// Whether a signal was collected since this was last asked.
#[cfg(target_os = "linux")]
pub fn collected(from: impl std::os::fd::AsFd) -> io::Result<bool> {
    match rustix::io::read(from, &mut [0; 8]) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
extern "C" fn tell(_signal: libc::c_int) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: write(2) is async-signal-safe, the buffer is valid, and the descriptor is never closed. It fails only
    // when the counter is full, which says what is to be said; the interrupted code's errno is put back.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(TELL.load(std::sync::atomic::Ordering::Relaxed), one.as_ptr().cast(), one.len());
        *libc::__errno_location() = errno;
    }
}

extern "C" fn end(signal: libc::c_int) {
    // SAFETY: _exit is async-signal-safe (signal-safety(7)) and nothing else is called here.
    unsafe { libc::_exit(128 + signal) }
}

/// Ends this process at once, for tests that are a program and must not return into their harness.
#[cfg(test)]
pub fn end_now(status: u8) -> ! {
    // SAFETY: _exit takes no pointer and does not return; nothing here is needed afterwards.
    unsafe { libc::_exit(status.into()) }
}

/// Whether `run` is true in a process that has a single thread, which a test's has not.
#[cfg(test)]
pub fn alone(run: impl FnOnce() -> bool) -> bool {
    // SAFETY: fork(2) of the C library leaves its allocator usable in the child, which takes no other lock that
    // a thread of the test harness could have held, and ends without running the harness' handlers.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_ok_and(|done| done);
        end_now(u8::from(!status));
    }
    let pid = rustix::process::Pid::from_raw(pid).expect("fork(2) works");
    let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    ended.expect("it is our child").is_some_and(|(_, status)| status.exit_status() == Some(0))
}

fn set(signal: libc::c_int, handler: libc::sighandler_t) -> Result<()> {
    // SAFETY: sigaction is plain data for which zero is valid (no flags, empty mask).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    // SA_ONSTACK: the thread may be on a Wasm stack that is all but used up.
    action.sa_flags = libc::SA_ONSTACK;
    // SAFETY: `action` is valid, and its handler is a function that lives as long as the process.
    let done = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    named(if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }, || format!("sigaction({signal})"))
}
