//! A look at a running Wasm program: what its engine shows, what the kernel says of the engine's process, and what was
//! granted. It is looked at from outside, and nothing is executed in the container.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::{Container, Error, Status, Store, io};
use crate::engine::wasm::view::Numbers;

/// The most open files that are listed. An engine's limit on them is lower.
const MAX_FILES: usize = 100_000;

/// A running Wasm program.
#[derive(Clone, Debug)]
pub struct View {
    /// The engine's process, as the host numbers it.
    pub pid: i32,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Its processor time.
    pub cpu: Duration,
    /// Its threads.
    pub threads: u64,
    /// What it has in memory, in bytes.
    pub resident: Resident,
    /// What the engine shows.
    pub numbers: Numbers,
}

/// What a process has in memory, in bytes (proc_pid_status(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// All of it.
    pub all: u64,
    /// What is its own: heap, stacks, linear memory that was written to.
    pub anonymous: u64,
    /// What is mapped from files: our binary and the compiled program, which others share.
    pub file: u64,
    /// The most there ever was.
    pub peak: u64,
}

/// An open file of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its number.
    pub number: u32,
    /// What it is, as procfs shows it: a path in the container, or `socket:[…]`.
    pub target: String,
    /// How it was opened: `r`, `w` or `rw`.
    pub mode: &'static str,
    /// Where it is read or written next.
    pub position: u64,
}

impl Store {
    /// A look at the program of a running Wasm container.
    pub fn view(&self, container: &Container) -> Result<View, Error> {
        let not_running = || Error::NotRunning { name: container.name.clone() };
        let Status::Running { process, started_at, .. } = container.status else { return Err(not_running()) };
        let numbers = self.look(container)?.ok_or_else(not_running)?;
        let read = |name: &str| {
            let path = format!("/proc/{}/{name}", process.pid);
            io("read", Path::new(&path), std::fs::read_to_string(&path))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        Ok(View {
            pid: process.pid,
            started_at,
            cpu: cpu_time(&stat, rustix::param::clock_ticks_per_second()),
            threads: field(&status, "Threads"),
            resident: resident(&status),
            numbers,
        })
    }

    /// The open files of the engine's process.
    pub fn open_files(&self, container: &Container) -> Result<Vec<OpenFile>, Error> {
        let Status::Running { process, .. } = container.status else {
            return Err(Error::NotRunning { name: container.name.clone() });
        };
        let directory = format!("/proc/{}/fd", process.pid);
        let directory = Path::new(&directory);
        let mut files = Vec::new();
        for entry in io("read", directory, std::fs::read_dir(directory))?.take(MAX_FILES) {
            let entry = io("read", directory, entry)?;
            let number = entry.file_name().to_string_lossy().parse();
            let target = match std::fs::read_link(entry.path()) {
                // It has been closed since.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                target => io("read", &entry.path(), target)?,
            };
            let Ok(number) = number else { continue };
            let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{number}", process.pid)).unwrap_or_default();
            let (mode, position) = how(&info);
            files.push(OpenFile { number, target: target.to_string_lossy().into_owned(), mode, position });
        }
        files.sort_by_key(|file| file.number);
        Ok(files)
    }
}

/// The time in user space and in the kernel: fields 14 and 15 of proc_pid_stat(5).
fn cpu_time(stat: &str, ticks_per_second: u64) -> Duration {
    // The command's name, in parentheses, can hold spaces and parentheses itself.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let number = |at: usize| fields.split(' ').nth(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let ticks = number(11).saturating_add(number(12));
    Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second.max(1))
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn resident(status: &str) -> Resident {
    let bytes = |name| field(status, name).saturating_mul(1024);
    Resident {
        all: bytes("VmRSS"),
        anonymous: bytes("RssAnon"),
        file: bytes("RssFile").saturating_add(bytes("RssShmem")),
        peak: bytes("VmHWM"),
    }
}

/// The mode and the position of proc_pid_fdinfo(5).
fn how(info: &str) -> (&'static str, u64) {
    let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = line("flags:").and_then(|text| i32::from_str_radix(text, 8).ok()).unwrap_or(0);
    let mode = match flags & libc::O_ACCMODE {
        libc::O_WRONLY => "w",
        libc::O_RDWR => "rw",
        _ => "r",
    };
    (mode, line("pos:").and_then(|text| text.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn procfs_is_read() {
        let stat = "7 (a ) name) S 1 1 1 0 -1 4 1 2 3 4 150 50 0 0 20 0 1 0 99 1 1";
        assert_eq!(cpu_time(stat, 100), Duration::from_secs(2));
        assert_eq!(cpu_time("", 0), Duration::ZERO);
        let status = "Name:\tx\nVmHWM:\t  30 kB\nVmRSS:\t  20 kB\nRssAnon:\t  5 kB\nRssFile:\t 14 kB\nRssShmem:\t 1 kB\nThreads:\t2\n";
        let expected = Resident { all: 20 << 10, anonymous: 5 << 10, file: 15 << 10, peak: 30 << 10 };
        assert_eq!((resident(status), field(status, "Threads")), (expected, 2));
        assert_eq!(how("pos:\t12\nflags:\t0100001\nmnt_id:\t1\n"), ("w", 12));
        assert_eq!(how(""), ("r", 0));
    }
}
