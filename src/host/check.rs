//! Whether all that is here is whole, and mending what is not.
//!
//! ```text
//! examine   database → records → blobs → documents → layers → containers → compiled code
//!           beside running pulls: what is looked at is held, what is being taken in is not looked at
//! mend      code, blobs (fetched again by digest) → layers (unpacked again) → leftovers, what nobody needs
//! ```
//!
//! Only damage counts as a finding: something that is there and not what it should be, or not there and needed. What is
//! merely left over, as after a killed pull, is a note.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::spare::seal_fault;
use super::{Error, Host};
use crate::content::Lease;
use crate::engine::wasm;
use crate::error::{Failure, chain};
use crate::image::{Audit, Part, Silent};
use crate::oci::Digest;
use crate::snapshot::{Fault, LayerId};
use crate::state::Seal;

/// The most files that are read at a time; more wait for the same disk.
const MAX_WORKERS: usize = 4;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Names, sizes and records.
    Quick,
    /// Every byte.
    Whole,
}

/// Something that was found.
#[derive(Debug)]
pub struct Finding {
    /// Whether it is damage, and not merely left over.
    pub damage: bool,
    /// What kind of thing it is about.
    pub subject: &'static str,
    /// Which.
    pub id: String,
    /// What is wrong.
    pub problem: String,
    /// What would help, or did.
    pub remedy: String,
    /// Whether it was mended.
    pub mended: bool,
    cure: Cure,
}

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Blobs.
    pub blobs: usize,
    /// Layers.
    pub layers: usize,
    /// Names of images.
    pub images: usize,
    /// Containers.
    pub containers: usize,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// How something is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cure {
    /// By nobody but the user.
    None,
    /// A blob goes, and is fetched again if an image needs it.
    Blob(Digest),
    /// A layer is unpacked again.
    Layer(LayerId),
    /// A piece of compiled code goes.
    Code(String),
    /// A row that cannot be read goes, if that is forced.
    Row(usize),
    /// What nobody needs goes.
    Sweep,
}

/// With what is mended.
pub struct Repair<'a> {
    /// Where registries are talked to.
    pub runtime: &'a tokio::runtime::Runtime,
    /// Whether images that cannot be mended are removed.
    pub force: bool,
}

impl Report {
    /// Whether no damage is left.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| !finding.damage || finding.mended)
    }

    fn damage(&mut self, subject: &'static str, id: impl ToString, problem: impl ToString, remedy: &str, cure: Cure) {
        self.found(true, subject, id, problem, remedy, cure);
    }

    fn note(&mut self, subject: &'static str, id: impl ToString, problem: impl ToString, remedy: &str, cure: Cure) {
        self.found(false, subject, id, problem, remedy, cure);
    }

    fn found(
        &mut self,
        damage: bool,
        subject: &'static str,
        id: impl ToString,
        problem: impl ToString,
        remedy: &str,
        cure: Cure,
    ) {
        let (id, problem, remedy) = (id.to_string(), problem.to_string(), remedy.to_owned());
        self.findings.push(Finding { damage, subject, id, problem, remedy, mended: false, cure });
    }
}

/// A container, as far as it matters here.
struct Made {
    name: String,
    image: Digest,
    layers: Vec<LayerId>,
}

/// What is known while it is looked.
struct Examination<'a> {
    host: &'a Host,
    depth: Depth,
    /// The layers that are held, and so looked at: what came later may go again at any time.
    here: Vec<LayerId>,
    audits: Vec<Audit>,
    made: Vec<Made>,
    report: Report,
    /// Blobs that are not here or not whole.
    bad: HashSet<Digest>,
    /// Blobs that were dropped on purpose, and whose layers are there.
    spared: HashSet<Digest>,
    /// What the files of the layers of such blobs were.
    seals: HashMap<String, Seal>,
}

impl Host {
    /// Looks at all that is here, and mends it if that is asked for.
    pub fn check(&self, depth: Depth, repair: Option<&Repair<'_>>) -> Result<Report, Error> {
        let (mut report, audits, made) = self.examine(depth)?;
        if let Some(repair) = repair {
            let mut mending = Mending { host: self, repair, audits: &audits, made: &made };
            mending.run(&mut report)?;
            self.drop_again()?;
        }
        Ok(report)
    }

