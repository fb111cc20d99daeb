//! The flags that `run` and `create` share, and what they mean.

use std::io::IsTerminal;
use std::path::Path;

use super::pull::{image_for, is_file, open_file};
use super::{Context, grants, human, isolation, naming, publish, resources, storage};
use crate::container::{Config, Container, Create, Direct, HostConfig, Program};
use crate::engine::wasm;
use crate::error::{Failure, Kind, tolerate};
use crate::oci::Platform;
use crate::snapshot;

/// The flags of a new container.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Assign a name to the container
    #[arg(long)]
    name: Option<String>,
    /// Automatically remove the container when it exits
    #[arg(long)]
    pub rm: bool,
    /// Set environment variables: NAME=value, or NAME to take the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User name or UID, with an optional group: name|uid[:group|gid]
    #[arg(short, long)]
    user: Option<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub tty: bool,
    /// Publish a port of a WebAssembly server to the host
    #[arg(short, long, value_name = "[[HOSTIP:]HOSTPORT:]PORT")]
    publish: Vec<String>,
    /// Publish all ports of a WebAssembly server to free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Overwrite the default entry point of the image
    #[arg(long)]
    entrypoint: Option<String>,
    /// Use the image for this platform, such as linux/arm64 or wasi/wasm
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT[-PORT][/PROTOCOL]")]
    expose: Vec<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Set meta data on a container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "FILE")]
    label_file: Vec<std::path::PathBuf>,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<std::path::PathBuf>,
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Pull image before running
    #[arg(long, default_value = "missing", value_parser = ["always", "missing", "never"])]
    pull: String,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    storage: storage::Storage,
    #[command(flatten)]
    naming: naming::Naming,
    #[command(flatten)]
    isolation: isolation::Isolation,
    #[command(flatten)]
    resources: resources::Resources,
    #[command(flatten)]
    disks: resources::OfDisks,
    #[command(flatten)]
    grants: grants::Args,
}

impl Options {
    /// Whether it may use up less than all.
    fn limited(&self) -> bool {
        self.resources != Default::default() || self.disks != Default::default()
    }
}

/// What was typed cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    #[error("invalid volume specification: '{text}': {problem}")]
    Volume { text: String, problem: &'static str },
    #[error("invalid port specification: '{text}': {problem}")]
    Publish { text: String, problem: &'static str },
    #[error("unknown flag: {text}")]
    Flag { text: String },
    #[error("invalid limit --{flag}: {problem}")]
    Limit { flag: &'static str, problem: String },
    #[error("invalid argument {text:?} for --{flag}: {problem}")]
    Value { flag: &'static str, text: String, problem: &'static str },
    #[error("invalid environment variable: {text}")]
    Variable { text: String },
    #[error("cannot read {what} {path:?}")]
    File { what: &'static str, path: std::path::PathBuf, source: std::io::Error },
    #[error("container ID file found, make sure the other container isn't running or delete {path:?}")]
    CidFile { path: std::path::PathBuf },
    #[error("cannot create the host directory {path:?} of a volume")]
    Source { path: std::path::PathBuf, source: std::io::Error },
}

impl Invalid {
    /// That the value of a flag cannot be meant.
    pub fn value(flag: &'static str, text: &str, problem: &'static str) -> Self {
        Self::Value { flag, text: text.to_owned(), problem }
    }
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        match self {
            Self::File { source, .. } | Self::Source { source, .. } => Kind::of_io(source),
            _ => Kind::InvalidArgument,
        }
    }

    fn hint(&self) -> Option<String> {
        let Self::Flag { text } = self else { return None };
        let command = <Options as clap::Args>::augment_args(clap::Command::new("run"));
        let flags = command.get_arguments().filter_map(|a| a.get_long()).map(|long| format!("--{long}"));
        let nearest = flags.map(|f| (distance(&f, text), f)).min().filter(|(distance, _)| *distance <= 2);
        Some(nearest.map_or("see wherry run --help".to_owned(), |(_, flag)| format!("a similar flag exists: {flag}")))
    }
}

/// How many letters have to be changed, added or left out to make the one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            let nearest = changed.min(row[j + 1] + 1).min(row[j] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], nearest);
        }
    }
    row[b.len()]
}

