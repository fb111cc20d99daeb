//! What an image, or a container that shares a directory with this one, does to have a mount made elsewhere.

use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{UnmountFlags, unmount};

use super::super::target::{Place, find};
use super::*;

/// How often the attacker changes the path, at least.
const EXCHANGES: usize = 10_000;

/// How often it is looked up meanwhile, at least.
const LOOK_UPS: usize = 10_000;

/// The same for what is mounted and unmounted again, which takes the kernel a while.
const MOUNTS: usize = 1_500;

/// Exchanges `a` and `b` all the time while `run` runs `least` times, and until there were enough exchanges. In the mount
/// namespace of the test's beginning, where nothing is mounted, so that nothing keeps a name where it is.
fn race(a: &Path, b: &Path, least: usize, mut run: impl FnMut() + Send) {
    let (over, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
        });
        // However this ends, the attacker ends as well.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _end = End(&over);
        apart(|| {
            let mut rounds = 0;
            while rounds < least || exchanges.load(Ordering::Relaxed) < EXCHANGES {
                run();
                rounds += 1;
            }
        });
    });
}

/// Where a handle is, as the kernel says.
fn where_is(place: &Place) -> PathBuf {
    fs::read_link(format!("/proc/thread-self/fd/{}", place.fd.as_raw_fd())).unwrap()
}

/// A bundle with a directory `/vol/a` and beside it `/vol/b`, a link that leads out of it if it is not followed in the
/// root filesystem; and the directory that it leads to.
fn trap(absolute: bool) -> (Bundle, PathBuf) {
    let bundle = Bundle::new();
    directory(bundle.path("/vol/a"));
    let outside = directory(bundle.dir.join("outside"));
    let target = if absolute { outside.clone() } else { "../../outside".into() };
    symlink(target, bundle.path("/vol/b")).unwrap();
    (bundle, outside)
}

#[test]
fn an_exchanged_link_leads_nothing_out_of_the_root() {
    for absolute in [true, false] {
        let (bundle, outside) = trap(absolute);
        let (a, b) = (bundle.path("/vol/a"), bundle.path("/vol/b"));
        let root = bundle.root();
        let mut found = 0;
        race(&a, &b, LOOK_UPS, || {
            for (path, is_directory) in [("/vol/a/x/y", true), ("/vol/a/f", false), ("/vol/a/../a/z", true)] {
                // That somebody interferes may make it fail, but never go elsewhere.
                if let Ok(place) = find(root.as_fd(), Path::new(path), Links::Followed, || Ok(is_directory)) {
                    let at = where_is(&place);
                    assert!(at.starts_with(&bundle.rootfs), "{path} was found at {at:?}");
                    found += 1;
                }
            }
            let made = ["x/y", "x", "z", "f"].map(|name| a.join(name));
            for path in made {
                // So that the next round makes them again; which of the two directories has them, is by chance.
                let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
            }
        });
        assert!(found > 0, "no look-up ended well");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside of the root filesystem");
    }
}

#[test]
fn a_mount_onto_an_exchanged_link_stays_in_the_root() {
    let (bundle, outside) = trap(true);
    let source = directory(bundle.dir.join("source"));
    fs::write(source.join("marker"), "").unwrap();
    directory(bundle.path("/vol/a/at"));
    fs::create_dir(outside.join("at")).unwrap();
    let step = bundle.parse(bind(&source, "/vol/a/at", "")).unwrap();
    let new = bundle.parse(tmpfs("/vol/a/at", "nosuid")).unwrap();
    let mut made = 0;
    race(&bundle.path("/vol/a"), &bundle.path("/vol/b"), MOUNTS, || {
        for step in [&step, &new] {
            made += usize::from(step.make(bundle.root().as_fd()).is_ok());
        }
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let mine = text
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|at| at.contains(bundle.dir.to_str().unwrap()));
        // The last ones on top.
        for at in mine.collect::<Vec<_>>().into_iter().rev() {
            assert!(Path::new(at).starts_with(&bundle.rootfs), "mounted at {at}");
            let at = at.strip_suffix("//deleted").unwrap_or(at);
            // The attacker may have taken the name away; then the directory that has it now is looked at in the next round.
            let _ = unmount(at, UnmountFlags::DETACH);
        }
    });
    assert!(made > 0, "no mount was made");
}

#[test]
fn what_the_kernel_tells_is_not_mounted_through_links() {
    let kernels = [
        ("/proc", json!({"destination": "/proc", "type": "proc"})),
        ("/sys", json!({"destination": "/sys", "type": "sysfs"})),
        ("/sys", json!({"destination": "/sys/fs/cgroup", "type": "cgroup"})),
        ("/dev", tmpfs("/dev", "")),
        ("/dev", json!({"destination": "/dev/pts", "type": "devpts", "options": ["newinstance"]})),
        ("/dev", json!({"destination": "/dev/mqueue", "type": "mqueue"})),
        ("/dev/mqueue", json!({"destination": "/dev/mqueue", "type": "mqueue"})),
        ("/dev/pts", json!({"destination": "/dev/pts", "type": "devpts", "options": ["newinstance"]})),
        ("/sys", bind(Path::new("/sys"), "/sys", "ro")),
        ("/dev", bind(Path::new("/dev"), "/dev", "")),
        ("/proc", bind(Path::new("/proc"), "/proc", "")),
    ];
    for (link, mount) in kernels {
        let bundle = Bundle::new();
        let outside = directory(bundle.dir.join("outside"));
        directory(bundle.path("/elsewhere"));
        for target in ["/elsewhere", "../elsewhere", "/missing", outside.to_str().unwrap()] {
            apart(|| {
                directory(bundle.path(link).parent().unwrap().to_owned());
                symlink(target, bundle.path(link)).unwrap();
                let refusal = bundle.refusal(mount.clone());
                assert!(
                    refusal.contains("must be mounted on ordinary directory"),
                    "{mount} through {target}: {refusal}"
                );
                fs::remove_file(bundle.path(link)).unwrap();
            });
        }
        assert!(!bundle.path("/missing").exists());
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    }
}

