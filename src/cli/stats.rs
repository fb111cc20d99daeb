//! `wherry stats`: what containers use, again and again.

use std::collections::HashMap;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::template::Format;
use super::{Context, Outcome, human, output};
use crate::cgroup::Stats;
use crate::container::{Container, Status, Store, Usage};
use crate::error::{Failure, Kind};

/// Display a live stream of container(s) resource usage statistics
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wherry stats
  wherry stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}' web db
  wherry stats --no-stream --format json app

For a WebAssembly container the JSON form has what its engine shows: memory, calls, requests and their times.")]
pub struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output: table, json, 'table TEMPLATE', or a template such as '{{.Name}} {{.CPUPerc}}'
    #[arg(long, default_value = "table")]
    format: String,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Names or ids; without any, all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// How long is counted for a percentage, and so how often something is shown.
const EVERY: Duration = Duration::from_secs(1);

/// The fields of a line, with their headings; all but the last are columns of the table.
const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
    ("Container", "CONTAINER"),
];

/// How many of them are in the table.
const COLUMNS: usize = 8;

/// The user's terminal cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct Unwritable(#[from] std::io::Error);

impl Failure for Unwritable {
    fn kind(&self) -> Kind {
        Kind::of_io(&self.0)
    }
}

/// What is known of a container at a moment.
struct Sample {
    container: Container,
    usage: Option<Usage>,
    at: Instant,
}

/// Shows what the containers use, once or until the user has seen enough.
pub fn run(args: Args, context: &Context) -> Outcome {
    let containers = context.host()?.containers()?;
    let format = Format::parse(Some(&args.format))?;
    let screen = !args.no_stream && matches!(format, Format::Table | Format::Columns(_)) && stdout().is_terminal();
    let mut before = samples(containers, &args)?;
    loop {
        std::thread::sleep(EVERY);
        let now = samples(containers, &args)?;
        let rows = rows(&before, &now, args.no_trunc);
        let text = format.show(&rows, HEADINGS, |rows| output::columns(rows, &HEADINGS[..COLUMNS]))?;
        let text = if screen { format!("\x1b[H\x1b[2J{text}") } else { text };
        if !write(&text)? || args.no_stream {
            return Ok(0);
        }
        before = now;
    }
}

/// Writes to the user; false when the user has seen enough.
fn write(text: &str) -> Result<bool, Unwritable> {
    let mut stdout = stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// The containers that were named, or those that run; each with what it uses.
fn samples(containers: &Store, args: &Args) -> Result<Vec<Sample>, Box<dyn Failure>> {
    let found = match &args.containers[..] {
        [] => containers.list()?,
        names => names.iter().map(|name| containers.find(name)).collect::<Result<_, _>>()?,
    };
    let all = args.all || !args.containers.is_empty();
    let shown = found.into_iter().filter(|c| all || matches!(c.status, Status::Running { .. }));
    let sample = |container: Container| {
        let usage = containers.usage(&container)?;
        Ok(Sample { container, usage, at: Instant::now() })
    };
    shown.map(sample).collect()
}

fn rows(before: &[Sample], now: &[Sample], whole: bool) -> Vec<Value> {
    let before: HashMap<&str, &Sample> = before.iter().map(|s| (s.container.record.id.as_str(), s)).collect();
    let memory = total_memory();
    now.iter()
        .map(|sample| row(before.get(sample.container.record.id.as_str()).copied(), sample, memory, whole))
        .collect()
}

/// What Docker's templates and JSON call it.
fn row(before: Option<&Sample>, sample: &Sample, total_memory: u64, whole: bool) -> Value {
    let record = &sample.container.record;
    let id = if whole { &record.id } else { record.short_id() };
    let usage = sample.usage.clone().unwrap_or_default();
    // Without a cgroup of its own there is nothing that counts.
    let unknown = sample.usage.is_some() && usage.stats.is_none();
    let or_unknown = |text: String| if unknown { "--".to_owned() } else { text };
    let (used, limit) = memory(&usage, total_memory);
    let percent = if limit == 0 { 0.0 } else { used as f64 / limit as f64 * 100.0 };
    let (read, written) = blocks(&usage);
    let pids = usage.stats.as_ref().and_then(|stats| stats.pids).map_or(0, |pids| pids.current);
    let size = human::size;
    let mut row = json!({
        "BlockIO": or_unknown(format!("{} / {}", size(read), size(written))),
        "CPUPerc": or_unknown(format!("{:.2}%", cpu_percent(before, sample))),
        "Container": sample.container.name,
        "ID": id,
        "MemPerc": or_unknown(format!("{percent:.2}%")),
        "MemUsage": or_unknown(format!("{} / {}", human::binary_size(used), human::binary_size(limit))),
        "Name": sample.container.name,
        "NetIO": format!("{} / {}", size(usage.network.0), size(usage.network.1)),
        "PIDs": or_unknown(pids.to_string()),
    });
    if let Some(numbers) = &usage.wasm {
        row["Wasm"] = numbers.json();
    }
    row
}

/// Processor time between two moments, in percent of one processor.
fn cpu_percent(before: Option<&Sample>, now: &Sample) -> f64 {
    let time = |sample: &Sample| Some(sample.usage.as_ref()?.stats.as_ref()?.cpu.as_ref()?.usage_ns);
    let Some((before, then, now_ns)) = before.and_then(|b| Some((b, time(b)?, time(now)?))) else { return 0.0 };
    let span = now.at.duration_since(before.at).as_nanos() as f64;
    if span > 0.0 { now_ns.saturating_sub(then) as f64 / span * 100.0 } else { 0.0 }
}

/// What is used without the page cache that could be dropped at once, and the limit: the machine's memory, if none is
/// lower.
fn memory(usage: &Usage, total: u64) -> (u64, u64) {
    match usage.stats.as_ref().and_then(|stats| stats.memory.as_ref()) {
        None => (0, 0),
        Some(memory) => {
            let limit = memory.limit.map_or(total, |limit| limit.min(total));
            (memory.usage.saturating_sub(memory.inactive_file), limit)
        }
    }
}

fn blocks(usage: &Usage) -> (u64, u64) {
    let devices = usage.stats.as_ref().map(|stats: &Stats| stats.blkio.devices()).unwrap_or_default();
    devices.iter().fold((0, 0), |(read, written), device| (read + device.read_bytes, written + device.write_bytes))
}

/// The memory of this machine (proc_meminfo(5)).
fn total_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_dockers_heads_also_of_a_template() {
        let row = json!({"ID": "abc", "Name": "web", "CPUPerc": "1.00%"});
        let show = |text: &str| {
            let format = Format::parse(Some(text)).unwrap();
            format
                .show(std::slice::from_ref(&row), HEADINGS, |rows| output::columns(rows, &HEADINGS[..COLUMNS]))
                .unwrap()
        };
        assert_eq!(show("table {{.Name}}\\t{{.CPUPerc}}"), "NAME      CPU %\nweb       1.00%\n");
        assert!(show("table").starts_with("CONTAINER ID   NAME"));
    }
}
