//! What the kernel says of mounts that were made.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use rustix::mount::{MountFlags, mount};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn has(options: &str, name: &str) -> bool {
    options.split(',').any(|option| option == name)
}

/// A directory of the host with a filesystem, and one more inside of it.
fn host_tree(bundle: &Bundle) -> PathBuf {
    let outer = directory(bundle.dir.join("outer"));
    mount("tmpfs", &outer, "tmpfs", MountFlags::empty(), None).unwrap();
    let inner = directory(outer.join("inner"));
    mount("tmpfs", &inner, "tmpfs", MountFlags::empty(), None).unwrap();
    outer
}

#[test]
fn each_flag_reaches_the_mount_or_the_filesystem() {
    let bundle = Bundle::new();
    apart(|| {
        for (number, (given, at_mount, at_superblock)) in [
            ("", "rw relatime", "rw"),
            ("nosuid,nodev,noexec", "nosuid nodev noexec", "rw"),
            ("noatime", "noatime", "rw"),
            ("nodiratime", "nodiratime relatime", "rw"),
            ("nosymfollow", "nosymfollow", "rw"),
            ("sync", "rw", "sync"),
            ("dirsync", "rw", "dirsync"),
            ("lazytime", "rw", "lazytime"),
            ("sync,async,dirsync", "rw", "dirsync"),
            ("iversion,silent,loud,noiversion,nolazytime,nomand,defaults", "rw", "rw"),
            ("silent,iversion", "rw", "rw"),
            ("mode=700,size=64k,nosuid", "nosuid", "size=64k"),
            ("rnosuid,rnoexec", "nosuid noexec", "rw"),
            ("rnoatime,shared", "noatime", "rw"),
            ("sync,dirsync,lazytime,size=64k,rnodev", "nodev", "sync dirsync lazytime size=64k"),
        ]
        .into_iter()
        .enumerate()
        {
            let at = format!("/{number}");
            assert!(bundle.tmpfs(&at, given).is_none());
            let found = mounted(&bundle.path(&at)).unwrap();
            for name in at_mount.split(' ') {
                assert!(has(&found.options, name), "{given}: {found:?}");
            }
            for name in at_superblock.split(' ') {
                assert!(has(&found.superblock, name), "{given}: {found:?}");
            }
        }
        bundle.tmpfs("/strict", "strictatime").ok_or(()).unwrap_err();
        let strict = options_at(&bundle.path("strict"));
        assert!(!has(&strict, "relatime") && !has(&strict, "noatime"), "{strict}");
    });
}

#[test]
fn a_refusal_has_the_kernels_own_words() {
    let bundle = Bundle::new();
    apart(|| {
        let refusal = bundle.refusal(tmpfs("/a", "size=1z"));
        assert!(refusal.contains("Bad value for 'size'"), "{refusal}");
        let refusal = bundle.refusal(json!({"destination": "/a", "type": "nosuchfs"}));
        assert!(refusal.contains("fsopen(\"nosuchfs\")"), "{refusal}");
    });
}

#[test]
fn a_readonly_tmpfs_can_be_filled_until_it_is_sealed() {
    let bundle = Bundle::new();
    apart(|| {
        for options in ["ro,nosuid", "rro"] {
            let seal = bundle.tmpfs("/ro", options).expect("a seal");
            bundle.bind(Path::new("/etc"), "/ro/etc", "");
            fs::write(bundle.path("/ro/x"), "").unwrap();
            seal.apply().unwrap();
            assert!(fs::write(bundle.path("/ro/y"), "").is_err());
            let found = mounted(&bundle.path("ro")).unwrap();
            assert!(has(&found.options, "ro") && has(&found.superblock, "rw"), "{found:?}");
        }
        assert!(bundle.make(json!({"destination": "/dev", "type": "tmpfs", "options": ["ro"]})).is_some());
        let proc = json!({"destination": "/proc", "type": "proc", "options": ["ro"]});
        assert!(bundle.make(proc).is_none());
        assert!(has(&options_at(&bundle.path("proc")), "ro"));
    });
}

