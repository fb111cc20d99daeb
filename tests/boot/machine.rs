//! The machine: made, booted once, listened to until it ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::bundles;

/// How long the machine may take from power on to its end: several times what it takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Memory in megabytes, processors.
const SIZE: (&str, &str) = ("1024", "2");

/// What the machine has said.
pub struct Machine {
    console: String,
    /// The checks of each theme, and whether it came to its end.
    themes: BTreeMap<String, Theme>,
}

#[derive(Default)]
struct Theme {
    checks: Vec<String>,
    ended: bool,
}

/// The machine after its life, the same for all tests.
pub fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(|| Machine::hear(boot(&archive(), &kernel())))
}

impl Machine {
    fn hear(console: String) -> Self {
        let mut themes = BTreeMap::<String, Theme>::new();
        for line in console.lines() {
            let mut words = line.split([' ', ':']);
            match words.next() {
                Some("begin") => drop(themes.insert(words.next().unwrap_or_default().to_owned(), Theme::default())),
                Some("end") => themes.entry(words.next().unwrap_or_default().to_owned()).or_default().ended = true,
                Some("ok") => check(&mut themes, words.next(), line),
                Some("not") => check(&mut themes, words.nth(1), line),
                _ => {}
            }
        }
        Self { console, themes }
    }

    /// Asserts that the theme was there, and that all of its checks hold.
    #[track_caller]
    pub fn holds(&self, name: &str) {
        let Self { console, themes } = self;
        let theme = themes.get(name).unwrap_or_else(|| panic!("no word of {name} on the console:\n{console}"));
        let failed: Vec<&String> = theme.checks.iter().filter(|line| line.starts_with("not ")).collect();
        assert!(failed.is_empty(), "{}\n\nall of the console:\n{console}", join(&failed));
        assert!(!theme.checks.is_empty(), "{name} has checked nothing:\n{console}");
        assert!(theme.ended, "{name} did not come to its end:\n{console}");
    }

    /// Asserts that nothing else was checked.
    #[track_caller]
    pub fn has_only(&self, names: &[&str]) {
        let strangers: Vec<&String> = self.themes.keys().filter(|name| !names.contains(&name.as_str())).collect();
        assert!(strangers.is_empty(), "no test looks at {strangers:?}");
    }
}

fn check(themes: &mut BTreeMap<String, Theme>, theme: Option<&str>, line: &str) {
    themes.entry(theme.unwrap_or_default().to_owned()).or_default().checks.push(line.to_owned());
}

fn join(lines: &[&String]) -> String {
    lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
}

/// Starts the machine and listens to its console until it ends.
fn boot(archive: &Path, kernel: &Path) -> String {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-m", SIZE.0, "-smp", SIZE.1]);
    qemu.arg("-kernel").arg(kernel.join("vmlinuz")).arg("-initrd").arg(archive);
    qemu.args(["-append", "console=ttyS0 panic=-1 quiet loglevel=1 random.trust_cpu=on mitigations=off"]);
    let mut qemu = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("qemu-system-x86_64 starts");
    let mut lines = BufReader::new(qemu.stdout.take().unwrap()).split(b'\n');
    let (send, heard) = mpsc::channel();
    thread::spawn(move || lines.by_ref().map_while(Result::ok).all(|line| send.send(line).is_ok()));

    let deadline = Instant::now() + PATIENCE;
    let mut console = String::new();
    while let Ok(line) = heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        console.push_str(String::from_utf8_lossy(&line).trim_end_matches('\r'));
        console.push('\n');
    }
    if Instant::now() >= deadline {
        console.push_str("(the machine was stopped here: it took too long)\n");
        qemu.kill().unwrap();
    }
    qemu.wait().unwrap();
    console
}

/// The kernel, fetched once.
fn kernel() -> PathBuf {
    let place = scratch().join("boot-kernel");
    if !place.exists() {
        script("kernel.sh", &[&place]);
    }
    place
}

/// The first file system, made anew: the binary is another after each build.
fn archive() -> PathBuf {
    let bundles = scratch().join("boot-bundles");
    if bundles.exists() {
        fs::remove_dir_all(&bundles).unwrap();
    }
    for (name, config) in bundles::all() {
        let bundle = bundles.join(name);
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    }
    let archive = scratch().join("boot.cpio");
    script("initramfs.sh", &[Path::new(env!("CARGO_BIN_EXE_wherry")), &kernel(), &bundles, &archive]);
    archive
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn script(name: &str, arguments: &[&Path]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot").join(name);
    let output = Command::new("sh").arg(&file).args(arguments).output().expect("sh starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name} failed: {}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
#[should_panic(expected = "not ok pids: there are ten")]
fn a_check_that_fails_fails_its_theme() {
    Machine::hear("begin pids 1\nok pids: it starts\nnot ok pids: there are ten: 11\nend pids 2\n".to_owned())
        .holds("pids");
}

#[test]
#[should_panic(expected = "pids did not come to its end")]
fn a_theme_that_breaks_off_fails() {
    Machine::hear("begin pids 1\nok pids: it starts\nKernel panic\n".to_owned()).holds("pids");
}

#[test]
#[should_panic(expected = "no word of pids")]
fn a_machine_that_does_not_start_fails() {
    Machine::hear("error: cannot boot\n".to_owned()).holds("pids");
}
