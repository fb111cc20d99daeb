//! The builtin view of a Wasm container: what `wherry exec` shows where there is nothing to execute.
//!
//! Each word prints a table or lines of `name  value`, made from [`container::View`] and the container's record. The words
//! and their meaning are documented in docs/wasm-view.md.

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Error, Failed};
use crate::cli::{human, output};
use crate::container::{self, Container, Store, View};
use crate::engine::wasm::grant::PREFIX;
use crate::engine::wasm::view::{Number, Numbers};
use crate::error::Failure;

/// The words there are.
pub const WORDS: [(&str, &str); 8] = [
    ("ps", "the engine's process and the instances in it"),
    ("top", "how it does: time, memory, calls of the host, requests; again and again on a terminal with -t"),
    ("mem", "its memory: linear memories, tables, the process"),
    ("env", "its environment"),
    ("fds", "what it has open"),
    ("mounts", "the directories that it was given"),
    ("grants", "what it may do"),
    ("help", "this list"),
];

/// How often `top` looks again.
const EVERY: Duration = Duration::from_secs(2);

/// Shows what a word stands for.
pub fn run(containers: &Store, container: &Container, command: &[String], tty: bool) -> Result<u8, Failed> {
    let failed = |failure: Box<dyn Failure>| (1, failure);
    let [word, rest @ ..] = command else { unreachable!("the parser requires one") };
    let known = WORDS.iter().any(|(known, _)| known == word);
    if !known || !rest.is_empty() {
        let word = command.join(" ");
        return Err((127, Error::NoSuchView { name: container.name.clone(), word }.into()));
    }
    if word == "top" && tty && stdout().is_terminal() {
        return keep_looking(containers, container).map_err(failed);
    }
    let text = show(containers, container, word).map_err(failed)?;
    output::print(&output::printable(&text)).map_err(|error| failed(error.into()))?;
    Ok(0)
}

fn show(containers: &Store, container: &Container, word: &str) -> Result<String, Box<dyn Failure>> {
    let look = || containers.view(container);
    Ok(match word {
        "ps" => ps(container, &look()?),
        "top" => top(container, &look()?, None),
        "mem" => mem(&look()?),
        "env" => running(containers, container)?.record.config.env.iter().map(|v| format!("{v}\n")).collect(),
        "fds" => fds(containers, container)?,
        "mounts" => mounts(running(containers, container)?),
        "grants" => grants(running(containers, container)?),
        _ => help(),
    })
}

/// The container, which has to run even where its record alone would tell.
fn running<'a>(containers: &Store, container: &'a Container) -> Result<&'a Container, container::Error> {
    containers.processes(container).map(|_| container)
}

/// `top` on a terminal: until the program ends or the user does.
fn keep_looking(containers: &Store, container: &Container) -> Result<u8, Box<dyn Failure>> {
    let mut before: Option<(View, Instant)> = None;
    loop {
        let view = match containers.view(container) {
            Err(_) if before.is_some() => return Ok(0),
            view => view?,
        };
        let now = Instant::now();
        let text = top(container, &view, before.as_ref().map(|(view, then)| (view, now - *then)));
        output::print(&format!("\x1b[H\x1b[2J{}", output::printable(&text)))?;
        before = Some((view, now));
        std::thread::sleep(EVERY);
    }
}