    fn examine(&self, depth: Depth) -> Result<(Report, Vec<Audit>, Vec<Made>), Error> {
        let mut report = Report::default();
        match self.db()?.problems() {
            Ok(problems) => {
                let remedy = "move db.sqlite away and pull the images again: blobs and layers are found again";
                problems.iter().for_each(|p| report.damage("database", "db.sqlite", p, remedy, Cure::None));
            }
            Err(error) => report.damage("database", "db.sqlite", chain(&error), "", Cure::None),
        }
        if !report.findings.is_empty() {
            return Ok((report, Vec::new(), Vec::new()));
        }
        // What is looked at stays as long as this goes on.
        let _lease = self.content()?.lease()?;
        let here = self.snapshots()?.all()?;
        let _hold = self.snapshots()?.hold(&here)?;
        let (audits, made) = (self.images()?.audit()?, self.made()?);
        let spared = self.images()?.spared(&|layers| self.unpacked(layers))?;
        let seals = self.db()?.dropped().seals()?;
        let mut examination =
            Examination { host: self, depth, here, audits, made, report, bad: HashSet::new(), spared, seals };
        examination.run()?;
        Ok((examination.report, examination.audits, examination.made))
    }

    #[cfg(target_os = "linux")]
    fn made(&self) -> Result<Vec<Made>, Error> {
        let made = |container: crate::container::Container| {
            let record = container.record;
            Made { name: container.name, image: record.image_id, layers: record.layers }
        };
        Ok(self.containers()?.list().map_err(Box::new)?.into_iter().map(made).collect())
    }

    #[cfg(not(target_os = "linux"))]
    fn made(&self) -> Result<Vec<Made>, Error> {
        Ok(Vec::new())
    }
}

