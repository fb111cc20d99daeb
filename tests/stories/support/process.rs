//! Waiting for processes with a limit, and looking at those that should not be there.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Waits until the process is gone, without reaping it. False when the time is over.
pub fn gone_within(pid: u32, limit: Duration) -> bool {
    let Ok(pidfd) = pidfd_open(as_pid(pid), PidfdFlags::empty()) else { return true };
    let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::new(&pidfd.as_fd(), PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Sends a signal to a child that has not been reaped, so that the number is still its own.
pub fn signal(child: &Child, signal: Signal) {
    kill_process(as_pid(child.id()), signal).expect("the child can be signalled");
}

/// Sends SIGKILL to a process that a test has identified.
pub fn kill(pid: u32) {
    kill_process(as_pid(pid), Signal::KILL).expect("the process can be killed");
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().expect("a process id")).expect("not zero")
}

/// The parent of a process, from the fourth field of its `stat`.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

/// One value of `/proc/PID/status`, such as `Threads`.
pub fn status(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status_value(&status, key)
}

/// One value of a text in the form of `/proc/PID/status`.
pub fn status_value(status: &str, key: &str) -> Option<String> {
    status.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
}

/// Every process that is at work on one of these directories: by its arguments, its environment or its mounts.
pub fn at_work_on(directories: &[&Path]) -> Vec<String> {
    let needles: Vec<String> = directories.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let mentions = |file: String| {
        let content = fs::read(file).unwrap_or_default();
        let content = String::from_utf8_lossy(&content).into_owned();
        needles.iter().any(|needle| content.contains(needle)).then_some(content)
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        for file in ["cmdline", "environ", "mountinfo"] {
            if let Some(content) = mentions(format!("/proc/{pid}/{file}")) {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                let line = content.split(['\n', '\0']).find(|line| needles.iter().any(|needle| line.contains(needle)));
                found.push(format!("process {pid} ({}), its {file}: {}", name.trim(), line.unwrap_or_default()));
                break;
            }
        }
    }
    found
}

/// Every cgroup whose name contains one of these identifiers.
pub fn cgroups_of(ids: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new("/sys/fs/cgroup").to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if ids.iter().any(|id| name.contains(id.as_str())) {
                found.push(format!("cgroup {}", entry.path().display()));
            }
            folders.push(entry.path());
        }
    }
    found
}
