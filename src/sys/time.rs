//! A time namespace with clocks of its own (time_namespaces(7), kernel 5.6).
//!
//! Its offsets can be written only while nobody is in it, and clone3(2) with `CLONE_NEWTIME` puts the child in at
//! once. So the parent makes the namespace for its children to come, writes the offsets, clones, and has its later
//! children back where it is itself:
//!
//! ```text
//! shift_for_children ─▶ clone ─▶ end
//! ```

use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Result, named};

/// A clock that a namespace may shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_BOOTTIME`.
    Boottime,
}

/// How far a clock is ahead of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The clock.
    pub clock: Clock,
    /// Whole seconds; negative is behind.
    pub seconds: i64,
    /// 0 to 999 999 999, which always count forward.
    pub nanos: u32,
}

/// The children of this process begin in a time namespace that it is not in.
#[must_use = "later children would begin there too"]
#[derive(Debug)]
pub struct ForChildren {
    before: OwnedFd,
}

/// Makes a time namespace with these offsets, for the next children of this process.
pub fn shift_for_children(offsets: &[Offset]) -> Result<ForChildren> {
    const NAMESPACE: &str = "/proc/self/ns/time";
    const OFFSETS: &str = "/proc/self/timens_offsets";
    let before = named(std::fs::File::open(NAMESPACE), || format!("open({NAMESPACE:?})"))?.into();
    super::process::unshare(libc::CLONE_NEWTIME)?;
    let made = ForChildren { before };
    let text = lines(offsets);
    // An empty write is an error, and without offsets nothing has to be written.
    let written = if text.is_empty() { Ok(()) } else { std::fs::write(OFFSETS, &text) };
    match named(written, || format!("write({OFFSETS:?}, {text:?})")) {
        Ok(()) => Ok(made),
        Err(error) => made.end().and(Err(error)),
    }
}

impl ForChildren {
    /// Has later children begin in this process' own time namespace again. The process must be single-threaded, and
    /// needs CAP_SYS_ADMIN over its time namespace, which an ordinary user does not have over the host's (EPERM).
    pub fn end(self) -> Result<()> {
        let back = move_into_link_name_space(self.before.as_fd(), Some(LinkNameSpaceType::Time));
        named(back, || "setns(\"/proc/self/ns/time\", CLONE_NEWTIME)".into())
    }
}

fn lines(offsets: &[Offset]) -> String {
    let line = |Offset { clock, seconds, nanos }: &Offset| match clock {
        Clock::Monotonic => format!("monotonic {seconds} {nanos}\n"),
        Clock::Boottime => format!("boottime {seconds} {nanos}\n"),
    };
    offsets.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use rustix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::sys::ending::alone;
    use crate::sys::process::{clone, reap};

    fn hours(clock: ClockId) -> i64 {
        clock_gettime(clock).tv_sec / 3600
    }

    /// How many hours the clocks of a new child are ahead of those that were read before.
    fn ahead(boot: i64, monotonic: i64) -> (u8, u8) {
        let difference = |now, before| u8::try_from(now - before).unwrap_or(99);
        let child = clone(0, None, || {
            let boot = difference(hours(ClockId::Boottime), boot);
            i32::from(boot * 10 + difference(hours(ClockId::Monotonic), monotonic).min(9))
        });
        let status = reap(child.unwrap().pidfd.as_fd()).unwrap();
        (status / 10, status % 10)
    }

    #[test]
    fn children_have_shifted_clocks_until_it_ends() {
        assert!(alone(|| {
            let (boot, monotonic) = (hours(ClockId::Boottime), hours(ClockId::Monotonic));
            let offset = |clock, hours: i64| Offset { clock, seconds: hours * 3600, nanos: 0 };
            let offsets = [offset(Clock::Boottime, 7), offset(Clock::Monotonic, 4)];
            let shifted = shift_for_children(&offsets).unwrap();
            let inside = ahead(boot, monotonic);
            let own = (hours(ClockId::Boottime) - boot, hours(ClockId::Monotonic) - monotonic);
            shifted.end().unwrap();
            // An hour may end while this runs.
            let about = |(a, b): (u8, u8), (x, y): (u8, u8)| a.abs_diff(x) <= 1 && b.abs_diff(y) <= 1;
            about(inside, (7, 4)) && own.0 <= 1 && own.1 <= 1 && about(ahead(boot, monotonic), (0, 0))
        }));
    }

    #[test]
    fn offsets_that_the_kernel_refuses_leave_nothing_behind() {
        assert!(alone(|| {
            let nowhere = Offset { clock: Clock::Boottime, seconds: i64::MIN, nanos: 0 };
            let error = shift_for_children(&[nowhere]).unwrap_err();
            let namespace = |name| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
            error.call.contains("timens_offsets") && namespace("time") == namespace("time_for_children")
        }));
    }

    #[test]
    fn each_clock_has_a_line() {
        let offset = |clock, seconds, nanos| Offset { clock, seconds, nanos };
        let offsets = [offset(Clock::Monotonic, -5, 1), offset(Clock::Boottime, 9, 0)];
        assert_eq!(lines(&offsets), "monotonic -5 1\nboottime 9 0\n");
    }
}
