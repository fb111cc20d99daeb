//! `wherry search`: repositories of a registry, Docker Hub's unless another is named.

use serde_json::{Value, json};

use super::filter::Filter;
use super::pull::asynchronous;
use super::template::Format;
use super::{Context, Outcome, human, login, output};
use crate::error::{Failure, Kind};
use crate::registry::FoundRepository;

/// How much of a description is shown.
const DESCRIPTION_WIDTH: usize = 45;
/// The most that Hub gives at once; Docker's own limit.
const MAX_LIMIT: usize = 100;

const FILTERS: &[&str] = &["is-automated", "is-official", "stars"];

const HEADINGS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

/// Search a registry for images
#[derive(Debug, clap::Args)]
#[command(after_help = "Filters: stars=NUMBER, is-official=true|false, is-automated=true|false

Examples:
  wherry search alpine                          Docker Hub
  wherry search registry.example.org/web        a registry that has a search, or else its catalog
  wherry search localhost:5000/                 all that it has")]
pub struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Format output: table, json, 'table TEMPLATE', or a template such as '{{.Name}}'
    #[arg(long)]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, default_value_t = 25, value_name = "NUMBER")]
    limit: usize,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// What to look for, after a registry if it is not Docker Hub
    #[arg(value_name = "[REGISTRY/]TERM")]
    term: String,
}

/// A limit that no registry would keep to.
#[derive(Debug, thiserror::Error)]
#[error("limit {limit} is outside the range of [1, {MAX_LIMIT}]")]
struct Limit {
    limit: usize,
}

impl Failure for Limit {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// Asks the registry and prints what it found.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let format = Format::parse(args.format.as_deref())?;
    Filter::require(&args.filter, FILTERS)?;
    // Docker takes none for the usual number.
    let limit = if args.limit == 0 { 25 } else { args.limit };
    if limit > MAX_LIMIT {
        return Err(Limit { limit }.into());
    }
    let (registry, term) = split(&args.term)?;
    let found = asynchronous()?.block_on(ctx.host()?.registry().search(&registry, term, limit))?;
    let mut rows = Vec::new();
    for repository in &found {
        if args.filter.iter().map(|filter| keeps(filter, repository)).collect::<Result<Vec<_>, _>>()?.iter().all(|k| *k)
        {
            rows.push(row(repository, &registry, args.no_trunc));
        }
    }
    output::print(&output::printable(&format.show(&rows, HEADINGS, table)?))?;
    Ok(0)
}

/// The registry and the term, as a reference would be split.
fn split(typed: &str) -> Result<(String, &str), Box<dyn Failure>> {
    match typed.split_once('/') {
        Some((first, term)) if first.contains(['.', ':']) || first == "localhost" => {
            Ok((login::registry(Some(first))?, term))
        }
        _ => Ok((login::registry(None)?, typed)),
    }
}

fn keeps(filter: &Filter, found: &FoundRepository) -> Result<bool, Box<dyn Failure>> {
    Ok(match filter.name.as_str() {
        "is-official" => filter.truth()? == found.is_official,
        "is-automated" => filter.truth()? == found.is_automated,
        _ => {
            let least: u64 = filter.value.parse().map_err(|_| filter.wrong("it is not a number"))?;
            found.star_count >= least
        }
    })
}

fn row(found: &FoundRepository, registry: &str, whole: bool) -> Value {
    let description = found.description.replace(['\n', '\r', '\t'], " ");
    json!({
        "Description": if whole { description } else { human::shortened(&description, DESCRIPTION_WIDTH) },
        "IsAutomated": found.is_automated.to_string(),
        "IsOfficial": found.is_official.to_string(),
        // What is shown can be pulled as it is.
        "Name": if registry == "docker.io" { found.name.clone() } else { format!("{registry}/{}", found.name) },
        "StarCount": found.star_count.to_string(),
    })
}

fn table(rows: &[Value]) -> String {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let official = if row["IsOfficial"] == "true" { "[OK]" } else { "" };
            vec![text(row, "Name"), text(row, "Description"), text(row, "StarCount"), official.to_owned()]
        })
        .collect();
    output::table(&["NAME", "DESCRIPTION", "STARS", "OFFICIAL"], &cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_as_in_a_reference() {
        for (typed, registry, term) in [
            ("alpine", "docker.io", "alpine"),
            ("library/alpine", "docker.io", "library/alpine"),
            ("docker.io/alpine", "docker.io", "alpine"),
            ("r.io/a/b", "r.io", "a/b"),
            ("localhost:5000/", "localhost:5000", ""),
        ] {
            assert_eq!(split(typed).ok(), Some((registry.to_owned(), term)), "{typed}");
        }
    }

    #[test]
    fn what_is_shown_and_kept() {
        let found = FoundRepository {
            name: "nginx".into(),
            description: "Official build of Nginx.\n".repeat(4),
            star_count: 20_000,
            is_official: true,
            is_automated: false,
        };
        let shown = row(&found, "docker.io", false);
        assert_eq!(shown["Description"].as_str().unwrap().chars().count(), DESCRIPTION_WIDTH);
        assert!(table(&[shown]).starts_with("NAME      DESCRIPTION"));
        assert_eq!(row(&found, "r.io", true)["Name"], "r.io/nginx");
        let keeps = |text: &str| keeps(&text.parse().unwrap(), &found).ok();
        assert_eq!((keeps("stars=3"), keeps("stars=20001"), keeps("stars=x")), (Some(true), Some(false), None));
        assert_eq!((keeps("is-official=true"), keeps("is-automated=true")), (Some(true), Some(false)));
    }
}
