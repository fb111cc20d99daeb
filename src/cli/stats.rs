//! `wherry stats`: what containers use, again and again.

use std::collections::HashMap;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::template::{self, Template};
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

/// The columns of the table.
const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t\
                     {{.PIDs}}";

/// What the columns are headed by.
const HEADERS: [(&str, &str); 9] = [
    ("BlockIO", "BLOCK I/O"),
    ("CPUPerc", "CPU %"),
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("MemPerc", "MEM %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("Name", "NAME"),
    ("NetIO", "NET I/O"),
    ("PIDs", "PIDS"),
];

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
    let form = Form::parse(&args.format)?;
    let screen = !args.no_stream && matches!(form, Form::Table(..)) && stdout().is_terminal();
    let mut before = samples(containers, &args)?;
    loop {
        std::thread::sleep(EVERY);
        let now = samples(containers, &args)?;
        let rows = rows(&before, &now, args.no_trunc);
        let text = form.render(&rows)?;
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

/// How rows are written.
enum Form {
    Json,
    Table(Vec<String>, Template),
    Template(Template),
}

impl Form {
    fn parse(text: &str) -> Result<Self, template::Error> {
        match text {
            "json" => Ok(Self::Json),
            "table" => Self::parse(TABLE),
            text => match text.strip_prefix("table ") {
                None => Ok(Self::Template(Template::parse(text)?)),
                Some(columns) => {
                    let template = Template::parse(columns)?;
                    let names: Map<String, Value> =
                        HEADERS.map(|(key, title)| (key.to_owned(), title.into())).into_iter().collect();
                    let header = template.render(&names.into())?.split('\t').map(str::to_owned).collect();
                    Ok(Self::Table(header, template))
                }
            },
        }
    }

    fn render(&self, rows: &[Value]) -> Result<String, template::Error> {
        match self {
            Self::Json => Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
            Self::Template(template) => rows.iter().map(|row| Ok(template.render(row)? + "\n")).collect(),
            Self::Table(header, template) => {
                let cells = |row: &Value| Ok(template.render(row)?.split('\t').map(str::to_owned).collect());
                let cells: Vec<Vec<String>> = rows.iter().map(cells).collect::<Result<_, template::Error>>()?;
                Ok(output::table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &cells))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_dockers_heads_also_of_a_template() {
        let row = json!({"ID": "abc", "Name": "web", "CPUPerc": "1.00%"});
        let form = Form::parse("table {{.Name}}\\t{{.CPUPerc}}").unwrap();
        assert_eq!(form.render(&[row]).unwrap(), "NAME      CPU %\nweb       1.00%\n");
        assert!(Form::parse("table").unwrap().render(&[]).unwrap().starts_with("CONTAINER ID   NAME"));
        assert!(Form::parse("{{.Name").is_err());
    }
}
