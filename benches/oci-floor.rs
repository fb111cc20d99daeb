//! The floor for starting a Linux container: a program that makes one as the kernel wants it made and decides nothing.
//!
//! ```text
//! oci-floor bundle DIRECTORY ROOTFS CGROUP     writes the config.json that all runtimes are measured with, and
//!                                              the same seccomp profile compiled, DIRECTORY/filter
//! oci-floor run DIRECTORY ROOTFS CGROUP PROGRAM [ARG…]    that container, its cgroup made and removed
//! ```
//!
//! `run` reads no config.json: the six namespaces, ten mounts, fourteen capabilities, masked and read-only paths of that
//! bundle are written out here. No file is looked up safely, nothing is checked, recorded, or made to survive a
//! crash, no other process may look at the container or signal it, and its devices are not restricted: a
//! runtime has to do all of that, and a ratio to this program is what it costs.
//!
//! On cgroup v2 the child is born in its cgroup; on v1 it moves there itself, by `tasks`: to write its pid to `cgroup.procs`
//! takes the kernel a grace period of 7 to 15 ms.

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "clone3, seccomp and execve have no safe wrapper"))]

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("oci-floor: containers are made on Linux");
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["bundle", directory, rootfs, cgroup] => bundle::write(directory.as_ref(), rootfs.as_ref(), cgroup),
        ["run", directory, rootfs, cgroup, ref program @ ..] if !program.is_empty() => {
            floor::run(directory, rootfs, cgroup, program)
        }
        _ => Err("usage: oci-floor bundle|run DIRECTORY ROOTFS CGROUP [PROGRAM [ARG…]]".into()),
    };
    done.map_or_else(
        |error| {
            eprintln!("oci-floor: {error}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

#[cfg(target_os = "linux")]
type Failure = Box<dyn std::error::Error>;

/// The files of the host that Docker mounts into every container.
#[cfg(target_os = "linux")]
const FILES: [&str; 3] = ["etc/resolv.conf", "etc/hostname", "etc/hosts"];

/// What is measured: wherry's own specification of a container with Docker's defaults.
#[cfg(target_os = "linux")]
mod bundle {
    use std::path::Path;

    use wherry::bundle::{Bind, Bundle, DEFAULT_CAPABILITIES, Intent, seccomp, spec};
    use wherry::engine::linux::seccomp::{Family, Filter, compile};

    use super::{FILES, Failure};

    pub fn write(directory: &Path, rootfs: &Path, cgroup: &str) -> Result<u8, Failure> {
        let native = seccomp::native().ok_or("no seccomp profile for this processor")?;
        let family = Family::native().ok_or("no seccomp tables for this processor")?;
        let profile = seccomp::default_profile(&DEFAULT_CAPABILITIES.into(), native);
        let filter = compile(&profile, family)?;
        let file = |path: &str| Bind {
            source: directory.join(path.replace('/', "-")),
            destination: Path::new("/").join(path),
            readonly: false,
        };
        let binds: Vec<Bind> = FILES.map(file).into();
        for Bind { source, .. } in &binds {
            std::fs::write(source, "")?;
        }
        let mut spec = spec(&Intent {
            args: vec!["/bin/true".into()],
            env: vec!["PATH=/bin".into()],
            cwd: "/".into(),
            hostname: "bench".into(),
            binds,
            shm_size: Some(64 << 20),
            masked: true,
            capabilities: DEFAULT_CAPABILITIES.into(),
            seccomp: Some(profile),
            cgroup: Some(cgroup.into()),
            last_group: i32::MAX as u32,
            ..Intent::default()
        });
        let mut root = spec.root().clone().ok_or("the specification has no root")?;
        root.set_path(rootfs.to_owned());
        spec.set_root(Some(root));
        Bundle::write(directory, spec)?;
        std::fs::write(directory.join("filter"), bytes(&filter))?;
        Ok(0)
    }

    /// The filter as an array of `struct sock_filter`.
    fn bytes(filter: &Filter) -> Vec<u8> {
        let instruction = |i: &wherry::sys::seccomp::Instruction| {
            let [a, b] = i.code.to_ne_bytes();
            let [k0, k1, k2, k3] = i.k.to_ne_bytes();
            [a, b, i.jt, i.jf, k0, k1, k2, k3]
        };
        filter.program().iter().flat_map(instruction).collect()
    }
}

#[cfg(target_os = "linux")]
mod floor {
    use std::ffi::{CStr, CString};
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::os::fd::{AsFd, AsRawFd};
    use std::path::{Path, PathBuf};

    use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open, symlinkat};
    use rustix::io::Errno;
    use rustix::mount::{
        MountFlags as M, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
        mount_remount, unmount,
    };
    use rustix::process::{Pid, WaitOptions, chdir, pivot_root, waitpid};
    use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

    use super::{FILES, Failure};

    const CGROUPS: &str = "/sys/fs/cgroup";
    /// linux/sched.h, linux/magic.h; some constants of `libc` overflow their types.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    const CGROUP2_MAGIC: i64 = 0x6367_7270;
    /// Docker's fourteen capabilities, and the last one that this kernel may have.
    const CAPABILITIES: u64 = 0xa804_25fb;
    const LAST_CAPABILITY: u32 = 40;

    const HARD: M = M::NOSUID.union(M::NODEV).union(M::NOEXEC);
    const MOUNTS: [(&str, &CStr, M, &CStr); 6] = [
        ("proc", c"proc", HARD, c""),
        ("dev", c"tmpfs", M::NOSUID.union(M::STRICTATIME), c"mode=755,size=65536k"),
        ("dev/pts", c"devpts", M::NOSUID.union(M::NOEXEC), c"newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("dev/shm", c"tmpfs", HARD, c"mode=1777,size=65536k"),
        ("dev/mqueue", c"mqueue", HARD, c""),
        ("sys", c"sysfs", HARD.union(M::RDONLY), c""),
    ];
    const DEVICES: [(&str, u32, u32); 6] =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    const LINKS: [(&str, &str); 6] = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
        ("ptmx", "pts/ptmx"),
    ];
    const SYSCTLS: [(&str, &str); 2] = [
        ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
        ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ];
    const MASKED: [&str; 12] = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

    struct Container<'a> {
        directory: &'a str,
        rootfs: &'a str,
        filter: Vec<u8>,
        /// The controllers of each v1 hierarchy, as in /proc/self/cgroup; none on v2.
        hierarchies: Vec<String>,
        program: Vec<CString>,
    }

    pub fn run(directory: &str, rootfs: &str, cgroup: &str, program: &[&str]) -> Result<u8, Failure> {
        let v2 = rustix::fs::statfs(CGROUPS)?.f_type == CGROUP2_MAGIC;
        let container = Container {
            directory,
            rootfs,
            filter: std::fs::read(Path::new(directory).join("filter"))?,
            hierarchies: if v2 { Vec::new() } else { hierarchies()? },
            program: program.iter().map(|arg| CString::new(*arg)).collect::<Result<_, _>>()?,
        };
        let groups = groups(&container.hierarchies, cgroup);
        for group in &groups {
            make_group(group)?;
        }
        let ended = if v2 { born_into(&container, &groups[0]) } else { moves_into(&container, &groups) };
        for group in groups {
            std::fs::remove_dir(group)?;
        }
        ended
    }

    fn hierarchies() -> Result<Vec<String>, Failure> {
        let groups = std::fs::read_to_string("/proc/self/cgroup")?;
        let controllers = groups.lines().filter_map(|line| line.split(':').nth(1)).filter(|c| !c.is_empty());
        Ok(controllers.map(str::to_owned).collect())
    }

    fn groups(hierarchies: &[String], cgroup: &str) -> Vec<PathBuf> {
        let relative = cgroup.trim_start_matches('/');
        match hierarchies {
            [] => vec![Path::new(CGROUPS).join(relative)],
            _ => hierarchies.iter().map(|h| Path::new(CGROUPS).join(place(h)).join(relative)).collect(),
        }
    }

    /// Where a hierarchy is mounted by custom.
    fn place(controllers: &str) -> &str {
        controllers.trim_start_matches("name=")
    }

    /// Makes a cgroup, and those above it. On v1 a cpuset can take no process before it has processors and memory.
    fn make_group(group: &Path) -> Result<(), Failure> {
        let parent = group.parent().ok_or("a cgroup has a parent")?;
        match std::fs::create_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make_group(parent)?;
                std::fs::create_dir(group)?;
            }
            made => made?,
        }
        if group.starts_with(Path::new(CGROUPS).join("cpuset")) {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                std::fs::write(group.join(file), std::fs::read(parent.join(file))?)?;
            }
        }
        Ok(())
    }

    fn born_into(container: &Container, group: &Path) -> Result<u8, Failure> {
        let group = open(group, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        wait(clone(Some(group.as_fd().as_raw_fd()), || container.become_program(&[]))?)
    }

    fn moves_into(container: &Container, groups: &[PathBuf]) -> Result<u8, Failure> {
        wait(clone(None, || container.become_program(groups))?)
    }

    fn clone(cgroup: Option<i32>, child: impl FnOnce() -> Result<(), Failure>) -> Result<Pid, Failure> {
        let namespaces =
            libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWPID | libc::CLONE_NEWNET;
        // SAFETY: zero is a valid value of every field.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = namespaces as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        if let Some(fd) = cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = fd as u64;
        }
        // SAFETY: `args` is a clone_args of the size given; with no stack of its own the child goes on as a copy of
        // this process, which has one thread.
        match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) } {
            0 => {
                let Err(error) = child() else { unreachable!("a program has taken its place") };
                eprintln!("oci-floor: in the container: {error}");
                std::process::exit(125)
            }
            pid => Pid::from_raw(pid as i32).filter(|_| pid > 0).ok_or_else(|| std::io::Error::last_os_error().into()),
        }
    }

    fn wait(child: Pid) -> Result<u8, Failure> {
        let (_, status) = waitpid(Some(child), WaitOptions::empty())?.ok_or("nothing to wait for")?;
        Ok(status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(125))
    }

    impl Container<'_> {
        fn become_program(&self, groups: &[PathBuf]) -> Result<(), Failure> {
            // One thread that moves itself waits for nobody; a process moved by another waits for a grace period.
            groups.iter().try_for_each(|group| std::fs::write(group.join("tasks"), "0"))?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            mount_bind(self.rootfs, self.rootfs)?;
            chdir(self.rootfs)?;
            self.mounts()?;
            loopback_up()?;
            // SAFETY: a new cgroup namespace concerns no file and no memory.
            check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })?;
            self.cgroups()?;
            pivot_root(".", ".")?;
            unmount(".", UnmountFlags::DETACH)?;
            chdir("/")?;
            rustix::system::sethostname(b"bench")?;
            for (path, value) in SYSCTLS {
                OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())?;
            }
            protect()?;
            self.confine()?;
            Err(self.execute())
        }

        fn mounts(&self) -> Result<(), Failure> {
            for (target, typ, flags, data) in MOUNTS {
                if let Some(name) = target.strip_prefix("dev/") {
                    rustix::fs::mkdir(Path::new("dev").join(name), Mode::from_raw_mode(0o755))?;
                }
                mount(typ, target, typ, flags, data)?;
            }
            let dev = open("dev", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::process::umask(Mode::empty());
            for (name, major, minor) in DEVICES {
                mknodat(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))?;
            }
            rustix::process::umask(Mode::from_raw_mode(0o022));
            for (name, target) in LINKS {
                symlinkat(target, &dev, name)?;
            }
            for file in FILES {
                mount_bind_recursive(Path::new(self.directory).join(file.replace('/', "-")), file)?;
            }
            Ok(())
        }

        fn cgroups(&self) -> Result<(), Failure> {
            const PLACE: &str = "sys/fs/cgroup";
            if self.hierarchies.is_empty() {
                return Ok(mount(c"cgroup", PLACE, c"cgroup2", HARD | M::RDONLY, c"")?);
            }
            mount(c"cgroup", PLACE, c"tmpfs", HARD, c"mode=755")?;
            for controllers in &self.hierarchies {
                let target = Path::new(PLACE).join(place(controllers));
                rustix::fs::mkdir(&target, Mode::from_raw_mode(0o755))?;
                let options = match controllers.strip_prefix("name=") {
                    Some(_) => CString::new(format!("none,{controllers}"))?,
                    None => CString::new(controllers.as_str())?,
                };
                mount(c"cgroup", &target, c"cgroup", HARD | M::RDONLY, &*options)?;
                for alias in controllers.split(',').filter(|one| *one != place(controllers) && !one.contains('=')) {
                    symlinkat(place(controllers), CWD, Path::new(PLACE).join(alias))?;
                }
            }
            Ok(mount_remount(PLACE, M::BIND | HARD | M::RDONLY, c"")?)
        }

        fn confine(&self) -> Result<(), Failure> {
            for capability in 0..=LAST_CAPABILITY {
                if CAPABILITIES & (1 << capability) == 0 {
                    remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << capability))?;
                }
            }
            let filter = libc::sock_fprog {
                len: u16::try_from(self.filter.len() / size_of::<libc::sock_filter>())?,
                filter: self.filter.as_ptr().cast_mut().cast(),
            };
            // SAFETY: `filter` has the number of instructions that it says, the kernel copies them byte by byte.
            check(unsafe {
                libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) as i32
            })?;
            let own = CapabilitySet::from_bits_retain(CAPABILITIES);
            Ok(set_capabilities(
                None,
                CapabilitySets { effective: own, permitted: own, inheritable: CapabilitySet::empty() },
            )?)
        }

        fn execute(&self) -> Failure {
            let argv: Vec<_> = self.program.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
            let envp = [c"PATH=/bin".as_ptr(), std::ptr::null()];
            // SAFETY: both arrays are null-terminated and point to C strings that live until the call ends.
            unsafe { libc::execve(argv[0], argv.as_ptr(), envp.as_ptr()) };
            std::io::Error::last_os_error().into()
        }
    }

    /// Masks paths, and makes others read-only; not every kernel has all of them.
    fn protect() -> Result<(), Failure> {
        for path in MASKED {
            match mount_bind("/dev/null", path) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR) => mount(c"tmpfs", path, c"tmpfs", HARD | M::RDONLY, c"")?,
                Err(error) => return Err(error.into()),
            }
        }
        for path in READONLY {
            match mount_bind_recursive(path, path) {
                Ok(()) => mount_remount(path, M::BIND | HARD | M::RDONLY, c"")?,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn loopback_up() -> Result<(), Failure> {
        let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
        // SAFETY: zero is a valid value of every field.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        // SAFETY: the request is an ifreq with the fields that SIOCSIFFLAGS reads.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
        drop(File::from(socket));
        check(done)
    }

    fn check(result: i32) -> Result<(), Failure> {
        if result < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(()) }
    }
}
