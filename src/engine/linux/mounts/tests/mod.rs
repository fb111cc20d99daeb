//! The mounts against the kernel: each test has a mount namespace of its own, makes what a specification asks for in a
//! directory that stands for a root filesystem, and looks at what the kernel then says.

mod attack;
mod kernel;
mod pure;
mod user;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// Runs in a mount namespace of its own, which nothing leaves and nothing enters.
fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    apart_as(MountPropagationFlags::PRIVATE, run)
}

fn apart_as<T: Send>(propagation: MountPropagationFlags, run: impl FnOnce() -> T + Send) -> T {
    let in_thread = || {
        sys::process::unshare(libc::CLONE_NEWNS).unwrap();
        mount_change("/", propagation | MountPropagationFlags::REC).unwrap();
        run()
    };
    std::thread::scope(|scope| scope.spawn(in_thread).join().unwrap())
}

/// A bundle with a root filesystem, empty at first.
struct Bundle {
    dir: PathBuf,
    rootfs: PathBuf,
    _temporary: Option<TempDir>,
}

impl Bundle {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("rootfs")).unwrap();
        let bundle = Self::at(temporary.path());
        Self { _temporary: Some(temporary), ..bundle }
    }

    fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), rootfs: dir.join("rootfs"), _temporary: None }
    }

    fn context(&self) -> Context<'_> {
        Context {
            bundle: &self.dir,
            rootfs: &self.rootfs,
            label: None,
            user: User::Ours,
            cgroup_namespace: false,
            receives: false,
        }
    }

    fn parse(&self, mount: Value) -> Result<Step, Error> {
        Step::parse(&serde_json::from_value(mount).unwrap(), &self.context())
    }

    fn root(&self) -> OwnedFd {
        rustix::fs::open(&self.rootfs, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn try_make(&self, mount: Value) -> sys::Result<Option<Seal>> {
        self.parse(mount).unwrap().make(self.root().as_fd())
    }

    fn make(&self, mount: Value) -> Option<Seal> {
        self.try_make(mount).unwrap()
    }

    fn bind(&self, source: &Path, at: &str, options: &str) {
        assert!(self.make(bind(source, at, options)).is_none());
    }

    fn tmpfs(&self, at: &str, options: &str) -> Option<Seal> {
        self.make(tmpfs(at, options))
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.rootfs.join(inside.trim_start_matches('/'))
    }

    /// Why a mount cannot be made.
    fn refusal(&self, mount: Value) -> String {
        match self.parse(mount) {
            Err(error) => error.to_string(),
            Ok(step) => match step.make(self.root().as_fd()) {
                Err(error) => format!("{error}: {}", error.source),
                Ok(_) => String::new(),
            },
        }
    }
}

fn words(options: &str) -> Vec<&str> {
    options.split(',').filter(|option| !option.is_empty()).collect()
}

fn bind(source: &Path, at: &str, options: &str) -> Value {
    let options = [&["rbind"], &words(options)[..]].concat();
    json!({ "destination": at, "source": source, "type": "bind", "options": options })
}

fn tmpfs(at: &str, options: &str) -> Value {
    json!({ "destination": at, "source": "tmpfs", "type": "tmpfs", "options": words(options) })
}

/// The last mount at `path`: its options, the optional fields, the type, the superblock's options.
#[derive(Debug)]
struct Mounted {
    options: String,
    propagation: String,
    typ: String,
    superblock: String,
}

fn mounted(path: &Path) -> Option<Mounted> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let found = text.lines().rfind(|line| line.split(' ').nth(4) == path.to_str());
    found.map(|line| {
        let (mount, filesystem) = line.split_once(" - ").unwrap();
        let (mount, filesystem): (Vec<&str>, Vec<&str>) = (mount.split(' ').collect(), filesystem.split(' ').collect());
        Mounted {
            options: mount[5].into(),
            propagation: mount[6..].join(" "),
            typ: filesystem[0].into(),
            superblock: filesystem[2].into(),
        }
    })
}

fn options_at(path: &Path) -> String {
    mounted(path).unwrap_or_else(|| panic!("nothing is mounted at {path:?}")).options
}

fn directory(path: PathBuf) -> PathBuf {
    fs::create_dir_all(&path).unwrap();
    path
}
