//! Against a real systemd: the tests boot one as the init of namespaces of its own, with a cgroup2 of its own, and run
//! themselves inside of it.

use std::fmt::Write;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::cgroup::{Cgroup, Manager};

/// There only inside of the booted systemd.
const INSIDE: &str = "/run/wherry-inside";
const SYSTEMD: &str = "/lib/systemd/systemd";

/// `$1`: a scratch directory; `$2`: this program; `$3`: the test to run inside; `$4`: this machine's hierarchies that are
/// inside too, `-` for cgroup2; the others: the groups to be in. What the test prints is then in `$1/out`.
const BOOT: &str = r#"
set -e
scratch=$1 program=$2 name=$3 hierarchies=$4
shift 4
for group; do
    if [ -e $group/cpuset.cpus ]; then
        cat $group/../cpuset.cpus > $group/cpuset.cpus
        cat $group/../cpuset.mems > $group/cpuset.mems
    fi
    echo $$ > $group/cgroup.procs
done
mkdir $scratch/tmp $scratch/out
exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc sh -s $scratch $program $name "$hierarchies" <<'INNER'
set -e
scratch=$1 program=$2 name=$3 hierarchies=$4
mount --make-rprivate /
mount -t tmpfs tmpfs $scratch/tmp
cd $scratch/tmp
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=$PWD/upper,workdir=$PWD/work root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ "$hierarchies" = - ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup
    for hierarchy in $hierarchies; do
        mkdir sys/fs/cgroup/${hierarchy#*=}
        case $hierarchy in
        unified) mount -t cgroup2 cgroup2 sys/fs/cgroup/unified ;;
        name=*) mount -t cgroup -o none,$hierarchy cgroup sys/fs/cgroup/${hierarchy#*=} ;;
        *) mount -t cgroup -o $hierarchy cgroup sys/fs/cgroup/$hierarchy ;;
        esac
    done
fi
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

/// What the booted systemd has for cgroups.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Unified,
    /// This machine's own hierarchies, v1 ones among them.
    Hybrid,
}

