//! Which containers a list shows: Docker's filters. Those of one name are alternatives, but for labels.

use regex::Regex;

use crate::cli::filter::{Error, Filter};
use crate::container::{Container, PortBinding, Status};

/// Filters that there are.
const KNOWN: &[&str] =
    &["ancestor", "before", "exited", "expose", "id", "label", "name", "network", "publish", "since", "status"];

/// What Docker calls a container's states.
const STATUSES: &[&str] = &["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// The most bytes of a compiled pattern: what is typed is short.
const MAX_PATTERN: usize = 1 << 20;

/// One filter, understood.
enum Test {
    Ancestor(String),
    Before(i128),
    Since(i128),
    Exited(u8),
    Id(String),
    Label(Filter),
    Name(Regex),
    Network(String),
    Port { published: bool, from: u16, to: u16, protocol: String },
    Status(String),
}

/// What the filters of a list let through.
pub struct Choice {
    /// Tests by the name of their filter.
    tests: Vec<(String, Test)>,
}

impl Choice {
    /// The choice that these filters make among `all`. A label is another condition each time, anything else another
    /// possibility.
    pub fn new(filters: &[Filter], all: &[Container]) -> Result<Self, Error> {
        if let Some(unknown) = filters.iter().find(|filter| !KNOWN.contains(&&*filter.name)) {
            return Err(Error::Unknown { name: unknown.name.clone(), known: KNOWN });
        }
        let tests = filters.iter().map(|filter| Ok((filter.name.clone(), test(filter, all)?)));
        Ok(Self { tests: tests.collect::<Result<_, _>>()? })
    }

    /// Whether it also chooses among those that do not run.
    pub fn of_all_states(&self) -> bool {
        self.tests.iter().any(|(name, _)| matches!(&**name, "status" | "exited"))
    }

    /// Whether the container is among those that are chosen.
    pub fn has(&self, container: &Container) -> bool {
        let fits = |name: &str| {
            let mut same =
                self.tests.iter().filter(|(other, _)| other == name).map(|(_, test)| passes(test, container));
            if name == "label" { same.all(|passed| passed) } else { same.any(|passed| passed) }
        };
        self.tests.iter().all(|(name, _)| fits(name))
    }
}

fn test(filter: &Filter, all: &[Container]) -> Result<Test, Error> {
    let value = filter.value.clone();
    let made = || {
        let found = all.iter().find(|c| c.name == value.trim_start_matches('/') || c.record.id.starts_with(&value));
        let found = found.filter(|_| !value.is_empty()).ok_or_else(|| filter.wrong("no such container"))?;
        Ok::<_, Error>(found.created().as_nanosecond())
    };
    Ok(match &*filter.name {
        "ancestor" => Test::Ancestor(value),
        "before" => Test::Before(made()?),
        "since" => Test::Since(made()?),
        "exited" => Test::Exited(value.parse().map_err(|_| filter.wrong("it is no exit code"))?),
        "id" => Test::Id(value),
        "label" => Test::Label(filter.clone()),
        "name" => Test::Name(pattern(filter)?),
        "network" => Test::Network(value),
        "status" if STATUSES.contains(&&*value) => Test::Status(value),
        "status" => return Err(filter.wrong(&format!("it is one of {}", STATUSES.join(", ")))),
        _ => port(filter)?,
    })
}

/// As Docker has it, a pattern that is looked for in the name, with a slash before it or not.
fn pattern(filter: &Filter) -> Result<Regex, Error> {
    let built = regex::RegexBuilder::new(&filter.value).size_limit(MAX_PATTERN).build();
    built.map_err(|_| filter.wrong("it is no regular expression"))
}

fn port(filter: &Filter) -> Result<Test, Error> {
    let (ports, protocol) = filter.value.split_once('/').unwrap_or((&filter.value, "tcp"));
    let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
    let numbers = from.parse().ok().zip(to.parse().ok()).filter(|(from, to): &(u16, u16)| from <= to);
    let (from, to) = numbers.ok_or_else(|| filter.wrong("it is PORT[-PORT][/PROTOCOL]"))?;
    Ok(Test::Port { published: filter.name == "publish", from, to, protocol: protocol.to_owned() })
}

fn passes(test: &Test, container: &Container) -> bool {
    let record = &container.record;
    let created = || container.created().as_nanosecond();
    match test {
        Test::Ancestor(image) => of_image(image, &record.image, record.image_id.as_str()),
        Test::Before(then) => created() < *then,
        Test::Since(then) => created() > *then,
        Test::Exited(code) => matches!(&container.status, Status::Exited(exit) if exit.code == *code),
        Test::Id(id) => record.id.starts_with(&**id),
        Test::Label(filter) => filter.label(&record.config.labels),
        Test::Name(pattern) => pattern.is_match(&container.name) || pattern.is_match(&format!("/{}", container.name)),
        Test::Network(network) => record.host_config.network_mode == *network,
        Test::Status(status) => container.status.word() == status,
        Test::Port { published, from, to, protocol } => {
            let inside = |number: &str| number.parse::<u16>().is_ok_and(|port| (*from..=*to).contains(&port));
            let split = |port: &str| {
                port.split_once('/')
                    .map_or((inside(port), "tcp" == protocol), |(number, of)| (inside(number), of == protocol))
            };
            let ports = container.ports();
            if *published {
                let led = |bindings: &[PortBinding]| bindings.iter().any(|binding| inside(&binding.host_port));
                return ports.iter().any(|(port, bindings)| split(port).1 && led(bindings));
            }
            ports.keys().chain(record.config.exposed_ports.keys()).any(|port| split(port) == (true, true))
        }
    }
}

/// Whether an image that was asked for is the one that a container was made of: by its id or the beginning of it, its
/// reference, or that without the usual tag.
fn of_image(asked: &str, reference: &str, id: &str) -> bool {
    let bare = id.strip_prefix("sha256:").unwrap_or(id);
    let begins = |text: &str| text.len() >= 4 && (id.starts_with(text) || bare.starts_with(text));
    let tagged = |text: &str| {
        if text.rsplit('/').next().is_some_and(|last| last.contains(':')) {
            text.to_owned()
        } else {
            format!("{text}:latest")
        }
    };
    begins(asked) || tagged(asked) == tagged(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_in_several_ways() {
        let id = "sha256:0123456789ab";
        for (asked, is) in [
            ("busybox", true),
            ("busybox:latest", true),
            ("busybox:1", false),
            ("0123456", true),
            ("sha256:0123", true),
            ("012", false),
            ("box", false),
        ] {
            assert_eq!(of_image(asked, "busybox", id), is, "{asked}");
        }
        assert!(of_image("localhost:5000/x", "localhost:5000/x:latest", id));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let choose = |text: &str| Choice::new(&[text.parse().unwrap()], &[]).map(drop).map_err(|e| e.to_string());
        for good in ["name=^/a.*$", "status=running", "exited=0", "publish=80", "expose=80-90/udp", "label=a=b"] {
            choose(good).unwrap();
        }
        for bad in ["name=(", "status=nice", "exited=x", "publish=a", "publish=9-8", "before=nobody", "nosuch=1"] {
            assert!(choose(bad).unwrap_err().starts_with("invalid filter"), "{bad}");
        }
    }
}
