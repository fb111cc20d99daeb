//! The device nodes and links of a container: those that every one has, and those of `linux.devices`
//! (runtime-spec config-linux.md, "Default Devices", "Dev symbolic links", "Devices").
//!
//! A node is made by its name in a directory that was looked up *in* the root filesystem, so that neither a `/dev`
//! that the image made a link, nor a link of the node's own name, leads to the host's devices (CVE-2026-41579,
//! CVE-2026-47766). Where nodes cannot be made, in a user namespace or without CAP_MKNOD, the host's are mounted in
//! their places; those keep the owner and mode that they have on the host.
//!
//! What is there already and is the device that is wanted stays as it is; anything else is an error, as the
//! specification demands. Whether a container may use a device is for its cgroup.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Error, mounts};
use crate::oci::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use crate::sys::dir::{self, Dir, Info, Node};
use crate::sys::{self, named};

/// The device nodes that every container has.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The symbolic links of `/dev`, and `ptmx` of the container's own devpts.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    (PTMX, "pts/ptmx"),
];

const DEV: &str = "/dev";
const PTMX: &str = "ptmx";

/// linux/kdev_t.h, MINORBITS: a number is 12 bits for the driver and 20 for the unit.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

/// The nodes to make.
#[derive(Debug, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

/// One node, understood.
#[derive(Debug, PartialEq, Eq)]
struct Device {
    path: PathBuf,
    node: Node,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Devices {
    /// Understands the specification: its devices, and those of the default ones that it says nothing about.
    pub fn plan(linux: &Linux) -> Result<Self, Error> {
        let mut devices = Vec::new();
        for device in linux.devices().iter().flatten() {
            let device = Device::parse(device)?;
            // The multiplexor of the container's own terminals is a link, and no other may take its place.
            if device.path != Path::new(DEV).join(PTMX) {
                devices.push(device);
            }
        }
        let is_new = |path: &str| !devices.iter().any(|device| device.path == Path::new(path));
        let default = DEFAULT.into_iter().filter(|(path, ..)| is_new(path)).map(|(path, major, minor)| Device {
            path: path.into(),
            node: Node::Char(dir::Device { major, minor }),
            mode: 0o666,
            uid: 0,
            gid: 0,
        });
        Ok(Self(default.collect::<Vec<_>>().into_iter().chain(devices).collect()))
    }
}

impl Device {
    fn parse(device: &LinuxDevice) -> Result<Self, Error> {
        let path = device.path();
        let wrong = |problem: &str| Error::Unsupported {
            field: "linux.devices",
            problem: format!("the device {path:?} {problem}"),
        };
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain || path.file_name().is_none() {
            return Err(wrong("has no full path"));
        }
        let part = |number: i64, max: u32| u32::try_from(number).ok().filter(|number| *number <= max);
        let number = part(device.major(), MAX_MAJOR)
            .zip(part(device.minor(), MAX_MINOR))
            .map(|(major, minor)| dir::Device { major, minor })
            .ok_or_else(|| wrong(&format!("cannot have the number {}:{}", device.major(), device.minor())));
        let node = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => Node::Char(number?),
            LinuxDeviceType::B => Node::Block(number?),
            LinuxDeviceType::P => Node::Fifo,
            LinuxDeviceType::A => return Err(wrong("is of no type: \"a\" stands for all types")),
        };
        let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
        let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        Ok(Self { path: path.components().collect(), node, mode, uid, gid })
    }

    fn name(&self) -> &OsStr {
        self.path.file_name().expect("parse() has seen it")
    }

    fn make(&self, parent: &Dir, show: bool) -> sys::Result<()> {
        let can_show = self.node != Node::Fifo;
        if show && can_show {
            return self.show(parent);
        }
        match parent.make_node(self.name(), self.node, self.mode) {
            Ok(()) if (self.uid, self.gid) != (0, 0) => parent.set_owner(self.name(), self.uid, self.gid),
            Err(error) if is(&error, Errno::PERM) && can_show => self.show(parent),
            Err(error) if is(&error, Errno::EXIST) => match parent.info(self.name())? {
                Some(there) if self.is(&there) => Ok(()),
                _ => Err(error),
            },
            made => made,
        }
    }

    fn is(&self, there: &Info) -> bool {
        match self.node {
            Node::Char(number) => there.kind == FileType::CharacterDevice && there.device == number,
            Node::Block(number) => there.kind == FileType::BlockDevice && there.device == number,
            Node::Fifo => there.kind == FileType::Fifo,
            Node::Socket => there.kind == FileType::Socket,
        }
    }

