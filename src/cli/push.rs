//! `wherry push`: a WebAssembly program as an artifact, or an image that is here, into a registry.

use std::io::Write;
use std::path::Path;

use super::progress::{Stream, view};
use super::pull::{asynchronous, is_file, wasm_file};
use super::{Context, Outcome, human, output};
use crate::engine::wasm::{self, Kind as WasmKind};
use crate::error::{Failure, Kind, tolerate};
use crate::image::{self, Artifact, Pushed};
use crate::oci::{Platform, WasmComponent, WasmConfig};
use crate::reference::Reference;

/// Upload a WebAssembly program or an image to a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wherry push ./app.wasm ghcr.io/me/app:1     the program as a Wasm artifact, for every tool that knows those
  wherry push ghcr.io/me/web:1                an image that is here, under its own name
  wherry push alpine localhost:5000/alpine    the same under another")]
pub struct Args {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Push the image for this platform, of those that are here
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Who made the program: for a Wasm artifact's configuration
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Add an annotation to a Wasm artifact's manifest
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// What to push: a .wasm file, `-` for one from standard input, or an image
    #[arg(value_name = "FILE|IMAGE")]
    what: String,
    /// The name to push it under; an image has one of its own
    #[arg(value_name = "REFERENCE")]
    name: Option<String>,
}

/// Docker's words.
const NOT_ALL: &str =
    "Info: Not all multiplatform-content is present and only the available single-platform image was pushed";

/// What was typed cannot be meant.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("{file:?} is a file: say under which name it is to be pushed")]
    NoName { file: String },
    #[error("{reference} names a digest: what is pushed gets a tag, and its digest is its own")]
    Digest { reference: String },
    #[error("{flag} is for WebAssembly files: an image is pushed as it is")]
    Flag { flag: &'static str },
    #[error("cannot push {file:?}")]
    Program { file: String, source: wasm::Error },
    #[error("tag can't be used with --all-tags/-a")]
    TagAndAll,
    #[error("--all-tags is for what is here under the names of one repository: give that name alone")]
    OtherAndAll,
    #[error("SOURCE_DATE_EPOCH is {value:?}, and has to be a number of seconds")]
    Epoch { value: String },
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        match self {
            Self::Program { source, .. } => source.kind(),
            _ => Kind::InvalidArgument,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Program { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// Pushes and says what was pushed.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let reference: Reference = args.name.as_deref().unwrap_or(&args.what).parse().or_else(|error| {
        let file = args.name.is_none() && wasm_file(&args.what)?.is_some();
        Err(if file { Invalid::NoName { file: args.what.clone() }.into() } else { Box::<dyn Failure>::from(error) })
    })?;
    if reference.digest().is_some() {
        return Err(Invalid::Digest { reference: reference.familiar() }.into());
    }
    if args.all_tags {
        return push_all(&args, &reference, ctx);
    }
    match wasm_file(&args.what)? {
        Some(_) if args.name.is_none() => return Err(Invalid::NoName { file: args.what }.into()),
        Some(bytes) => say(&args, &reference, &push_file(&args, &reference, bytes, ctx)?)?,
        None => {
            let tag_is_typed = args.name.as_deref().unwrap_or(&args.what).rsplit('/').next();
            if !args.quiet && !tag_is_typed.unwrap_or_default().contains(':') {
                output::print("Using default tag: latest\n")?;
            }
            say(&args, &reference, &push_image(&args, &args.what, &reference, ctx)?)?;
        }
    }
    Ok(0)
}

/// Pushes all names of one repository, each after the other.
fn push_all(args: &Args, reference: &Reference, ctx: &Context) -> Outcome {
    if args.name.is_some() || is_file(&args.what) {
        return Err(Invalid::OtherAndAll.into());
    }
    if args.what.rsplit('/').next().unwrap_or_default().contains(':') {
        return Err(Invalid::TagAndAll.into());
    }
    let tags = ctx.host()?.images()?.tags_of(reference)?;
    if tags.is_empty() {
        return Err(image::Error::NothingToPush { name: reference.name() }.into());
    }
    for tag in tags {
        say(args, &tag, &push_image(args, &tag.to_string(), &tag, ctx)?)?;
    }
    Ok(0)
}

