//! Mounts of a container that has a user namespace of its own. Each test starts itself again as a process in such a
//! namespace, which does there what the init stage does.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::*;
use crate::sys::idmap::user_namespace;

/// A file in the working directory of the process in the namespace, which is its bundle: the handle that was handed on.
const HANDED_ON: &str = "handed-on-to-the-test-inside";

/// The root of the namespaces, outside.
const ROOT: u32 = 100_000;

/// The bundle, if this is the process inside.
fn inside() -> Option<Bundle> {
    Path::new(HANDED_ON).exists().then(|| Bundle::at(&std::env::current_dir().unwrap()))
}

/// Runs the test `name` again inside, in a copy of this thread's mount namespace. It gets `handle`.
fn again_inside(name: &str, bundle: &Bundle, handle: Option<BorrowedFd<'_>>) {
    for path in [&bundle.dir, &bundle.rootfs] {
        chown(path, Some(ROOT), Some(ROOT)).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let ids = [(0, ROOT, 65536)];
    let user = user_namespace(&ids, &ids).unwrap();
    // By handles, as others may not reach where it was built.
    let exe = File::open(std::env::current_exe().unwrap()).unwrap();
    let handed_on = [Some(user.as_fd()), Some(exe.as_fd()), handle];
    handed_on.into_iter().flatten().for_each(|fd| fcntl_setfd(fd, FdFlags::empty()).unwrap());
    let path = |fd: BorrowedFd<'_>| format!("/proc/self/fd/{}", fd.as_raw_fd());
    fs::write(bundle.dir.join(HANDED_ON), handle.map_or(String::new(), path)).unwrap();
    let output = Command::new("nsenter")
        .arg(format!("--user={}", path(user.as_fd())))
        .args(["unshare", "--mount", "--propagation", "private"])
        .arg(path(exe.as_fd()))
        .args(["--exact", &format!("engine::linux::mounts::tests::user::{name}"), "--nocapture"])
        .current_dir(&bundle.dir)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// As the specification has it for a container in a user namespace.
fn parse(bundle: &Bundle, mount: Value) -> Step {
    let context = Context { user: User::New { users: &[], groups: &[] }, ..bundle.context() };
    Step::parse(&serde_json::from_value(mount).unwrap(), &context).unwrap()
}

/// Prepares `mount` outside, and makes it inside, when `prepared` says that the parent has to help; then looks at it.
fn prepared_outside(
    name: &str,
    mount: impl Fn(&Bundle) -> Value,
    outside: impl FnOnce(&Bundle) + Send,
    look: impl FnOnce(&Bundle),
) {
    if let Some(bundle) = inside() {
        let mut step = parse(&bundle, mount(&bundle));
        let handle = fs::read_to_string(bundle.dir.join(HANDED_ON)).unwrap();
        assert_ne!(handle, "", "the parent has prepared nothing");
        step.prepared.tree = Some(rustix::fs::open(handle, OFlags::PATH, Mode::empty()).unwrap());
        step.make(bundle.root().as_fd()).unwrap();
        return look(&bundle);
    }
    let bundle = Bundle::new();
    let value = mount(&bundle);
    apart(|| {
        outside(&bundle);
        let mut step = parse(&bundle, value);
        step.prepare().unwrap();
        again_inside(name, &bundle, step.prepared.tree.as_ref().map(AsFd::as_fd));
    });
}

/// Runs `look` inside, after `outside` outside.
fn made_inside(name: &str, outside: impl FnOnce(&Bundle) + Send, look: impl FnOnce(&Bundle)) {
    if let Some(bundle) = inside() {
        return look(&bundle);
    }
    let bundle = Bundle::new();
    apart(|| {
        outside(&bundle);
        again_inside(name, &bundle, None);
    });
}

fn source(bundle: &Bundle, flags: MountFlags) -> PathBuf {
    let source = directory(bundle.dir.join("private/source"));
    mount("tmpfs", &source, "tmpfs", flags, Some(c"mode=755")).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    source
}

fn close(path: PathBuf) {
    fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn a_source_out_of_reach_is_handed_on() {
    prepared_outside(
        "a_source_out_of_reach_is_handed_on",
        |bundle| bind(&bundle.dir.join("private/source"), "/data", "ro"),
        |bundle| {
            source(bundle, MountFlags::NOSUID | MountFlags::NODEV);
            close(bundle.dir.join("private"));
        },
        |bundle| {
            assert!(fs::metadata(bundle.dir.join("private/source")).is_err());
            assert_eq!(fs::read_to_string(bundle.path("/data/file")).unwrap(), "content");
            assert_eq!(options_at(&bundle.path("data")), "ro,nosuid,nodev,relatime", "what was not spoken of stays");
        },
    );
}

#[test]
fn maps_are_applied_by_who_may() {
    prepared_outside(
        "maps_are_applied_by_who_may",
        |bundle| {
            let maps = json!([{ "containerID": 0, "hostID": ROOT + 3, "size": 10 }]);
            let source = bundle.dir.join("private/source");
            let options = ["bind", "idmap"];
            json!({"destination": "/data", "source": source, "options": options, "uidMappings": maps, "gidMappings": maps})
        },
        |bundle| drop(source(bundle, MountFlags::empty())),
        |bundle| {
            let file = fs::metadata(bundle.path("/data/file")).unwrap();
            assert_eq!((file.uid(), file.gid()), (3, 3));
        },
    );
}

#[test]
fn a_mount_in_a_user_namespace_is_never_the_hosts_peer() {
    prepared_outside(
        "a_mount_in_a_user_namespace_is_never_the_hosts_peer",
        |bundle| bind(&bundle.dir.join("private/source"), "/data", "rshared"),
        |bundle| mount_change(source(bundle, MountFlags::empty()), MountPropagationFlags::SHARED).unwrap(),
        |bundle| {
            let found = mounted(&bundle.path("data")).unwrap();
            assert!(found.propagation.contains("shared:") && found.propagation.contains("master:"), "{found:?}");
        },
    );
}

#[test]
fn what_the_host_holds_fast_is_cleared_by_nobody() {
    made_inside(
        "what_the_host_holds_fast_is_cleared_by_nobody",
        |bundle| drop(source(bundle, MountFlags::NOSUID | MountFlags::NODEV)),
        |bundle| {
            let source = bundle.dir.join("private/source");
            for (at, options, expected) in [
                ("/a", "", "rw,nosuid,nodev,relatime"),
                ("/b", "ro", "ro,nosuid,nodev,relatime"),
                ("/c", "rw,noexec", "rw,nosuid,nodev,noexec,relatime"),
                ("/d", "rro", "ro,nosuid,nodev,relatime"),
            ] {
                parse(bundle, bind(&source, at, options)).make(bundle.root().as_fd()).unwrap();
                assert_eq!(options_at(&bundle.path(at)), expected, "{options}");
            }
            for options in ["suid", "dev,ro", "noatime", "rsuid"] {
                let made = parse(bundle, bind(&source, "/e", options)).make(bundle.root().as_fd());
                assert_eq!(made.unwrap_err().errno(), Some(libc::EPERM), "{options}");
            }
        },
    );
}

#[test]
fn clearing_by_name_what_the_source_has_is_refused_also_when_prepared() {
    let bundle = Bundle::new();
    apart(|| {
        let source = source(&bundle, MountFlags::NOSUID);
        close(bundle.dir.join("private"));
        let prepare = |options: &str| parse(&bundle, bind(&source, "/data", options)).prepare();
        assert_eq!(prepare("suid").unwrap_err().errno(), Some(libc::EPERM));
        prepare("dev,rw,ro").unwrap();
    });
}

#[test]
fn only_what_is_out_of_reach_is_prepared() {
    let bundle = Bundle::new();
    fs::set_permissions(&bundle.dir, PermissionsExt::from_mode(0o755)).unwrap();
    directory(bundle.dir.join("open/source"));
    directory(bundle.dir.join("open/peer"));
    apart(|| {
        let peer = bundle.dir.join("open/peer");
        mount("tmpfs", &peer, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(&peer, MountPropagationFlags::SHARED).unwrap();
        for (source, options, prepared) in [
            ("open/source", "", false),
            ("open/source", "rslave", false),
            ("open/peer", "", false),
            ("open/peer", "rslave", true),
            ("open", "rslave", true),
            ("rootfs/x", "rslave", false),
            ("missing", "", false),
        ] {
            let mut step = parse(&bundle, bind(&bundle.dir.join(source), "/data", options));
            step.prepare().unwrap();
            assert_eq!(step.prepared.tree.is_some(), prepared, "{source} {options}");
        }
    });
}

#[test]
fn the_hosts_sysfs_stands_in_for_one_that_may_not_be_made() {
    made_inside(
        "the_hosts_sysfs_stands_in_for_one_that_may_not_be_made",
        |_| {},
        |bundle| {
            let sysfs = json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]});
            parse(bundle, sysfs).make(bundle.root().as_fd()).unwrap();
            let found = mounted(&bundle.path("sys")).unwrap();
            assert_eq!((&*found.typ, &*found.options), ("sysfs", "ro,nosuid,nodev,noexec,relatime"));
            let below = mounted(&bundle.path("/sys/fs/cgroup")).expect("what is mounted below is there too");
            assert!(below.options.starts_with("ro,"), "{below:?}");

            // The network namespace is the host's, and the cgroup namespace as well.
            let cgroup = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]});
            parse(bundle, cgroup).make(bundle.root().as_fd()).unwrap();
            assert!(fs::create_dir(bundle.path("/sys/fs/cgroup/x")).is_err());
            for entry in fs::read_dir(bundle.path("/sys/fs/cgroup")).unwrap() {
                let path = entry.unwrap().path();
                if let Some(found) = mounted(&path).filter(|found| found.typ.starts_with("cgroup")) {
                    assert!(found.options.starts_with("ro,"), "{path:?}: {found:?}");
                }
            }
            let procfs = parse(bundle, json!({"destination": "/proc", "type": "proc"})).make(bundle.root().as_fd());
            assert_eq!(procfs.unwrap_err().errno(), Some(libc::EPERM), "nothing else stands in for anything");
        },
    );
}
