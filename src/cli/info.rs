//! `wherry info`: this data root, and what this machine can do.

use serde_json::{Map, Value, json};

use super::template::Template;
use super::{Context, Outcome, output};
use crate::error::Failure;

/// Display system-wide information
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format output: json, or a template such as '{{.Images}}'
    #[arg(short, long)]
    format: Option<String>,
}

/// Prints the facts.
pub fn run(args: Args, context: &Context) -> Outcome {
    let facts = facts(context)?;
    output::print(&match args.format.as_deref() {
        Some("json") => output::json(&facts) + "\n",
        Some(format) => Template::parse(format)?.render(&facts)? + "\n",
        None => lines(&facts),
    })?;
    Ok(0)
}

fn facts(context: &Context) -> Result<Value, Box<dyn Failure>> {
    let host = context.host()?;
    let mut facts = Map::new();
    let mut put = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    put("ServerVersion", json!(env!("CARGO_PKG_VERSION")));
    put("OperatingSystem", json!(std::env::consts::OS));
    put("Architecture", json!(crate::oci::Platform::host().architecture));
    put("NCPU", json!(std::thread::available_parallelism().map_or(1, usize::from)));
    put("Engines", json!(crate::engine::NAMES));
    put("Images", json!(host.images()?.list()?.len()));
    put("WherryRootDir", json!(host.settings().root));
    put("Rootless", json!(host.rootless()));
    #[cfg(target_os = "linux")]
    for (name, value) in linux(host)? {
        put(name, value);
    }
    Ok(Value::Object(facts))
}

#[cfg(target_os = "linux")]
fn linux(host: &crate::host::Host) -> Result<Vec<(&'static str, Value)>, Box<dyn Failure>> {
    use crate::container::Status;
    let containers = host.containers()?.list()?;
    let running = containers.iter().filter(|c| matches!(c.status, Status::Running { .. })).count();
    let unified = crate::cgroup::Hierarchies::detect()?.is_unified();
    let kernel = rustix::system::uname();
    Ok(vec![
        ("Containers", json!(containers.len())),
        ("ContainersRunning", json!(running)),
        ("ContainersStopped", json!(containers.len() - running)),
        ("KernelVersion", json!(kernel.release().to_string_lossy())),
        ("CgroupVersion", json!(if unified { "2" } else { "1" })),
        ("Driver", json!(host.snapshots()?.marks()?.driver())),
        ("Landlock", json!(crate::engine::linux::wall::landlock())),
    ])
}

fn lines(facts: &Value) -> String {
    let all = facts.as_object().into_iter().flatten();
    let show = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    all.map(|(name, value)| format!("{name}: {}\n", show(value))).collect()
}
