//! From blobs to a [`Chain`]: several layers at once, each at most once, also between processes.
//!
//! ```text
//! per layer   missing ─► claimed (lock on tmp/<id>.lock) ─► unpacked in tmp/<id>/ ─► ready
//! per batch   all ready ─► one flush of the filesystem ─► renamed base first ─► directory flushed
//! ```
//!
//! Claims are held until the batch is committed, and taken base first, one after the other: who waits for
//! a layer that another process unpacks holds claims on layers below it only, and an id names all that is
//! below, so that all processes agree on what is below. Within a batch a layer waits for those below it.
//! Every wait goes downwards: no circle.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use crate::oci::{Digest, ImageConfig, Layer, LayerFormat};
use crate::sys::dir::Dir;
use crate::sys::lease::Lease;
use crate::sys::lock::FileLock;
use crate::{content, sys};

use super::chain::{Chain, Hold, LayerId};
use super::decompress::{self, Limits};
use super::error::Error;
use super::mark::Marks;
use super::meta::Powers;
use super::store::{LayerRecord, Store, failed, make_private_dir, rename, sync_dir, write_file};
use super::tar::{self, Reader};
use super::unpack::{self, Report};
use super::view::View;

/// How many layers are unpacked before they are flushed and committed together. Bounds the locks held,
/// and what a crash costs.
pub const BATCH: usize = 64;

/// The most layers unpacked at the same time; more wait for the same disk.
const MAX_WORKERS: usize = 8;

/// Hears how unpacking goes, from several threads.
pub trait Progress: Sync {
    /// `bytes` of the layer's archive have come out so far.
    fn unpacking(&self, _layer: &Layer, _bytes: u64) {}

    /// The layer is there; `fresh` unless it was before.
    fn unpacked(&self, _layer: &Layer, _fresh: bool) {}
}

/// For who does not want to hear.
impl Progress for () {}

/// A layer's blob as it comes: from the disk, or still on its way.
pub struct Source {
    /// Its bytes, compressed or not. An error of reading is the layer's.
    pub bytes: Box<dyn Read + Send>,
    /// How many there are to be.
    pub size: u64,
}

/// Opens a layer's blob.
type Open<'a> = dyn Fn(&Layer) -> Result<Source, Error> + Sync + 'a;

impl Store {
    /// Makes sure that all layers, base first, are unpacked.
    pub fn unpack(&self, content: &content::Store, layers: &[Layer], progress: &dyn Progress) -> Result<Chain, Error> {
        let open = |layer: &Layer| {
            let digest = &layer.blob.digest;
            let failed = |source| Error::Blob { digest: digest.clone(), source: Box::new(source) };
            let file = content.open_blob(digest).map_err(failed)?;
            Ok(Source { bytes: Box::new(file), size: layer.blob.size })
        };
        self.unpack_from(&open, layers, progress)
    }

    /// The same with blobs from wherever `open` has them; it may wait for one that is still on its way.
    /// Layers are asked for base first, each from a thread of its own.
    pub fn unpack_from(&self, open: &Open<'_>, layers: &[Layer], progress: &dyn Progress) -> Result<Chain, Error> {
        let lock = self.lock_path();
        let hold = FileLock::shared(&lock).map_err(|e| failed("lock", &lock, e))?;
        let ids = LayerId::of_chain(layers);
        let dirs: Vec<PathBuf> = ids.iter().map(|id| self.diff_path(id)).collect();
        let first_missing = dirs.iter().position(|dir| !dir.is_dir()).unwrap_or(dirs.len());
        for layer in &layers[..first_missing] {
            progress.unpacked(layer, false);
        }
        if first_missing == layers.len() {
            return Ok(Chain { ids, dirs, _hold: Arc::new(Hold::Moment(hold)) });
        }
        let marks = self.marks()?;
        let lease = self.lease(ids.iter().map(LayerId::file_name))?;
        // From here on others may be removed.
        drop(hold);
        for start in (first_missing..layers.len()).step_by(BATCH) {
            let end = layers.len().min(start + BATCH);
            let batch = Batch {
                store: self,
                marks,
                open,
                progress,
                layers,
                ids: &ids,
                dirs: &dirs,
                start,
                end,
                next: Mutex::new(start),
                states: Mutex::new((start..end).map(|_| State::Pending).collect()),
                changed: Condvar::new(),
            };
            batch.run()?;
        }
        Ok(Chain { ids, dirs, _hold: Arc::new(Hold::Lease(lease)) })
    }

    /// Keeps these layers, and what is temporary of them, from being removed.
    pub(super) fn lease<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Lease, Error> {
        let leases = self.leases();
        let held = leases.take().and_then(|lease| lease.hold(names).map(|()| lease));
        held.map_err(|e| failed("hold layers in", self.root(), e))
    }
}

/// How far a layer is.
enum State {
    Pending,
    /// Its files are at this path, which may still be a temporary one.
    Ready(PathBuf, Option<Claim>),
    Failed(Option<Error>),
}