impl Examination<'_> {
    fn run(&mut self) -> Result<(), Error> {
        self.report.images = self.audits.len();
        self.report.containers = self.made.len();
        self.records();
        self.blobs()?;
        self.documents();
        self.layers()?;
        self.containers()?;
        self.code()?;
        self.leftovers()
    }

    fn records(&mut self) {
        for (at, audit) in self.audits.iter().enumerate() {
            if let Err(error) = &audit.read {
                let remedy = "forget the name (--repair --force)";
                self.report.damage("image", audit.shown(), chain(error), remedy, Cure::Row(at));
            }
        }
    }

    /// The parts that images need, with their sizes where they are told.
    fn wanted(&self) -> HashMap<Digest, Option<u64>> {
        let audited = self.audits.iter().filter_map(|audit| audit.read.as_ref().ok());
        let parts = audited.flat_map(|audited| &audited.parts);
        let size = |part: &Part| match part {
            Part::Document(digest) => (digest.clone(), None),
            Part::Blob(blob) => (blob.digest.clone(), Some(blob.size)),
        };
        parts.map(size).collect()
    }

    fn blobs(&mut self) -> Result<(), Error> {
        let content = self.host.content()?;
        let wanted = self.wanted();
        let mut all: Vec<Digest> = content.blobs()?;
        all.extend(wanted.keys().cloned());
        all.sort_unstable();
        all.dedup();
        let depth = self.depth;
        let fault = |digest: &Digest| {
            let dropped = self.spared.contains(digest) && !content.has(digest);
            if dropped { None } else { blob_fault(depth, content, digest, &wanted) }
        };
        let faults = in_parallel(&all, fault);
        let needed: HashSet<Digest> = wanted.keys().cloned().collect();
        for (digest, fault) in all.iter().zip(faults) {
            let Some(fault) = fault else { continue };
            // It was removed while we looked; or removed and fetched again, and then it is held since the first look.
            let gone = needed.contains(digest) && !self.is_needed(digest)?;
            let again = || self.spared_now(digest).is_ok_and(|spared| spared) && !content.has(digest);
            if gone || again() || blob_fault(depth, content, digest, &wanted).is_none() {
                continue;
            }
            self.bad.insert(digest.clone());
            let remedy = if needed.contains(digest) { "fetch it again from its registry" } else { "remove it" };
            self.report.damage("blob", digest, fault, remedy, Cure::Blob(digest.clone()));
        }
        self.report.blobs = all.len();
        Ok(())
    }

    /// Whether it has been dropped meanwhile.
    fn spared_now(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.host.images()?.spared(&|layers| self.host.unpacked(layers))?.contains(digest))
    }

    /// Whether a row that is still there needs it.
    fn is_needed(&self, digest: &Digest) -> Result<bool, Error> {
        for audit in needing(&self.audits, digest) {
            if self.host.images()?.still_has(audit)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rows and the documents that they were made of.
    fn documents(&mut self) {
        let Ok(images) = self.host.images() else { return };
        for audit in &self.audits {
            let Ok(audited) = &audit.read else { continue };
            if audited.parts.iter().any(|part| self.bad.contains(part.digest())) {
                continue; // that is told already
            }
            let still = || images.still_has(audit).unwrap_or(true);
            // Looked at twice, for the same reason as blobs.
            if let Some(problem) =
                images.disagreement(audit).filter(|_| still()).and_then(|_| images.disagreement(audit))
            {
                self.report.damage("image", audit.shown(), problem, "pull it again", Cure::None);
            }
        }
    }

    fn layers(&mut self) -> Result<(), Error> {
        let snapshots = self.host.snapshots()?;
        // Each layer once, with an image that has it and its place there.
        let mut known: BTreeMap<LayerId, (&crate::image::Image, usize)> = BTreeMap::new();
        for audited in self.audits.iter().filter_map(|audit| audit.read.as_ref().ok()) {
            let ids = LayerId::of_chain(audited.image.layers());
            known.extend(ids.into_iter().enumerate().map(|(at, id)| (id, (&audited.image, at))));
        }
        let here = &self.here;
        let content = self.host.content()?;
        let (depth, bad, seals) = (self.depth, &self.bad, &self.seals);
        let faults = in_parallel(here, |id| {
            let wanted = known.get(id);
            let below =
                wanted.and_then(|(image, at)| Some(LayerId::of_chain(image.layers()).swap_remove(at.checked_sub(1)?)));
            let quick = snapshots.look(id, wanted.map(|(image, at)| (&image.layers()[*at], below.as_ref())));
            match (quick, wanted) {
                (None, Some((image, at))) if depth == Depth::Whole => {
                    let blob = &image.layers()[*at].blob.digest;
                    match content.has(blob) {
                        true if bad.contains(blob) => None,
                        true => snapshots.compare(content, image.layers(), *at),
                        false => seal_fault(snapshots, id, seals.get(&id.to_string())),
                    }
                }
                (quick, _) => quick,
            }
        });
        self.report.layers = here.len();
        for (id, fault) in here.iter().zip(faults) {
            match fault {
                None | Some(Fault::Missing) => {}
                Some(fault) => {
                    self.report.damage("layer", id, fault, "unpack it again from its blob", Cure::Layer(id.clone()));
                }
            }
        }
        Ok(())
    }

    fn containers(&mut self) -> Result<(), Error> {
        let snapshots = self.host.snapshots()?;
        for made in &self.made {
            if let Some(id) = made.layers.iter().find(|id| !snapshots.has(id)) {
                // It may have been removed while we looked, and its layers with it.
                if !self.host.made()?.iter().any(|still| still.name == made.name && still.layers == made.layers) {
                    continue;
                }
                let problem = format!("its layer {id} is not there");
                let remedy = "unpack it again from its blob";
                self.report.damage("container", &made.name, problem, remedy, Cure::Layer(id.clone()));
            }
        }
        Ok(())
    }

    fn code(&mut self) -> Result<(), Error> {
        if self.depth == Depth::Whole {
            for name in wasm::damaged(&self.host.settings.root.join("cache/wasm"))? {
                let problem = "the compiled code is not what it was";
                self.report.damage("code", &name, problem, "remove it: it is compiled again", Cure::Code(name.clone()));
            }
        }
        Ok(())
    }

    /// What is left over: no damage, but somebody may want to know where the disk has gone.
    fn leftovers(&mut self) -> Result<(), Error> {
        let content = self.host.content()?;
        let partials = content.partials()?;
        if !partials.is_empty() {
            let bytes: u64 = partials.iter().map(|(_, size, _)| size).sum();
            let problem = format!("{} unfinished, {bytes} bytes", partials.len());
            self.report.note("download", "", problem, "the next pull goes on with them", Cure::None);
        }
        let (files, temporary) = (content.leftovers()?, self.host.snapshots()?.leftovers()?);
        if files > 0 || temporary.as_ref().is_some_and(|left| left.count > 0) {
            let layers = temporary.map_or(0, |left| left.count);
            let problem = format!("{files} files and {layers} directories were left by processes that were killed");
            self.report.note("leftover", "", problem, "remove them", Cure::Sweep);
        }
        // Rows that cannot be read may need anything.
        if self.audits.iter().all(|audit| audit.read.is_ok()) {
            let unneeded = self.unneeded()?;
            if unneeded > 0 {
                let problem = format!("{unneeded} blobs and layers belong to no image");
                self.report.note("leftover", "", problem, "remove them", Cure::Sweep);
            }
        }
        Ok(())
    }

    fn unneeded(&self) -> Result<usize, Error> {
        let blobs = self.host.images()?.unneeded()?;
        let needed = self.host.needed_layers()?;
        let layers = self.host.snapshots()?.all()?;
        Ok(blobs.len() + layers.iter().filter(|id| !needed.contains(*id)).count())
    }
}

/// What is wrong with a blob; nothing, if it has gone and nobody needs it.
fn blob_fault(
    depth: Depth,
    content: &crate::content::Store,
    digest: &Digest,
    wanted: &HashMap<Digest, Option<u64>>,
) -> Option<String> {
    if !content.has(digest) {
        return wanted.contains_key(digest).then(|| "it is not there".to_owned());
    }
    let size = match depth {
        Depth::Quick => content.size_of(digest),
        Depth::Whole => match content.verify(digest) {
            Ok(size) => Some(size),
            Err(error) => return Some(chain(&error)),
        },
    };
    match wanted.get(digest).copied().flatten().zip(size) {
        Some((wanted, size)) if wanted != size => Some(format!("it has {size} bytes instead of {wanted}")),
        _ => None,
    }
}

/// The rows that need this blob.
fn needing<'a>(audits: &'a [Audit], digest: &'a Digest) -> impl Iterator<Item = &'a Audit> {
    audits.iter().filter(move |audit| part_of(audit, digest).is_some())
}

fn part_of<'a>(audit: &'a Audit, digest: &Digest) -> Option<&'a Part> {
    audit.read.as_ref().ok()?.parts.iter().find(|part| part.digest() == digest)
}

