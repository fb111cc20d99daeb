//! `wherry run` where there is no Linux under us: a WebAssembly program, in this very process. It has one
//! wall around it, the sandbox of the engine, and no record: it is in the foreground and then it is over.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::cli::pull::image_for;
use crate::cli::{Context, grants};
use crate::engine::wasm::grant::Grants;
use crate::engine::wasm::{self, Invocation, Limits, Preopen};
use crate::error::{Failure, Kind};
use crate::image::Image;
use crate::oci::Platform;

/// Run a WebAssembly image or file
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Accepted everywhere: nothing is kept of a container here
    #[arg(long)]
    rm: bool,
    /// Set environment variables: NAME=value
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give the program a directory: SOURCE:DESTINATION[:ro]
    #[arg(short, long, value_name = "SOURCE:DESTINATION[:ro]")]
    volume: Vec<String>,
    /// Overwrite the default entry point of the image
    #[arg(long)]
    entrypoint: Option<String>,
    #[command(flatten)]
    grants: grants::Args,
    /// The image, or the path of a .wasm file, and after it the program's arguments
    #[arg(value_name = "IMAGE [ARG...]", required = true, num_args = 1.., trailing_var_arg = true,
          allow_hyphen_values = true)]
    image: Vec<String>,
}

/// What cannot be run here.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
enum Error {
    #[error("{image} is for {platform}, and only WebAssembly runs on {}", std::env::consts::OS)]
    NotWasm { image: String, platform: Platform },
    #[error("no command specified")]
    NoCommand,
    #[error("invalid volume specification: '{text}': give SOURCE:DESTINATION[:ro]")]
    Volume { text: String },
    #[error("cannot open the program {path:?}")]
    Program { path: PathBuf, source: std::io::Error },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotWasm { .. } => Kind::Unsupported,
            Self::Program { source, .. } => Kind::of_io(source),
            _ => Kind::InvalidArgument,
        }
    }
}

/// Runs the program; its exit status.
pub fn run(args: Args, context: &Context) -> Result<u8, (u8, Box<dyn Failure>)> {
    start(&args, context).map_err(|failure| (125, failure))
}

fn start(args: &Args, context: &Context) -> Result<u8, Box<dyn Failure>> {
    let (typed, rest) = args.image.split_first().expect("the parser requires one");
    let image = image_for(context, typed, Some(&Platform::wasm()), "missing", false)?;
    if !image.platform().is_wasm() {
        return Err(Error::NotWasm { image: typed.clone(), platform: image.platform().clone() }.into());
    }
    let command = command(args, &image, rest);
    let program = open(context, &image, command.first().ok_or(Error::NoCommand)?)?;
    let cache = context.host()?.settings().root.join("cache/wasm");
    let source = wasm::Source::read(program)?;
    let annotations = args.grants.annotations(&[], &[]);
    let grants = Grants::parse(annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
    let compiled = wasm::compile(&cache, &source, &grants.limit.compile)?;
    let env = image.config().config.env.iter().chain(&args.env);
    let mut invocation = Invocation {
        args: command,
        env: env.filter_map(|v| v.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        preopens: args.volume.iter().map(|v| preopen(v)).collect::<Result<_, _>>()?,
        limits: Limits::default(),
        names: wasm::Names::default(),
        listeners: Vec::new(),
        grants,
    };
    invocation.read_names()?;
    let program = wasm::load(compiled)?;
    if program.serves() {
        invocation.listen(Vec::new())?;
    }
    Ok(wasm::run(program, invocation)?)
}

fn command(args: &Args, image: &Image, rest: &[String]) -> Vec<String> {
    let config = &image.config().config;
    let cmd = if rest.is_empty() && args.entrypoint.is_none() { &config.cmd[..] } else { rest };
    match &args.entrypoint {
        Some(entrypoint) => [std::slice::from_ref(entrypoint), cmd].concat(),
        None => [&config.entrypoint[..], cmd].concat(),
    }
}

/// The program in the topmost layer that has it.
fn open(context: &Context, image: &Image, path: &str) -> Result<File, Box<dyn Failure>> {
    struct Silent;
    impl crate::snapshot::Progress for Silent {}
    let chain = context.host()?.unpack(image.layers(), &Silent)?;
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    let found = chain.dirs().iter().rev().map(|dir| dir.join(relative)).find(|p| plain && p.is_file());
    let path = found.unwrap_or_else(|| PathBuf::from(path));
    Ok(File::open(&path).map_err(|source| Error::Program { path, source })?)
}

fn preopen(text: &str) -> Result<Preopen, Error> {
    let refuse = || Error::Volume { text: text.to_owned() };
    let (text_without_mode, readonly) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    // The last colon: a Windows path has one of its own.
    let (source, guest) = text_without_mode.rsplit_once(':').ok_or_else(refuse)?;
    if source.is_empty() || !guest.starts_with('/') {
        return Err(refuse());
    }
    Ok(Preopen { host: PathBuf::from(source), guest: guest.to_owned(), readonly })
}
