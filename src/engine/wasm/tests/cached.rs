//! Compiled code on disk: compiled once, believed only when whole, written by nobody else.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

struct Place {
    directory: tempfile::TempDir,
    source: Source,
}

impl Place {
    fn new() -> Self {
        let module = "(module (func (export \"_start\")))";
        Self { directory: tempfile::tempdir().unwrap(), source: Source::try_from(wat(module)).unwrap() }
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("wasm")
    }

    fn compile(&self) -> Result<Compiled, Error> {
        compile_here(&self.cache(), &self.source)
    }

    fn entry(&self) -> PathBuf {
        let mut entries = std::fs::read_dir(self.cache()).unwrap().map(|entry| entry.unwrap().path());
        let entry = entries.next().expect("an entry");
        assert_eq!(entries.next(), None, "a second entry");
        entry
    }

    /// Runs the program from what is in the cache now, whatever that is.
    fn runs(&self) {
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
        let stdio = Stdio { stdin: null(), stdout: null(), stderr: null() };
        let program = load(self.compile().unwrap()).unwrap();
        assert_eq!(run_with(program, Invocation::default(), stdio).unwrap(), 0);
    }
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

#[test]
fn a_program_is_compiled_once() {
    let place = Place::new();
    assert!(lookup(&place.cache(), &place.source).unwrap().is_none());
    place.compile().unwrap();
    let entry = place.entry();
    let first = inode(&entry);
    assert!(lookup(&place.cache(), &place.source).unwrap().is_some());
    place.compile().unwrap();
    assert_eq!((place.entry(), inode(&entry)), (entry.clone(), first));
    assert_eq!(std::fs::metadata(&entry).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_damaged_is_compiled_again() {
    let place = Place::new();
    place.compile().unwrap();
    let entry = place.entry();
    let good = std::fs::read(&entry).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damages = [
        ("empty", vec![]),
        ("truncated", good[..good.len() / 2].to_vec()),
        ("without its last byte", good[..good.len() - 1].to_vec()),
        ("longer", [&good[..], b"x"].concat()),
        ("zeroed", vec![0; good.len()]),
        ("changed in the middle", flipped(good.len() / 2)),
        ("changed at the start", flipped(0)),
        ("changed in the trailer", flipped(good.len() - 40)),
    ];
    for (what, bytes) in damages {
        std::fs::write(&entry, &bytes).unwrap();
        assert!(lookup(&place.cache(), &place.source).unwrap().is_none(), "{what}: accepted");
        place.runs();
        assert_eq!(std::fs::read(&entry).unwrap().len(), good.len(), "{what}: not written again");
    }
}

#[test]
fn another_programs_code_under_our_name_is_not_taken() {
    let (place, other) = (Place::new(), Place::new());
    place.compile().unwrap();
    let source = Source::try_from(wat("(module (func (export \"_start\") unreachable))")).unwrap();
    compile_here(&other.cache(), &source).unwrap();
    std::fs::copy(other.entry(), place.entry()).unwrap();
    assert!(lookup(&place.cache(), &place.source).unwrap().is_none());
    place.runs();
}

#[test]
fn an_entry_that_others_can_write_is_refused() {
    let place = Place::new();
    place.compile().unwrap();
    let entry = place.entry();
    std::fs::set_permissions(&entry, PermissionsExt::from_mode(0o666)).unwrap();
    assert!(matches!(place.compile(), Err(Error::Cache { .. })));
    let elsewhere = place.directory.path().join("elsewhere");
    std::fs::set_permissions(&entry, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&entry, &elsewhere).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    assert!(matches!(place.compile(), Err(Error::Cache { .. })));
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let place = Place::new();
    std::fs::create_dir(place.cache()).unwrap();
    std::fs::set_permissions(place.cache(), PermissionsExt::from_mode(0o777)).unwrap();
    let error = place.compile().unwrap_err();
    assert_eq!(error.kind(), FailureKind::PermissionDenied);
    assert!(error.to_string().contains(&*place.cache().to_string_lossy()));
}

#[test]
fn compiled_code_outlives_its_path() {
    let place = Place::new();
    let compiled = place.compile().unwrap();
    std::fs::remove_dir_all(place.cache()).unwrap();
    let kind = compiled.kind();
    let inherited = Compiled::inherited(compiled.into_file().into()).unwrap();
    assert_eq!(inherited.kind(), kind);
    load(inherited).unwrap();
}

#[test]
fn only_compiled_code_can_be_inherited() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0; 1000]).unwrap();
    assert!(matches!(Compiled::inherited(file.into()), Err(Error::Load { .. })));
    assert!(matches!(Compiled::inherited(File::open("/dev/null").unwrap().into()), Err(Error::Load { .. })));
}

#[test]
fn a_file_that_was_seen_is_known_again_until_it_changes() {
    let place = Place::new();
    let old = Identity::of(&File::open("/bin/sh").unwrap()).unwrap();
    assert!(old.is_settled() && recall(&place.cache(), &old).unwrap().is_none());
    remember(&place.cache(), &old, &place.compile().unwrap()).unwrap();
    let known = recall(&place.cache(), &old).unwrap().expect("remembered");
    assert_eq!(known.kind(), place.source.kind());
    load(known).unwrap();

    let path = place.directory.path().join("program");
    let of = || Identity::of(&File::open(&path).unwrap()).unwrap();
    std::fs::write(&path, "one").unwrap();
    let new = of();
    remember(&place.cache(), &new, &place.compile().unwrap()).unwrap();
    assert!(recall(&place.cache(), &new).unwrap().is_none(), "what changes now may change again unseen");
    std::fs::write(&path, "longer").unwrap();
    assert_ne!(of(), new);
    assert_eq!(Identity::of(&File::open("/dev/null").unwrap()), None);
}

#[test]
fn a_file_is_known_by_code_that_is_whole() {
    let place = Place::new();
    let old = Identity::of(&File::open("/bin/sh").unwrap()).unwrap();
    let compiled = place.compile().unwrap();
    let entry = place.entry();
    remember(&place.cache(), &old, &compiled).unwrap();
    let half = std::fs::metadata(&entry).unwrap().len() / 2;
    File::options().write(true).open(&entry).unwrap().set_len(half).unwrap();
    assert!(recall(&place.cache(), &old).unwrap().is_none());
    remember(&place.cache(), &old, &place.compile().unwrap()).unwrap();
    assert!(recall(&place.cache(), &old).unwrap().is_some(), "the name is of the new code");
}

#[test]
fn many_may_compile_the_same_at_once() {
    let place = Place::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| place.runs());
        }
    });
    place.entry();
}
