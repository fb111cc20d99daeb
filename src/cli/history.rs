//! `wherry history`: how an image was made, as it says itself.

use serde_json::{Value, json};

use super::template::Format;
use super::{Context, Outcome, human, images, output};
use crate::image::Image;
use crate::oci::Platform;

/// What Docker shows of a step whose image is not here: none is, since images are not made of images.
const MISSING: &str = "<missing>";

/// How much of a step's command is shown.
const COMMAND_WIDTH: usize = 45;

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// Show the history of an image
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format output: table, json, 'table TEMPLATE', or a template such as '{{.CreatedBy}}'
    #[arg(long)]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image ids
    #[arg(short, long)]
    quiet: bool,
    /// Show the history for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// A name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Prints the steps, the last first.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let format = Format::parse(args.format.as_deref())?;
    let image = ctx.host()?.images()?.require(&args.image, args.platform.as_ref())?;
    let sizes = ctx.host()?.layer_sizes(&image)?;
    let rows = rows(&image, &sizes, &args, images::now());
    let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    output::print(&if args.quiet {
        rows.iter().map(|row| cell(row, "ID") + "\n").collect()
    } else {
        format.show(&rows, HEADINGS, |rows| {
            let created = if args.human { ("CreatedSince", "CREATED") } else { ("CreatedAt", "CREATED AT") };
            let fields =
                [("ID", "IMAGE"), created, ("CreatedBy", "CREATED BY"), ("Size", "SIZE"), ("Comment", "COMMENT")];
            output::columns(rows, &fields)
        })?
    })?;
    Ok(0)
}

/// The steps, the last first. Layers that no step claims come as steps that say nothing.
fn rows(image: &Image, sizes: &[u64], args: &Args, now: i64) -> Vec<Value> {
    let history = &image.config().history;
    let claimed = history.iter().filter(|step| !step.empty_layer).count();
    let mut sizes = sizes.iter().copied();
    let mut rows: Vec<Value> = Vec::new();
    for step in history {
        let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
        let (by, comment) = (step.created_by.as_deref().unwrap_or_default(), step.comment.as_deref());
        rows.push(row(step.created.as_deref(), by, comment.unwrap_or_default(), size, args, now));
    }
    let unclaimed = image.layers().len().saturating_sub(claimed);
    rows.extend(sizes.take(unclaimed).map(|size| row(None, "", "", size, args, now)));
    if let Some(last) = rows.last_mut() {
        last["ID"] = images::id(image.id(), args.no_trunc).into();
    }
    rows.reverse();
    rows
}

fn row(created: Option<&str>, by: &str, comment: &str, size: u64, args: &Args, now: i64) -> Value {
    let at = created.and_then(human::parse_time);
    let by = by.replace(['\t', '\n'], " ");
    json!({
        "Comment": comment,
        "CreatedAt": at.and_then(human::rfc_3339).unwrap_or_else(|| "N/A".to_owned()),
        "CreatedBy": if args.no_trunc { by } else { human::shortened(&by, COMMAND_WIDTH) },
        "CreatedSince": at.map_or_else(|| "N/A".to_owned(), |at| human::ago(at, now)),
        "ID": MISSING,
        "Size": if args.human { human::size(size) } else { size.to_string() },
    })
}
