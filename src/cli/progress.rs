//! What a pull looks like: bars on a terminal, Docker's lines in a pipe, nothing when quiet. A layer is complete
//! when it has both come and been unpacked, which go on side by side.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::host::PullProgress;
use crate::image::{Event, Progress};
use crate::oci::{Digest, Layer};
use crate::snapshot;

/// How wide a bar is, as Docker's.
const TEMPLATE: &str = "{prefix}: {msg} [{bar:50}]  {decimal_bytes}/{decimal_total_bytes}";
/// Beyond Docker's word, why.
const WAITING: &str = "Waiting: another process is pulling it";
const TEXT_ONLY: &str = "{prefix}: {msg}";

/// Where a pull is shown: it is `pull`'s own output, and beside the point of `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The view that fits the stream; a quiet one only tells of pauses, on standard error.
pub fn view(stream: Stream, quiet: bool) -> Box<dyn PullProgress> {
    let terminal = match stream {
        Stream::Stdout => std::io::stdout().is_terminal(),
        Stream::Stderr => std::io::stderr().is_terminal(),
    };
    match (quiet, terminal) {
        (true, _) => Box::new(Quiet),
        (false, true) => Box::new(Bars::new(stream)),
        (false, false) => Box::new(Lines { stream, layers: Layers::default() }),
    }
}

struct Quiet;

impl Progress for Quiet {
    fn event(&self, event: &Event) {
        if let Event::Retry { .. } = event {
            say(Stream::Stderr, &line(event).unwrap_or_default());
        }
    }
}

impl snapshot::Progress for Quiet {}

struct Lines {
    stream: Stream,
    layers: Layers,
}

impl Lines {
    fn complete(&self, digest: &Digest) {
        say(self.stream, &format!("{}: {COMPLETE}", digest.short()));
    }
}

impl Progress for Lines {
    fn event(&self, event: &Event) {
        if let Some(line) = line(event) {
            say(self.stream, &line);
        }
        match event {
            Event::Layer { digest, .. } => self.layers.expect(digest),
            Event::Complete { digest } if self.layers.came(digest) => self.complete(digest),
            _ => {}
        }
    }
}

impl snapshot::Progress for Lines {
    fn unpacked(&self, layer: &Layer, _fresh: bool) {
        if self.layers.unpacked(&layer.blob.digest) {
            self.complete(&layer.blob.digest);
        }
    }
}

/// Docker's word for a layer that is ready.
const COMPLETE: &str = "Pull complete";

/// How far the layers are that are fetched.
#[derive(Default)]
struct Layers(Mutex<HashMap<Digest, Steps>>);

#[derive(Default)]
struct Steps {
    came: bool,
    unpacked: bool,
}

impl Layers {
    fn expect(&self, digest: &Digest) {
        self.all().insert(digest.clone(), Steps::default());
    }

    /// The blob is here. Whether that was the last step.
    fn came(&self, digest: &Digest) -> bool {
        self.step(digest, |steps| steps.came = true)
    }

    /// Its files are here. Whether that was the last step.
    fn unpacked(&self, digest: &Digest) -> bool {
        self.step(digest, |steps| steps.unpacked = true)
    }

    /// Whether the blob is here.
    fn has_come(&self, digest: &Digest) -> bool {
        self.all().get(digest).is_some_and(|steps| steps.came)
    }

    fn step(&self, digest: &Digest, step: impl FnOnce(&mut Steps)) -> bool {
        let mut all = self.all();
        let Some(steps) = all.get_mut(digest) else { return false };
        step(steps);
        let done = steps.came && steps.unpacked;
        if done {
            all.remove(digest);
        }
        done
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Steps>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<Digest, ProgressBar>>,
    layers: Layers,
}

impl Bars {
    fn new(stream: Stream) -> Self {
        let target = match stream {
            Stream::Stdout => ProgressDrawTarget::stdout(),
            Stream::Stderr => ProgressDrawTarget::stderr(),
        };
        Self { all: MultiProgress::with_draw_target(target), bars: Mutex::default(), layers: Layers::default() }
    }

    fn layer(&self, digest: &Digest, size: u64) {
        let bar = self.all.add(ProgressBar::new(size));
        bar.set_prefix(digest.short().to_owned());
        show(&bar, TEXT_ONLY, "Waiting");
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), bar);
    }

    fn bar(&self, digest: &Digest) -> Option<ProgressBar> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn advance(&self, digest: &Digest, bytes: u64, words: &'static str) {
        if let Some(bar) = self.bar(digest) {
            if bar.position() == 0 {
                show(&bar, TEMPLATE, words);
            }
            bar.set_position(bytes);
        }
    }

    fn say(&self, digest: &Digest, words: &'static str) {
        if let Some(bar) = self.bar(digest) {
            show(&bar, TEXT_ONLY, words);
        }
    }

    fn tell(&self, digest: &Digest, words: String) {
        if let Some(bar) = self.bar(digest) {
            show(&bar, TEXT_ONLY, "");
            bar.set_message(words);
            bar.finish();
        }
    }

    fn finish(&self, digest: &Digest, words: &'static str) {
        if let Some(bar) = self.bar(digest) {
            show(&bar, TEXT_ONLY, words);
            bar.finish();
        }
    }
}

