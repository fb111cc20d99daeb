//! The flags that `run` and `create` share, and what they mean.

use std::io::IsTerminal;
use std::path::Path;

use super::publish;
use super::pull::{image_for, is_file, open_file};
use super::{Context, grants, human, resources};
use crate::container::{Config, Container, Create, Direct, HostConfig, Program};
use crate::engine::wasm;
use crate::error::{Failure, Kind};
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
    /// Bind mount a directory or file: SOURCE:DESTINATION[:ro]; what a Wasm program may reach
    #[arg(short, long, value_name = "SOURCE:DESTINATION[:ro]")]
    volume: Vec<String>,
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
    /// Connect the container to a network [default: none; host if --allow-net or --allow-listen is used]
    #[arg(long, visible_alias = "net", value_parser = ["none", "host"])]
    network: Option<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Container host name
    #[arg(long)]
    hostname: Option<String>,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Security options
    #[arg(long, value_parser = ["no-new-privileges", "no-new-privileges:true", "seccomp=unconfined"])]
    security_opt: Vec<String>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Pull image before running
    #[arg(long, default_value = "missing", value_parser = ["always", "missing", "never"])]
    pull: String,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    resources: resources::Resources,
    #[command(flatten)]
    grants: grants::Args,
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
    #[error("invalid environment variable: {text}")]
    Variable { text: String },
    #[error("cannot read environment file {path:?}")]
    EnvFile { path: std::path::PathBuf, source: std::io::Error },
    #[error("cannot create the host directory {path:?} of a volume")]
    Source { path: std::path::PathBuf, source: std::io::Error },
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        match self {
            Self::EnvFile { source, .. } | Self::Source { source, .. } => Kind::of_io(source),
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
    let id = stay.map(str::to_owned);
    let fleeting = id.is_some() && options.rm && options.name.is_none();
    let create = Create { id, fleeting, ..meaning(options, image, args)? };
    let found = image_for(context, image, options.platform.as_ref(), &options.pull, options.quiet)?;
    let host = context.host()?;
    let chain = host.unpack(found.layers(), &Silent)?;
    Ok(host.containers()?.create(create, &found, &chain)?)
}

/// The program that runs without a container, if that is what was typed: a file of this machine, in the foreground,
/// and no flag that only a container can have. Its terminal is the one that it is started from.
pub fn direct(options: &Options, typed: &[String]) -> Result<Option<Direct>, Box<dyn Failure>> {
    let (name, args) = typed.split_first().expect("the parser requires one");
    let has_terminal = || std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    // A limit needs a cgroup, and with it somebody who removes that again.
    let for_containers = options.name.is_some() || options.entrypoint.is_some() || options.resources.any();
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
        hostname: options.hostname.clone(),
        tty: options.tty,
        open_stdin: options.interactive,
        stop_signal: options.stop_signal.clone(),
        labels: options.label.iter().map(|l| human::key_value(l)).collect(),
        host_config: limited(
            options,
            HostConfig {
                network_mode: options.network.clone().unwrap_or_default(),
                binds: options.volume.iter().map(|v| bind(v)).collect::<Result<_, _>>()?,
                port_bindings: publish::parse(&options.publish)?,
                publish_all_ports: options.publish_all,
                auto_remove: options.rm,
                readonly_rootfs: options.read_only,
                cap_add: options.cap_add.clone(),
                cap_drop: options.cap_drop.clone(),
                security_opt: options.security_opt.clone(),
                annotations: options.grants.annotations(&options.label, &options.annotation),
                ..HostConfig::default()
            },
        )?,
    })
}

fn limited(options: &Options, mut host_config: HostConfig) -> Result<HostConfig, Invalid> {
    options.resources.apply(&mut host_config)?;
    Ok(host_config)
}

/// The variables of these files and of the command line.
pub fn environment(files: &[std::path::PathBuf], typed: &[String]) -> Result<Vec<String>, Invalid> {
    let mut variables = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|source| Invalid::EnvFile { path: path.clone(), source })?;
        let lines = text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#'));
        variables.extend(lines.map(str::to_owned));
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

/// A volume in Docker's short form, its source made absolute and, as with Docker, made at all.
fn bind(text: &str) -> Result<String, Invalid> {
    let refuse = |problem| Invalid::Volume { text: text.to_owned(), problem };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, "rw"),
        [source, destination, options] => (source, destination, options),
        [_] => return Err(refuse("an anonymous volume is not offered by this version: give SOURCE:DESTINATION")),
        _ => return Err(refuse("it has more than three parts")),
    };
    if !Path::new(destination).is_absolute() || destination == "/" {
        return Err(refuse("the destination must be an absolute path, and not the root"));
    }
    if !source.starts_with(['/', '.', '~']) {
        return Err(refuse("a named volume is not offered by this version: give a path, such as ./data"));
    }
    if let Some(option) = options.split(',').find(|o| !matches!(*o, "ro" | "rw" | "rprivate" | "private")) {
        return Err(match option {
            "z" | "Z" => refuse("SELinux labels are not offered by this version"),
            _ => refuse("its options can be ro and rw"),
        });
    }
    let source = std::path::absolute(source).map_err(|_| refuse("the source is no path"))?;
    if !source.exists() {
        let made = std::fs::create_dir_all(&source);
        made.map_err(|error| Invalid::Source { path: source.clone(), source: error })?;
    }
    let mode = if options.split(',').any(|o| o == "ro") { "ro" } else { "rw" };
    Ok(format!("{}:{destination}:{mode}", source.display()))
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

    #[test]
    fn volumes() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().display();
        assert_eq!(bind(&format!("{path}:/x")).unwrap(), format!("{path}:/x:rw"));
        assert_eq!(bind(&format!("{path}/new:/x:ro")).unwrap(), format!("{path}/new:/x:ro"));
        assert!(here.path().join("new").is_dir());
        for bad in ["/a", "name:/x", "/a:x", "/a:/", "/a:/b:rx", "/a:/b:ro:z", "/a:/b:z"] {
            assert!(bind(bad).is_err(), "{bad}");
        }
    }
}
