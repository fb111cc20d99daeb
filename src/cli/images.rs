//! `wherry images`: list what is here.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Context, Outcome, human, output};
use crate::image::{Image, Name};
use crate::oci::Digest;
use crate::reference::Reference;

/// What Docker prints where there is nothing.
const NONE: &str = "<none>";

/// List images
#[derive(Debug, clap::Args)]
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
    /// Print a table or one JSON object a line
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Only images of this repository, or of this one name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// One line: an image by one of its names.
struct Line<'a> {
    image: &'a Image,
    name: &'a Name,
}

/// Lists the images.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let images = ctx.host()?.images()?.list()?;
    let filter = args.name.as_deref().map(Filter::new).transpose()?;
    let lines = images.iter().flat_map(|image| image.names().iter().map(move |name| Line { image, name }));
    let lines: Vec<Line> = lines.filter(|line| filter.as_ref().is_none_or(|f| f.fits(&line.name.reference))).collect();
    output::print(&show(&args, &lines, now()))?;
    Ok(0)
}

/// A repository, or one name in it.
struct Filter {
    reference: Reference,
    whole_repository: bool,
}

impl Filter {
    fn new(typed: &str) -> Result<Self, crate::reference::Error> {
        let last = typed.rsplit('/').next().unwrap_or(typed);
        Ok(Self { reference: typed.parse()?, whole_repository: !last.contains([':', '@']) })
    }

    fn fits(&self, name: &Reference) -> bool {
        if self.whole_repository { name.name() == self.reference.name() } else { *name == self.reference }
    }
}

fn show(args: &Args, lines: &[Line], now: i64) -> String {
    if args.quiet {
        let mut ids: Vec<String> = lines.iter().map(|line| id(line.image.id(), args.no_trunc) + "\n").collect();
        ids.dedup();
        return ids.concat();
    }
    match args.format {
        Format::Json => lines.iter().map(|line| json(line, args.no_trunc, now) + "\n").collect(),
        Format::Table if args.digests => {
            let cells = |line: &Line| {
                let mut cells = cells(line, args.no_trunc, now);
                cells.insert(2, line.name.digest.to_string());
                cells
            };
            let header = ["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
            output::table(&header, &lines.iter().map(cells).collect::<Vec<_>>())
        }
        Format::Table => {
            let rows: Vec<_> = lines.iter().map(|line| cells(line, args.no_trunc, now)).collect();
            output::table(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows)
        }
    }
}

fn cells(line: &Line, whole_ids: bool, now: i64) -> Vec<String> {
    vec![
        line.name.reference.name(),
        line.name.reference.tag().unwrap_or(NONE).to_owned(),
        id(line.image.id(), whole_ids),
        since(line.image, now),
        human::size(line.image.size()),
    ]
}

fn json(line: &Line, whole_ids: bool, now: i64) -> String {
    serde_json::json!({
        "CreatedAt": line.image.config().created.as_deref().unwrap_or("N/A"),
        "CreatedSince": since(line.image, now),
        "Digest": line.name.digest,
        "ID": id(line.image.id(), whole_ids),
        "Platform": line.image.platform().to_string(),
        "Repository": line.name.reference.name(),
        "Size": human::size(line.image.size()),
        "Tag": line.name.reference.tag().unwrap_or(NONE),
    })
    .to_string()
}

fn id(digest: &Digest, whole: bool) -> String {
    if whole { digest.to_string() } else { digest.short().to_owned() }
}

fn since(image: &Image, now: i64) -> String {
    let created = image.config().created.as_deref().and_then(human::parse_time);
    created.map_or_else(|| "N/A".to_owned(), |created| human::ago(created, now))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}
