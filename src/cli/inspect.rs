//! `wherry inspect`: everything about containers and images, in Docker's shape.

use serde_json::{Value, json};

use super::image::inspect;
use super::{Context, Outcome};
use crate::container::{self, Container, PortBinding, Status};
use crate::engine::wasm::grant;
use crate::error::{Failure, Kind};

/// Return low-level information on containers and images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format output: json, or a template such as '{{.State.ExitCode}}'
    #[arg(short, long)]
    format: Option<String>,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_parser = ["container", "image"])]
    kind: Option<String>,
    /// Names or ids
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

/// Neither a container nor an image.
#[derive(Debug, thiserror::Error)]
#[error("No such object: {name}")]
struct NoSuchObject {
    name: String,
}

impl Failure for NoSuchObject {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

/// Display detailed information on one or more containers
#[derive(Debug, clap::Args)]
pub struct OfContainers {
    /// Format output: json, or a template such as '{{.State.ExitCode}}'
    #[arg(short, long)]
    format: Option<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
}

/// The same of containers only.
pub fn containers(args: OfContainers, context: &Context) -> Outcome {
    run(Args { format: args.format, kind: Some("container".to_owned()), names: args.names }, context)
}

/// Prints an array of what was found, and tells of what was not.
pub fn run(args: Args, context: &Context) -> Outcome {
    let mut found = Vec::new();
    let status = super::for_each(&args.names, |name| {
        found.push(look(name, args.kind.as_deref(), context)?);
        Ok(())
    })?;
    inspect::print(found, args.format.as_deref())?;
    Ok(status)
}

fn look(name: &str, kind: Option<&str>, context: &Context) -> Result<Value, Box<dyn Failure>> {
    let host = context.host()?;
    if kind != Some("image") {
        match host.containers()?.find(name) {
            Ok(found) => return Ok(of_container(&found)),
            Err(container::Error::NotFound { .. }) if kind.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let image = match kind {
        Some(_) => host.images()?.require(name, None)?,
        None => host.images()?.get(name, None)?.ok_or_else(|| NoSuchObject { name: name.to_owned() })?,
    };
    inspect::shown(&image, context)
}

/// Go's zero time, which Docker shows for what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn of_container(container: &Container) -> Value {
    let record = &container.record;
    let command = record.command();
    let (path, args) = command.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    json!({
        "Id": record.id,
        "Created": record.created.to_string(),
        "Path": path,
        "Args": args,
        "State": state(&container.status),
        "Image": record.image_id,
        "Name": format!("/{}", container.name),
        "Platform": record.platform.split('/').next(),
        "Engine": record.engine,
        "Capabilities": {
            "Requested": grant::requested(&record.config.labels),
            "Granted": grant::granted(&record.host_config.annotations),
        },
        "LogPath": container.log(),
        "HostConfig": record.host_config,
        "Mounts": record.host_config.binds.iter().map(|bind| mount(bind)).collect::<Vec<_>>(),
        "NetworkSettings": { "Ports": ports(container) },
        "Config": {
            "Hostname": record.config.hostname,
            "Domainname": record.config.domainname,
            "User": record.config.user,
            "Tty": record.config.tty,
            "OpenStdin": record.config.open_stdin,
            "Env": record.config.env,
            "ExposedPorts": record.config.exposed_ports,
            "Cmd": record.config.cmd,
            "Entrypoint": record.config.entrypoint,
            "WorkingDir": record.config.working_dir,
            "Labels": record.config.labels,
            "StopSignal": record.config.stop_signal,
            "StopTimeout": record.config.stop_timeout,
            "Image": record.image,
        },
    })
}

fn state(status: &Status) -> Value {
    let (mut pid, mut error, mut started, mut finished) = (0, String::new(), NEVER.to_owned(), NEVER.to_owned());
    match status {
        Status::Running { process, started_at, .. } => {
            pid = process.pid;
            started = started_at.to_string();
        }
        Status::Exited(exit) => {
            started = exit.started_at.to_string();
            finished = exit.finished_at.to_string();
            error = exit.error.clone().unwrap_or_default();
        }
        Status::Created { failure: Some((_, why)) } => error.clone_from(why),
        Status::Created { failure: None } | Status::Dead => {}
    }
    let ended = if let Status::Exited(exit) = status { Some(exit) } else { None };
    json!({
        "Status": status.word(),
        "Running": matches!(status, Status::Running { .. }),
        "Paused": matches!(status, Status::Running { paused: true, .. }),
        "Restarting": false,
        "OOMKilled": ended.is_some_and(|exit| exit.oom_killed),
        "Dead": matches!(status, Status::Dead),
        "Pid": pid,
        "ExitCode": status.exit_code(),
        "Error": error,
        "StartedAt": started,
        "FinishedAt": finished,
        // Of a WebAssembly program: how it trapped, if it did.
        "Trap": ended.and_then(|exit| exit.trap.as_deref()),
    })
}

/// What leads to each port; `null` where nothing does.
fn ports(container: &Container) -> Value {
    let of = |bindings: Vec<PortBinding>| if bindings.is_empty() { Value::Null } else { json!(bindings) };
    container.ports().into_iter().map(|(port, bindings)| (port, of(bindings))).collect::<serde_json::Map<_, _>>().into()
}

fn mount(bind: &str) -> Value {
    let bind = container::parse_bind(bind);
    json!({
        "Type": "bind",
        "Source": bind.source,
        "Destination": bind.destination,
        "Mode": if bind.readonly { "ro" } else { "rw" },
        "RW": !bind.readonly,
        "Propagation": "rprivate",
    })
}
