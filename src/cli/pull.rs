//! `wherry pull`: fetch an image from a registry.

use super::progress::{Stream, view};
use super::{Context, Outcome, gc, output};
use crate::engine::wasm;
use crate::error::{Failure, Kind};
use crate::host::PullProgress;
use crate::image::{self, Image, Pulled};
use crate::oci::Platform;
use crate::reference::Reference;
use crate::snapshot::Chain;

/// Pull an image from a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Keep what the layers came as once they are unpacked, or do not [default: as the configuration says, or true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    keep_blobs: Option<bool>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Pull the image for this platform, such as linux/arm64 or wasi/wasm
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// The image: [REGISTRY/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// The machinery of asynchronous work cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the threads that talk to registries")]
struct NoRuntime {
    source: std::io::Error,
}

impl Failure for NoRuntime {
    fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

/// A tag, or a digest, where all tags are meant.
#[derive(Debug, thiserror::Error)]
#[error("tag can't be used with --all-tags/-a")]
struct TagAndAll;

impl Failure for TagAndAll {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// Pulls and says what was pulled.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let reference: Reference = args.image.parse()?;
    if args.all_tags {
        return all_tags(&args, &reference, ctx);
    }
    if !args.quiet {
        output::print(heading(&args.image))?;
    }
    let pulled = pull_and_compile(&args, &reference, ctx)?;
    output::print(&if args.quiet { format!("{reference}\n") } else { closing(&reference, &pulled) })?;
    Ok(0)
}

/// Pulls each image of a repository. The first that cannot be had is the last that is asked for.
fn all_tags(args: &Args, reference: &Reference, ctx: &Context) -> Outcome {
    if is_tagged(&args.image) {
        return Err(TagAndAll.into());
    }
    let progress = view(Stream::Stdout, args.quiet);
    let all = ctx.host()?.all_tags(&asynchronous()?, reference, &*progress)?;
    drop(progress);
    let mut fresh = false;
    for reference in &all {
        let pulled = pull_and_compile(args, reference, ctx)?;
        fresh |= pulled.fresh;
        if !args.quiet {
            output::print(&format!("Digest: {}\n", pulled.digest))?;
        }
    }
    if !args.quiet {
        output::print(&status(fresh, &familiar_name(reference)))?;
    }
    output::print(&format!("{}\n", reference.name()))?;
    Ok(0)
}

fn pull_and_compile(args: &Args, reference: &Reference, ctx: &Context) -> Result<Pulled, Box<dyn Failure>> {
    let progress = view(Stream::Stdout, args.quiet);
    let (pulled, chain) = pull(ctx, reference, args.platform.as_ref(), args.keep_blobs, &*progress)?;
    drop(progress);
    // So that no run has to wait for it.
    compile(ctx, &pulled.image, &chain, args.quiet)?;
    drop(chain);
    gc::after_pull(ctx, &pulled.image)?;
    Ok(pulled)
}

/// A repository as people write it.
fn familiar_name(reference: &Reference) -> String {
    let familiar = reference.familiar();
    let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    familiar.strip_suffix(&tag).unwrap_or(&familiar).to_owned()
}

/// Compiles the program of an image for WebAssembly, so that the first run starts as fast as any.
#[cfg(target_os = "linux")]
fn compile(ctx: &Context, image: &Image, chain: &Chain, quiet: bool) -> Result<(), Box<dyn Failure>> {
    let tell = |words: &str| {
        let said = !quiet && image.platform().is_wasm();
        if said { output::print(&format!("{}: {words}\n", image.id().short())) } else { Ok(()) }
    };
    tell("Compiling")?;
    if ctx.host()?.containers()?.compile_ahead(image, chain)? {
        tell("Compiled")?;
    }
    Ok(())
}

/// Where there are no containers a program is compiled when it first runs.
#[cfg(not(target_os = "linux"))]
fn compile(_: &Context, _: &Image, _: &Chain, _: bool) -> Result<(), Box<dyn Failure>> {
    Ok(())
}

/// Pulls an image, for any command that needs one.
pub fn pull(
    ctx: &Context,
    reference: &Reference,
    platform: Option<&Platform>,
    keep_blobs: Option<bool>,
    progress: &dyn PullProgress,
) -> Result<(Pulled, Chain), Box<dyn Failure>> {
    Ok(ctx.host()?.pull(&asynchronous()?, reference, platform, keep_blobs, progress)?)
}

/// What a pull or a push runs on.
pub fn asynchronous() -> Result<tokio::runtime::Runtime, Box<dyn Failure>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    Ok(runtime.map_err(|source| NoRuntime { source })?)
}