/// True inside; outside, boots a systemd that runs the same test inside.
fn inside(name: &str, kind: Inside) -> bool {
    if Path::new(INSIDE).exists() {
        return true;
    }
    let skip = |why: &str| {
        // On the standard error of the process, which the test harness does not keep.
        std::io::Write::write_all(&mut std::io::stderr(), format!("SKIP {name}: {why}\n").as_bytes()).unwrap();
        false
    };
    let root = rustix::process::geteuid().is_root();
    if !root || !Path::new(SYSTEMD).exists() || !Path::new("/usr/bin/dbus-daemon").exists() {
        return skip("it needs root, systemd and dbus-daemon");
    }
    let machine = Hierarchies::detect().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let named = mounts.lines().filter(|line| line.ends_with(",name=systemd")).filter_map(|line| line.split(' ').nth(4));
    let mut wanted: Vec<(String, PathBuf)> = match kind {
        Inside::Unified => Vec::new(),
        Inside::Hybrid => named.map(|mount| ("name=systemd".to_owned(), mount.into())).collect(),
    };
    for hierarchy in &machine.list {
        match (hierarchy.version, kind) {
            (Version::V2, _) => wanted.push(("unified".into(), hierarchy.mount.clone())),
            (Version::V1, Inside::Hybrid) => wanted.push((hierarchy.controllers.join(","), hierarchy.mount.clone())),
            (Version::V1, Inside::Unified) => {}
        }
    }
    match kind {
        Inside::Unified if wanted.is_empty() => return skip("it needs a cgroup2"),
        Inside::Hybrid if machine.is_unified() || !wanted[0].0.starts_with("name=") => {
            return skip("it needs cgroup v1, and the hierarchy name=systemd");
        }
        _ => {}
    }
    let below = format!("wherry-test-{}-{}", std::process::id(), name.rsplit(':').next().unwrap());
    let groups: Vec<PathBuf> = wanted.iter().map(|(_, mount)| mount.join(&below)).collect();
    groups.iter().for_each(|group| std::fs::create_dir(group).unwrap());
    let hierarchies: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let hierarchies = if kind == Inside::Unified { "-".to_owned() } else { hierarchies.join(" ") };

    let scratch = tempfile::tempdir().unwrap();
    let mut boot = Command::new("timeout");
    boot.args(["120", "sh", "-c", BOOT, "boot"]).arg(scratch.path()).arg(std::env::current_exe().unwrap());
    let output = boot.args([name, &hierarchies]).args(&groups).stdin(Stdio::null()).output().unwrap();
    let mut told = String::from_utf8_lossy(&output.stderr).into_owned();
    for file in ["out", "err"] {
        write!(told, "{}", std::fs::read_to_string(scratch.path().join("out").join(file)).unwrap_or_default()).unwrap();
    }
    let left = Cgroup::open(machine, &Path::new("/").join(&below)).unwrap();
    left.kill().unwrap();
    left.remove().unwrap();
    // systemd's own hierarchy is in none of ours.
    for group in groups.iter().filter(|group| group.exists()) {
        let removed =
            Command::new("find").arg(group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).status();
        assert!(removed.unwrap().success());
    }
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
    if !inside("cgroup::systemd::tests::a_container_lives_in_a_scope", Inside::Unified) {
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
        let create = || Cgroup::prepare_by(&manager, machine, &path, &resources, &annotations);
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
fn on_v1_a_scope_is_in_every_hierarchy() {
    if !inside("cgroup::systemd::tests::on_v1_a_scope_is_in_every_hierarchy", Inside::Hybrid) {
        return;
    }
    let machine = Hierarchies::detect().unwrap();
    assert!(!machine.is_unified());
    let resources: LinuxResources = serde_json::from_str(
        r#"{"memory":{"limit":67108864,"swap":67108864},"cpu":{"shares":512,"quota":50001,"cpus":"0","mems":"0"},
            "pids":{"limit":9},"devices":[{"allow":false,"access":"rwm"}]}"#,
    )
    .unwrap();
    let (manager, path) = (Manager::Systemd(Bus::System), Path::new("a-b.slice:test:legacy"));
    let mut cgroup = Cgroup::prepare_by(&manager, machine, path, &resources, &HashMap::new()).unwrap();
    let mut child = sleeper();
    cgroup.attach(child.id() as i32).unwrap();
    let said = |cgroup: &Cgroup, controller: &str, file: &str| {
        let path = cgroup.paths()[controller].join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    };
    let expected = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "67108864"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "51000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "9"),
    ];
    for (controller, file, value) in expected {
        assert_eq!(said(&cgroup, controller, file), value, "{file}");
    }
    assert!(said(&cgroup, "devices", "devices.list").contains("c 1:3 rwm"));
    let joined = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    for controller in ["memory", "cpu", "cpuset", "pids", "devices", "freezer", "name=systemd"] {
        let line = joined.lines().find(|line| line.contains(&format!(":{controller}:"))).unwrap();
        assert!(line.ends_with("/a.slice/a-b.slice/test-legacy.scope"), "{line}");
    }
    let scope = "test-legacy.scope";
    for (property, value) in
        [("MemoryLimit", "67108864"), ("CPUShares", "512"), ("TasksMax", "9"), ("CPUQuotaPerSecUSec", "510ms")]
    {
        assert_eq!(shown(scope, property), value, "{property}");
    }
    let update = r#"{"memory":{"limit":134217728,"swap":134217728},"devices":[{"allow":true}]}"#;
    cgroup.update(machine, &serde_json::from_str(update).unwrap()).unwrap();
    assert_eq!(
        (shown(scope, "MemoryLimit"), said(&cgroup, "memory", "memory.limit_in_bytes")),
        ("134217728".into(), "134217728".into())
    );
    assert_eq!(said(&cgroup, "devices", "devices.list"), "a *:* rwm");
    let but = r#"{"devices":[{"allow":true},{"allow":false,"type":"b","access":"rw"}]}"#;
    cgroup.update(machine, &serde_json::from_str(but).unwrap()).unwrap();
    let procs = cgroup.paths()["devices"].join("cgroup.procs");
    let open = format!("echo $$ > {}; head -c1 /dev/zero > /dev/null && ! head -c1 /tmp/disk", procs.display());
    let disk = Command::new("mknod").args(["/tmp/disk", "b", "7", "99"]).status().unwrap();
    assert!(disk.success());
    let opened = Command::new("sh").args(["-c", &open]).output().unwrap();
    let told = String::from_utf8_lossy(&opened.stderr).into_owned();
    assert!(opened.status.success() && told.contains("Operation not permitted"), "{told}");
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove().unwrap();
    assert!(!cgroup.exists());
    assert_eq!(shown(scope, "LoadState"), "not-found");
}