/// Docker's last line, and its note if the push was not of all that the name means.
fn say(args: &Args, reference: &Reference, pushed: &Pushed) -> Result<(), Box<dyn Failure>> {
    let Pushed { digest, size, instead_of } = pushed;
    let tag = reference.tag().unwrap_or_default();
    output::print(&match args.quiet {
        true => format!("{reference}\n"),
        false => format!("{tag}: digest: {digest} size: {size}\n"),
    })?;
    if let Some(index) = instead_of.as_ref().filter(|_| !args.quiet) {
        tolerate(writeln!(std::io::stderr(), "{NOT_ALL}\n{index} -> {digest}"));
    }
    Ok(())
}

fn push_file(args: &Args, reference: &Reference, bytes: Vec<u8>, ctx: &Context) -> Result<Pushed, Box<dyn Failure>> {
    let refused = |source| Invalid::Program { file: args.what.clone(), source };
    let source = wasm::Source::try_from(bytes).map_err(refused)?;
    let described = wasm::describe(&source).map_err(refused)?;
    let artifact = Artifact {
        config: config(&described, created()?, args.author.clone()),
        title: Path::new(&args.what).file_name().filter(|_| args.what != "-").map(|n| n.to_string_lossy().into_owned()),
        annotations: args.annotation.iter().map(|text| human::key_value(text)).collect(),
    };
    let (images, registry) = (ctx.host()?.images()?, ctx.host()?.registry());
    let progress = view(Stream::Stdout, args.quiet);
    let bytes = source.into_bytes();
    Ok(asynchronous()?.block_on(images.push_artifact(registry, reference, &bytes, artifact, &*progress))?)
}

fn push_image(args: &Args, what: &str, reference: &Reference, ctx: &Context) -> Result<Pushed, Box<dyn Failure>> {
    match (&args.author, args.annotation.is_empty()) {
        (Some(_), _) => return Err(Invalid::Flag { flag: "--author" }.into()),
        (None, false) => return Err(Invalid::Flag { flag: "--annotation" }.into()),
        (None, true) => {}
    }
    let (images, registry) = (ctx.host()?.images()?, ctx.host()?.registry());
    let progress = view(Stream::Stdout, args.quiet);
    let push = images.push(registry, what, reference, args.platform.as_ref(), &*progress);
    let pushed = asynchronous()?.block_on(push);
    // What had to be fetched for it goes again, also when it failed.
    ctx.host()?.drop_again()?;
    Ok(pushed?)
}

/// The artifact's configuration, in the CNCF's words. There is none for WASI 0.3: what a component imports says it.
fn config(described: &wasm::Description, created: String, author: Option<String>) -> WasmConfig {
    let component = WasmComponent {
        exports: described.exports.clone(),
        imports: described.imports.clone(),
        target: described.target.clone(),
    };
    let (os, component) = match described.kind {
        WasmKind::Module => ("wasip1", None),
        WasmKind::Component => ("wasip2", Some(component)),
    };
    WasmConfig {
        created: Some(created),
        author,
        architecture: "wasm".to_owned(),
        os: os.to_owned(),
        layer_digests: Vec::new(),
        component,
    }
}

/// Now, or when the environment of a reproducible build says that it is (reproducible-builds.org).
fn created() -> Result<String, Invalid> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(to_second(jiff::Timestamp::now())) };
    let value = value.to_string_lossy().into_owned();
    let epoch = value.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    epoch.map(to_second).ok_or(Invalid::Epoch { value })
}

fn to_second(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_for_preview_1_and_a_component_says_what_it_needs() {
        let module = wasm::Description { kind: WasmKind::Module, imports: vec![], exports: vec![], target: None };
        let of_module = serde_json::to_value(config(&module, "2026-01-01T00:00:00Z".into(), None)).unwrap();
        let expected = serde_json::json!({
            "created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1", "layerDigests": [],
        });
        assert_eq!(of_module, expected);
        let component = wasm::Description {
            kind: WasmKind::Component,
            imports: vec!["wasi:io/poll@0.2.0".into()],
            exports: vec!["wasi:cli/run@0.2.0".into()],
            target: Some("wasi:cli/command@0.2.0".into()),
        };
        let of_component = serde_json::to_value(config(&component, String::new(), Some("me".into()))).unwrap();
        assert_eq!((&of_component["os"], &of_component["author"]), (&"wasip2".into(), &"me".into()));
        assert_eq!(of_component["component"]["imports"][0], "wasi:io/poll@0.2.0");
        assert_eq!(of_component["component"]["target"], "wasi:cli/command@0.2.0");
    }
}