#[test]
fn procfs_is_covered_by_nothing_else() {
    let bundle = Bundle::new();
    let inside = directory(bundle.dir.join("source"));
    fs::write(inside.join("cpuinfo"), "emulated").unwrap();
    directory(bundle.path("/real"));
    symlink("/proc", bundle.path("/link")).unwrap();
    symlink("/proc/self", bundle.path("/self")).unwrap();
    apart(|| {
        assert!(bundle.refusal(bind(&inside, "/proc", "")).contains("not procfs"));
        assert!(bundle.make(json!({"destination": "/proc", "type": "proc"})).is_none());
        for mount in [
            bind(&inside, "/proc", ""),
            bind(&inside, "/link", ""),
            bind(&inside, "/link/self", ""),
            bind(&inside, "/self/attr", ""),
            tmpfs("/link", ""),
            tmpfs("/link/sys", ""),
            tmpfs("/self/fd", ""),
        ] {
            let refusal = bundle.refusal(mount.clone());
            assert!(!refusal.is_empty(), "{mount} was made");
        }
        assert_eq!(mounted(&bundle.path("proc")).unwrap().typ, "proc");
        bundle.bind(Path::new("/proc"), "/proc", "ro");
        bundle.bind(&inside.join("cpuinfo"), "/proc/cpuinfo", "");
        assert_eq!(fs::read_to_string(bundle.path("/proc/cpuinfo")).unwrap(), "emulated");
    });
}

#[test]
fn links_in_the_image_are_followed_in_the_root_only() {
    let (bundle, outside) = trap(true);
    apart(|| {
        let inside = bundle.path(outside.to_str().unwrap());
        bundle.tmpfs("/vol/b/made", "").ok_or(()).unwrap_err();
        assert!(mounted(&inside.join("made")).is_some(), "an absolute link leads to the same path in the root");
        bundle.tmpfs("/../../top/deep", "").ok_or(()).unwrap_err();
        assert!(mounted(&bundle.path("/top/deep")).is_some());
        symlink("loop", bundle.path("/loop")).unwrap();
        assert!(bundle.refusal(tmpfs("/loop/x", "")).contains("symbolic links"));
        let hosts = bundle.dir.join("hosts");
        fs::write(&hosts, "content").unwrap();
        for (link, target, found) in
            [("/etc-hosts", "/jump/hosts", "/tmp/jump/hosts"), ("/to-file", "dangling/a/b", "/dangling/a/b")]
        {
            symlink(target, bundle.path(link)).unwrap();
            let _ = symlink("/tmp/jump", bundle.path("/jump"));
            bundle.bind(&hosts, link, "ro");
            assert_eq!(fs::read_to_string(bundle.path(found)).unwrap(), "content");
        }
    });
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn a_mask_is_made_of_the_null_device_only() {
    let bundle = Bundle::new();
    apart(|| {
        bundle.tmpfs("/dev", "").ok_or(()).unwrap_err();
        for name in ["kcore", "other"] {
            fs::write(bundle.path(name), "secret").unwrap();
        }
        let masked = [PathBuf::from("/kcore")];
        let mask = || mask_all(bundle.root().as_fd(), &masked, None).map_err(|(_, error)| error.to_string());
        let null = bundle.path("/dev/null");
        for wrong in ["a file", "a link", "another device", "nothing"] {
            match wrong {
                "a file" => fs::write(&null, "readable").unwrap(),
                "a link" => symlink("/other", &null).unwrap(),
                "another device" => {
                    let (zero, kind) = (rustix::fs::makedev(1, 5), rustix::fs::FileType::CharacterDevice);
                    rustix::fs::mknodat(CWD, &null, kind, Mode::from(0o666), zero).unwrap();
                }
                _ => {}
            }
            let error = mask().unwrap_err();
            assert!(error.contains("dev/null"), "{wrong}: {error}");
            if wrong != "nothing" {
                fs::remove_file(&null).unwrap();
            }
        }
    });
}

#[test]
fn a_readonly_path_is_the_one_that_was_looked_up() {
    let (bundle, _) = trap(true);
    directory(bundle.path("/vol/a/p"));
    let mut seen = 0;
    race(&bundle.path("/vol/a"), &bundle.path("/vol/b"), MOUNTS, || {
        // Where there is nothing at the moment, nothing is made.
        if make_readonly(bundle.root().as_fd(), Path::new("/vol/a/p")).is_ok() {
            let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            for line in text.lines().filter(|line| line.contains(bundle.dir.to_str().unwrap())) {
                seen += 1;
                let fields: Vec<&str> = line.split(' ').collect();
                assert!(fields[5].starts_with("ro"), "a mount that can be written: {line}");
                assert!(Path::new(fields[4]).starts_with(&bundle.rootfs), "{line}");
                let _ = unmount(fields[4], UnmountFlags::DETACH);
            }
        }
    });
    assert!(seen > 0, "no mount was made");
}
