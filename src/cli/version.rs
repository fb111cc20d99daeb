//! `wherry version`.

use serde_json::json;

use super::template::Template;
use super::{Context, Outcome, output};

/// Show the version information
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format output: json, or a template such as '{{.Version}}'
    #[arg(short, long)]
    format: Option<String>,
}

/// Prints what this binary is.
pub fn run(args: Args, _: &Context) -> Outcome {
    let facts = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": std::env::consts::OS,
        "Arch": crate::oci::Platform::host().architecture,
        "Engines": crate::engine::NAMES,
        "Wasm": crate::engine::wasm::VERSION,
    });
    output::print(&match args.format.as_deref() {
        Some("json") => format!("{facts}\n"),
        Some(format) => Template::parse(format)?.render(&facts)? + "\n",
        None => format!(
            "wherry {}\n OS/Arch:  {}/{}\n Engines:  {}\n Wasm:     {}\n",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            crate::oci::Platform::host().architecture,
            crate::engine::NAMES.join(", "),
            crate::engine::wasm::VERSION,
        ),
    })?;
    Ok(0)
}
