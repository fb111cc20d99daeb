//! `wherry logs`: what a container wrote, to the streams that it wrote to.

use std::io::{Write, stderr, stdout};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

use super::when::{self, Nanos};
use super::{Context, Outcome};
use crate::container::{Container, Status};
use crate::error::{Failure, Kind};
use crate::log::{Reader, Record, Stream};

/// Fetch the logs of a container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, default_value = "all", value_parser = tail)]
    tail: Tail,
    /// Show logs since this time: a date, seconds since 1970, or how long ago as in 10m
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<Nanos>,
    /// Show logs before this time
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<Nanos>,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// A name or an id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// How many of the last records are shown; `None` for all.
type Tail = Option<usize>;

fn tail(text: &str) -> Result<Tail, std::num::ParseIntError> {
    if text == "all" { Ok(None) } else { text.parse().map(Some) }
}

/// A log cannot be read or shown.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the log of container {name}")]
struct Unreadable {
    what: &'static str,
    name: String,
    source: std::io::Error,
}

impl Failure for Unreadable {
    fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

/// Prints the log, and with follow what comes after it until the container ends.
pub fn run(args: Args, context: &Context) -> Outcome {
    let containers = context.host()?.containers()?;
    let container = containers.find(&args.container)?;
    let shown = match Reader::open(&container.log()) {
        Ok(mut reader) => show(&mut reader, &container, &args),
        // A container that was never started has written nothing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    match shown {
        // The reader of our output has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        Err(source) => Err(Unreadable { what: "show", name: container.name.clone(), source }.into()),
        Ok(()) => Ok(0),
    }
}

fn show(reader: &mut Reader, container: &Container, args: &Args) -> std::io::Result<()> {
    match args.tail {
        None => print(reader, args)?,
        Some(count) => {
            let mut last = std::collections::VecDeque::new();
            for record in reader.by_ref() {
                let record = record?;
                if !args.want(&record) {
                    continue;
                }
                last.push_back(record);
                if last.len() > count {
                    last.pop_front();
                }
            }
            last.iter().try_for_each(|record| print_one(record, args.timestamps))?;
        }
    }
    match &container.status {
        Status::Running { supervisor, .. } if args.follow => {
            let Ok(Some(pidfd)) = supervisor.open() else { return print(reader, args) };
            follow(reader, container, pidfd.as_fd(), args)
        }
        _ => Ok(()),
    }
}

/// Prints what is written until the supervisor is gone, which is after the last byte.
fn follow(
    reader: &mut Reader,
    container: &Container,
    supervisor: std::os::fd::BorrowedFd<'_>,
    args: &Args,
) -> std::io::Result<()> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, container.log(), inotify::WatchFlags::MODIFY)?;
    loop {
        print(reader, args)?;
        let mut fds = [PollFd::new(&watch, PollFlags::IN), PollFd::from_borrowed_fd(supervisor, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds[1].revents().is_empty() {
            return print(reader, args);
        }
        let mut events = [0; 4096];
        while rustix::io::read(&watch, &mut events[..]).is_ok_and(|count| count > 0) {}
    }
}

fn print(reader: &mut Reader, args: &Args) -> std::io::Result<()> {
    reader.try_for_each(|record| {
        let record = record?;
        if args.want(&record) { print_one(&record, args.timestamps) } else { Ok(()) }
    })
}

impl Args {
    /// Whether a record is of the time that was asked for.
    fn want(&self, record: &Record) -> bool {
        let time = Nanos::try_from(record.time.as_nanosecond()).unwrap_or(Nanos::MAX);
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

fn print_one(record: &Record, timestamps: bool) -> std::io::Result<()> {
    let stamp = if timestamps { format!("{:.9} ", record.time) } else { String::new() };
    let mut line = stamp.into_bytes();
    line.extend_from_slice(&record.bytes());
    match record.stream {
        Stream::Stdout => stdout().lock().write_all(&line).and_then(|()| stdout().flush()),
        Stream::Stderr => stderr().lock().write_all(&line),
    }
}
