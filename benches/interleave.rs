//! Runs commands in turn, A B C A B C …, and compares them: whatever else the machine does falls on all of them alike.
//!
//! ```text
//! interleave ROUNDS +++ NAME COMMAND [ARG…] +++ NAME COMMAND [ARG…] …
//! ```
//!
//! The first command is what the others are compared with. One line for each: median, smallest and ninth-decile time from start to
//! exit, and the median of its ratio to the first *of the same round*. A command that fails ends the
//! measurement: a fast failure is not a fast start. It uses the standard library only, so that plain rustc builds it.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

struct Contender {
    name: String,
    command: Command,
    samples: Vec<Duration>,
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
    let usage = "usage: interleave ROUNDS +++ NAME COMMAND [ARG…] …";
    let rounds: usize = parts.next().and_then(|first| first.first()?.parse().ok()).ok_or(usage)?;
    let mut contenders = parts.map(contender).collect::<Option<Vec<_>>>().ok_or(usage)?;
    for round in 0..=rounds {
        for contender in &mut contenders {
            let elapsed = run(&mut contender.command).map_err(|error| format!("{}: {error}", contender.name))?;
            // The first round fills the page cache.
            if round > 0 {
                contender.samples.push(elapsed);
            }
        }
    }
    Ok(contenders)
}

fn contender(words: &[String]) -> Option<Contender> {
    let [name, program, args @ ..] = words else { return None };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Some(Contender { name: name.clone(), command, samples: Vec::new() })
}

fn run(command: &mut Command) -> Result<Duration, String> {
    let start = Instant::now();
    let status = command.status().map_err(|error| error.to_string())?;
    let elapsed = start.elapsed();
    if status.success() { Ok(elapsed) } else { Err(status.to_string()) }
}

fn print(contenders: &[Contender]) {
    println!("| | median ms | min | p90 | × first |");
    println!("|---|---|---|---|---|");
    for Contender { name, samples, .. } in contenders {
        let elapsed = sorted(samples.iter().copied().map(millis));
        let ratios = samples.iter().zip(&contenders[0].samples);
        let ratios = sorted(ratios.map(|(own, first)| own.as_secs_f64() / first.as_secs_f64()));
        let [median, min, p90] = [50, 0, 90].map(|percent| at(&elapsed, percent));
        println!("| {name} | {median:.1} | {min:.1} | {p90:.1} | {:.3} |", at(&ratios, 50));
    }
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
