//! The directories that a program is given, and everything that it is not.
//!
//! Each case runs the module and the component; a preopened directory is the same thing for both, but
//! the calls reach it on different ways.

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

/// A directory given to the program as `/w` (writable), another as `/r` (read-only), and next to them
/// what it must not reach.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        for directory in ["given", "given/sub", "readonly", "readonly/sub", "readonly/empty", "outside"] {
            std::fs::create_dir(place.path(directory)).unwrap();
        }
        std::fs::write(place.path("given/file"), "given\n").unwrap();
        std::fs::write(place.path("readonly/file"), "readonly\n").unwrap();
        std::fs::write(place.path("readonly/sub/deep"), "deep\n").unwrap();
        std::fs::write(place.path("outside/secret"), "secret\n").unwrap();
        std::fs::write(place.path("secret"), "secret\n").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn invocation(&self, args: &[&str]) -> Invocation {
        let preopen =
            |host: &str, guest: &str, readonly| Preopen { host: self.path(host), guest: guest.into(), readonly };
        let preopens = vec![preopen("given", "/w", false), preopen("readonly", "/r", true)];
        Invocation { preopens, ..invocation(args) }
    }

    /// What the probe says when it is asked to do `args`.
    fn asked(&self, bytes: &[u8], args: &[&str]) -> String {
        let ran = run_bytes(bytes, self.invocation(args), b"");
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{args:?}");
        ran.out().into()
    }

    /// Everything below the root: names, kinds, contents, link targets, times.
    fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.root.path().to_owned()];
        while let Some(path) = left.pop() {
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            } else if metadata.is_symlink() {
                std::fs::read_link(&path).unwrap().display().to_string()
            } else {
                std::fs::read_to_string(&path).unwrap()
            };
            let (mode, links, modified) = (metadata.mode(), metadata.nlink(), metadata.mtime_nsec());
            found.insert(path, format!("{mode:o} {links} {}.{modified} {content}", metadata.mtime()));
        }
        found
    }
}

#[test]
fn a_directory_that_is_given_can_be_used() {
    for bytes in both() {
        let place = Place::new();
        let asked = |args: &[&str]| place.asked(&bytes, args);
        assert_eq!(asked(&["read", "/w/file"]), "given\n");
        assert_eq!(asked(&["read", "/r/sub/deep"]), "deep\n");
        assert_eq!(asked(&["write", "/w/new", "text"]), "ok\n");
        assert_eq!(asked(&["append", "/w/new", " more"]), "ok\n");
        assert_eq!(std::fs::read_to_string(place.path("given/new")).unwrap(), "text more");
        assert_eq!(asked(&["mkdir", "/w/dir"]), "ok\n");
        assert_eq!(asked(&["rename", "/w/new", "/w/dir/moved"]), "ok\n");
        assert_eq!(asked(&["link", "/w/dir/moved", "/w/dir/second"]), "ok\n");
        assert_eq!(asked(&["symlink", "moved", "/w/dir/third"]), "ok\n");
        assert_eq!(asked(&["readlink", "/w/dir/third"]), "moved\n");
        assert_eq!(asked(&["read", "/w/dir/third"]), "text more");
        assert_eq!(asked(&["truncate", "/w/dir/moved"]), "ok\n");
        for name in ["moved", "second", "third"] {
            assert_eq!(asked(&["unlink", &format!("/w/dir/{name}")]), "ok\n");
        }
        assert_eq!(asked(&["rmdir", "/w/dir"]), "ok\n");
        assert_eq!(asked(&["mkdir", "/w/dir"]), "ok\n");
        assert_eq!(asked(&["rmdir", "/w/file/"]), "ENOTDIR\n");
        assert_eq!(asked(&["rmdir", "/w/dir/"]), "ok\n");
        let mut listed: Vec<String> = asked(&["list", "/w"]).lines().map(String::from).collect();
        listed.sort();
        assert_eq!(listed, [".", "..", "file", "sub"]);
    }
}

