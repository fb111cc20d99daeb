//! What a container, an image or a bundle may try against the runtime and the machine, by way of the real command line.
//! Each test names the faults of other runtimes that it was made for; docs/conformance.md has the whole table.
//!
//! Races, which take thousands of rounds, are with the code that wins them: `src/engine/linux/mounts/tests/attack.rs`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use wherry::bundle::{DEFAULT_CAPABILITIES, Intent, seccomp, spec};

use super::support::oci::{path, until_written};
use super::support::{Oci, copy_program, eventually};

/// Copies our binary to where only this test would lose it.
fn own_binary(oci: &Oci) -> PathBuf {
    let binary = oci.work().join("wherry-oci");
    copy_program(Path::new(env!("CARGO_BIN_EXE_wherry")), &binary);
    binary
}

/// A container with the defaults of Docker, which are those of `wherry run`, that runs `args`.
fn like_docker(oci: &Oci, id: &str, args: &[&str]) -> PathBuf {
    let native = seccomp::native().expect("a processor that Docker has a profile for");
    let spec = spec(&Intent {
        args: args.iter().map(|&word| word.to_owned()).collect(),
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        hostname: "story".into(),
        shm_size: Some(64 << 20),
        masked: true,
        capabilities: DEFAULT_CAPABILITIES.into(),
        seccomp: Some(seccomp::default_profile(&DEFAULT_CAPABILITIES.into(), native)),
        cgroup: Some(format!("/wherry/{id}").into()),
        last_group: i32::MAX as u32,
        ..Intent::default()
    });
    oci.bundle_with(id, "", |config| {
        let root = config["root"].take();
        *config = serde_json::to_value(spec).unwrap();
        config["root"] = root;
    })
}

/// Creates and starts a container that sleeps.
fn sleeping(oci: &Oci, change: impl FnOnce(&mut Value)) -> String {
    let id = oci.id("attack");
    oci.create(&id, &oci.bundle_with(&id, "sleep 1000", change));
    oci.ok(["start", &id]);
    id
}

/// Runs a bundle that must be refused, and leaves nothing; what the refusal says.
#[track_caller]
fn refusal(oci: &Oci, change: impl FnOnce(&mut Value)) -> String {
    let id = oci.id("attack");
    let bundle = oci.bundle_with(&id, "echo it ran", change);
    let output = oci.call(["run", "--bundle", path(&bundle), &id]);
    assert_ne!(output.status, 0, "{output}");
    assert!(!output.stdout.contains("it ran"), "{output}");
    oci.call(["state", &id]).expect(1).complains(&["container does not exist"]);
    output.stderr
}

/// Takes the mount there, and all below it, out of the configuration.
fn unmounted(config: &mut Value, destination: &str) {
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !Path::new(mount["destination"].as_str().unwrap()).starts_with(destination));
}

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

fn bind(source: &Path, destination: &str) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]})
}

/// A directory of the host that no container has business in.
struct Outside(PathBuf, (i64, i64));

impl Outside {
    fn new(oci: &Oci) -> Self {
        let at = oci.work().join("outside");
        fs::create_dir(&at).unwrap();
        let changed = Self::changed(&at);
        Self(at, changed)
    }

    /// When the directory, its mode or its owner was last changed.
    fn changed(at: &Path) -> (i64, i64) {
        let metadata = fs::metadata(at).unwrap();
        (metadata.ctime(), metadata.ctime_nsec())
    }

    #[track_caller]
    fn assert_untouched(&self, case: &str) {
        assert_eq!(fs::read_dir(&self.0).unwrap().count(), 0, "{case}: something was made on the host");
        assert_eq!(Self::changed(&self.0), self.1, "{case}: a directory of the host was changed");
    }
}

fn grant_ptrace(config: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        // Without it, nothing of a process on its way into the container can even be looked at.
        config["process"]["capabilities"][set].as_array_mut().unwrap().push("CAP_SYS_PTRACE".into());
    }
}

/// Looks for processes of another program, keeps their executables open, and writes to those once they have ended.
const ATTACK: &str = "
echo ready
while true; do
    for process in /proc/[0-9]*; do
        [ -e $process/exe ] || continue
        case $(readlink $process/exe) in /bin/busybox|'') continue ;; esac
        exec 9<$process/exe || continue
        echo seen >> /dev/shm/seen
        echo spoiled 2>/dev/null > /proc/self/fd/9
        while [ -e $process ]; do :; done
        echo spoiled 2>/dev/null > /proc/self/fd/9 && echo written >> /dev/shm/seen
    done