    /// Mounts the host's node of the same path, if it is the same device, over a file of that name in `parent`.
    fn show(&self, parent: &Dir) -> sys::Result<()> {
        let host = mounts::clone_tree(&self.path, false)?;
        if !self.is(&dir::file_info(&host)?) {
            return named(Err(Errno::NODEV), || format!("open_tree({:?}), which is another device", self.path));
        }
        match parent.make_file(self.name(), 0o600) {
            Err(error) if !is(&error, Errno::EXIST) => return Err(error),
            _ => {}
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(parent, self.name(), flags, Mode::empty());
        let place = named(place, || format!("openat({:?}, O_PATH | O_NOFOLLOW)", self.path))?;
        if dir::file_info(&place)?.kind == FileType::Symlink {
            return named(Err(Errno::LOOP), || format!("openat({:?}, O_PATH | O_NOFOLLOW)", self.path));
        }
        mounts::put(host.as_fd(), place.as_fd())
    }
}

fn is(error: &sys::Error, errno: Errno) -> bool {
    error.errno() == Some(errno.raw_os_error())
}

/// Makes the nodes and the links in the root filesystem `root`. In a user namespace the host's nodes are shown.
///
/// The host's root directory must still be the caller's, and the caller single-threaded: the modes of nodes need
/// the umask out of their way.
pub fn populate(root: BorrowedFd<'_>, devices: &Devices, in_user_namespace: bool) -> sys::Result<()> {
    let open = |path: &Path| mounts::target(root, path, true).and_then(Dir::from_mount);
    let dev = open(DEV.as_ref())?;
    let umask = rustix::process::umask(Mode::empty());
    let make = |device: &Device| match device.path.parent() {
        Some(parent) if parent != Path::new(DEV) => device.make(&open(parent)?, in_user_namespace),
        _ => device.make(&dev, in_user_namespace),
    };
    let made = devices.0.iter().try_for_each(|device| {
        let whole = |error: sys::Error| sys::Error { call: format!("{:?}: {}", device.path, error.call), ..error };
        make(device).map_err(whole)
    });
    rustix::process::umask(umask);
    made?;
    LINKS.iter().try_for_each(|(name, to)| link(&dev, OsStr::new(name), OsStr::new(to)))
}

/// Makes a link, unless an image has something of its own there. A multiplexor of its own would be the host's.
fn link(dev: &Dir, name: &OsStr, to: &OsStr) -> sys::Result<()> {
    match dev.make_symlink(name, to) {
        Err(error) if is(&error, Errno::EXIST) => {}
        made => return made,
    }
    let there = dev.info(name)?.map(|info| info.kind);
    if name != PTMX || there != Some(FileType::CharacterDevice) {
        return Ok(());
    }
    dev.remove_file(name)?;
    dev.make_symlink(name, to)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use rustix::mount::{MountPropagationFlags, mount_change};

    use super::*;

    fn plan(devices: &str) -> Result<Devices, String> {
        let linux: Linux = serde_json::from_str(&format!(r#"{{"devices":[{devices}]}}"#)).unwrap();
        Devices::plan(&linux).map_err(|error| error.to_string())
    }

    /// In a thread with mounts and a umask of its own.
    fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        let in_thread = || {
            sys::process::unshare(libc::CLONE_NEWNS).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            run()
        };
        std::thread::scope(|scope| scope.spawn(in_thread).join().unwrap())
    }

    fn fill(root: &Path, devices: &str, show: bool) -> sys::Result<()> {
        // Opened inside: a handle belongs to the mounts that it was opened among.
        apart(|| populate(fs::File::open(root).unwrap().as_fd(), &plan(devices).unwrap(), show))
    }

    const FUSE: &str = r#"{"type":"c","path":"/dev/deep/fuse","major":10,"minor":229,"fileMode":416,"uid":7,"gid":8}"#;
    const PIPE: &str = r#"{"type":"p","path":"/run/pipe","fileMode":384}"#;

    #[test]
    fn what_is_no_device_is_refused() {
        for (device, wanted) in [
            (r#"{"type":"a","path":"/dev/x"}"#, "is of no type"),
            (r#"{"type":"c","path":"dev/x","major":1,"minor":1}"#, "has no full path"),
            (r#"{"type":"c","path":"/","major":1,"minor":1}"#, "has no full path"),
            (r#"{"type":"c","path":"/dev/../x","major":1,"minor":1}"#, "has no full path"),
            (r#"{"type":"c","path":"/dev/x","major":-1,"minor":1}"#, "-1:1"),
            (r#"{"type":"b","path":"/dev/x","major":4096,"minor":1}"#, "4096:1"),
            (r#"{"type":"u","path":"/dev/x","major":1,"minor":1048576}"#, "1:1048576"),
        ] {
            let error = plan(device).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn the_specification_has_its_way_with_default_devices_but_not_with_ptmx() {
        let null = r#"{"type":"c","path":"/dev//null","major":1,"minor":3,"fileMode":256}"#;
        let ptmx = r#"{"type":"c","path":"/dev/ptmx","major":5,"minor":2}"#;
        let Devices(devices) = plan(&format!("{null},{ptmx}")).unwrap();
        assert_eq!(devices.len(), DEFAULT.len());
        let null: Vec<_> = devices.iter().filter(|device| device.path == Path::new("/dev/null")).collect();
        assert_eq!((null.len(), null[0].mode), (1, 0o400));
    }

    #[test]
    fn nodes_have_their_numbers_modes_and_owners() {
        let root = tempfile::tempdir().unwrap();
        fill(root.path(), &format!("{FUSE},{PIPE}"), false).unwrap();
        for (path, mode, number, owner) in [
            ("dev/null", 0o20666, rustix::fs::makedev(1, 3), (0, 0)),
            ("dev/tty", 0o20666, rustix::fs::makedev(5, 0), (0, 0)),
            ("dev/deep/fuse", 0o20640, rustix::fs::makedev(10, 229), (7, 8)),
            ("run/pipe", 0o10600, 0, (0, 0)),
        ] {
            let meta = fs::symlink_metadata(root.path().join(path)).unwrap();
            assert_eq!((meta.mode(), meta.rdev(), (meta.uid(), meta.gid())), (mode, number, owner), "{path}");
        }
        assert_eq!(fs::read_link(root.path().join("dev/ptmx")).unwrap(), Path::new("pts/ptmx"));
        fill(root.path(), &format!("{FUSE},{PIPE}"), false).expect("what is there already is fine");
    }

    #[test]
    fn a_dev_that_is_a_link_leads_nowhere_outside() {
        let outside = tempfile::tempdir().unwrap();
        for show in [false, true] {
            let root = tempfile::tempdir().unwrap();
            symlink(outside.path(), root.path().join("dev")).unwrap();
            fill(root.path(), "", show).unwrap();
            let inside = root.path().join(outside.path().strip_prefix("/").unwrap());
            assert!(fs::symlink_metadata(inside.join("null")).is_ok());
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_node_that_is_something_else_is_an_error_and_stays() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        for show in [false, true] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("dev")).unwrap();
            symlink(outside.path(), root.path().join("dev/zero")).unwrap();
            let error = fill(root.path(), "", show).unwrap_err();
            assert_eq!(error.errno(), Some(if show { libc::ELOOP } else { libc::EEXIST }), "{error}");
            assert!(root.path().join("dev/zero").is_symlink());
        }
        assert!(fs::metadata(outside.path()).unwrap().is_file());
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dev")).unwrap();
        fs::write(root.path().join("dev/full"), "").unwrap();
        assert!(fill(root.path(), "", false).unwrap_err().call.contains("\"full\""));
    }

    #[test]
    fn an_images_own_multiplexor_is_not_the_hosts() {
        let root = tempfile::tempdir().unwrap();
        let dev = root.path().join("dev");
        fs::create_dir(&dev).unwrap();
        let number = dir::Device { major: 5, minor: 2 };
        Dir::open(&dev).unwrap().make_node(OsStr::new("ptmx"), Node::Char(number), 0o666).unwrap();
        fill(root.path(), "", false).unwrap();
        assert_eq!(fs::read_link(dev.join("ptmx")).unwrap(), Path::new("pts/ptmx"));
    }

    #[test]
    fn where_nodes_cannot_be_made_the_hosts_are_shown() {
        let root = tempfile::tempdir().unwrap();
        apart(|| {
            let handle = fs::File::open(root.path()).unwrap();
            populate(handle.as_fd(), &plan(PIPE).unwrap(), true).unwrap();
            let zero = fs::symlink_metadata(root.path().join("dev/zero")).unwrap();
            let host = fs::metadata("/dev/zero").unwrap();
            assert_eq!((zero.ino(), zero.dev(), zero.rdev()), (host.ino(), host.dev(), host.rdev()));
            assert!(fs::symlink_metadata(root.path().join("run/pipe")).unwrap().mode() & 0o170000 == 0o10000);
        });
        assert!(fs::metadata(root.path().join("dev/zero")).unwrap().is_file(), "mounted elsewhere only");
    }

    #[test]
    fn another_device_of_that_name_on_the_host_is_not_shown() {
        let root = tempfile::tempdir().unwrap();
        let other = r#"{"type":"b","path":"/dev/null","major":8,"minor":0}"#;
        let error = fill(root.path(), other, true).unwrap_err();
        assert_eq!((error.errno(), error.call.contains("another device")), (Some(libc::ENODEV), true), "{error}");
    }
}