/// The right to unpack a layer, until dropped.
struct Claim {
    /// `tmp/<id>`
    dir: PathBuf,
    lock_path: PathBuf,
    _lock: FileLock,
}

/// Some layers of a chain, being unpacked.
struct Batch<'a> {
    store: &'a Store,
    marks: Marks,
    open: &'a Open<'a>,
    progress: &'a dyn Progress,
    layers: &'a [Layer],
    ids: &'a [LayerId],
    dirs: &'a [PathBuf],
    start: usize,
    end: usize,
    /// The next layer to claim. Held while waiting for the claim, which keeps claims in order.
    next: Mutex<usize>,
    /// Of the layers from `start` on.
    states: Mutex<Vec<State>>,
    changed: Condvar,
}

impl Batch<'_> {
    fn run(self) -> Result<(), Error> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = processors.min(MAX_WORKERS).min(self.end - self.start);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| self.work());
            }
        });
        self.commit()
    }

    /// Takes one layer after the other, in order: what a layer waits for has always been taken before.
    fn work(&self) {
        while let Some((at, claim)) = self.claim_next() {
            let state = match claim.and_then(|claim| self.prepare(at, claim)) {
                Ok((path, claim)) => State::Ready(path, claim),
                Err(Error::Below) => State::Failed(None),
                Err(error) => State::Failed(Some(self.named(at, error))),
            };
            self.states()[at - self.start] = state;
            self.changed.notify_all();
        }
    }

    fn claim_next(&self) -> Option<(usize, Result<Claim, Error>)> {
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = *next;
        *next += 1;
        (at < self.end).then(|| (at, self.claim(&self.ids[at])))
    }

    fn named(&self, at: usize, error: Error) -> Error {
        let diff_id = self.layers[at].diff_id.clone();
        Error::Layer { number: at + 1, diff_id, source: Box::new(error) }
    }

    fn states(&self) -> std::sync::MutexGuard<'_, Vec<State>> {
        // A worker that panicked takes the whole scope down; the states are whole in any case.
        self.states.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Unpacks one layer, unless it is there.
    fn prepare(&self, at: usize, claim: Claim) -> Result<(PathBuf, Option<Claim>), Error> {
        if self.dirs[at].is_dir() {
            claim.release();
            self.progress.unpacked(&self.layers[at], false);
            return Ok((self.dirs[at].clone(), None));
        }
        match self.unpack_claimed(at, &claim) {
            Ok(()) => Ok((claim.dir.join("diff"), Some(claim))),
            Err(error) => {
                claim.discard()?;
                Err(error)
            }
        }
    }

    fn unpack_claimed(&self, at: usize, claim: &Claim) -> Result<(), Error> {
        let report = self.unpack(at, claim.fresh_root()?)?;
        let parent = at.checked_sub(1).map(|below| self.ids[below].clone());
        let record = LayerRecord::new(self.layers[at].diff_id.clone(), parent, report.entries, report.bytes);
        let json = serde_json::to_vec(&record).expect("plain data serialises");
        write_file(&claim.dir.join("layer.json"), &json)?;
        self.progress.unpacked(&self.layers[at], true);
        Ok(())
    }

    fn claim(&self, id: &LayerId) -> Result<Claim, Error> {
        let tmp = self.store.tmp()?;
        let lock_path = tmp.join(format!("{}.lock", id.file_name()));
        let lock = FileLock::exclusive(&lock_path).map_err(|e| failed("lock", &lock_path, e))?;
        Ok(Claim { dir: tmp.join(id.file_name()), lock_path, _lock: lock })
    }

    fn unpack(&self, at: usize, root: Dir) -> Result<Report, Error> {
        let layer = &self.layers[at];
        let blob = (self.open)(layer)?;
        let on_progress = |bytes| self.progress.unpacking(layer, bytes);
        match layer.format {
            LayerFormat::Tar(_) => {
                let below = || self.below(at);
                archive(root, blob, layer, self.marks, self.store.powers(), &below, &on_progress)
            }
            LayerFormat::Wasm => wasm(&root, blob, layer, self.store.powers()),
        }
    }

    /// The layers below layer `at`, when they are all there.
    fn below(&self, at: usize) -> Result<View, Error> {
        let mut paths = self.dirs[..self.start].to_vec();
        let mut states = self.states();
        for below in 0..at - self.start {
            loop {
                match &states[below] {
                    State::Ready(path, _) => break paths.push(path.clone()),
                    State::Failed(_) => return Err(Error::Below),
                    State::Pending => {
                        states = self.changed.wait(states).unwrap_or_else(std::sync::PoisonError::into_inner);
                    }
                }
            }
        }
        Ok(View::new(&paths, self.marks))
    }

    /// Makes visible what was unpacked, up to the first layer that failed.
    fn commit(self) -> Result<(), Error> {
        let states = self.states.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let root = self.store.root();
        if states.iter().any(|state| matches!(state, State::Ready(_, Some(_)))) {
            Dir::open(root).and_then(|dir| dir.sync_filesystem()).map_err(|e| failed("flush", root, e))?;
        }
        let mut failure = None;
        for (state, id) in states.into_iter().zip(&self.ids[self.start..]) {
            match state {
                State::Ready(_, Some(claim)) if failure.is_none() => claim.commit(&self.store.layer_path(id))?,
                State::Failed(Some(error)) => failure = failure.or(Some(error)),
                State::Ready(..) | State::Failed(None) | State::Pending => {}
            }
        }
        sync_dir(root)?;
        failure.map_or(Ok(()), Err)
    }
}

