//! `wherry events`: what happens to containers and images, as it happens.

use std::io::{self, Write, stdout};
use std::os::fd::AsFd;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::template::Template;
use super::when::{self, Nanos};
use super::{Context, Outcome, output};
use crate::error::{Failure, Kind};
use crate::event::{Event, Filters, Follower};

/// Get events as they happen
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wherry events --filter event=die --format '{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}'
  wherry events --since 10m --until 0s --filter container=web
  wherry events --filter type=image --format json

The last some thousand events are kept until the next reboot.")]
pub struct Args {
    /// Filter output: container=, event=, image=, label=, scope=, type=; several of one key are alternatives
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: json, or a template such as '{{.Action}} {{.Actor.Attributes.name}}'
    #[arg(long)]
    format: Option<String>,
    /// Show all events created since this time: a date, seconds since 1970, or how long ago as in 10m
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<Nanos>,
    /// Stream events until this time
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<Nanos>,
}

/// The journal of events cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot follow the events")]
struct Unreadable(#[from] io::Error);

impl Failure for Unreadable {
    fn kind(&self) -> Kind {
        Kind::of_io(&self.0)
    }
}

/// How events are written.
enum Form {
    Text,
    Json,
    Template(Template),
}

/// Prints events until the time that was given, or until nobody reads them any more.
pub fn run(args: Args, context: &Context) -> Outcome {
    let filters = Filters::parse(args.filter.iter().map(String::as_str))?;
    let form = match args.format.as_deref() {
        None => Form::Text,
        Some("json") => Form::Json,
        Some(text) => Form::Template(Template::parse(text)?),
    };
    let journal = context.host()?.journal();
    let (mut follower, before) = Follower::new(&journal).map_err(Unreadable)?;
    let mut events = if args.since.is_some() { before } else { Vec::new() };
    loop {
        let wanted = |event: &&Event| {
            let time = event.time_nano;
            args.since.is_none_or(|since| time >= since)
                && args.until.is_none_or(|until| time <= until)
                && filters.want(event)
        };
        for event in events.iter().filter(wanted) {
            if !write(&line(event, &form)?)? {
                return Ok(0);
            }
        }
        if !wait(&follower, args.until).map_err(Unreadable)? {
            return Ok(0);
        }
        events = follower.more().map_err(Unreadable)?;
    }
}

/// Waits for more; false when the time is over.
fn wait(follower: &Follower, until: Option<Nanos>) -> io::Result<bool> {
    const SECOND: Nanos = 1_000_000_000;
    let timeout = match until {
        None => None,
        Some(until) => {
            let now = Nanos::try_from(Timestamp::now().as_nanosecond()).unwrap_or(Nanos::MAX);
            let left = until.saturating_sub(now);
            if left <= 0 {
                return Ok(false);
            }
            Some(Timespec { tv_sec: left / SECOND, tv_nsec: left % SECOND })
        }
    };
    match poll(&mut [PollFd::from_borrowed_fd(follower.as_fd(), PollFlags::IN)], timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Writes to the user; false when the user has seen enough.
fn write(line: &str) -> Result<bool, Unreadable> {
    let mut stdout = stdout().lock();
    match stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

fn line(event: &Event, form: &Form) -> Result<String, super::template::Error> {
    Ok(match form {
        Form::Text => output::printable(&text(event)).replace('\n', " ") + "\n",
        Form::Json => output::json(&json!(event)) + "\n",
        Form::Template(template) => template.render(&fields(event))? + "\n",
    })
}

/// The line that Docker prints.
fn text(event: &Event) -> String {
    let time = Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or_default();
    let attributes: Vec<String> =
        event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{time:.9} {} {} {} ({})", event.r#type.word(), event.action, event.actor.id, attributes.join(", "))
}

/// What Docker's templates call it, the older names included.
fn fields(event: &Event) -> Value {
    json!({
        "Type": event.r#type,
        "Action": event.action,
        "Actor": event.actor,
        "Scope": "local",
        "Time": event.time,
        "TimeNano": event.time_nano,
        "ID": event.actor.id,
        "Status": event.action,
        "From": event.actor.attributes.get("image").map_or("", String::as_str),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Actor, Type};

    #[test]
    fn a_line_is_dockers() {
        let actor = Actor { id: "abc".into(), ..Actor::default() }.with("name", "web").with("image", "i\u{1b}[2J\n");
        let mut event = Event::now(Type::Container, "start", actor);
        event.time_nano = 1_700_000_000_123_456_789;
        let form = |text: &str| Form::Template(Template::parse(text).unwrap());
        assert_eq!(
            line(&event, &Form::Text).unwrap(),
            "2023-11-14T22:13:20.123456789Z container start abc (image=i\u{fffd}[2J , name=web)\n"
        );
        assert_eq!(line(&event, &form("{{.Status}} {{.Actor.Attributes.name}}")).unwrap(), "start web\n");
    }
}