done";

#[test]
fn our_binary_cannot_be_written_from_a_container() {
    let oci = Oci::new();
    let id = oci.id("attack");
    // CVE-2019-5736.
    let binary = own_binary(&oci);
    let before = fs::read(&binary).unwrap();
    let bundle = oci.bundle_with(&id, ATTACK, grant_ptrace);
    let left = oci.create(&id, &bundle);
    oci.ok(["start", &id]);
    until_written(&left.file, "ready");
    let exec = |words: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(["--root", path(oci.root()), "exec", &id]).args(words).stdin(Stdio::null());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let seen = (0..200).map(|_| exec(&["cat", "/dev/shm/seen"])).find(|seen| seen.contains("seen"));
    assert!(seen.is_some(), "the attack has not had its chance");
    for _ in 0..20 {
        exec(&["true"]);
    }
    assert_eq!(exec(&["grep", "written", "/dev/shm/seen"]), "");
    assert!(fs::read(&binary).unwrap() == before, "the binary is as it was");
}

#[test]
fn nor_while_it_waits_for_the_start() {
    let oci = Oci::new();
    let id = oci.id("attack");
    let binary = own_binary(&oci);
    let before = fs::read(&binary).unwrap();
    let mut create = Command::new(&binary);
    let bundle = oci.bundle_with(&id, "sleep 1000", grant_ptrace);
    create.args(["--root", path(oci.root()), "create", "--bundle", path(&bundle), &id]).stdin(Stdio::null());
    assert_eq!(oci.leave_by(&mut create).output.status, 0);
    let seen = oci.ok(["exec", &id, "readlink", "/proc/1/exe"]);
    assert!(!seen.contains("busybox"), "the first process is still ours: {seen}");
    let script = "echo spoiled > /proc/1/exe || echo spoiled >> /proc/1/exe && echo written";
    let output = oci.call(["exec", &id, "sh", "-c", script]);
    assert!(output.stderr.contains("Read-only file system") || output.stderr.contains("Text file busy"), "{output}");
    assert_eq!(output.stdout, "");
    assert!(fs::read(&binary).unwrap() == before, "the binary is as it was");
}

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
#[test]
fn a_loader_in_the_image_cannot_write_the_binary_that_it_loads() {
    const BUSY_OR_READONLY: [i32; 2] = [libc::ETXTBSY, libc::EROFS];
    let oci = Oci::new();
    let rootfs = oci.work().join("rootfs");
    fs::create_dir(rootfs.join("lib64")).unwrap();
    // Our binary asks for this loader; whoever runs our binary in the image gets the image's.
    machine::write(&rootfs.join("lib64/ld-linux-x86-64.so.2"), &machine::write_own_binary());
    fs::write(rootfs.join("script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(rootfs.join("script"), PermissionsExt::from_mode(0o755)).unwrap();
    let binary = own_binary(&oci);
    let before = fs::read(&binary).unwrap();
    let by_copy = |args: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(["--root", path(oci.root())]).args(args).stdin(Stdio::null());
        super::support::Running::start(&mut command).finish()
    };
    let id = sleeping(&oci, |_| {});
    for program in ["/script", "/proc/self/exe"] {
        let run = oci.id("attack");
        let bundle = oci.bundle_with(&run, "", |config| config["process"]["args"] = json!([program]));
        for output in [by_copy(&["run", "--bundle", path(&bundle), &run]), by_copy(&["exec", &id, program])] {
            assert!(BUSY_OR_READONLY.contains(&output.status), "the loader had its chance, in vain: {output}");
        }
    }
    assert!(fs::read(&binary).unwrap() == before, "the binary is as it was");
}

#[test]
fn proc_is_procfs_or_there_is_no_container() {
    // CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642.
    let oci = Oci::new();
    let outside = Outside::new(&oci);
    let proc = oci.work().join("rootfs/proc");
    fs::remove_dir(&proc).unwrap();
    for target in ["/tmp/x", "tmp", "/missing", "../outside", path(&outside.0)] {
        symlink(target, &proc).unwrap();
        let refusal = refusal(&oci, |_| {});
        assert!(refusal.contains("must be mounted on ordinary directory"), "{target}: {refusal}");
        fs::remove_file(&proc).unwrap();
    }
    fs::create_dir(&proc).unwrap();
    let said = refusal(&oci, |config| {
        unmounted(config, "/proc");
        add_mount(config, bind(&outside.0, "/proc"));
    });
    assert!(said.contains("not procfs"), "a volume is no procfs: {said}");
    outside.assert_untouched("/proc");
}

#[test]
fn a_bundle_puts_nothing_of_its_own_into_proc() {
    // CVE-2025-52881: what the runtime writes to labels and sysctls would go elsewhere.
    let oci = Oci::new();
    let outside = Outside::new(&oci);
    symlink("/proc", oci.work().join("rootfs/link")).unwrap();
    for destination in [
        "/proc/sys",
        "/proc/sys/kernel",
        "/proc/self/attr",
        "/proc/1/attr",
        "/proc/thread-self/attr",
        "/link/sys",
        "/link/self/attr",
        "/proc/../proc/sys",
        "/proc",
    ] {
        let tmpfs = json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"});
        for mount in [tmpfs, bind(&outside.0, destination)] {
            let said = refusal(&oci, |config| add_mount(config, mount.clone()));
            assert!(said.contains("proc"), "{mount}: {said}");
        }
    }
    outside.assert_untouched("/proc/sys");
}

#[test]
fn names_longer_than_the_kernel_takes_are_refused() {
    // CVE-2021-43784: a length of 16 bits that overflowed.
    let oci = Oci::new();
    let long = format!("/{}", "x/".repeat(1 << 15));
    for length in [1 << 16, (1 << 16) + 1] {
        let said = refusal(&oci, |config| {
            config["linux"]["namespaces"][1]["path"] = json!(&long[..length]);
        });
        assert!(said.contains("too long"), "{}", &said[said.len().saturating_sub(300)..]);
    }
    let said = refusal(&oci, |config| {
        let map = |n: u32| json!({"containerID": n, "hostID": 100_000 + n, "size": 1});
        let maps: Vec<Value> = (0..8192).map(map).collect();
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = json!(maps);
        config["linux"]["gidMappings"] = json!(maps);
    });
    assert!(said.contains("linux.uidMappings: has 8192 entries"), "{said}");
}

#[test]
fn no_capability_is_inheritable_on_any_way_in() {
    // CVE-2022-29162, CVE-2022-24769, crun's CVE-2022-27650.
    let oci = Oci::new();
    let look = ["grep", "CapInh", "/proc/self/status"];
    let run = oci.id("attack");
    let bundle = oci.bundle_with(&run, "", |config| config["process"]["args"] = json!(look));
    let mut said = vec![oci.ok(["run", "--bundle", path(&bundle), &run])];
    let id = sleeping(&oci, |_| {});
    for options in [&[][..], &["--user", "1000"], &["--user", "1000:1000"], &["--cap", "CAP_KILL"]] {
        said.push(oci.ok([&["exec"][..], options, &[&id], &look].concat()));
    }
    said.push(oci.ok(["exec", &id, "grep", "CapInh", "/proc/1/status"]));
    assert_eq!(said, ["CapInh:\t0000000000000000"; 6]);
}

#[test]
fn no_working_directory_is_a_file_of_ours() {
    // CVE-2024-21626.
    let oci = Oci::new();
    let run = oci.id("attack");
    let bundle = oci.bundle(&run, "cat ../../../etc/hostname; echo it ran");
    let id = sleeping(&oci, |_| {});
    let config = bundle.join("config.json");
    let mut changed: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    let link = oci.work().join("rootfs/work");
    for number in 3..64 {
        let cwd = format!("/proc/self/fd/{number}");
        symlink(&cwd, &link).unwrap();
        // By name, and by a link in the image.
        let cwd = if number % 2 == 0 { "/work" } else { &cwd };
        changed["process"]["cwd"] = json!(cwd);
        fs::write(&config, changed.to_string()).unwrap();
        for output in [
            oci.call(["run", "--bundle", path(&bundle), &run]),
            oci.call(["exec", "--cwd", cwd, &id, "sh", "-c", "cat ../../../etc/hostname; echo it ran"]),
        ] {
            assert_ne!(output.status, 0, "{output}");
            assert_eq!(output.stdout, "", "{output}");
        }
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn masks_are_of_the_null_device_or_there_is_no_container() {
    // CVE-2025-31133. The bundle's own /dev, in which the runtime makes no devices.
    let oci = Oci::new();
    let own = oci.work().join("dev");
    fs::create_dir(&own).unwrap();
    fs::write(oci.work().join("rootfs/secret"), "secret").unwrap();
    for null in ["/proc/sys/kernel/core_pattern", "/etc/passwd", "zero"] {
        symlink(null, own.join("null")).unwrap();
        let said = refusal(&oci, |config| {
            unmounted(config, "/dev");
            add_mount(config, bind(&own, "/dev"));
            config["linux"]["maskedPaths"] = json!(["/secret"]);
        });
        assert!(said.contains("dev/null"), "{null}: {said}");
        fs::remove_file(own.join("null")).unwrap();
    }
}

#[test]
fn a_console_is_mounted_through_no_link() {
    // CVE-2025-52565.
    let oci = Oci::new();
    let outside = Outside::new(&oci);
    let console = oci.work().join("rootfs/dev/console");
    let socket = oci.work().join("console.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let escape = outside.0.join("console");
    for target in ["/proc/sys/kernel/core_pattern", "../../outside/console", path(&escape)] {
        symlink(target, &console).unwrap();
        let id = oci.id("attack");
        let bundle = oci.bundle_with(&id, "sleep 1000", |config| {
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
            config["process"]["terminal"] = json!(true);
        });
        let left = oci.leave(["create", "--bundle", path(&bundle), "--console-socket", path(&socket), &id]);
        assert_ne!(left.output.status, 0, "{target}: {}", left.output);
        assert!(left.output.stdout.contains("dev/console"), "{target}: {}", left.output);
        assert!(fs::symlink_metadata(&console).unwrap().is_symlink());
        fs::remove_file(&console).unwrap();
    }
    outside.assert_untouched("/dev/console");
}

#[test]
fn links_in_the_images_dev_lead_to_nothing_of_the_hosts() {
    // CVE-2026-41579 and crun's CVE-2026-47766.
    let oci = Oci::new();
    let outside = Outside::new(&oci);
    let rootfs = oci.work().join("rootfs");
    let (dev, kept) = (rootfs.join("dev"), rootfs.join("kept"));
    fs::rename(&dev, &kept).unwrap();
    for name in ["", "/pts", "/shm", "/mqueue", "/fd", "/null", "/ptmx", "/stdin", "/console"] {
        let link = rootfs.join(format!("dev{name}"));
        let beyond = Path::new("nowhere").join(link.file_name().unwrap());
        for target in [outside.0.clone(), outside.0.join(beyond), "../outside".into(), "../../outside".into()] {
            if !name.is_empty() {
                fs::create_dir(&dev).unwrap();
            }
            symlink(&target, &link).unwrap();
            for own_dev in [true, false] {
                let id = oci.id("attack");
                let bundle = oci.bundle_with(&id, "echo it ran", |config| {
                    let mounts = config["mounts"].as_array_mut().unwrap();
                    mounts.push(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}));
                    mounts.retain(|mount| own_dev || mount["destination"] != "/dev");
                });
                let output = oci.call(["run", "--bundle", path(&bundle), &id]);
                let case = format!("{link:?} to {target:?}, a /dev of its own: {own_dev}: {output}");
                outside.assert_untouched(&case);
                // A link in a directory that is covered is nobody's; every other one that is met is refused.
                assert!(!name.is_empty() || output.status != 0, "{case}");
                assert!(name.is_empty() || !own_dev || output.status == 0, "{case}");
                assert!(link.symlink_metadata().unwrap().is_symlink(), "{case}");
            }
            fs::remove_file(&link).unwrap();
            if !name.is_empty() {
                fs::remove_dir_all(&dev).unwrap();
            }
        }
    }
    fs::rename(&kept, &dev).unwrap();
}

#[test]
fn a_user_is_the_same_number_in_run_and_exec() {
    // crun's CVE-2026-30892 took 1 for 0. What is refused: `a_user_that_is_no_number_is_nobody`.
    let oci = Oci::new();
    let id = sleeping(&oci, |_| {});
    for (word, uid, gid) in [("1", 1, 0), ("1:1", 1, 1), ("0001", 1, 0), ("0:1", 0, 1), ("4294967294", u32::MAX - 1, 0)]
    {
        let by_exec = oci.ok(["exec", "--user", word, &id, "sh", "-c", "echo $(id -u):$(id -g)"]);
        let run = oci.id("attack");
        let bundle = oci.bundle_with(&run, "echo $(id -u):$(id -g)", |config| {
            config["process"]["user"] = json!({"uid": uid, "gid": gid});
        });
        assert_eq!(by_exec, format!("{uid}:{gid}"), "{word}");
        assert_eq!(oci.ok(["run", "--bundle", path(&bundle), &run]), by_exec, "{word}");
    }
}

/// Watches for processes that join, and says whose files could be read on their way.
const WATCH: &str = "
exec 2>/dev/null
echo ready
while true; do
    for process in /proc/[0-9]*; do
        [ $process = /proc/1 ] && continue
        read name < $process/comm || continue
        [ $name = true ] && continue
        found=$(readlink $process/fd/* $process/exe $process/root; cat $process/environ; true < $process/mem && echo mem)
        read after < $process/comm || continue
        [ \"$name\" = \"$after\" ] || continue
        echo met $name
        [ -z \"$found\" ] || echo \"its own: $found\"
    done
done";

#[test]
fn who_joins_a_container_shows_it_nothing() {
    let oci = Oci::new();
    let id = oci.id("attack");
    let left = oci.create(&id, &oci.bundle(&id, WATCH));
    oci.ok(["start", &id]);
    until_written(&left.file, "ready");
    let said = eventually("a joining process was met", || {
        oci.ok(["exec", &id, "true"]);
        let said = fs::read_to_string(&left.file).unwrap();
        (said.matches("met ").count() >= 5).then_some(said)
    });
    assert!(!said.contains("its own"), "{said}");
}

#[test]
fn what_the_kernel_runs_for_the_host_cannot_be_set() {
    const HOST: &str = "/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hotplug \
        /sys/kernel/uevent_helper /proc/sys/fs/binfmt_misc/register /proc/sysrq-trigger /proc/sys/vm/drop_caches";
    let oci = Oci::new();
    let script = format!(
        "for file in {HOST} $(find /sys/fs/cgroup /sys/devices -name release_agent -o -name uevent); do
            [ -e $file ] && echo met $file
            (: >> $file) 2>/dev/null && echo opened $file
        done
        mount -o remount,rw /proc/sys && echo remounted /proc/sys
        mount -o remount,rw /sys && echo remounted /sys
        umount /proc/sys && echo unmounted /proc/sys
        mount -t binfmt_misc none /tmp && echo mounted binfmt_misc
        mount -t cgroup -o name=systemd none /tmp && echo mounted cgroup
        mount -t proc none /tmp && echo mounted proc
        mount -t sysfs none /tmp && echo mounted sysfs
        exit 0"
    );
    let id = oci.id("attack");
    let bundle = like_docker(&oci, &id, &["sh", "-c", &script]);
    let output = oci.call(["run", "--bundle", path(&bundle), &id]).expect(0);
    assert!(output.stdout.contains("met /proc/sys/kernel/core_pattern"), "{output}");
    let done: Vec<&str> = output.stdout.lines().filter(|line| !line.starts_with("met ")).collect();
    assert!(done.is_empty(), "{done:?}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn dockers_profile_holds_by_every_abi() {
    // CVE-2026-31431: AF_ALG. Exit codes are errno, or 256 less the descriptor.
    use machine::Abi::{I386, X32, X86_64};
    const INET: u32 = 2;
    const ALG: u32 = 38;
    const DGRAM: u32 = 2;
    const SEQPACKET: u32 = 5;
    const GOT_DESCRIPTOR_3: i32 = 253;
    let oci = Oci::new();
    let ran = |abi, number, first, second| {
        machine::write(&oci.work().join("rootfs/program"), &machine::system_call(abi, number, first, second));
        let id = oci.id("attack");
        oci.call(["run", "--bundle", path(&like_docker(&oci, &id, &["/program"])), &id]).status
    };
    assert_eq!(ran(X86_64, 41, INET, DGRAM), GOT_DESCRIPTOR_3, "the program works");
    assert_eq!(ran(I386, 359, INET, DGRAM), GOT_DESCRIPTOR_3, "and for 32 bits, which the kernel has to know");
    for (abi, number) in [(X86_64, 41), (X32, 41), (I386, 359)] {
        assert_eq!(ran(abi, number, ALG, SEQPACKET), libc::EPERM, "{abi:?}: socket(AF_ALG)");
        assert_eq!(ran(abi, 425, 1, 0), libc::EPERM, "{abi:?}: io_uring_setup");
    }
    for (abi, mount, keyctl) in [(X86_64, 165, 250), (X32, 165, 250), (I386, 21, 288)] {
        assert_eq!(ran(abi, mount, 0, 0), libc::EPERM, "{abi:?}: mount");
        assert_eq!(ran(abi, keyctl, 0, 0), libc::EPERM, "{abi:?}: keyctl");
    }
}

/// Programs of a few instructions, which no compiler is needed for.
#[cfg(target_arch = "x86_64")]
mod machine {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Abi {
        X86_64,
        X32,
        I386,
    }

    const BASE: u32 = 0x40_0000;
    const X32_BIT: u32 = 1 << 30;

    /// Makes one system call and ends with the negative of what that returned.
    pub fn system_call(abi: Abi, number: u32, first: u32, second: u32) -> Vec<u8> {
        let load = |instruction: u8, value: u32| [&[instruction][..], &value.to_le_bytes()].concat();
        if abi == Abi::I386 {
            // mov eax; mov ebx; mov ecx; xor edx, edx; int 0x80; mov ebx, eax; neg ebx; mov eax, exit; int 0x80
            let call = [load(0xb8, number), load(0xbb, first), load(0xb9, second), vec![0x31, 0xd2, 0xcd, 0x80]];
            return elf32(&[call.concat(), vec![0x89, 0xc3, 0xf7, 0xdb], load(0xb8, 1), vec![0xcd, 0x80]].concat());
        }
        let number = if abi == Abi::X32 { number | X32_BIT } else { number };
        // mov eax; mov edi; mov esi; xor edx, edx; syscall
        let call = [load(0xb8, number), load(0xbf, first), load(0xbe, second), vec![0x31, 0xd2, 0x0f, 0x05]];
        elf64(&[call.concat(), end()].concat())
    }

    /// Opens /proc/self/exe for writing and ends with its errno.
    pub fn write_own_binary() -> Vec<u8> {
        // lea rdi, [rip + what follows]; mov esi, O_WRONLY; mov eax, open; syscall
        let after = 12 + end().len();
        let name = [&[0x48, 0x8d, 0x3d][..], &u32::try_from(after).unwrap().to_le_bytes()].concat();
        let call = [0xbe, 1, 0, 0, 0, 0xb8, 2, 0, 0, 0, 0x0f, 0x05];
        elf64(&[&name[..], &call, &end(), b"/proc/self/exe\0"].concat())
    }

    /// mov edi, eax; neg edi; mov eax, exit_group; syscall
    fn end() -> Vec<u8> {
        vec![0x89, 0xc7, 0xf7, 0xdf, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]
    }

    /// elf(5), as little of it as the kernel reads.
    fn elf64(code: &[u8]) -> Vec<u8> {
        let size = 64 + 56 + code.len() as u64;
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0];
        for long in [u64::from(BASE) + 64 + 56, 64, 0] {
            file.extend(long.to_le_bytes());
        }
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, read and execute
        for long in [0, BASE.into(), BASE.into(), size, size, 0x1000] {
            file.extend(long.to_le_bytes());
        }
        file.extend(code);
        file
    }

    fn elf32(code: &[u8]) -> Vec<u8> {
        let size = 52 + 32 + u32::try_from(code.len()).unwrap();
        let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 1, 0, 0, 0];
        for word in [BASE + 52 + 32, 52, 0, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
            file.extend(word.to_le_bytes());
        }
        file.extend(code);
        file
    }

    pub fn write(at: &Path, program: &[u8]) {
        fs::write(at, program).unwrap();
        fs::set_permissions(at, PermissionsExt::from_mode(0o755)).unwrap();
    }
}