impl Claim {
    /// The empty directory for the layer's files. What a crash left there is removed.
    fn fresh_root(&self) -> Result<Dir, Error> {
        self.discard()?;
        let fail = |e| failed("prepare", &self.dir, e);
        let diff = self.dir.join("diff");
        make_private_dir(&diff)?;
        let root = Dir::open(&diff).map_err(fail)?;
        // Without a group or an ACL that files would inherit, should the store's own directory have them.
        root.set_own_mode(0o700).map_err(fail)?;
        root.forget_default_acl().map_err(fail)?;
        Ok(root)
    }

    fn commit(self, to: &std::path::Path) -> Result<(), Error> {
        rename(&self.dir, to)?;
        self.release();
        Ok(())
    }

    /// Removes what was unpacked. The lock's file stays: who waits for it and who comes later must
    /// meet at the same one.
    fn discard(&self) -> Result<(), Error> {
        let (tmp, name) = (self.dir.parent().expect("in tmp/"), self.dir.file_name().expect("an id"));
        Dir::open(tmp).and_then(|tmp| tmp.remove_tree(name)).map_err(|e| failed("remove", &self.dir, e))
    }

    /// Ends the claim of a layer that is there. Who waits for the lock's file finds the layer, so the file can
    /// go; if it cannot be removed, the next sweep gets it.
    fn release(self) {
        fs::remove_file(&self.lock_path).ok();
    }
}

/// Unpacks one layer into the empty directory `root`, wherever that is.
pub(super) fn unpack_into(
    root: Dir,
    blob: Source,
    layer: &Layer,
    marks: Marks,
    powers: Powers,
    below: &dyn Fn() -> Result<View, Error>,
) -> Result<Report, Error> {
    match layer.format {
        LayerFormat::Tar(_) => archive(root, blob, layer, marks, powers, below, &|_| {}),
        LayerFormat::Wasm => wasm(&root, blob, layer, powers),
    }
}

fn archive(
    root: Dir,
    blob: Source,
    layer: &Layer,
    marks: Marks,
    powers: Powers,
    below: &dyn Fn() -> Result<View, Error>,
    on_progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, Error> {
    std::thread::scope(|scope| {
        let hasher = layer.diff_id.hasher();
        let (archive, pump) = decompress::start(scope, blob, hasher, Limits::default(), on_progress);
        let mut reader = Reader::new(archive);
        let report = unpack::unpack(root, &mut reader, marks, powers, below)?;
        let mut rest = reader.into_input();
        let at = rest.taken();
        rest.drain().map_err(|source| Error::Archive { source: tar::Error::Read { at, source } })?;
        drop(rest);
        let actual = pump.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        check_digest(layer, actual)?;
        Ok(report)
    })
}

fn check_digest(layer: &Layer, actual: Option<Digest>) -> Result<(), Error> {
    match actual {
        Some(actual) if actual == layer.diff_id => Ok(()),
        Some(actual) => Err(Error::DiffId { expected: layer.diff_id.clone(), actual }),
        // Only when the reader stopped before the end, which drain() rules out.
        None => Err(Error::Below),
    }
}

/// A layer that is one WebAssembly binary becomes the file that the image's entry point names.
fn wasm(root: &Dir, mut blob: Source, layer: &Layer, powers: Powers) -> Result<Report, Error> {
    let entry = ImageConfig::WASM_ENTRY.trim_start_matches('/');
    let write = |source| Error::Write { entry: entry.into(), source };
    let file = root.make_file(OsStr::new(entry), 0o644).map_err(write)?;
    let mut hasher = layer.diff_id.hasher();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let read = sys::named(blob.bytes.read(&mut buffer), || "read(blob)".into()).map_err(write)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        sys::named(std::io::Write::write_all(&mut &file, &buffer[..read]), || "write()".into()).map_err(write)?;
        bytes += read as u64;
    }
    check_digest(layer, Some(hasher.finish()))?;
    let meta = super::meta::Meta { mode: 0o644, ..super::meta::Meta::implied() };
    meta.put_on_new_file(&file, powers).map_err(write)?;
    super::meta::Meta::implied().put_on_dir(root, powers).map_err(write)?;
    Ok(Report { entries: 1, bytes })
}