fn up(view: &View) -> Duration {
    let seconds = jiff::Timestamp::now().as_second() - view.started_at.as_second();
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The engine's process and what is in it.
pub fn ps(container: &Container, view: &View) -> String {
    let row = vec![
        view.pid.to_string(),
        view.numbers.get(Number::Instances).to_string(),
        view.threads.to_string(),
        clock(up(view)),
        clock(view.cpu),
        human::binary_size(view.numbers.get(Number::MemoryBytes)),
        human::binary_size(view.resident.all),
        container.record.command().join(" "),
    ];
    output::table(&["PID", "INSTANCES", "THREADS", "UP", "CPU", "LINEAR MEMORY", "RESIDENT", "COMMAND"], &[row])
}

/// Lines of names and values.
fn lines(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    pairs.iter().map(|(name, value)| format!("{name:width$}{value}\n")).collect()
}

fn top(container: &Container, view: &View, before: Option<(&View, Duration)>) -> String {
    let numbers = &view.numbers;
    // Since the last look, or since the start.
    let (cpu, calls, requests, span) = match before {
        None => (view.cpu, all_calls(numbers), numbers.requests(), up(view)),
        Some((then, span)) => (
            view.cpu.saturating_sub(then.cpu),
            all_calls(numbers).saturating_sub(all_calls(&then.numbers)),
            numbers.requests().saturating_sub(then.numbers.requests()),
            span,
        ),
    };
    let seconds = span.as_secs_f64().max(1.0);
    let mut pairs = vec![
        ("container", format!("{} ({})", container.name, container.record.short_id())),
        ("up", clock(up(view))),
        ("cpu", format!("{:.2} %, {} in all", cpu.as_secs_f64() / seconds * 100.0, clock(view.cpu))),
        ("linear memory", linear_memory(numbers)),
        ("resident", human::binary_size(view.resident.all)),
        ("instances", format!("{}, {} made", numbers.get(Number::Instances), numbers.get(Number::InstancesMade))),
        ("handles", numbers.get(Number::Handles).to_string()),
        ("host calls", format!("{} ({:.0}/s), {}", all_calls(numbers), calls as f64 / seconds, by_kind(numbers))),
        ("traps", traps(numbers)),
    ];
    if numbers.serves() {
        let rate = requests as f64 / seconds;
        pairs.push(("requests", format!("{} ({rate:.1}/s), {}", numbers.requests(), request_ends(numbers))));
        pairs.push(("latency", latency(numbers)));
    }
    lines(&pairs)
}

fn all_calls(numbers: &Numbers) -> u64 {
    numbers.calls().iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

fn by_kind(numbers: &Numbers) -> String {
    let kinds = numbers.calls();
    kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

fn traps(numbers: &Numbers) -> String {
    let last = numbers.trap().map(|trap| format!(", the last: {trap}")).unwrap_or_default();
    format!("{}{last}", numbers.get(Number::Traps))
}

fn request_ends(numbers: &Numbers) -> String {
    let of = |number| numbers.get(number);
    format!(
        "{} active, {} served, {} failed, {} trapped, {} refused",
        of(Number::RequestsActive),
        of(Number::RequestsServed),
        of(Number::RequestsFailed),
        of(Number::RequestsTrapped),
        of(Number::RequestsRefused)
    )
}

fn latency(numbers: &Numbers) -> String {
    let part = |part| numbers.latency(part).map_or("–".to_owned(), |time| format!("{time:.3?}"));
    format!("p50 {}, p90 {}, p99 {}", part(0.5), part(0.9), part(0.99))
}

fn linear_memory(numbers: &Numbers) -> String {
    format!(
        "{}, at most {}",
        human::binary_size(numbers.get(Number::MemoryBytes)),
        human::binary_size(numbers.get(Number::MemoryPeak))
    )
}

fn mem(view: &View) -> String {
    let of = |number| view.numbers.get(number);
    let size = human::binary_size;
    lines(&[
        ("linear memory", linear_memory(&view.numbers)),
        ("linear memories", of(Number::Memories).to_string()),
        ("pages of 64 KiB", (of(Number::MemoryBytes) >> 16).to_string()),
        ("growth refused", of(Number::MemoryRefused).to_string()),
        ("tables", format!("{}, {} elements", of(Number::Tables), of(Number::TableElements))),
        ("resident", format!("{}, at most {}", size(view.resident.all), size(view.resident.peak))),
        ("of it its own", size(view.resident.anonymous)),
        ("of it from files", size(view.resident.file)),
    ])
}

fn fds(containers: &Store, container: &Container) -> Result<String, Box<dyn Failure>> {
    let files = containers.open_files(container)?;
    let given: Vec<PathBuf> =
        container.record.host_config.binds.iter().map(|bind| container::parse_bind(bind).destination).collect();
    let row = |file: &container::OpenFile| {
        let position = if file.target.starts_with('/') { file.position.to_string() } else { "-".to_owned() };
        vec![
            file.number.to_string(),
            file.mode.to_owned(),
            position,
            kind(&file.target, &given).to_owned(),
            file.target.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = files.iter().map(row).collect();
    Ok(output::table(&["FD", "MODE", "POSITION", "KIND", "TARGET"], &rows))
}

/// What sort of thing is open: the program's are what is in a directory that it was `given`, and what is no file.
fn kind(target: &str, given: &[PathBuf]) -> &'static str {
    match target {
        t if t.starts_with("socket:") => "socket",
        t if t.starts_with("pipe:") => "stream",
        t if t.starts_with("/dev/") => "device",
        t if given.iter().any(|directory| Path::new(t).starts_with(directory)) => "file",
        _ => "engine",
    }
}

fn mounts(container: &Container) -> String {
    let binds = container.record.host_config.binds.iter().map(|bind| container::parse_bind(bind));
    let text = |path: &Path| path.display().to_string();
    let row = |bind: crate::container::Bind| {
        let access = if bind.readonly { "read only" } else { "read and write" };
        vec![text(&bind.destination), access.to_owned(), text(&bind.source)]
    };
    output::table(&["DIRECTORY", "ACCESS", "OF THE HOST"], &binds.map(row).collect::<Vec<_>>())
}

fn grants(container: &Container) -> String {
    let record = &container.record;
    let granted = record.host_config.annotations.iter();
    let mut rows: Vec<Vec<String>> =
        granted.filter_map(|(key, value)| Some(vec![key.strip_prefix(PREFIX)?.to_owned(), value.clone()])).collect();
    for bind in &record.host_config.binds {
        let bind = container::parse_bind(bind);
        let access = if bind.readonly { "read only" } else { "read and write" };
        rows.push(vec!["volume".to_owned(), format!("{} ({access})", bind.destination.display())]);
    }
    let names: Vec<&str> = record.config.env.iter().filter_map(|variable| variable.split('=').next()).collect();
    if !names.is_empty() {
        rows.push(vec!["env".to_owned(), names.join(", ")]);
    }
    if rows.is_empty() {
        return "nothing: arguments, three streams, clocks and random numbers are all it has\n".to_owned();
    }
    output::table(&["GRANT", "VALUE"], &rows)
}

fn help() -> String {
    let mut text = "A WebAssembly container has no processes to execute. What can be looked at:\n".to_owned();
    for (word, meaning) in WORDS {
        text.push_str(&format!("  {word:8}{meaning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_lines() {
        assert_eq!(clock(Duration::from_secs(3 * 3600 + 62)), "03:01:02");
        assert_eq!(lines(&[("a", "1".into()), ("long", "2".into())]), "a     1\nlong  2\n");
        let given = [PathBuf::from("/mnt")];
        for (target, expected) in [
            ("/mnt/x", "file"),
            ("/mnt2", "engine"),
            ("pipe:[1]", "stream"),
            ("socket:[1]", "socket"),
            ("/dev/null", "device"),
            ("anon_inode:[eventfd]", "engine"),
        ] {
            assert_eq!(kind(target, &given), expected, "{target}");
        }
        assert!(WORDS.iter().all(|(word, _)| help().contains(word)));
    }
}