/// Makes the container that the flags, the image and the arguments mean. With `stay` it gets this id, and the caller
/// stays with it until its end.
pub fn create(
    options: &Options,
    typed: &[String],
    context: &Context,
    stay: Option<&str>,
) -> Result<Container, Box<dyn Failure>> {
    // Everything from the image on is taken as it comes, so that a command's own flags reach it; what
    // begins with a dash in the image's place is a flag that does not exist.
    let (image, args) = typed.split_first().expect("the parser requires one");
    if image.starts_with('-') && image != "-" {
        return Err(Invalid::Flag { text: image.clone() }.into());
    }
    if let Some(signal) = &options.stop_signal {
        crate::container::signal_number(signal)?;
    }
    if let Some(path) = options.cidfile.as_ref().filter(|path| path.exists()) {
        return Err(Invalid::CidFile { path: path.clone() }.into());
    }
    let id = stay.map(str::to_owned);
    let fleeting = id.is_some() && options.rm && options.name.is_none();
    let create = Create { id, fleeting, ..meaning(options, image, args)? };
    let found = image_for(context, image, options.platform.as_ref(), &options.pull, options.quiet)?;
    let host = context.host()?;
    let chain = host.unpack(found.layers(), &Silent)?;
    let containers = host.containers()?;
    let made = containers.create(create, &found, &chain)?;
    if let Some(path) = &options.cidfile
        && let Err(source) = write_new(path, &made.record.id)
    {
        // Whoever asked for the file would not find the container.
        tolerate(containers.remove(&made, true));
        return Err(Invalid::File { what: "container ID file", path: path.clone(), source }.into());
    }
    Ok(made)
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// The program that runs without a container, if that is what was typed: a file of this machine, in the foreground,
/// and no flag that only a container can have. Its terminal is the one that it is started from.
pub fn direct(options: &Options, typed: &[String]) -> Result<Option<Direct>, Box<dyn Failure>> {
    let (name, args) = typed.split_first().expect("the parser requires one");
    let has_terminal = || std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    // A limit needs a cgroup, and with it somebody who removes that again.
    let for_containers =
        options.name.is_some() || options.entrypoint.is_some() || options.cidfile.is_some() || options.limited();
    if for_containers || (options.tty && !has_terminal()) || !is_file(name) {
        return Ok(None);
    }
    let program = match &**name {
        "-" => Program::Bytes(wasm::Source::read(std::io::stdin().lock())?),
        path => Program::File(open_file(path)?),
    };
    // As a shell names a program: by the last part of its path.
    let own = Path::new(name).file_name().map_or(name.clone(), |own| own.to_string_lossy().into_owned());
    let Create { env, user, working_dir, hostname, host_config, .. } = meaning(options, name, args)?;
    let config = Config {
        hostname: hostname.unwrap_or_default(),
        user: user.unwrap_or_default(),
        env,
        entrypoint: vec![own],
        cmd: args.to_vec(),
        working_dir: working_dir.unwrap_or_default(),
        ..Config::default()
    };
    Ok(Some(Direct { name: name.clone(), program, config, host_config }))
}

/// A pull has shown its progress; the unpacking of what was here already is short.
struct Silent;

impl snapshot::Progress for Silent {}

fn meaning(options: &Options, image: &str, args: &[String]) -> Result<Create, Invalid> {
    // As with Docker, an empty entry point means none at all.
    let entrypoint = options.entrypoint.as_ref().map(|e| if e.is_empty() { vec![] } else { vec![e.clone()] });
    let labels = labels(options)?;
    let host_config = host_config(options, &labels)?;
    Ok(Create {
        id: None,
        fleeting: false,
        name: options.name.clone(),
        image: image.to_owned(),
        entrypoint,
        args: args.to_vec(),
        env: environment(&options.env_file, &options.env)?,
        user: options.user.clone(),
        working_dir: options.workdir.clone(),
        hostname: options.naming.hostname.clone(),
        domainname: options.naming.domainname.clone(),
        exposed_ports: publish::exposed(&options.expose)?,
        tty: options.tty,
        open_stdin: options.interactive,
        stop_signal: options.stop_signal.clone(),
        stop_timeout: options.stop_timeout,
        labels: labels.iter().map(|l| human::key_value(l)).collect(),
        host_config,
    })
}

fn host_config(options: &Options, labels: &[String]) -> Result<HostConfig, Invalid> {
    let mut given = HostConfig {
        port_bindings: publish::parse(&options.publish)?,
        publish_all_ports: options.publish_all,
        auto_remove: options.rm,
        readonly_rootfs: options.read_only,
        annotations: options.grants.annotations(labels, &options.annotation),
        container_id_file: options.cidfile.as_ref().map_or(String::new(), |path| path.display().to_string()),
        ..HostConfig::default()
    };
    options.storage.apply(&mut given)?;
    options.naming.apply(&mut given)?;
    options.isolation.apply(&mut given)?;
    options.resources.apply(&mut given)?;
    options.disks.apply(&mut given)?;
    Ok(given)
}

/// The lines of a file that say something.
fn lines(what: &'static str, path: &Path) -> Result<Vec<String>, Invalid> {
    let failed = |source| Invalid::File { what, path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let lines = text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// The labels of files, and over them those that were typed.
fn labels(options: &Options) -> Result<Vec<String>, Invalid> {
    let mut labels = Vec::new();
    for path in &options.label_file {
        labels.extend(lines("label file", path)?);
    }
    labels.extend(options.label.iter().cloned());
    Ok(labels)
}

/// The variables of these files and of the command line.
pub fn environment(files: &[std::path::PathBuf], typed: &[String]) -> Result<Vec<String>, Invalid> {
    let mut variables = Vec::new();
    for path in files {
        variables.extend(lines("environment file", path)?);
    }
    variables.extend(typed.iter().cloned());
    let mut resolved = Vec::new();
    for variable in variables {
        match variable.split_once('=') {
            Some(("", _)) => return Err(Invalid::Variable { text: variable }),
            Some(_) => resolved.push(variable),
            // A name alone takes the value that it has here, and is not set where it has none.
            None => resolved.extend(std::env::var(&variable).ok().map(|value| format!("{variable}={value}"))),
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_flag_is_named() {
        let hint = |text: &str| Invalid::Flag { text: text.to_owned() }.hint().unwrap();
        assert!(hint("--entrypont").contains("--entrypoint"));
        assert!(hint("--nothing-like-it").contains("--help"));
    }
}