/// The image that `typed` means: a WebAssembly file of this machine, an image that is here, or one that is
/// pulled, as `policy` says.
pub fn image_for(
    ctx: &Context,
    typed: &str,
    platform: Option<&Platform>,
    policy: &str,
    quiet: bool,
) -> Result<Image, Box<dyn Failure>> {
    if let Some(bytes) = wasm_file(typed)? {
        return Ok(ctx.host()?.images()?.of_wasm(&bytes)?);
    }
    if policy != "always"
        && let Some(image) = ctx.host()?.images()?.get(typed, platform)?
    {
        return Ok(image);
    }
    let reference: Reference = typed.parse()?;
    if policy == "never" {
        return Err(image::Error::not_found(typed).into());
    }
    let progress = view(Stream::Stderr, quiet);
    let (pulled, chain) = pull(ctx, &reference, platform, None, &*progress)?;
    drop((progress, chain));
    gc::after_pull(ctx, &pulled.image)?;
    Ok(pulled.image)
}

/// A file that was named to be run cannot be.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the WebAssembly file {path:?}")]
struct Unreadable {
    path: String,
    source: std::io::Error,
}

impl Failure for Unreadable {
    fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

/// A file that was named to be run is no program.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {path:?}")]
struct NotAProgram {
    path: String,
    source: wasm::Error,
}

impl Failure for NotAProgram {
    fn kind(&self) -> Kind {
        self.source.kind()
    }

    fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}

/// Whether `typed` is a program of this machine rather than a reference: a path, which begins like one, or ends in
/// `.wasm` and exists; or `-`, the standard input.
pub fn is_file(typed: &str) -> bool {
    let begins_like_one = ["/", "./", "../", ".\\", "..\\"].iter().any(|prefix| typed.starts_with(prefix));
    typed == "-" || begins_like_one || (typed.ends_with(".wasm") && std::path::Path::new(typed).is_file())
}

/// The file at `path`, which was named to be run.
pub fn open_file(path: &str) -> Result<std::fs::File, Box<dyn Failure>> {
    Ok(std::fs::File::open(path).map_err(|source| Unreadable { path: path.to_owned(), source })?)
}

/// The bytes of a WebAssembly file, if `typed` is one.
pub fn wasm_file(typed: &str) -> Result<Option<Vec<u8>>, Box<dyn Failure>> {
    if !is_file(typed) {
        return Ok(None);
    }
    let read = match typed {
        "-" => wasm::Source::read(std::io::stdin().lock()),
        path => wasm::Source::read(open_file(path)?),
    };
    let source = read.map_err(|source| NotAProgram { path: typed.to_owned(), source })?;
    Ok(Some(source.into_bytes()))
}

/// What is said before anything is known.
fn heading(typed: &str) -> &'static str {
    if is_tagged(typed) { "" } else { "Using default tag: latest\n" }
}

fn is_tagged(typed: &str) -> bool {
    typed.rsplit('/').next().unwrap_or(typed).contains([':', '@'])
}

fn closing(reference: &Reference, pulled: &Pulled) -> String {
    format!("Digest: {}\n{}{reference}\n", pulled.digest, status(pulled.fresh, &reference.familiar()))
}

fn status(fresh: bool, what: &str) -> String {
    let status = if fresh { "Downloaded newer image" } else { "Image is up to date" };
    format!("Status: {status} for {what}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_tag_is_told_where_none_was_typed() {
        for silent in ["alpine:3", "localhost:5000/a:b", "a@sha256:0"] {
            assert_eq!(heading(silent), "", "{silent}");
        }
        for told in ["alpine", "localhost:5000/a/b"] {
            assert_eq!(heading(told), "Using default tag: latest\n", "{told}");
        }
    }
}