#[test]
fn a_tmpfs_looks_like_what_it_covers() {
    let bundle = Bundle::new();
    apart(|| {
        let covered = directory(bundle.path("/covered"));
        fs::set_permissions(&covered, PermissionsExt::from_mode(0o1710)).unwrap();
        bundle.tmpfs("/covered", "").ok_or(()).unwrap_err();
        assert_eq!(mode(&covered), 0o1710);
        bundle.tmpfs("/covered", "mode=1500").ok_or(()).unwrap_err();
        assert_eq!(mode(&covered), 0o1500);
        bundle.tmpfs("/new/deep", "").ok_or(()).unwrap_err();
        assert_eq!(mode(&bundle.path("/new/deep")), 0o1777);
        assert_eq!(mode(&bundle.path("/new")), 0o755);
    });
}

#[test]
fn a_bind_mount_has_exactly_the_flags_that_were_asked_for() {
    let bundle = Bundle::new();
    apart(|| {
        let source = directory(bundle.dir.join("source"));
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        mount("tmpfs", &source, "tmpfs", flags, None).unwrap();
        for (number, (given, expected)) in [
            ("", "rw,nosuid,nodev,noatime"),
            ("rprivate", "rw,nosuid,nodev,noatime"),
            ("ro", "ro,noatime"),
            ("rw", "rw,noatime"),
            ("exec", "rw,noatime"),
            ("ro,nosuid,noexec", "ro,nosuid,noexec,noatime"),
            ("nosuid,relatime", "rw,nosuid,relatime"),
            ("nodiratime", "rw,nodiratime,relatime"),
            ("strictatime", "rw"),
            ("atime", "rw,noatime"),
            ("rro", "ro,nosuid,nodev,noatime"),
            ("rsuid,rnoexec", "rw,nodev,noexec,noatime"),
            ("nosymfollow", "rw,noatime,nosymfollow"),
        ]
        .into_iter()
        .enumerate()
        {
            let at = format!("/{number}");
            bundle.bind(&source, &at, given);
            assert_eq!(options_at(&bundle.path(&at)), expected, "{given:?}");
        }
    });
}

#[test]
fn plain_attributes_are_of_the_top_mount_and_recursive_ones_of_all() {
    let bundle = Bundle::new();
    apart(|| {
        let outer = host_tree(&bundle);
        for (at, options, top, below) in [
            ("/plain", "ro", true, false),
            ("/all", "rro", true, true),
            ("/both", "ro,rrw", false, false),
            ("/only-below", "rro,rw", true, true),
        ] {
            bundle.bind(&outer, at, options);
            assert_eq!(fs::write(bundle.path(at).join("x"), "").is_err(), top, "{at}");
            assert_eq!(fs::write(bundle.path(at).join("inner/x"), "").is_err(), below, "{at}");
        }
        let not_recursive = json!({"destination": "/one", "source": outer, "options": ["bind"]});
        assert!(bundle.make(not_recursive).is_none());
        assert!(mounted(&bundle.path("/one/inner")).is_none());
    });
}

#[test]
fn a_missing_target_becomes_what_the_source_is() {
    let bundle = Bundle::new();
    let file = bundle.dir.join("file");
    fs::write(&file, "content").unwrap();
    apart(|| {
        bundle.bind(&file, "/etc/deep/file", "ro");
        assert_eq!(fs::read_to_string(bundle.path("/etc/deep/file")).unwrap(), "content");
        bundle.bind(Path::new("file"), "/relative", "");
        assert_eq!(fs::read_to_string(bundle.path("/relative")).unwrap(), "content");
        bundle.bind(&bundle.dir, "/var/dir", "");
        assert!(bundle.path("/var/dir/file").is_file());
        bundle.bind(Path::new("/dev/null"), "/null", "");
        assert!(fs::metadata(bundle.path("/null")).unwrap().file_type().is_char_device());
        let refusal = bundle.refusal(bind(Path::new("/no/such"), "/never", ""));
        assert!(refusal.contains("/no/such") && refusal.contains("No such file"), "{refusal}");
        assert!(!bundle.path("/never").exists());
        let refusal = bundle.refusal(bind(&file, "/var", ""));
        assert!(refusal.contains("move_mount"), "{refusal}");
    });
    assert_eq!(fs::metadata(bundle.path("/etc/deep/file")).unwrap().len(), 0, "what was covered is an empty file");
}

#[test]
fn a_source_in_the_root_filesystem_is_what_was_mounted_there_before() {
    let bundle = Bundle::new();
    apart(|| {
        bundle.tmpfs("/first", "").ok_or(()).unwrap_err();
        fs::write(bundle.path("/first/file"), "").unwrap();
        symlink("/first", bundle.path("/link")).unwrap();
        bundle.bind(&bundle.path("/link"), "/second", "");
        assert_eq!(mounted(&bundle.path("second")).unwrap().typ, "tmpfs");
        assert!(bundle.path("/second/file").is_file());
    });
}

