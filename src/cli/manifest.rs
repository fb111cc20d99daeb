//! `wherry manifest`: what a reference in a registry is, and lists of images for several platforms.

use std::io::Write;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::pull::asynchronous;
use super::{Context, Outcome, output};
use crate::error::{Failure, Kind, tolerate};
use crate::image::{Entry, Inspected, Spec, escaped, indented, list_json};
use crate::oci::{Digest, MediaType};
use crate::reference::Reference;

/// Manage image manifests and manifest lists
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add additional information to a local image manifest
    Annotate(Annotate),
    /// Create a local manifest list for annotating and pushing to a registry
    Create(Create),
    /// Display an image manifest, or manifest list
    Inspect(Inspect),
    /// Push a manifest list to a repository
    Push(Push),
    /// Delete one or more manifest lists from local storage
    Rm(Rm),
}

#[derive(Debug, clap::Args)]
struct Annotate {
    /// Set architecture
    #[arg(long)]
    arch: Option<String>,
    /// Set operating system
    #[arg(long)]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long)]
    variant: Option<String>,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// One of its images
    #[arg(value_name = "MANIFEST")]
    image: String,
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// Its images
    #[arg(value_name = "MANIFEST", required = true)]
    images: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Inspect {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    /// The image, after the list that it is one of if that is meant
    #[arg(value_name = "[MANIFEST_LIST] MANIFEST", required = true, num_args = 1..=2)]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Push {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
}

#[derive(Debug, clap::Args)]
struct Rm {
    /// The lists
    #[arg(value_name = "MANIFEST_LIST", required = true)]
    lists: Vec<String>,
}

/// Several lists could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines.join("\n"))]
struct Several {
    kind: Kind,
    lines: Vec<String>,
}

impl Failure for Several {
    fn kind(&self) -> Kind {
        self.kind
    }
}

/// A registry that is not known to be insecure was to be taken for one.
#[derive(Debug, thiserror::Error)]
#[error("--insecure is not taken for {registry}: what a registry may do is written where all commands read it")]
struct Insecure {
    registry: String,
}

impl Failure for Insecure {
    fn kind(&self) -> Kind {
        Kind::Unsupported
    }
}

/// Registries on this machine are taken as they are anyway.
fn allow(insecure: bool, names: &[&Reference]) -> Result<(), Insecure> {
    let is_here = |registry: &str| {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    };
    let other = names.iter().map(|name| name.registry()).find(|registry| !is_here(registry));
    other.filter(|_| insecure).map_or(Ok(()), |registry| Err(Insecure { registry: registry.to_owned() }))
}

/// Does what the second word says.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    match args.command {
        Command::Annotate(args) => annotate(args, ctx),
        Command::Create(args) => create(&args, ctx),
        Command::Inspect(args) => inspect(&args, ctx),
        Command::Push(args) => push(&args, ctx),
        Command::Rm(args) => rm(&args, ctx),
    }
}

fn inspect(args: &Inspect, ctx: &Context) -> Outcome {
    let names = args.names.iter().map(|name| name.parse()).collect::<Result<Vec<Reference>, _>>()?;
    let (list, name) = match &names[..] {
        [list, name] => (Some(list), name),
        names => (None, &names[names.len() - 1]),
    };
    allow(args.insecure, &names.iter().collect::<Vec<_>>())?;
    let host = ctx.host()?;
    let inspect = host.images()?.inspect_manifest(host.registry(), name, list, args.verbose);
    let inspected = asynchronous()?.block_on(inspect)?;
    output::print(&match (&inspected, args.verbose) {
        (Inspected::One(entry), false) => indented(&String::from_utf8_lossy(&entry.raw), "\t") + "\n",
        (Inspected::List(entries), false) => list_json(entries) + "\n",
        (Inspected::One(entry), true) => indented(&verbose(entry), "\t") + "\n",
        (Inspected::List(entries), true) => {
            let all: Vec<String> = entries.iter().map(verbose).collect();
            indented(&format!("[{}]", all.join(",")), "\t") + "\n"
        }
    })?;
    Ok(0)
}

/// An entry with its manifest, in Docker's form.
fn verbose(entry: &Entry) -> String {
    let raw = String::from_utf8_lossy(&entry.raw);
    let kind = match entry.descriptor.media_type.as_str() {
        MediaType::DOCKER_MANIFEST => "SchemaV2Manifest",
        _ => "OCIManifest",
    };
    let head = serde_json::to_string(entry).expect("plain data");
    let head = head.strip_suffix('}').unwrap_or(&head);
    let base64 = BASE64_STANDARD.encode(&entry.raw);
    escaped(&format!("{head},\"Raw\":\"{base64}\",\"{kind}\":{}}}", raw.trim_end()))
}

fn create(args: &Create, ctx: &Context) -> Outcome {
    let list: Reference = args.list.parse()?;
    let images = args.images.iter().map(|name| name.parse()).collect::<Result<Vec<Reference>, _>>()?;
    allow(args.insecure, &images.iter().chain([&list]).collect::<Vec<_>>())?;
    let host = ctx.host()?;
    let create = host.images()?.create_list(host.registry(), &list, &images, args.amend);
    asynchronous()?.block_on(create)?;
    output::print(&format!("Created manifest list {list}\n"))?;
    Ok(0)
}

fn annotate(args: Annotate, ctx: &Context) -> Outcome {
    let (list, image): (Reference, Reference) = (args.list.parse()?, args.image.parse()?);
    let change = |spec: &mut Spec| {
        let set = |field: &mut String, value: Option<String>| {
            if let Some(value) = value {
                *field = value;
            }
        };
        set(&mut spec.os, args.os);
        set(&mut spec.architecture, args.arch);
        set(&mut spec.os_version, args.os_version);
        set(&mut spec.variant, args.variant);
        for feature in args.os_features {
            if !spec.os_features.contains(&feature) {
                spec.os_features.push(feature);
            }
        }
    };
    ctx.host()?.images()?.annotate_list(&list, &image, change)?;
    Ok(0)
}

fn push(args: &Push, ctx: &Context) -> Outcome {
    let list: Reference = args.list.parse()?;
    allow(args.insecure, &[&list])?;
    let host = ctx.host()?;
    let tell = |name: &Reference, digest: &Digest| {
        // A push goes on without anybody who looks.
        tolerate(writeln!(std::io::stdout(), "Pushed ref {name} with digest: {digest}"));
    };
    let digest = asynchronous()?.block_on(host.images()?.push_list(host.registry(), &list, &tell))?;
    output::print(&format!("{digest}\n"))?;
    if args.purge {
        host.images()?.remove_list(&list)?;
    }
    Ok(0)
}

fn rm(args: &Rm, ctx: &Context) -> Outcome {
    let images = ctx.host()?.images()?;
    let remove = |typed: &String| -> Result<(), Box<dyn Failure>> { Ok(images.remove_list(&typed.parse()?)?) };
    let failures: Vec<Box<dyn Failure>> = args.lists.iter().filter_map(|typed| remove(typed).err()).collect();
    match &failures[..] {
        [] => Ok(0),
        [first, ..] => {
            let lines = failures.iter().map(|failure| failure.to_string()).collect();
            Err(Several { kind: first.kind(), lines }.into())
        }
    }
}
