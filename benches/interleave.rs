//! Runs commands in turn, A B C A B C …, and compares them: whatever else the machine does falls on all of them alike.
//!
//! ```text
//! interleave ROUNDS +++ NAME COMMAND [ARG…] [++ COMMAND [ARG…]]… +++ NAME COMMAND [ARG…] …
//! ```
//!
//! One line for each contender: median, smallest and ninth-decile time from start to exit, the largest peak of
//! resident memory of any process of it, and the medians of its ratios to each of the contenders *of the same round*.
//! `++` parts the steps of one contender, as create, start and delete of a container. What the steps leave running
//! is this process's to wait for, as it is a containerd shim's, and is waited for before the last step. A command that
//! fails ends the measurement: a fast failure is not a fast start.
//!
//! It uses the standard library only, so that plain rustc builds it. Built static it is small, which the peaks need: until
//! it executes its program, a child counts the memory of its parent as its own.

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "wait4(2) is not in the standard library"))]

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

struct Contender {
    name: String,
    steps: Vec<Command>,
    samples: Vec<Duration>,
    peak_kib: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match measure(&args) {
        Ok(contenders) => {
            print(&contenders);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("interleave: {message}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &[String]) -> Result<Vec<Contender>, String> {
    let mut parts = args.split(|arg| arg == "+++");
    let usage = "usage: interleave ROUNDS +++ NAME COMMAND [ARG…] [++ COMMAND [ARG…]]… +++ …";
    let rounds: usize = parts.next().and_then(|first| first.first()?.parse().ok()).ok_or(usage)?;
    let mut contenders = parts.map(contender).collect::<Option<Vec<_>>>().ok_or(usage)?;
    if contenders.iter().any(|contender| contender.steps.len() > 1) {
        system::adopt_orphans()?;
    }
    for round in 0..=rounds {
        for contender in &mut contenders {
            let elapsed = run(contender).map_err(|error| format!("{}: {error}", contender.name))?;
            // The first round fills the page cache.
            if round > 0 {
                contender.samples.push(elapsed);
            }
        }
    }
    Ok(contenders)
}

fn contender(words: &[String]) -> Option<Contender> {
    let (name, steps) = words.split_first()?;
    let steps = steps.split(|word| word == "++").map(command).collect::<Option<_>>()?;
    Some(Contender { name: name.clone(), steps, samples: Vec::new(), peak_kib: 0 })
}

fn command(words: &[String]) -> Option<Command> {
    let (program, args) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Some(command)
}

fn run(contender: &mut Contender) -> Result<Duration, String> {
    let start = Instant::now();
    let last = contender.steps.len() - 1;
    for (number, step) in contender.steps.iter_mut().enumerate() {
        if number > 0 && number == last {
            system::wait_for_orphans();
        }
        let child = step.spawn().map_err(|error| error.to_string())?;
        let (status, peak) = system::wait(child)?;
        if !status.success() {
            return Err(format!("{status} of {step:?}"));
        }
        contender.peak_kib = contender.peak_kib.max(peak);
    }
    Ok(start.elapsed())
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, ExitStatus};

    /// `struct rusage` of sys/resource.h: two timevals, the peak in KiB, thirteen counters.
    #[repr(C)]
    #[derive(Default)]
    struct Usage {
        times: [std::ffi::c_long; 4],
        peak_kib: std::ffi::c_long,
        counters: [std::ffi::c_long; 13],
    }

    const PR_SET_CHILD_SUBREAPER: std::ffi::c_int = 36;

    unsafe extern "C" {
        fn wait4(pid: i32, status: *mut i32, options: i32, usage: *mut Usage) -> i32;
        fn prctl(option: std::ffi::c_int, ...) -> std::ffi::c_int;
    }

    /// What the steps leave behind becomes a child of this process.
    pub fn adopt_orphans() -> Result<(), String> {
        // SAFETY: this option takes one number.
        match unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1 as std::ffi::c_ulong) } {
            0 => Ok(()),
            _ => Err(format!("prctl(PR_SET_CHILD_SUBREAPER): {}", io::Error::last_os_error())),
        }
    }

    /// Waits until nothing is left behind.
    pub fn wait_for_orphans() {
        while wait4_of(-1).is_ok() {}
    }

    /// Waits for `child`; returns the largest peak of its own and of what it waited for, too.
    pub fn wait(child: Child) -> Result<(ExitStatus, u64), String> {
        let pid = i32::try_from(child.id()).expect("a pid is positive");
        wait4_of(pid).map_err(|error| format!("wait4({pid}): {error}"))
    }

    fn wait4_of(pid: i32) -> io::Result<(ExitStatus, u64)> {
        let (mut status, mut usage) = (0, Usage::default());
        // SAFETY: both pointers are to values of the types that the call fills in.
        match unsafe { wait4(pid, &raw mut status, 0, &raw mut usage) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok((ExitStatus::from_raw(status), usage.peak_kib.try_into().unwrap_or(0))),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::process::{Child, ExitStatus};

    pub fn adopt_orphans() -> Result<(), String> {
        Err("steps that leave something running are measured on Linux only".into())
    }

    pub fn wait_for_orphans() {}

    pub fn wait(mut child: Child) -> Result<(ExitStatus, u64), String> {
        Ok((child.wait().map_err(|error| error.to_string())?, 0))
    }
}

fn print(contenders: &[Contender]) {
    let names: Vec<String> = contenders.iter().map(|other| format!(" × {} |", other.name)).collect();
    println!("| | median ms | min | p90 | peak MiB |{}", names.concat());
    println!("|---|---|---|---|---|{}", "---|".repeat(contenders.len()));
    for contender in contenders {
        let elapsed = sorted(contender.samples.iter().copied().map(millis));
        let [median, min, p90] = [50, 0, 90].map(|percent| at(&elapsed, percent));
        let peak = contender.peak_kib as f64 / 1024.0;
        let ratios: Vec<String> = contenders.iter().map(|other| format!(" {:.3} |", ratio(contender, other))).collect();
        println!("| {} | {median:.2} | {min:.2} | {p90:.2} | {peak:.1} |{}", contender.name, ratios.concat());
    }
}

/// The median of the ratios of both in the same round.
fn ratio(own: &Contender, other: &Contender) -> f64 {
    let rounds = own.samples.iter().zip(&other.samples);
    at(&sorted(rounds.map(|(own, other)| own.as_secs_f64() / other.as_secs_f64())), 50)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len().max(1) - 1) * percent / 100).copied().unwrap_or(f64::NAN)
}
