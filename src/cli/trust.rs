//! `wherry trust`: the signature policy in force, checking an image against it, and changing it.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::template::Format;
use super::{Context, Outcome, output, pull};
use crate::error::{Failure, Kind, chain};
use crate::image::Silent;
use crate::oci::Platform;
use crate::reference::Reference;
use crate::trust::{self, Change, InForce, Requirement};

/// Show the signature policy in force, and verify images
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is required of images before they are pulled
    Show(Show),
    /// Check an image in a registry against the policy, and pull nothing
    Verify(Verify),
    /// Change what is required of a registry, a namespace or a repository
    Set(Set),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Format output: table, json, 'table TEMPLATE', or a template such as '{{.Scope}}'
    #[arg(long)]
    format: Option<String>,
    /// Only what is in force for this image
    #[arg(value_name = "REFERENCE")]
    image: Option<Reference>,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// Check the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// The image: [REGISTRY/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: Reference,
}

#[derive(Debug, clap::Args)]
struct Set {
    /// What is required
    #[arg(short = 't', long = "type", value_enum, value_name = "TYPE")]
    kind: Type,
    /// A file with a public key, of which one must have signed (may be given several times)
    #[arg(short = 'f', long = "pubkeysfile", value_name = "KEY")]
    keys: Vec<PathBuf>,
    /// Let a signature speak for every tag of its repository; those of cosign name no tag
    #[arg(long)]
    match_repository: bool,
    /// A registry, namespace, repository or reference, *.DOMAIN, or `default`
    #[arg(value_name = "SCOPE")]
    scope: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Type {
    /// Anything is accepted
    Accept,
    /// Nothing is
    Reject,
    /// What is signed by one of the keys
    #[value(name = "sigstoreSigned")]
    SigstoreSigned,
}

/// Arguments that do not fit together.
#[derive(Debug, thiserror::Error)]
enum Misuse {
    #[error("--type sigstoreSigned needs a key (-f)")]
    NoKey,
    #[error("only --type sigstoreSigned takes keys and --match-repository")]
    Needless,
    #[error("cannot find the key {path:?}")]
    Key { path: PathBuf, source: std::io::Error },
}

impl Failure for Misuse {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

const HEADINGS: &[(&str, &str)] =
    &[("Scope", "SCOPE"), ("Type", "TYPE"), ("Identity", "IDENTITY"), ("Signer", "SIGNER"), ("From", "FROM")];

/// Shows, checks or changes.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    match args.command {
        Command::Show(args) => show(&args, ctx),
        Command::Verify(args) => verify(&args, ctx),
        Command::Set(args) => set(&args, ctx),
    }
}

fn show(args: &Show, ctx: &Context) -> Outcome {
    let format = Format::parse(if args.json { Some("json") } else { args.format.as_deref() })?;
    let in_force = ctx.host()?.guard().in_force()?;
    let rows = rows(&in_force, args.image.as_ref());
    let path = in_force.path.as_ref().map(|path| path.display().to_string());
    let text = format.show(&rows, HEADINGS, |rows| {
        let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let cells: Vec<Vec<String>> =
            rows.iter().map(|row| HEADINGS.iter().map(|(field, _)| cell(row, field)).collect()).collect();
        let headings: Vec<&str> = HEADINGS.iter().map(|(_, heading)| *heading).collect();
        let whence = path.as_deref().unwrap_or("none, so that any image is accepted");
        format!("Policy: {whence}\n{}", output::table(&headings, &cells))
    })?;
    output::print(&output::printable(&text))?;
    Ok(0)
}

/// A row for each signatory of each requirement.
fn rows(in_force: &InForce, image: Option<&Reference>) -> Vec<Value> {
    let policy = &in_force.policy;
    let scopes: Vec<(String, &[Requirement])> = match image {
        Some(image) => vec![policy.of(image)],
        None => policy.registries().collect(),
    };
    scopes
        .iter()
        .flat_map(|(scope, list)| list.iter().flat_map(move |requirement| rows_of(scope, requirement)))
        .collect()
}

fn rows_of(scope: &str, requirement: &Requirement) -> Vec<Value> {
    let row = |kind: &str, identity: &str, signer: &str, from: &str| json!({"Scope": scope, "Type": kind, "Identity": identity, "Signer": signer, "From": from});
    match requirement {
        Requirement::Accept => vec![row("accept", "", "", "")],
        Requirement::Reject => vec![row("reject", "", "", "")],
        Requirement::Unsupported(what) => vec![row("reject", "", &format!("{what}: cannot be checked here"), "")],
        Requirement::Sigstore(sigstore) => {
            let identity = sigstore.identity.to_string();
            let signed = |signer: &str, from: &str| row("sigstoreSigned", &identity, signer, from);
            match trust::signatory(sigstore) {
                Ok(all) => all.iter().map(|one| signed(&one.name, &one.from)).collect(),
                Err(error) => vec![signed(&format!("unusable: {}", chain(&error)), "")],
            }
        }
    }
}

fn verify(args: &Verify, ctx: &Context) -> Outcome {
    let runtime = pull::asynchronous()?;
    let host = ctx.host()?;
    let find = host.images()?.find(host.registry(), &args.image, args.platform.as_ref(), None, &Silent);
    let found = runtime.block_on(find)?;
    let admitted = found.admitted();
    let image = args.image.familiar();
    let mut text = match &admitted.by[..] {
        [] => format!("{image}: accepted without a signature, by {}\n", admitted.scope),
        _ => format!("{image}: accepted by {}\n", admitted.scope),
    };
    for satisfied in &admitted.by {
        let name = satisfied.name.as_deref().unwrap_or("no name");
        text += &format!("  {}: {}\n", satisfied.requirement, satisfied.signer);
        text += &format!("    signed {} as {name}\n", satisfied.digest);
    }
    output::print(&output::printable(&text))?;
    Ok(0)
}

fn set(args: &Set, ctx: &Context) -> Outcome {
    let path = ctx.host()?.guard().set(&args.scope, &change(args)?)?;
    output::print(&format!("{}\n", path.display()))?;
    Ok(0)
}

fn change(args: &Set) -> Result<Change, Misuse> {
    let signed = args.kind == Type::SigstoreSigned;
    if !signed && (!args.keys.is_empty() || args.match_repository) {
        return Err(Misuse::Needless);
    }
    let absolute = |path: &PathBuf| path.canonicalize().map_err(|source| Misuse::Key { path: path.clone(), source });
    match args.kind {
        Type::Accept => Ok(Change::Accept),
        Type::Reject => Ok(Change::Reject),
        Type::SigstoreSigned if args.keys.is_empty() => Err(Misuse::NoKey),
        Type::SigstoreSigned => Ok(Change::Signed {
            keys: args.keys.iter().map(absolute).collect::<Result<_, _>>()?,
            whole_repository: args.match_repository,
        }),
    }
}
