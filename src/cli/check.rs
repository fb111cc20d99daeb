//! `wherry system check`: whether all that is here is whole.

use serde_json::{Value, json};

use super::pull::asynchronous;
use super::{Context, Outcome, output};
use crate::host::check::{Depth, Finding, Repair, Report};

/// Verify blobs, layers, images and records
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Mend what can be mended: fetch blobs and unpack layers again, remove what is left over
    #[arg(long)]
    repair: bool,
    /// With --repair: forget images that cannot be mended
    #[arg(short, long, requires = "repair")]
    force: bool,
    /// Look at names, sizes and records only, not at every byte
    #[arg(short, long)]
    quick: bool,
    /// Print text or one JSON object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Looks, mends if asked to, and says what was found. The exit status is 1 while there is damage.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let depth = if args.quick { Depth::Quick } else { Depth::Whole };
    let report = if args.repair {
        let runtime = asynchronous()?;
        ctx.host()?.check(depth, Some(&Repair { runtime: &runtime, force: args.force }))?
    } else {
        ctx.host()?.check(depth, None)?
    };
    output::print(&match args.format {
        Format::Json => format!("{}\n", shown(&report)),
        Format::Text => output::printable(&text(&report, args.repair)),
    })?;
    Ok(u8::from(!report.is_clean()))
}

fn shown(report: &Report) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "Damage": finding.damage,
            "Subject": finding.subject,
            "ID": finding.id,
            "Problem": finding.problem,
            "Remedy": finding.remedy,
            "Repaired": finding.mended,
        })
    };
    json!({
        "Clean": report.is_clean(),
        "Blobs": report.blobs,
        "Layers": report.layers,
        "Images": report.images,
        "Containers": report.containers,
        "Findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn text(report: &Report, repair: bool) -> String {
    let mut text: String = report.findings.iter().map(|finding| line(finding, repair)).collect();
    let Report { blobs, layers, images, containers, .. } = report;
    let verdict = match report.findings.iter().filter(|finding| finding.damage && !finding.mended).count() {
        0 => "no damage".to_owned(),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    };
    text += &format!("{blobs} blobs, {layers} layers, {images} images, {containers} containers: {verdict}\n");
    text
}

fn line(finding: &Finding, repair: bool) -> String {
    let Finding { damage, subject, id, problem, remedy, mended, .. } = finding;
    let weight = if *damage { "damage" } else { "note" };
    let subject = if id.is_empty() { (*subject).to_owned() } else { format!("{subject} {id}") };
    let outcome = match (mended, repair, remedy.is_empty()) {
        (true, ..) => "repaired",
        (_, _, true) => return format!("{weight}: {subject}: {problem}\n"),
        (false, true, _) if *damage => "not repaired",
        _ => "what helps",
    };
    format!("{weight}: {subject}: {problem}\n  {outcome}: {remedy}\n")
}