/// What `look` says of each, in their order, from several threads.
fn in_parallel<T: Sync, R: Send>(items: &[T], look: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let answer = look(item);
                    answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, answer));
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    answers.sort_unstable_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Mending what was found.
struct Mending<'a> {
    host: &'a Host,
    repair: &'a Repair<'a>,
    audits: &'a [Audit],
    made: &'a [Made],
}

/// What came of mending one thing: done, or why not.
type Mended = Result<(), String>;

impl Mending<'_> {
    fn run(&mut self, report: &mut Report) -> Result<(), Error> {
        // Blobs before layers, which are made of them; what nobody needs last.
        let rank = |cure: &Cure| match cure {
            Cure::Code(_) | Cure::None => 0,
            Cure::Blob(_) => 1,
            Cure::Layer(_) => 2,
            Cure::Row(_) => 3,
            Cure::Sweep => 4,
        };
        report.findings.sort_by_key(|finding| rank(&finding.cure));
        let mut broken = Vec::new();
        for finding in &mut report.findings {
            let outcome = match &finding.cure {
                Cure::None => continue,
                Cure::Code(name) => self.code(name),
                Cure::Blob(digest) => self.blob(digest, &mut broken),
                Cure::Layer(id) => self.layer(id),
                Cure::Row(at) => self.forget(*at),
                Cure::Sweep => self.sweep(),
            };
            finding.mended = outcome.is_ok();
            if let Err(why) = outcome {
                finding.remedy = why;
            }
        }
        self.forget_broken(&broken, report);
        Ok(())
    }

    fn code(&self, name: &str) -> Mended {
        wasm::discard(&self.host.settings.root.join("cache/wasm"), &[name.to_owned()]).map_err(|error| chain(&error))
    }

    /// Removes a blob that is damaged, and fetches it from the registries of the images that need it, in turn.
    fn blob(&self, digest: &Digest, broken: &mut Vec<Digest>) -> Mended {
        let failed = |error: &dyn Failure| chain(error);
        let (content, images) =
            (self.host.content().map_err(|e| failed(&e))?, self.host.images().map_err(|e| failed(&e))?);
        content.remove_damaged(digest).map_err(|e| failed(&e))?;
        let mut needing = needing(self.audits, digest).peekable();
        if needing.peek().is_none() {
            return Ok(());
        }
        let mut why = "no image that needs it has a name in a registry".to_owned();
        for audit in needing {
            let Some((reference, part)) = audit.reference().zip(part_of(audit, digest)) else { continue };
            match self.repair.runtime.block_on(images.fetch_again(self.host.registry(), &reference, part)) {
                Ok(()) => return Ok(()),
                Err(error) => why = format!("it cannot be fetched again: {}", chain(&error)),
            }
        }
        broken.push(digest.clone());
        Err(why)
    }

    /// Removes a layer and unpacks it again, unless somebody has it in use.
    fn layer(&self, id: &LayerId) -> Mended {
        if let Some(made) =
            self.made.iter().find(|made| made.layers.contains(id) && self.host.snapshots().is_ok_and(|s| s.has(id)))
        {
            return Err(format!("the container {} is made of it: remove that first", made.name));
        }
        let failed = |error: &dyn Failure| chain(error);
        let snapshots = self.host.snapshots().map_err(|e| failed(&e))?;
        let _lease = self.bring_back(id).map_err(|e| failed(&e))?;
        let removed = snapshots.remove_damaged(std::slice::from_ref(id), &HashSet::new()).map_err(|e| failed(&e))?;
        if removed.is_empty() {
            return Err("it is in use at this moment: once more later".to_owned());
        }
        let images = self.audits.iter().filter_map(|audit| Some(&audit.read.as_ref().ok()?.image));
        let Some(image) = images.into_iter().find(|image| LayerId::of_chain(image.layers()).contains(id)) else {
            let needed = self.made.iter().any(|made| made.layers.contains(id));
            return if needed { Err("no image has it any more".to_owned()) } else { Ok(()) };
        };
        self.host.unpack(image.layers(), &()).map(drop).map_err(|e| failed(&e))
    }

    /// Fetches the blobs that a layer and those below it are made of, as far as they were dropped and are needed.
    fn bring_back(&self, id: &LayerId) -> Result<Lease, Error> {
        let lease = self.host.content()?.lease()?;
        let images = self.audits.iter().filter_map(|audit| Some(&audit.read.as_ref().ok()?.image));
        for image in images {
            let ids = LayerId::of_chain(image.layers());
            if !ids.contains(id) {
                continue;
            }
            let missing = |other: &LayerId| other == id || !self.host.snapshots().is_ok_and(|s| s.has(other));
            let layers = ids.iter().zip(image.layers()).filter(|(other, _)| missing(other));
            let blobs: Vec<_> = layers.map(|(_, layer)| layer.blob.clone()).collect();
            self.host.bring_back(self.repair.runtime, &blobs, &Silent, &lease)?;
            break;
        }
        Ok(lease)
    }

    fn forget(&self, at: usize) -> Mended {
        if !self.repair.force {
            return Err("its name is kept; --force forgets it".to_owned());
        }
        let images = self.host.images().map_err(|error| chain(&error))?;
        images.forget(&self.audits[at]).map_err(|error| chain(&error))
    }

    fn sweep(&self) -> Mended {
        let sweep = || -> Result<(), Error> {
            self.host.content()?.tidy();
            self.host.images()?.collect()?;
            self.host.sweep_layers()?;
            self.host.sweep_code()
        };
        sweep().map_err(|error| chain(&error))
    }

    /// Images whose blobs cannot be had any more keep their names, unless that is forced and no container is made of them.
    fn forget_broken(&self, broken: &[Digest], report: &mut Report) {
        for (at, audit) in self.audits.iter().enumerate() {
            let Ok(audited) = &audit.read else { continue };
            let lost = |part: &Part| broken.contains(part.digest());
            let used = self.made.iter().any(|made| made.image == *audited.image.id());
            if !audited.parts.iter().any(lost) {
                continue;
            }
            let outcome = if used { Err("a container is made of it".to_owned()) } else { self.forget(at) };
            let mended = outcome.is_ok();
            let remedy = outcome.err().unwrap_or_else(|| "forgotten".to_owned());
            report.damage("image", audit.shown(), "it is not complete", &remedy, Cure::None);
            if let Some(finding) = report.findings.last_mut() {
                finding.mended = mended;
            }
            if mended {
                let lost = |id: &str| broken.iter().any(|digest| digest.as_str() == id);
                report.findings.iter_mut().filter(|f| lost(&f.id)).for_each(|f| f.mended = true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(in_parallel(&items, |item| item * 2), items.iter().map(|item| item * 2).collect::<Vec<_>>());
    }
}
