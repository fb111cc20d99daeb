//! Against a real systemd: the tests boot one as the init of namespaces of its own, with a cgroup2 of its own, and run
//! themselves inside of it.

use std::fmt::Write;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::cgroup::{Cgroup, Manager};

/// There only inside of the booted systemd.
const INSIDE: &str = "/run/wherry-inside";
const SYSTEMD: &str = "/lib/systemd/systemd";

/// `$1`: a scratch directory; `$2`: this program; `$3`: the test to run inside; `$4`: a cgroup. What the test prints is
/// then in `$1/out`.
const BOOT: &str = r#"
set -e
scratch=$1 program=$2 name=$3 group=$4
echo $$ > $group/cgroup.procs
mkdir $scratch/tmp $scratch/out
exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc sh -s $scratch $program $name <<'INNER'
set -e
scratch=$1 program=$2 name=$3
mount --make-rprivate /
mount -t tmpfs tmpfs $scratch/tmp
cd $scratch/tmp
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=$PWD/upper,workdir=$PWD/work root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir run/out old run/nobus
mount --bind $scratch/out run/out
touch run/wherry-inside
mount --bind $program run/wherry-inside
ln -s /run/systemd run/nobus/systemd
rm -rf etc/systemd/system
mkdir -p etc/systemd/system
cat > etc/systemd/system/inside.target <<UNIT
[Unit]
DefaultDependencies=no
Wants=dbus.socket inside.service
UNIT
cat > etc/systemd/system/dbus.socket <<UNIT
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
UNIT
cat > etc/systemd/system/dbus.service <<UNIT
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
UNIT
cat > etc/systemd/system/inside.service <<UNIT
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/run/wherry-inside --exact $name --nocapture
StandardOutput=file:/run/out/out
StandardError=file:/run/out/err
ExecStopPost=/bin/systemctl exit 0
UNIT
: > etc/machine-id
pivot_root . old
umount -l /old
exec env -i container=wherry PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=inside.target --log-target=null --show-status=no
INNER
"#;

/// True inside; outside, boots a systemd that runs the same test inside.
fn inside(name: &str) -> bool {
    if Path::new(INSIDE).exists() {
        return true;
    }
    let root = rustix::process::geteuid().is_root();
    if !root || !Path::new(SYSTEMD).exists() || !Path::new("/usr/bin/dbus-daemon").exists() {
        // On the standard error of the process, which the test harness does not keep.
        let skip = format!("SKIP {name}: it needs root, systemd and dbus-daemon\n");
        std::io::Write::write_all(&mut std::io::stderr(), skip.as_bytes()).unwrap();
        return false;
    }
    let machine = Hierarchies::detect().unwrap();
    let Some(unified) = machine.list.iter().find(|hierarchy| hierarchy.version == Version::V2) else { return false };
    let group = unified.mount.join(format!("wherry-test-{}-{}", std::process::id(), name.rsplit(':').next().unwrap()));
    std::fs::create_dir(&group).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut boot = Command::new("timeout");
    boot.args(["120", "sh", "-c", BOOT, "boot"]).arg(scratch.path()).arg(std::env::current_exe().unwrap());
    let output = boot.arg(name).arg(&group).stdin(Stdio::null()).output().unwrap();
    let mut told = String::from_utf8_lossy(&output.stderr).into_owned();
    for file in ["out", "err"] {
        write!(told, "{}", std::fs::read_to_string(scratch.path().join("out").join(file)).unwrap_or_default()).unwrap();
    }
    let path = Path::new("/").join(group.file_name().unwrap());
    let left = Cgroup::open(machine, &path).unwrap();
    left.kill().unwrap();
    left.remove().unwrap();
    assert!(told.contains("1 passed"), "{}: {told}", output.status);
    false
}

fn sleeper() -> Child {
    Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap()
}