#[test]
fn remounting_changes_what_is_there() {
    let bundle = Bundle::new();
    apart(|| {
        bundle.tmpfs("/a", "size=64k").ok_or(()).unwrap_err();
        let remount = |options: &str| json!({"destination": "/a", "type": "tmpfs", "options": words(options)});
        assert!(bundle.make(remount("remount,size=128k,nosuid")).is_none());
        let found = mounted(&bundle.path("a")).unwrap();
        assert!(has(&found.superblock, "size=128k") && has(&found.options, "nosuid"), "{found:?}");
        assert!(bundle.make(remount("bind,remount,ro,noexec")).is_none());
        let found = mounted(&bundle.path("a")).unwrap();
        assert_eq!((&*found.options, has(&found.superblock, "rw")), ("ro,noexec,relatime", true), "{found:?}");
        directory(bundle.path("/plain"));
        for at in ["/plain", "/missing"] {
            let refusal = bundle.refusal(json!({"destination": at, "options": ["remount", "bind", "ro"]}));
            assert!(!refusal.is_empty(), "{at} is no mount");
        }
    });
}

#[test]
fn propagation_is_from_the_hosts_mount() {
    for (options, sees_host, seen_by_host) in
        [("", false, false), ("rprivate", false, false), ("rslave", true, false), ("rshared", true, true)]
    {
        let bundle = Bundle::new();
        apart(|| {
            let source = directory(bundle.dir.join("source"));
            mount("tmpfs", &source, "tmpfs", MountFlags::empty(), None).unwrap();
            mount_change(&source, MountPropagationFlags::SHARED).unwrap();
            let (early, late) = (directory(source.join("early")), directory(source.join("late")));
            let mut step = bundle.parse(bind(&source, "/data", options)).unwrap();
            step.prepare().unwrap();
            let (bundle, step) = (&bundle, &step);
            // The container's side goes on after the host's: two channels order them.
            let (made, is_made) = std::sync::mpsc::channel();
            let (done, is_done) = std::sync::mpsc::channel::<()>();
            std::thread::scope(|scope| {
                let container = scope.spawn(move || {
                    apart(move || {
                        step.make(bundle.root().as_fd()).unwrap();
                        made.send(()).unwrap();
                        is_done.recv().unwrap();
                        mount("tmpfs", bundle.path("/data/late"), "tmpfs", MountFlags::empty(), None).unwrap();
                        mounted(&bundle.path("/data/early")).is_some()
                    })
                });
                is_made.recv().unwrap();
                mount("tmpfs", &early, "tmpfs", MountFlags::empty(), None).unwrap();
                done.send(()).unwrap();
                assert_eq!(container.join().unwrap(), sees_host, "{options}");
            });
            assert_eq!(mounted(&late).is_some(), seen_by_host, "{options}");
        });
    }
}

#[test]
fn propagation_is_set_in_order() {
    let bundle = Bundle::new();
    apart(|| {
        let source = host_tree(&bundle);
        for (at, options, top, below) in [
            ("/shared", "shared", "shared:", ""),
            ("/rshared", "rshared", "shared:", "shared:"),
            ("/unbindable", "runbindable", "unbindable", "unbindable"),
            ("/private", "rshared,rprivate", "", ""),
        ] {
            bundle.bind(&source, at, options);
            let found = [mounted(&bundle.path(at)).unwrap(), mounted(&bundle.path(at).join("inner")).unwrap()];
            for (found, expected) in found.iter().zip([top, below]) {
                assert!(found.propagation.starts_with(expected), "{options}: {found:?}");
                assert_eq!(found.propagation.is_empty(), expected.is_empty(), "{options}: {found:?}");
            }
        }
        bundle.tmpfs("/tmp", "rshared").ok_or(()).unwrap_err();
        assert!(mounted(&bundle.path("tmp")).unwrap().propagation.starts_with("shared:"));
    });
}

