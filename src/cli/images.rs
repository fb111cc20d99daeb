//! `wherry images`: list what is here.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::filter::{self, Filter};
use super::template::Format;
use super::{Context, Outcome, human, output};
use crate::error::Failure;
use crate::image::{Image, Name, Use};
use crate::oci::Digest;
use crate::reference::Reference;

/// What Docker prints where there is nothing.
pub const NONE: &str = "<none>";

/// What images can be filtered by.
const FILTERS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];

/// The fields of a line, with their headings.
const HEADINGS: &[(&str, &str)] = &[
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Platform", "PLATFORM"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

/// List images
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Filters: before=IMAGE, since=IMAGE, until=TIME, dangling=true|false, label=KEY[=VALUE], reference=PATTERN
Labels are all required, and one of the patterns; the other filters are given once.

SIZE is that of an image's files as they are unpacked. What they and their blobs take up on the disk tells 'wherry system df'.

Examples:
  wherry images --filter dangling=true -q
  wherry images --format 'table {{.Repository}}\\t{{.Tag}}\\t{{.Size}}'"
)]
pub struct Args {
    /// Show all images (accepted for compatibility: there are no hidden ones)
    #[arg(short, long)]
    all: bool,
    /// Only show image ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not truncate ids
    #[arg(long)]
    no_trunc: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Format output: table, json, 'table TEMPLATE', or a template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long)]
    format: Option<String>,
    /// Only images of this repository, of this one name, or that fit this pattern
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// One line: an image by one of its names, or without any.
#[derive(Clone, Copy)]
struct Line<'a> {
    image: &'a Image,
    name: Option<&'a Name>,
}