/// A property of a unit as systemctl shows it.
fn shown(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", property, unit]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn group_of(child: &Child) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

#[test]
fn a_container_lives_in_a_scope() {
    if !inside("cgroup::systemd::tests::a_container_lives_in_a_scope") {
        return;
    }
    let machine = Hierarchies::detect().unwrap();
    assert!(machine.is_unified());
    let annotations = HashMap::from([("org.systemd.property.TimeoutStopSec".to_owned(), "uint64 5".to_owned())]);
    let resources: LinuxResources = serde_json::from_str(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
    for (at, bus) in [Bus::System, Bus::User { socket: "/run/dbus/system_bus_socket".into() }].into_iter().enumerate() {
        let manager = Manager::Systemd(bus);
        let path = PathBuf::from(format!("a-b.slice:test:{at}"));
        let scope = format!("test-{at}.scope");
        let create = || Cgroup::create_by(&manager, machine, &path, &resources, &annotations);
        let cgroup = create().unwrap();
        assert!(!cgroup.exists() && cgroup.dir_fd().unwrap().is_none());
        let (mut init, mut second) = (sleeper(), sleeper());
        cgroup.attach(init.id() as i32).unwrap();
        assert_eq!(group_of(&init), format!("/a.slice/a-b.slice/{scope}"));
        for (property, value) in [
            ("Description", &*format!("wherry container {at}")),
            ("Slice", "a-b.slice"),
            ("Delegate", "yes"),
            ("TimeoutStopUSec", "5s"),
            ("DevicePolicy", "strict"),
            ("DefaultDependencies", "no"),
        ] {
            assert_eq!(shown(&scope, property), value, "{property}");
        }
        let allowed = shown(&scope, "DeviceAllow");
        assert!(allowed.contains("/dev/char/1:3 rwm") && allowed.contains("char-136 rwm"), "{allowed}");

        let again: Cgroup = serde_json::from_str(&serde_json::to_string(&cgroup).unwrap()).unwrap();
        again.attach(second.id() as i32).unwrap();
        assert_eq!(group_of(&second), group_of(&init));
        again.freeze().unwrap();
        assert!(cgroup.is_frozen().unwrap());
        again.thaw().unwrap();

        let error = create().unwrap().attach(second.id() as i32).unwrap_err();
        assert!(matches!(&error, Error::UnitExists { unit } if *unit == scope), "{error}");
        again.kill().unwrap();
        init.wait().unwrap();
        second.wait().unwrap();
        again.remove().unwrap();
        assert_eq!(shown(&scope, "LoadState"), "not-found");
        assert!(!cgroup.exists());
        again.remove().unwrap();
    }
}

#[test]
fn limits_are_what_systemd_shows() {
    if !inside("cgroup::systemd::tests::limits_are_what_systemd_shows") {
        return;
    }
    let machine = Hierarchies::detect().unwrap();
    // Directly, for there is no bus at that place.
    let bus = Bus::User { socket: "/run/nobus/bus".into() };
    let unit = Unit::plan(machine, &bus, Path::new("system.slice:test:limits")).unwrap();
    let resources = |json: &str| serde_json::from_str::<LinuxResources>(json).unwrap();
    let all = resources(
        r#"{"memory":{"limit":104857600,"reservation":52428800,"swap":209715200},"pids":{"limit":9},
            "cpu":{"shares":1024,"quota":50000,"period":200000,"cpus":"0-1","mems":"0"},
            "unified":{"memory.high":"94371840"}}"#,
    );
    let orders = unit.orders(&all, Vec::new(), &HashMap::new()).unwrap();
    let mut child = sleeper();
    unit.start(orders, child.id() as i32).unwrap();
    let scope = "test-limits.scope";
    let show = |expected: &[(&str, &str)]| {
        for (property, value) in expected {
            assert_eq!(shown(scope, property), *value, "{property}");
        }
    };
    show(&[
        ("MemoryMax", "104857600"),
        ("MemoryLow", "52428800"),
        ("MemoryHigh", "94371840"),
        ("MemorySwapMax", "104857600"),
        ("TasksMax", "9"),
        ("CPUWeight", "100"),
        ("CPUQuotaPeriodUSec", "200ms"),
        ("CPUQuotaPerSecUSec", "250ms"),
        ("AllowedCPUs", "0-1"),
        ("AllowedMemoryNodes", "0"),
    ]);
    unit.set(&resources(r#"{"memory":{"limit":-1},"pids":{"limit":-1},"cpu":{"idle":1},"devices":[{"allow":true}]}"#))
        .unwrap();
    show(&[("MemoryMax", "infinity"), ("TasksMax", "infinity"), ("CPUWeight", "idle"), ("DevicePolicy", "auto")]);
    unit.stop().unwrap();
    child.wait().unwrap();
    unit.stop().unwrap();
}

#[test]
fn what_systemd_refuses_is_told() {
    if !inside("cgroup::systemd::tests::what_systemd_refuses_is_told") {
        return;
    }
    let machine = Hierarchies::detect().unwrap();
    let annotations = HashMap::from([("org.systemd.property.NoSuchThing".to_owned(), "'x'".to_owned())]);
    let (manager, path) = (Manager::Systemd(Bus::System), Path::new(":test:refused"));
    let cgroup = Cgroup::create_by(&manager, machine, path, &LinuxResources::default(), &annotations).unwrap();
    let mut child = sleeper();
    let error = cgroup.attach(child.id() as i32).unwrap_err().to_string();
    assert!(error.starts_with("systemd cannot start test-refused.scope: ") && error.contains("NoSuchThing"), "{error}");
    assert!(!cgroup.exists());
    // No process of that number can be put anywhere.
    let cgroup = Cgroup::create_by(&manager, machine, path, &LinuxResources::default(), &HashMap::new()).unwrap();
    assert!(matches!(cgroup.attach(i32::MAX).unwrap_err(), Error::Systemd { .. }));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn without_systemd_the_socket_is_told() {
    let bus = Bus::User { socket: "/nowhere/bus".into() };
    let error = Connection::open(&bus).err().unwrap();
    assert_eq!(error.to_string(), "cannot talk to systemd at \"/nowhere/bus\"");
    assert!(crate::error::Failure::hint(&error).unwrap().contains("systemd has to run"));
}
