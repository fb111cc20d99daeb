//! `events`: what a container uses, and when the kernel kills in it for want of memory; one JSON object a line, in
//! runc's form.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::options::{Flag, Given, option, switch, wrong};
use super::status::Status;
use super::store::Entry;
use super::{Command, Context, Error, Outcome, cgroup, say, stats};
use crate::cgroup::{Cgroup, OomWatch};
use crate::sys::named;

static FLAGS: [Flag; 2] = [
    option("interval", None, "TIME", "how often statistics are shown (default: 5s)"),
    switch("stats", None, "show the statistics once"),
];

/// How often, and after what time each, the count of kills is looked at after a want of memory.
const LOOKS: u32 = 200;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// `events`.
pub const COMMAND: Command =
    Command { flags: &FLAGS, ..Command::new("events", "show what a container uses, and its OOM kills", run) };

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let entry = context.entry(given)?;
    let text = given.text("interval")?.unwrap_or("5s");
    let why = || wrong("interval", text.as_ref(), "it is a time greater than 0, such as 500ms, 5s or 1m30s");
    let interval = duration(text).filter(|interval| !interval.is_zero()).ok_or_else(why)?;
    if entry.status() == Status::Stopped {
        return Err(Error::refuse("events", format!("container with id {} is not running", entry.record.id)));
    }
    cgroup::need(&entry, |group| match given.has("stats") {
        true => print_stats(&entry, group),
        false => follow(&entry, group, interval),
    })?;
    Ok(0)
}

fn print_stats(entry: &Entry, group: &Cgroup) -> Result<(), Error> {
    let mut data = stats::in_runcs_form(&group.stats()?);
    if let Some(rdt) = &entry.record.rdt {
        data["intel_rdt"] = serde_json::to_value(rdt.stats()?).expect("plain data");
    }
    say(&format!("{}\n", json!({"type": "stats", "id": entry.record.id, "data": data})))
}

/// Tells until the container has ended.
fn follow(entry: &Entry, group: &Cgroup, interval: Duration) -> Result<(), Error> {
    let init = entry.record.init().ok_or(Error::NotRunning)?;
    let Some(process) = init.open().map_err(Error::sys("watch the container"))? else { return Ok(()) };
    let watch = group.oom()?;
    let mut kills = watch.as_ref().map_or(Ok(None), OomWatch::kills)?.unwrap_or(0);
    let mut next = Instant::now() + interval;
    // v1 announces a want of memory before the kill that ends it is counted: the count is looked at for a while.
    let mut looks = 0;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let left = if looks > 0 { left.min(LOOK_AGAIN) } else { left };
        let time = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(&process, PollFlags::IN)];
        fds.extend(watch.as_ref().map(|watch| PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)));
        match poll(&mut fds, Some(&time)) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => named(polled, || "poll()".into()).map_err(Error::sys("watch the container"))?,
        };
        let ended = !fds[0].revents().is_empty();
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            looks = LOOKS;
        }
        if looks > 0 || ended {
            let now = watch.as_ref().map_or(Ok(None), OomWatch::kills)?.unwrap_or(kills);
            for _ in kills..now {
                say(&format!("{}\n", json!({"type": "oom", "id": entry.record.id})))?;
            }
            looks = if now > kills { 0 } else { looks.saturating_sub(1) };
            kills = now;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            print_stats(entry, group)?;
            next += interval;
        }
    }
}

/// A time as Go writes it: numbers with units, `1m30s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_go_writes_them() {
        for (text, milliseconds) in [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "s", "-5s", "5x"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