/// Lists the images.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let format = Format::parse(args.format.as_deref())?;
    let mut images = ctx.host()?.images()?.list()?;
    images.sort_by_key(|image| std::cmp::Reverse(created(image)));
    let mut lines: Vec<Line> = images.iter().flat_map(lines_of).collect();
    if let Some(name) = &args.name {
        let wanted = Wanted::new(name)?;
        lines.retain(|line| line.name.is_some_and(|name| wanted.is(&name.reference)));
    }
    Filter::require(&args.filter, FILTERS)?;
    keep_referenced(&mut lines, &args.filter)?;
    for filter in &args.filter {
        keep(&mut lines, filter, ctx)?;
    }
    if args.quiet {
        output::print(&lines.iter().map(|line| id(line.image.id(), args.no_trunc) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let host = ctx.host()?;
    let counts = if matches!(format, Format::Table) { HashMap::new() } else { host.container_counts()? };
    let shown = |line: &Line| {
        let containers = counts.get(line.image.id()).copied().unwrap_or(0);
        Ok(row(line, host.files_size(line.image)?, containers, args.no_trunc))
    };
    let rows = lines.iter().map(shown).collect::<Result<Vec<Value>, crate::host::Error>>()?;
    output::print(&format.show(&rows, HEADINGS, |rows| table(rows, args.digests))?)?;
    Ok(0)
}

/// What is shown of an image whose files have that size, by the first of its names.
pub fn row_of(image: &Image, size: u64, containers: usize) -> Value {
    let line = lines_of(image).into_iter().next();
    row(&line.unwrap_or(Line { image, name: None }), size, containers, false)
}

/// A name by digest alone is shown only of an image that has no other.
fn lines_of(image: &Image) -> Vec<Line<'_>> {
    let tagged: Vec<Line> = image
        .names()
        .iter()
        .filter(|name| name.reference.tag().is_some())
        .map(|name| Line { image, name: Some(name) })
        .collect();
    match (tagged.is_empty(), image.names()) {
        (false, _) => tagged,
        (true, []) => vec![Line { image, name: None }],
        (true, names) => names.iter().map(|name| Line { image, name: Some(name) }).collect(),
    }
}

/// Which names are listed.
enum Wanted<'a> {
    Repository(Reference),
    Name(Reference),
    Pattern(&'a str),
}

impl<'a> Wanted<'a> {
    /// What is no name may be a pattern; Docker takes all for one, and knows each name only as it is shown.
    fn new(typed: &'a str) -> Result<Self, filter::Error> {
        let last = typed.rsplit('/').next().unwrap_or(typed);
        match typed.parse() {
            Ok(name) if last.contains([':', '@']) => Ok(Self::Name(name)),
            Ok(repository) => Ok(Self::Repository(repository)),
            Err(_) => Ok(Self::Pattern(filter::pattern("reference", typed)?)),
        }
    }

    fn is(&self, name: &Reference) -> bool {
        match self {
            Self::Repository(repository) => name.name() == repository.name(),
            Self::Name(wanted) => name == wanted,
            Self::Pattern(pattern) => fits(pattern, name),
        }
    }
}

/// Keeps the lines whose name fits one of the patterns, if there are any.
fn keep_referenced(lines: &mut Vec<Line>, filters: &[Filter]) -> Result<(), filter::Error> {
    let patterns = filters.iter().filter(|filter| filter.name == "reference");
    let patterns =
        patterns.map(|filter| filter::pattern(&filter.name, &filter.value)).collect::<Result<Vec<_>, _>>()?;
    if !patterns.is_empty() {
        let fit = |name: &Name| patterns.iter().any(|pattern| fits(pattern, &name.reference));
        lines.retain(|line| line.name.is_some_and(fit));
    }
    Ok(())
}

/// Keeps the lines that a filter of another kind lets through.
fn keep(lines: &mut Vec<Line>, filter: &Filter, ctx: &Context) -> Result<(), Box<dyn Failure>> {
    match filter.name.as_str() {
        "dangling" => {
            let wanted = filter.truth()?;
            lines.retain(|line| line.image.is_dangling() == wanted);
        }
        "label" => lines.retain(|line| filter.label(&line.image.config().config.labels)),
        "reference" => {}
        "until" => {
            let until = filter.time()?;
            lines.retain(|line| created(line.image).is_some_and(|at| at.saturating_mul(1_000_000_000) < until));
        }
        other => {
            let than = ctx.host()?.images()?.require(&filter.value, None)?;
            let (at, older) = (created(&than), other == "before");
            lines.retain(|line| if older { created(line.image) < at } else { created(line.image) > at });
        }
    }
    Ok(())
}

/// Whether a name, with its tag or without, fits a pattern, as people write it or in full.
fn fits(pattern: &str, name: &Reference) -> bool {
    let familiar = name.name();
    let full = format!("{}/{}", name.registry(), name.repository());
    let tag = name.tag().map_or_else(String::new, |tag| format!(":{tag}"));
    [format!("{familiar}{tag}"), familiar, format!("{full}{tag}"), full].iter().any(|n| filter::matches(pattern, n))
}

fn table(rows: &[Value], digests: bool) -> String {
    let mut fields = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
    if digests {
        fields.insert(2, "Digest");
    }
    let column = |field: &str| HEADINGS.iter().find(|(name, _)| *name == field).copied();
    output::columns(rows, &fields.into_iter().filter_map(column).collect::<Vec<_>>())
}

/// What Docker's templates and JSON call it.
fn row(line: &Line, size: u64, containers: usize, whole_ids: bool) -> Value {
    let (image, name, now) = (line.image, line.name, now());
    json!({
        "Containers": containers.to_string(),
        "CreatedAt": created(image).and_then(human::local_time).unwrap_or_else(|| "N/A".to_owned()),
        "CreatedSince": created(image).map_or_else(|| "N/A".to_owned(), |created| human::ago(created, now)),
        "Digest": name.map_or_else(|| NONE.to_owned(), |name| name.digest.to_string()),
        "ID": id(image.id(), whole_ids),
        "Platform": image.platform().to_string(),
        "Repository": name.map_or_else(|| NONE.to_owned(), |name| name.reference.name()),
        "SharedSize": "N/A",
        "Size": human::size(size),
        "Tag": name.and_then(|name| name.reference.tag()).unwrap_or(NONE),
        "UniqueSize": "N/A",
        "VirtualSize": human::exact_size(size),
    })
}

/// An id as it is shown.
pub fn id(digest: &Digest, whole: bool) -> String {
    if whole { digest.to_string() } else { digest.short().to_owned() }
}

/// When an image says that it was made, in seconds since 1970.
pub fn created(image: &Image) -> Option<i64> {
    image.config().created.as_deref().and_then(human::parse_time)
}

/// Now, in seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}

/// Tells of each image the container that is made of it, a running one first.
#[cfg(target_os = "linux")]
pub fn users(ctx: &Context) -> Result<impl Fn(&Image) -> Option<Use>, Box<dyn Failure>> {
    use crate::container::{Container, Status};
    let containers = ctx.host()?.containers()?.list()?;
    let is_running = |container: &Container| matches!(container.status, Status::Running { .. });
    Ok(move |image: &Image| {
        let users = containers.iter().filter(|c| c.record.image_id == *image.id());
        let user = users.max_by_key(|c| is_running(c))?;
        Some(Use { container: user.record.short_id().to_owned(), running: is_running(user) })
    })
}

/// Where there are no containers none is made of an image.
#[cfg(not(target_os = "linux"))]
pub fn users(_: &Context) -> Result<impl Fn(&Image) -> Option<Use>, Box<dyn Failure>> {
    Ok(|_: &Image| None)
}