impl Progress for Bars {
    fn event(&self, event: &Event) {
        match event {
            Event::Layer { digest, size } => {
                self.layers.expect(digest);
                self.layer(digest, *size);
            }
            Event::Exists { digest } => {
                self.layer(digest, 0);
                self.finish(digest, "Already exists");
            }
            Event::Waiting { digest } => self.say(digest, WAITING),
            Event::Verifying { digest } => self.say(digest, "Verifying Checksum"),
            Event::Complete { digest } if self.layers.came(digest) => self.finish(digest, COMPLETE),
            Event::Complete { digest } => self.say(digest, "Download complete"),
            Event::Received { digest, bytes } | Event::Resumed { digest, bytes } => {
                self.advance(digest, *bytes, "Downloading")
            }
            Event::Preparing { digest, size } => self.layer(digest, *size),
            Event::There { digest } => self.finish(digest, "Layer already exists"),
            Event::Mounted { digest, from } => self.tell(digest, format!("Mounted from {from}")),
            Event::Uploaded { digest } => self.finish(digest, "Pushed"),
            Event::Sent { digest, bytes } => self.advance(digest, *bytes, "Pushing"),
            // A terminal that is gone cannot be told.
            Event::Resolved { .. } | Event::Pushing { .. } => drop(self.all.println(line(event).unwrap_or_default())),
            Event::Retry { digest, wait, .. } => match digest.as_ref().and_then(|digest| self.bar(digest)) {
                Some(bar) => bar.set_message(format!("Retrying in {}", seconds(*wait))),
                None => drop(self.all.println(line(event).unwrap_or_default())),
            },
        }
    }
}

impl snapshot::Progress for Bars {
    fn unpacking(&self, layer: &Layer, bytes: u64) {
        let digest = &layer.blob.digest;
        if self.layers.has_come(digest)
            && let Some(bar) = self.bar(digest)
        {
            show(&bar, TEXT_ONLY, "");
            bar.set_message(format!("Extracting  {}", indicatif::DecimalBytes(bytes)));
        }
    }

    fn unpacked(&self, layer: &Layer, _fresh: bool) {
        if self.layers.unpacked(&layer.blob.digest) {
            self.finish(&layer.blob.digest, COMPLETE);
        }
    }
}

fn show(bar: &ProgressBar, template: &str, words: &'static str) {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(words);
}

/// Docker's line for an event, if it has one.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Resolved { reference } => {
            let what = reference.digest().map_or(reference.tag().unwrap_or_default(), Digest::as_str);
            format!("{what}: Pulling from {}", reference.repository())
        }
        Event::Layer { digest, .. } => format!("{}: Pulling fs layer", digest.short()),
        Event::Exists { digest } => format!("{}: Already exists", digest.short()),
        Event::Waiting { digest } => format!("{}: {WAITING}", digest.short()),
        Event::Resumed { digest, bytes } => {
            format!("{}: Resuming after {}", digest.short(), indicatif::DecimalBytes(*bytes))
        }
        Event::Verifying { digest } => format!("{}: Verifying Checksum", digest.short()),
        Event::Complete { digest } => format!("{}: Download complete", digest.short()),
        Event::Pushing { reference } => format!("The push refers to repository [{}]", reference.name()),
        Event::Preparing { digest, .. } => format!("{}: Preparing", digest.short()),
        Event::There { digest } => format!("{}: Layer already exists", digest.short()),
        Event::Mounted { digest, from } => format!("{}: Mounted from {from}", digest.short()),
        Event::Uploaded { digest } => format!("{}: Pushed", digest.short()),
        Event::Received { .. } | Event::Sent { .. } => return None,
        Event::Retry { digest, wait, cause } => {
            let subject = digest.as_ref().map_or("manifest", Digest::short);
            format!("{subject}: Retrying in {}: {cause}", seconds(*wait))
        }
    })
}

fn seconds(wait: Duration) -> String {
    match wait.as_millis().div_ceil(1000) {
        1 => "1 second".to_owned(),
        n => format!("{n} seconds"),
    }
}

/// Progress that cannot be shown is no reason to stop a pull.
fn say(stream: Stream, line: &str) {
    match stream {
        Stream::Stdout => writeln!(std::io::stdout(), "{line}").ok(),
        Stream::Stderr => writeln!(std::io::stderr(), "{line}").ok(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_complete_when_it_came_and_was_unpacked_in_either_order() {
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let layers = Layers::default();
        layers.expect(&one);
        layers.expect(&two);
        assert_eq!([layers.came(&one), layers.unpacked(&one), layers.unpacked(&one)], [false, true, false]);
        assert_eq!([layers.unpacked(&two), layers.came(&two)], [false, true]);
        assert!(!layers.came(&Digest::sha256(b"one that was here already")));
    }

    #[test]
    fn lines_as_docker_writes_them() {
        let digest = Digest::sha256(b"");
        let size = 1;
        let reference = "alpine".parse().unwrap();
        assert_eq!(line(&Event::Resolved { reference }).unwrap(), "latest: Pulling from library/alpine");
        assert_eq!(line(&Event::Layer { digest: digest.clone(), size }).unwrap(), "e3b0c44298fc: Pulling fs layer");
        assert_eq!(line(&Event::Complete { digest: digest.clone() }).unwrap(), "e3b0c44298fc: Download complete");
        let (wait, cause) = (Duration::from_millis(1300), "it broke".to_owned());
        let retry = Event::Retry { digest: None, wait, cause };
        assert_eq!(line(&retry).unwrap(), "manifest: Retrying in 2 seconds: it broke");
    }
}
