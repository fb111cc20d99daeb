//! `wherry image inspect`: all about images, in Docker's shape (Engine API, `ImageInspect`).

use serde_json::{Value, json};

use crate::cli::template::Template;
use crate::cli::{Context, Outcome, for_each, human, output};
use crate::engine::wasm::grant;
use crate::error::Failure;
use crate::image::Image;
use crate::oci::Platform;

/// Display detailed information on one or more images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format output: json, or a template such as '{{.Config.Cmd}}'
    #[arg(short, long)]
    format: Option<String>,
    /// The image for this platform, of those that a name holds
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Prints an array of what was found, and tells of what was not.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let mut found = Vec::new();
    let status = for_each(&args.images, |name| {
        let image = ctx.host()?.images()?.require(name, args.platform.as_ref())?;
        found.push(shown(&image, ctx)?);
        Ok(())
    })?;
    print(found, args.format.as_deref())?;
    Ok(status)
}

/// Prints what was found as `--format` says: an array of all, or a line of each.
pub fn print(found: Vec<Value>, format: Option<&str>) -> Result<(), Box<dyn Failure>> {
    output::print(&match format {
        None => output::indented(&Value::from(found)),
        Some("json") => output::json(&Value::from(found)) + "\n",
        Some(format) => {
            let template = Template::parse(format)?;
            let lines = found.iter().map(|object| template.render(object).map(|text| text + "\n"));
            lines.collect::<Result<String, _>>()?
        }
    })?;
    Ok(())
}

/// All about an image.
pub fn shown(image: &Image, ctx: &Context) -> Result<Value, Box<dyn Failure>> {
    let host = ctx.host()?;
    let mut shown = of_image(image, host.files_size(image)?);
    // The directories of layers are nobody's to write to: their names are not told.
    shown["GraphDriver"] = json!({ "Name": host.snapshots()?.marks()?.driver(), "Data": null });
    if let Some(artifact) = ctx.host()?.images()?.artifact_of(image)? {
        shown["Wasm"] = json!({
            "os": artifact.config.os,
            "component": artifact.config.component,
            "annotations": artifact.annotations,
        });
    }
    Ok(shown)
}

/// A config with all that Docker's templates know of it: `{{.Config.Entrypoint}}` is no mistake where there is none.
fn whole(mut config: Value) -> Value {
    const LISTS: [&str; 7] = ["Cmd", "Entrypoint", "Env", "ExposedPorts", "Labels", "OnBuild", "Volumes"];
    const TEXTS: [&str; 3] = ["StopSignal", "User", "WorkingDir"];
    let absent = LISTS.iter().map(|name| (name, Value::Null)).chain(TEXTS.iter().map(|name| (name, "".into())));
    if let Some(fields) = config.as_object_mut() {
        for (name, empty) in absent {
            fields.entry(*name).or_insert(empty);
        }
    }
    config
}

fn of_image(image: &Image, size: u64) -> Value {
    let names = image.names().iter();
    let tags: Vec<String> =
        names.clone().filter(|n| n.reference.tag().is_some()).map(|n| n.reference.familiar()).collect();
    let mut digests: Vec<String> = names.map(|n| format!("{}@{}", n.reference.name(), n.digest)).collect();
    digests.dedup();
    let config = image.config();
    let comment = config.history.last().and_then(|step| step.comment.as_deref());
    json!({
        "Id": image.id(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": comment.unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.as_deref().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant.as_deref().unwrap_or_default(),
        "Os": config.os,
        "Size": size,
        "Config": whole(json!(config.config)),
        "Capabilities": { "Requested": grant::requested(&config.config.labels) },
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "Metadata": { "LastTagTime": human::rfc_3339_nanos(image.pulled_unix_ns()) },
        "Descriptor": image.manifest(),
    })
}