/// Nothing outside of what was given can be read, listed, changed or found out.
#[test]
fn there_is_no_way_out() {
    for bytes in both() {
        let place = Place::new();
        symlink("../outside", place.path("given/up")).unwrap();
        symlink("../outside/secret", place.path("given/up-file")).unwrap();
        symlink(place.path("outside"), place.path("given/absolute")).unwrap();
        symlink("/etc/passwd", place.path("given/passwd")).unwrap();
        symlink("/", place.path("given/root")).unwrap();
        symlink("..", place.path("given/sub/twice")).unwrap();
        symlink("sub/twice/..", place.path("given/chain")).unwrap();
        symlink("loop", place.path("given/loop")).unwrap();
        let before = place.snapshot();
        let absolute = place.path("outside/secret").display().to_string();
        let files = [
            "/w/../secret",
            "/w/../outside/secret",
            "/w/sub/../../secret",
            "/w/sub/../../outside/secret",
            "/w/./../secret",
            "/w/..//secret",
            "/w/up/secret",
            "/w/up-file",
            "/w/absolute/secret",
            "/w/passwd",
            "/w/root/etc/passwd",
            "/w/sub/twice/../secret",
            "/w/chain/secret",
            "/w/loop",
            "/etc/passwd",
            "/proc/self/environ",
            "/dev/null",
            "secret",
            "../secret",
            "/secret",
            &absolute,
            "/w/sub/../../../../../../../../etc/passwd",
            "/w/up/../secret",
        ];
        for file in files {
            for what in ["read", "stat", "open-write", "open-create", "truncate"] {
                let said = place.asked(&bytes, &[what, file]);
                assert!(said.starts_with('E'), "{what} {file}: {said}");
            }
            // These two may work on a link in the directory itself, never on where it leads.
            for what in ["unlink", "times"] {
                place.asked(&bytes, &[what, file]);
            }
        }
        for directory in
            ["/w/..", "/w/../outside", "/w/up", "/w/up/", "/w/absolute", "/w/root", "/w/chain", "/", "..", "/proc"]
        {
            for what in ["list", "open-directory"] {
                let said = place.asked(&bytes, &[what, directory]);
                assert!(said.starts_with('E'), "{what} {directory}: {said}");
            }
            let inside = format!("{directory}/made");
            for what in ["mkdir", "open-create"] {
                assert!(place.asked(&bytes, &[what, &inside]).starts_with('E'), "{what} {inside}");
            }
        }
        let outside = |mut all: BTreeMap<PathBuf, String>| {
            all.retain(|path, _| !path.starts_with(place.path("given")));
            all
        };
        assert_eq!(outside(place.snapshot()), outside(before));
    }
}

/// The names that `rename`, `link` and `symlink` take lead nowhere else either.
#[test]
fn nothing_is_moved_or_linked_out_or_in() {
    for bytes in both() {
        let place = Place::new();
        symlink("../outside", place.path("given/up")).unwrap();
        let before = place.snapshot();
        let absolute = place.path("outside/secret").display().to_string();
        let moves = [
            ("rename", "/w/file", "/w/../stolen"),
            ("rename", "/w/file", "/w/up/stolen"),
            ("rename", "/w/file", "/w/sub/../../stolen"),
            ("rename", "/w/../secret", "/w/stolen"),
            ("rename", "/w/up/secret", "/w/stolen"),
            ("link", "/w/../secret", "/w/stolen"),
            ("link", "/w/up/secret", "/w/stolen"),
            ("link", "/w/file", "/w/up/stolen"),
            ("link", "/w/file", "/w/../stolen"),
            ("link", &absolute, "/w/stolen"),
            ("symlink", "file", "/w/../stolen"),
            ("symlink", "file", "/w/up/stolen"),
            ("symlink", &absolute, "/w/stolen"),
            ("symlink", "/etc/passwd", "/w/stolen"),
        ];
        for (what, from, to) in moves {
            let said = place.asked(&bytes, &[what, from, to]);
            assert!(said.starts_with('E'), "{what} {from} {to}: {said}");
        }
        assert_eq!(place.snapshot(), before);
    }
}