#[test]
fn limits_are_what_systemd_shows() {
    if !inside("cgroup::systemd::tests::limits_are_what_systemd_shows", Inside::Unified) {
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
fn limits_are_in_the_control_files_too() {
    if !inside("cgroup::systemd::tests::limits_are_in_the_control_files_too", Inside::Unified) {
        return;
    }
    let machine = Hierarchies::detect().unwrap();
    if ["memory", "cpu", "pids"].iter().any(|controller| machine.version(controller).is_none()) {
        // Outside, they are in v1 hierarchies.
        return;
    }
    let resources: LinuxResources = serde_json::from_str(
        r#"{"memory":{"limit":67108864,"swap":67108864,"reservation":33554432},"pids":{"limit":9},
            "cpu":{"shares":512,"quota":50001},"unified":{"memory.oom.group":"1"}}"#,
    )
    .unwrap();
    let (manager, path) = (Manager::Systemd(Bus::System), Path::new("a-b.slice:test:files"));
    let mut cgroup = Cgroup::prepare_by(&manager, machine, path, &resources, &HashMap::new()).unwrap();
    let mut child = sleeper();
    cgroup.attach(child.id() as i32).unwrap();
    let dir = cgroup.paths()[""].to_owned();
    let said = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap().trim().to_owned();
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("pids.max", "9"),
        ("cpu.weight", "59"),
        ("cpu.max", "51000 100000"),
    ] {
        assert_eq!(said(file), value, "{file}");
    }
    let update = r#"{"memory":{"limit":134217728,"swap":134217728},"cpu":{"period":50000},"pids":{"limit":-1}}"#;
    cgroup.update(machine, &serde_json::from_str(update).unwrap()).unwrap();
    // systemd's own look at its units changes nothing.
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    for (file, value) in [("memory.max", "134217728"), ("cpu.max", "51000 50000"), ("pids.max", "max")] {
        assert_eq!(said(file), value, "{file}");
    }
    assert_eq!(shown("test-files.scope", "MemoryMax"), "134217728");
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.pids.unwrap().current, stats.memory.unwrap().limit), (1, Some(134_217_728)));
    cgroup.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove().unwrap();
    assert!(!dir.exists());
}

/// Starts a systemd of the user 65534, and returns the socket of its bus.
fn a_users_systemd() -> PathBuf {
    let runtime = Path::new("/run/user/65534");
    std::fs::create_dir_all(runtime).unwrap();
    std::os::unix::fs::chown(runtime, Some(65534), Some(65534)).unwrap();
    let unit = "[Unit]\nDefaultDependencies=no\n[Service]\nUser=65534\nType=notify\nDelegate=yes\nSlice=user-65534.slice\n\
        Environment=XDG_RUNTIME_DIR=/run/user/65534 HOME=/tmp\nExecStart=/lib/systemd/systemd --user --unit=dbus.socket\n";
    std::fs::write("/etc/systemd/system/user-systemd.service", unit).unwrap();
    for args in [&["daemon-reload"][..], &["start", "user-systemd.service"]] {
        assert!(Command::new("systemctl").args(args).status().unwrap().success());
    }
    runtime.join("bus")
}

#[test]
fn a_users_systemd_makes_groups_without_root() {
    if !inside("cgroup::systemd::tests::a_users_systemd_makes_groups_without_root", Inside::Unified) {
        return;
    }
    let machine = Hierarchies::detect().unwrap();
    let manager = Manager::Systemd(Bus::User { socket: a_users_systemd() });
    let work = || {
        // Only this thread becomes the user.
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let mut children = [sleeper(), sleeper()];
        let path = manager.default_path("web");
        let resources = LinuxResources::default();
        let cgroup = Cgroup::prepare_by(&manager, machine, &path, &resources, &HashMap::new()).unwrap();
        for child in &children {
            cgroup.attach(child.id() as i32).unwrap();
            let group = group_of(child);
            assert!(group.ends_with("/user-systemd.service/user.slice/wherry-web.scope"), "{group}");
        }
        assert!(cgroup.dir_fd().unwrap().is_none());
        cgroup.freeze().unwrap();
        cgroup.thaw().unwrap();
        cgroup.kill().unwrap();
        for child in &mut children {
            child.wait().unwrap();
        }
        cgroup.remove().unwrap();
        assert!(!cgroup.exists());
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

#[test]
fn what_systemd_refuses_is_told() {
    if !inside("cgroup::systemd::tests::what_systemd_refuses_is_told", Inside::Unified) {
        return;
    }
    let machine = Hierarchies::detect().unwrap();
    let annotations = HashMap::from([("org.systemd.property.NoSuchThing".to_owned(), "'x'".to_owned())]);
    let (manager, path) = (Manager::Systemd(Bus::System), Path::new(":test:refused"));
    let cgroup = Cgroup::prepare_by(&manager, machine, path, &LinuxResources::default(), &annotations).unwrap();
    let mut child = sleeper();
    let error = cgroup.attach(child.id() as i32).unwrap_err().to_string();
    assert!(error.starts_with("systemd cannot start test-refused.scope: ") && error.contains("NoSuchThing"), "{error}");
    assert!(!cgroup.exists());
    // No process of that number can be put anywhere.
    let cgroup = Cgroup::prepare_by(&manager, machine, path, &LinuxResources::default(), &HashMap::new()).unwrap();
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
