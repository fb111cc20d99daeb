//! `wherry system gc`: what goes by itself, now; and the same after a pull.

use std::io::Write;

use super::{Context, Outcome, human, images, output, tell};
use crate::error::{Failure, Kind, tolerate};
use crate::host::gc::{Collected, Reason, Removal};
use crate::image::Image;

/// Remove images that nobody uses, as the configuration says
///
/// The configuration file (/etc/wherry/wherry.toml, or WHERRY_CONFIG) says under [gc] what goes: images that nobody
/// has used for long, and the least recently used ones when the disk is nearly full. The same happens after a pull.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only say what would be removed, and why
    #[arg(long)]
    dry_run: bool,
}

/// There is nothing to go by.
#[derive(Debug, thiserror::Error)]
#[error("the configuration does not say which images should go")]
struct NoPolicy;

impl Failure for NoPolicy {
    fn kind(&self) -> Kind {
        Kind::FailedPrecondition
    }

    fn hint(&self) -> Option<String> {
        let example = "for example `[gc]` and `unused-for = \"30d\"` in /etc/wherry/wherry.toml";
        Some(format!("{example}; or use `wherry image prune`"))
    }
}

/// Removes what is to go, and says what and why.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let policy = &ctx.host()?.preferences()?.gc;
    if !policy.is_on() {
        return Err(NoPolicy.into());
    }
    let collected = ctx.host()?.collect_images(policy, None, args.dry_run)?;
    let (removed, reclaimed) = match args.dry_run {
        true => ("Would remove", "reclaimable"),
        false => ("Removed", "reclaimed"),
    };
    let mut text: String = collected.removals.iter().map(|removal| format!("{removed}: {}\n", line(removal))).collect();
    text += &format!("Total {reclaimed} space: {}\n", human::exact_size(collected.freed));
    output::print(&output::printable(&text))?;
    warn_if_over(&collected);
    Ok(0)
}

/// Removes what is to go after `image` was pulled. That it could not be done is told, and the pull is none the worse.
pub fn after_pull(ctx: &Context, image: &Image) -> Result<(), Box<dyn Failure>> {
    let host = ctx.host()?;
    match host.collect_images(&host.preferences()?.gc, Some(image.id()), false) {
        Ok(collected) => {
            collected.removals.iter().for_each(|removal| say(&format!("removed {}", line(removal))));
            warn_if_over(&collected);
        }
        Err(error) => tell(&error),
    }
    Ok(())
}

fn warn_if_over(collected: &Collected) {
    if collected.over > 0 {
        let over = human::exact_size(collected.over);
        say(&format!(
            "{over} more of the disk are used than gc.low-watermark says, and no image is left that could go"
        ));
    }
}

fn say(words: &str) {
    // Without a standard error there is nobody to tell.
    tolerate(writeln!(std::io::stderr(), "wherry: {}", output::printable(words)));
}

fn line(removal: &Removal) -> String {
    let Removal { image, reason, size } = removal;
    let names: Vec<String> = image.names().iter().map(|name| name.reference.familiar()).collect();
    let id = images::id(image.id(), false);
    let named = if names.is_empty() { id } else { format!("{} ({id})", names.join(", ")) };
    let unused = |age: std::time::Duration| format!("not used for {}", human::duration(age.as_secs()).to_lowercase());
    let why = match reason {
        Reason::Unused(age) => unused(*age),
        Reason::Disk { over, unused: age } => {
            format!("{} too much of the disk are used; {}", human::exact_size(*over), unused(*age))
        }
    };
    format!("{named}, {}: {why}", human::exact_size(*size))
}