/// A slash at the end of a path or of a link's target once led out of the directory (GHSA-vqjp).
#[test]
fn a_slash_at_the_end_leads_nowhere() {
    for bytes in both() {
        let place = Place::new();
        for (name, target) in
            [("x", ".."), ("x2", "../"), ("x3", "../outside/"), ("x4", "sub/../../outside/"), ("x5", "x")]
        {
            // The program may make such links itself, where the engine lets it.
            place.asked(&bytes, &["symlink", target, &format!("/w/{name}")]);
            place.asked(&bytes, &["symlink", target, &format!("/w/{name}/")]);
            std::fs::remove_file(place.path("given").join(name)).ok();
            symlink(target, place.path("given").join(name)).unwrap();
            for path in [format!("/w/{name}/"), format!("/w/{name}//"), format!("/w/{name}/."), format!("/w/{name}/./")]
            {
                for what in ["list", "open-directory", "open-read"] {
                    let said = place.asked(&bytes, &[what, &path]);
                    assert!(said.starts_with('E'), "{what} {path} -> {target}: {said}");
                }
                for below in ["secret", "outside/secret", "secret/"] {
                    let said = place.asked(&bytes, &["read", &format!("{path}{below}")]);
                    assert!(said.starts_with('E'), "read {path}{below} -> {target}: {said}");
                }
            }
        }
        assert_eq!(place.asked(&bytes, &["open-directory", "/w/sub/"]), "ok\n");
        assert!(place.asked(&bytes, &["open-read", "/w/file/"]).starts_with('E'));
    }
}

/// Every call that changes something, on a read-only directory beside a writable one (GHSA-4ch3,
/// GHSA-2r75): refused, and no byte on the host differs.
#[test]
fn a_read_only_directory_stays_as_it_is() {
    let denied: &[&[&str]] = &[
        &["write", "/r/file", "x"],
        &["write", "/r/new", "x"],
        &["append", "/r/file", "x"],
        &["open-write", "/r/file"],
        &["open-both", "/r/file"],
        &["open-truncate", "/r/file"],
        &["open-create", "/r/new"],
        &["write-through-reader", "/r/file"],
        &["truncate-through-reader", "/r/file"],
        &["times-through-reader", "/r/file"],
        &["allocate-through-reader", "/r/file"],
        &["truncate", "/r/file"],
        &["times", "/r/file"],
        &["times", "/r/sub"],
        &["times", "/r"],
        &["mkdir", "/r/new"],
        &["mkdir", "/r/sub/new"],
        &["rmdir", "/r/empty"],
        &["unlink", "/r/file"],
        &["unlink", "/r/sub/deep"],
        &["symlink", "file", "/r/new"],
        &["symlink", "file", "/r/sub/new"],
        &["rename", "/r/file", "/r/new"],
        &["rename", "/r/file", "/w/stolen"],
        &["rename", "/w/file", "/r/new"],
        &["rename", "/w/file", "/r/file"],
        &["rename", "/r/sub/deep", "/w/stolen"],
        &["rename", "/r/empty", "/w/stolen"],
        &["link", "/r/file", "/r/new"],
        // A second name in a writable directory would be a way to write to the file.
        &["link", "/r/file", "/w/stolen"],
        &["link", "/r/sub/deep", "/w/stolen"],
        &["link", "/w/file", "/r/new"],
        &["write", "/r/sub/../file", "x"],
        &["open-truncate", "/r/sub/deep"],
    ];
    for bytes in both() {
        let place = Place::new();
        symlink("../readonly/file", place.path("given/to-readonly")).unwrap();
        let before = place.snapshot();
        for args in denied {
            let said = place.asked(&bytes, args);
            assert!(said.starts_with('E'), "{args:?}: {said}");
            assert_eq!(place.snapshot(), before, "{args:?} changed something");
        }
        assert!(place.asked(&bytes, &["write", "/w/to-readonly", "x"]).starts_with('E'));
        assert_eq!(place.asked(&bytes, &["read", "/r/file"]), "readonly\n");
        assert_eq!(place.snapshot(), before);
    }
}

#[test]
fn without_a_directory_there_are_no_files_at_all() {
    for bytes in both() {
        for path in [".", "/", "/etc/passwd", "/proc/self/maps", "/dev/null", "/tmp", ""] {
            for what in ["read", "list", "stat", "open-create", "mkdir"] {
                let ran = run_probe(&bytes, &[what, path]);
                assert!(ran.out().starts_with('E'), "{what} {path:?}: {}", ran.out());
            }
        }
    }
}

#[test]
fn what_cannot_be_given_is_named() {
    let place = Place::new();
    for (name, kind) in [("nothing", FailureKind::NotFound), ("secret", FailureKind::Internal)] {
        let program = program(&probe());
        let preopens = vec![Preopen { host: place.path(name), guest: "/w".into(), readonly: false }];
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
        let stdio = Stdio { stdin: null(), stdout: null(), stderr: null() };
        let error = run_with(program, Invocation { preopens, ..Invocation::default() }, stdio).unwrap_err();
        assert!(matches!(error, Error::Preopen { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.kind(), kind, "{error:?}");
    }
}