#[test]
fn a_namespace_that_receives_the_hosts_mounts_keeps_them_out_of_private_ones() {
    let bundle = Bundle::new();
    apart(|| {
        let source = directory(bundle.dir.join("source"));
        mount("tmpfs", &source, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(&source, MountPropagationFlags::SHARED).unwrap();
        apart_as(MountPropagationFlags::DOWNSTREAM, || {
            let context = Context { receives: true, ..bundle.context() };
            for (at, options, slave) in
                [("/none", "", false), ("/private", "rprivate", false), ("/slave", "rslave", true)]
            {
                let step = serde_json::from_value(bind(&source, at, options)).unwrap();
                Step::parse(&step, &context).unwrap().make(bundle.root().as_fd()).unwrap();
                assert_eq!(mounted(&bundle.path(at)).unwrap().propagation.starts_with("master:"), slave, "{at}");
            }
        });
    });
}

#[test]
fn owners_are_shown_through_the_maps() {
    let bundle = Bundle::new();
    apart(|| {
        let source = host_tree(&bundle);
        fs::write(source.join("file"), "").unwrap();
        fs::write(source.join("inner/file"), "").unwrap();
        let maps = json!([{ "containerID": 0, "hostID": 5000, "size": 10 }]);
        for (at, options, below) in [("/top", vec!["rbind", "idmap"], 0), ("/all", vec!["rbind", "ridmap", "ro"], 5000)]
        {
            let mut mount = json!({"destination": at, "source": source, "options": options});
            mount["uidMappings"] = maps.clone();
            mount["gidMappings"] = maps.clone();
            let mut step = bundle.parse(mount).unwrap();
            step.prepare().unwrap();
            step.make(bundle.root().as_fd()).unwrap();
            let file = fs::metadata(bundle.path(at).join("file")).unwrap();
            assert_eq!((file.uid(), file.gid()), (5000, 5000), "{at}");
            assert_eq!(fs::metadata(bundle.path(at).join("inner/file")).unwrap().uid(), below, "{at}");
        }
    });
}

#[test]
fn copying_up_keeps_everything() {
    let bundle = Bundle::new();
    let dir = directory(bundle.path("/data/sub"));
    let top = bundle.path("/data");
    fs::write(top.join("file"), "content").unwrap();
    std::os::unix::fs::chown(top.join("file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(top.join("file"), PermissionsExt::from_mode(0o4751)).unwrap();
    rustix::fs::setxattr(top.join("file"), "trusted.kept", b"yes", rustix::fs::XattrFlags::empty()).unwrap();
    fs::hard_link(top.join("file"), dir.join("other")).unwrap();
    symlink("/etc/passwd", top.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, top.join("fifo"), rustix::fs::FileType::Fifo, Mode::from(0o640), 0).unwrap();
    std::os::unix::fs::chown(&dir, Some(9), Some(9)).unwrap();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o2770)).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(top.join("file")).unwrap().set_modified(old).unwrap();
    fs::set_permissions(&top, PermissionsExt::from_mode(0o711)).unwrap();
    apart(|| {
        bundle.tmpfs("/data", "tmpcopyup,nosuid").ok_or(()).unwrap_err();
        assert_eq!(mounted(&top).unwrap().typ, "tmpfs");
        let file = fs::metadata(top.join("file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.uid(), file.gid(), file.nlink()), (0o4751, 7, 8, 2));
        assert_eq!(file.modified().unwrap(), old);
        assert_eq!(fs::read_to_string(dir.join("other")).unwrap(), "content");
        assert_eq!(fs::metadata(dir.join("other")).unwrap().ino(), file.ino());
        let mut value = [0; 8];
        assert_eq!(rustix::fs::getxattr(top.join("file"), "trusted.kept", &mut value[..]).unwrap(), 3);
        assert_eq!(fs::read_link(top.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert!(fs::metadata(top.join("fifo")).unwrap().file_type().is_fifo());
        assert_eq!((mode(&dir), fs::metadata(&dir).unwrap().uid(), mode(&top)), (0o2770, 9, 0o711));
        fs::write(top.join("file"), "changed").unwrap();
    });
    assert_eq!(fs::read_to_string(top.join("file")).unwrap(), "content", "what was copied is another file");
}

#[test]
fn masks_hide_and_readonly_paths_hold() {
    let bundle = Bundle::new();
    apart(|| {
        bundle.tmpfs("/dev", "").ok_or(()).unwrap_err();
        let number = rustix::fs::makedev(1, 3);
        let null = bundle.path("/dev/null");
        let character = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &null, character, Mode::from(0o666), number).unwrap();
        for name in ["one", "two"] {
            directory(bundle.path(name).join("secret"));
        }
        fs::write(bundle.path("file"), "secret").unwrap();
        let paths = ["/one", "/file", "/missing/x", "/two", "/one"].map(PathBuf::from);
        mask_all(bundle.root().as_fd(), &paths, None).map_err(|(path, error)| (path, error.to_string())).unwrap();
        for name in ["one", "two"] {
            assert_eq!(fs::read_dir(bundle.path(name)).unwrap().count(), 0, "{name}");
            assert!(fs::write(bundle.path(name).join("x"), "").is_err());
            assert_eq!(options_at(&bundle.path(name)), "ro,nosuid,nodev,noexec,relatime");
        }
        assert_eq!(fs::read_to_string(bundle.path("file")).unwrap(), "");

        let outer = host_tree(&bundle);
        bundle.bind(&outer, "/data", "");
        make_readonly(bundle.root().as_fd(), Path::new("/data")).unwrap();
        make_readonly(bundle.root().as_fd(), Path::new("/missing")).unwrap();
        assert!(fs::write(bundle.path("/data/x"), "").is_err());
        assert!(fs::write(bundle.path("/data/inner/x"), "").is_err(), "nor what is mounted below");
    });
}

#[test]
fn the_cgroups_of_this_machine_are_shown() {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let legacy = text.lines().filter_map(|line| line.split(':').nth(1)).find(|controllers| !controllers.is_empty());
    let bundle = Bundle::new();
    for cgroup_namespace in [true, false] {
        apart(|| {
            if cgroup_namespace {
                sys::process::unshare_cgroup().unwrap();
            }
            let context = Context { cgroup_namespace, ..bundle.context() };
            let options = ["ro", "nosuid", "nodev", "noexec"];
            let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": options});
            let step = Step::parse(&serde_json::from_value(mount).unwrap(), &context).unwrap();
            step.make(bundle.root().as_fd()).unwrap();
            let at = bundle.path("/sys/fs/cgroup");
            let found = mounted(&at).unwrap();
            assert_eq!(found.typ, if legacy.is_some() { "tmpfs" } else { "cgroup2" });
            assert!(has(&found.options, "ro") && has(&found.options, "nosuid"), "{found:?}");
            let Some(controllers) = legacy else { return };
            let name = controllers.strip_prefix("name=").unwrap_or(controllers);
            let found = mounted(&at.join(name)).unwrap();
            assert_eq!(found.typ, "cgroup");
            assert!(has(&found.options, "ro") && has(&found.superblock, controllers), "{found:?}");
            assert!(at.join(name).join("cgroup.procs").is_file());
            assert!(fs::create_dir(at.join(name).join("new")).is_err());
            assert!(fs::create_dir(at.join("new")).is_err());
        });
    }
}

#[test]
fn the_unified_hierarchy_is_shown_where_it_is_the_only_one() {
    let bundle = Bundle::new();
    let at = directory(bundle.path("/sys/fs/cgroup"));
    for cgroup_namespace in [true, false] {
        apart(|| {
            if cgroup_namespace {
                sys::process::unshare_cgroup().unwrap();
            }
            let context = Context { cgroup_namespace, ..bundle.context() };
            let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup2", "options": ["ro", "nosuid"]});
            let step = Step::parse(&serde_json::from_value(mount).unwrap(), &context).unwrap();
            let place = || rustix::fs::open(&at, OFlags::PATH, Mode::empty()).unwrap();
            cgroup::unified(&step, place().as_fd()).unwrap();
            let found = mounted(&at).unwrap();
            assert!(found.typ == "cgroup2" && has(&found.options, "ro") && has(&found.options, "nosuid"), "{found:?}");
            assert!(at.join("cgroup.procs").is_file() && fs::create_dir(at.join("new")).is_err());
            // So it is where a bind mount of the host's /sys has it there already, which mount(2) refuses to cover.
            cgroup::unified(&step, place().as_fd()).unwrap();
            assert!(has(&options_at(&at), "ro"));
        });
    }
}

#[test]
fn a_readonly_sys_is_readonly_with_the_cgroups_below_it() {
    let bundle = Bundle::new();
    apart(|| {
        let outer = host_tree(&bundle);
        for (options, writable) in [("ro", false), ("ro,rrw", true), ("nosuid", true)] {
            bundle.bind(&outer, "/sys", options);
            assert_eq!(fs::write(bundle.path("/sys/inner/x"), "").is_ok(), writable, "{options}");
        }
    });
}
