//! Which devices a container may use: the spec's list of rules as one decision, told to v1 in lines and to v2 as
//! a program.
//!
//! The list is a history: later rules change what earlier ones said. It is replayed into a [`Policy`], a default and
//! exceptions from it, which has one meaning in both versions:
//!
//! ```text
//! rules ── replay ──▶ Policy { default, exceptions } ─┬─▶ v1: devices.deny "a", devices.allow "c 1:3 rwm", …
//!                                                     └─▶ v2: BPF_PROG_TYPE_CGROUP_DEVICE
//! ```
//!
//! As in runc a container starts with nothing allowed, and the devices that the spec promises to every container
//! are allowed in the end, whatever the list says; so is making device nodes, without which image builds fail: a
//! node is no access.
//!
//! v1 cannot express a hole in a wildcard exception, so such a rule is an error in both, rather than a hole in
//! the fence.

use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::group::Group;
use super::{Error, Version, file, refused};
use crate::sys;
use crate::sys::bpf::{self, Instruction};

/// How many rules a list may have. Real ones have some dozens; each costs a write on v1 at every start.
const MAX_RULES: usize = 4096;

/// Block or character device; the numbers are those of linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Char = 2,
}

/// A set of accesses, with the bits of linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access(u8);

impl Access {
    const MKNOD: Self = Self(1);
    const ALL: Self = Self(7);

    fn parse(text: &str) -> Option<Self> {
        text.chars().try_fold(Self(0), |access, letter| match letter {
            'm' => Some(Self(access.0 | 1)),
            'r' => Some(Self(access.0 | 2)),
            'w' => Some(Self(access.0 | 4)),
            _ => None,
        })
    }

    fn letters(self) -> String {
        [('r', 2), ('w', 4), ('m', 1)].iter().filter(|(_, bit)| self.0 & bit != 0).map(|(letter, _)| letter).collect()
    }
}

/// Devices, and accesses to them. A number that is None means all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exception {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
}

impl Exception {
    const fn of(kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> Self {
        Self { kind, major, minor, access }
    }

    fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// Whether all devices of `other` are among this one's.
    fn covers(&self, other: &Self) -> bool {
        let wider = |mine: Option<u32>, theirs: Option<u32>| mine.is_none() || mine == theirs;
        self.kind == other.kind && wider(self.major, other.major) && wider(self.minor, other.minor)
    }

    /// Whether there are devices that are among both.
    fn meets(&self, other: &Self) -> bool {
        let common = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && common(self.major, other.major) && common(self.minor, other.minor)
    }

    /// What remains of its accesses without those that others give to the same devices.
    fn without(&self, others: &[Self]) -> Option<Self> {
        let given = others.iter().filter(|other| other.same_devices(self)).fold(0, |all, other| all | other.access.0);
        let access = Access(self.access.0 & !given);
        (access.0 != 0).then_some(Self { access, ..*self })
    }

    /// Reads the kernel's v1 notation, but for the line that allows all.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let kind = match words.next()? {
            "b" => Kind::Block,
            "c" => Kind::Char,
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
        Some(Self { kind, major: number(major)?, minor: number(minor)?, access: Access::parse(words.next()?)? })
    }

    /// The kernel's v1 notation.
    fn line(&self) -> String {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access.letters())
    }
}

/// What every container may use (runtime-spec, config-linux, "Default Devices"): null, zero, full, random,
/// urandom, tty, ptmx and the pseudo-terminals, of which /dev/console is one. And making any node.
const PROMISED: [Exception; 10] = [
    Exception::of(Kind::Char, None, None, Access::MKNOD),
    Exception::of(Kind::Block, None, None, Access::MKNOD),
    Exception::of(Kind::Char, Some(1), Some(3), Access::ALL),
    Exception::of(Kind::Char, Some(1), Some(5), Access::ALL),
    Exception::of(Kind::Char, Some(1), Some(7), Access::ALL),
    Exception::of(Kind::Char, Some(1), Some(8), Access::ALL),
    Exception::of(Kind::Char, Some(1), Some(9), Access::ALL),
    Exception::of(Kind::Char, Some(5), Some(0), Access::ALL),
    Exception::of(Kind::Char, Some(5), Some(2), Access::ALL),
    Exception::of(Kind::Char, Some(136), None, Access::ALL),
];

/// /dev/net/tun: not promised, but runc has always allowed it, and callers rely on that. A list that denies all around
/// it means what it says.
const TUN: Exception = Exception::of(Kind::Char, Some(10), Some(200), Access::ALL);

/// The commands for a v1 group's two files.
#[derive(Debug, PartialEq, Eq)]
struct Lines {
    allow: Vec<String>,
    deny: Vec<String>,
    deny_first: bool,
}

/// What is allowed: everything or nothing, but for the exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Policy {
    allow: bool,
    exceptions: Vec<Exception>,
}

impl Policy {
    fn replay(rules: &[LinuxDeviceCgroup]) -> Result<Self, Error> {
        if rules.len() > MAX_RULES {
            return Err(bad(rules.len(), "the number of rules is more than 4096"));
        }
        let mut policy = Self::default();
        for rule in rules {
            policy.rule(rule)?;
        }
        PROMISED.iter().try_for_each(|promised| policy.set(true, *promised))?;
        let mut with_tun = policy.clone();
        Ok(if with_tun.set(true, TUN).is_ok() { with_tun } else { policy })
    }

    fn rule(&mut self, rule: &LinuxDeviceCgroup) -> Result<(), Error> {
        let access = match rule.access().as_deref() {
            None | Some("") => Access::ALL,
            Some(text) => Access::parse(text).ok_or_else(|| bad(text, "access is made of r, w and m"))?,
        };
        let (major, minor) = (number(rule.major())?, number(rule.minor())?);
        let kinds: &[Kind] = match rule.typ() {
            None | Some(LinuxDeviceType::A) if (major, minor, access) == (None, None, Access::ALL) => {
                *self = Self { allow: rule.allow(), exceptions: Vec::new() };
                return Ok(());
            }
            None | Some(LinuxDeviceType::A) => &[Kind::Block, Kind::Char],
            Some(LinuxDeviceType::B) => &[Kind::Block],
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => &[Kind::Char],
            Some(LinuxDeviceType::P) => return Err(bad("p", "a rule can be on block and character devices")),
        };
        kinds.iter().try_for_each(|kind| self.set(rule.allow(), Exception { kind: *kind, major, minor, access }))
    }

    fn set(&mut self, allow: bool, rule: Exception) -> Result<(), Error> {
        if allow == self.allow {
            return self.remove(rule);
        }
        self.add(rule);
        Ok(())
    }

    fn add(&mut self, rule: Exception) {
        match self.exceptions.iter_mut().find(|known| known.same_devices(&rule)) {
            Some(known) => known.access = Access(known.access.0 | rule.access.0),
            None => self.exceptions.push(rule),
        }
    }

    fn remove(&mut self, rule: Exception) -> Result<(), Error> {
        for known in &mut self.exceptions {
            let common = known.access.0 & rule.access.0;
            if rule.covers(known) {
                known.access = Access(known.access.0 & !common);
            } else if rule.meets(known) && common != 0 {
                return Err(bad(rule.line(), "it takes a part out of an earlier rule with a wildcard"));
            }
        }
        self.exceptions.retain(|known| known.access.0 != 0);
        Ok(())
    }

    /// The writes that make a v1 group follow the policy: from nothing known, or from a policy of nothing but
    /// exceptions by the difference alone, so that no process inside sees a device vanish that it may keep.
    fn lines(&self, now: Option<&Self>) -> Lines {
        let line = |exception: &Exception| exception.line();
        match now {
            Some(now) if !self.allow && !now.allow => Lines {
                deny: now
                    .exceptions
                    .iter()
                    .filter_map(|held| held.without(&self.exceptions))
                    .map(|e| line(&e))
                    .collect(),
                allow: self
                    .exceptions
                    .iter()
                    .filter_map(|new| new.without(&now.exceptions))
                    .map(|e| line(&e))
                    .collect(),
                deny_first: false,
            },
            _ => {
                let (all, exceptions) = (vec!["a".to_owned()], self.exceptions.iter().map(line).collect());
                match self.allow {
                    true => Lines { allow: all, deny: exceptions, deny_first: false },
                    false => Lines { deny: all, allow: exceptions, deny_first: true },
                }
            }
        }
    }

    /// Has a v1 group follow the policy.
    fn write(&self, group: &Group, fresh: bool) -> Result<sys::Result<()>, Error> {
        let now = if fresh { None } else { Self::listed(&group.read("devices.list")?) };
        let lines = self.lines(now.as_ref());
        let write = |name: &str, lines: &[String]| match lines.is_empty() {
            true => Ok(()),
            false => group.write_all(name, lines.iter().map(String::as_str)),
        };
        let (allow, deny) = (("devices.allow", &lines.allow), ("devices.deny", &lines.deny));
        let (first, second) = if lines.deny_first { (deny, allow) } else { (allow, deny) };
        Ok(write(first.0, first.1).and_then(|()| write(second.0, second.1)))
    }

    /// What a v1 group's list says; none where it allows all but what it does not tell.
    fn listed(list: &str) -> Option<Self> {
        let exceptions = list.lines().map(Exception::parse).collect::<Option<Vec<_>>>()?;
        Some(Self { allow: false, exceptions })
    }

    /// The v2 program. It gets `struct bpf_cgroup_dev_ctx`: access and type in one word, major, minor; and
    /// returns 1 to allow.
    fn program(&self) -> Vec<Instruction> {
        let mut program = vec![
            op(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
            op(MOVE_REGISTER, TYPE, ACCESS, 0, 0),
            op(AND, TYPE, 0, 0, 0xffff),
            op(SHIFT_RIGHT, ACCESS, 0, 0, 16),
            op(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
            op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        ];
        for exception in &self.exceptions {
            program.extend(self.check(exception));
        }
        program.extend(answer(self.allow));
        program
    }

    /// Answers if the exception applies, else falls through to what follows.
    fn check(&self, exception: &Exception) -> Vec<Instruction> {
        // Allowed is what asks for no other access than the exception's; denied what asks for any of it.
        let (mask, skip) = match self.allow {
            false => (i32::from(!exception.access.0 & Access::ALL.0), JUMP_UNLESS_EQUAL),
            true => (i32::from(exception.access.0), JUMP_IF_EQUAL),
        };
        let mut tests = vec![
            op(JUMP_UNLESS_EQUAL, TYPE, 0, 0, exception.kind as i32),
            op(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0),
            op(AND, SCRATCH, 0, 0, mask),
            op(skip, SCRATCH, 0, 0, 0),
        ];
        for (register, number) in [(MAJOR, exception.major), (MINOR, exception.minor)] {
            tests.extend(number.map(|number| op(JUMP_UNLESS_EQUAL, register, 0, 0, number.cast_signed())));
        }
        tests.extend(answer(!self.allow));
        let end = tests.len();
        for (at, test) in tests.iter_mut().enumerate() {
            if [JUMP_UNLESS_EQUAL, JUMP_IF_EQUAL].contains(&test.code) {
                test.offset = (end - at - 1) as i16;
            }
        }
        tests
    }
}

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const TYPE: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    Instruction { code, registers, offset, immediate }
}

fn answer(allow: bool) -> [Instruction; 2] {
    [op(MOVE, RESULT, 0, 0, i32::from(allow)), op(EXIT, 0, 0, 0, 0)]
}

fn bad(value: impl ToString, reason: &'static str) -> Error {
    Error::BadLimit { field: "linux.resources.devices".into(), value: value.to_string(), reason }
}

/// A device number; absent and -1 mean all.
fn number(number: Option<i64>) -> Result<Option<u32>, Error> {
    /// Minors have 20 bits, majors 12 (MINORBITS of the kernel).
    const MAX: i64 = 0xf_ffff;
    match number {
        None | Some(-1) => Ok(None),
        Some(number @ 0..=MAX) => Ok(Some(number as u32)),
        Some(number) => Err(bad(number, "device numbers are 0 to 1048575, or -1 for all")),
    }
}

/// What rules allow, as far as systemd can say it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    All,
    /// What these are, it cannot say.
    AllBut,
    /// Its own notation, `DeviceAllow`: a path or a pattern, and accesses. One minor of all majors it cannot say.
    Only(Vec<(String, String)>),
}

/// The rules in the words of systemd. Where those fail it, the group's own rules say all.
pub(super) fn allowed(rules: &[LinuxDeviceCgroup]) -> Result<Allowed, Error> {
    let policy = Policy::replay(rules)?;
    match (policy.allow, policy.exceptions.is_empty()) {
        (true, true) => return Ok(Allowed::All),
        (true, false) => return Ok(Allowed::AllBut),
        (false, _) => {}
    }
    let entry = |exception: &Exception| {
        let kind = if exception.kind == Kind::Block { "block" } else { "char" };
        let name = match (exception.major, exception.minor) {
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            (Some(major), None) => format!("{kind}-{major}"),
            (None, None) => format!("{kind}-*"),
            (None, Some(_)) => return None,
        };
        Some((name, exception.access.letters()))
    };
    Ok(Allowed::Only(policy.exceptions.iter().filter_map(entry).collect()))
}

/// Makes a group follow the rules; a fresh one has none yet.
pub(super) fn restrict(group: &Group, rules: &[LinuxDeviceCgroup], fresh: bool) -> Result<(), Error> {
    let policy = Policy::replay(rules)?;
    let done = match group.hierarchy.version {
        Version::V1 => policy.write(group, fresh)?,
        Version::V2 => hang(group, &policy.program(), fresh),
    };
    match done {
        // The kernel lets nobody load such a program in a user namespace, nor an ordinary user, who makes containers in
        // one; and nobody make a device node there either: what can be opened is what the host has lent, under the
        // host's permissions.
        Err(error) if error.errno() == Some(libc::EPERM) && is_ordinary()? => Ok(()),
        other => other.map_err(|source| refused(&group.dir, source, |path, source| Error::Devices { path, source })),
    }
}

fn hang(group: &Group, program: &[Instruction], fresh: bool) -> sys::Result<()> {
    let program = bpf::load_device_program(program)?;
    match fresh {
        true => bpf::add_device_program(group.handle()?, program.as_fd()),
        false => bpf::set_device_program(group.handle()?, program.as_fd()),
    }
}

/// Whether this process is not root, or in a user namespace: the first one maps all ids onto themselves.
fn is_ordinary() -> Result<bool, Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(true);
    }
    let path = Path::new("/proc/self/uid_map");
    let map = file::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    Ok(map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    /// The policy of a list alone, without what is promised to all.
    fn replayed(json: &str) -> Result<Policy, Error> {
        let mut policy = Policy::default();
        rules(json).iter().try_for_each(|rule| policy.rule(rule)).map(|()| policy)
    }

    fn lines(json: &str) -> Vec<String> {
        let Lines { allow, deny, deny_first } = replayed(json).unwrap().lines(None);
        let allow = allow.into_iter().map(|line| format!("devices.allow {line}"));
        let deny = deny.into_iter().map(|line| format!("devices.deny {line}"));
        if deny_first { deny.chain(allow).collect() } else { allow.chain(deny).collect() }
    }

    /// Runs a program as the kernel would on one request.
    fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut registers = [0i64; 7];
        let mut at = 0;
        loop {
            let Instruction { code, registers: both, offset, immediate } = program[at];
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            at += 1;
            match code {
                LOAD_WORD => registers[to] = i64::from(context[offset as usize / 4]),
                MOVE_REGISTER => registers[to] = registers[from],
                MOVE => registers[to] = i64::from(immediate),
                AND => registers[to] &= i64::from(immediate),
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_IF_EQUAL if registers[to] == i64::from(immediate) => at += offset as usize,
                JUMP_UNLESS_EQUAL if registers[to] != i64::from(immediate) => at += offset as usize,
                JUMP_IF_EQUAL | JUMP_UNLESS_EQUAL => {}
                EXIT => return registers[0] == 1,
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn dockers_list_becomes_lines() {
        let json = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},
            {"allow":true,"type":"b","access":"m"},{"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]"#;
        assert_eq!(lines(json), ["devices.deny a", "devices.allow c 1:3 rwm", "devices.allow b *:* m"]);
    }

    #[test]
    fn later_rules_change_earlier_ones() {
        let table: [(&str, &[&str]); 5] = [
            (r#"[{"allow":true,"access":"rwm"}]"#, &["devices.allow a"]),
            (
                r#"[{"allow":true},{"allow":false,"type":"c","major":1,"minor":3,"access":"w"}]"#,
                &["devices.allow a", "devices.deny c 1:3 w"],
            ),
            (
                r#"[{"allow":true,"type":"c","major":1,"minor":3,"access":"r"},
                    {"allow":true,"type":"c","major":1,"minor":3,"access":"w"}]"#,
                &["devices.deny a", "devices.allow c 1:3 rw"],
            ),
            (
                r#"[{"allow":true,"type":"c","major":1,"minor":3},{"allow":true,"type":"b","major":8,"minor":0},
                    {"allow":false,"type":"c","access":"wm"}]"#,
                &["devices.deny a", "devices.allow c 1:3 r", "devices.allow b 8:0 rwm"],
            ),
            (
                r#"[{"allow":true,"type":"a","major":7,"minor":-1,"access":"r"}]"#,
                &["devices.deny a", "devices.allow b 7:* r", "devices.allow c 7:* r"],
            ),
        ];
        for (json, expected) in table {
            assert_eq!(lines(json), expected, "{json}");
        }
    }

    #[test]
    fn a_living_group_keeps_what_it_may_keep() {
        let now = Policy::listed("c 1:3 rwm\nc *:* m\nb 8:0 r\n").unwrap();
        let wanted = r#"[{"allow":true,"type":"c","major":1,"minor":3},{"allow":true,"type":"c","access":"m"},
            {"allow":true,"type":"c","major":10,"minor":200,"access":"rw"}]"#;
        let lines = replayed(wanted).unwrap().lines(Some(&now));
        let (allow, deny) = (vec!["c 10:200 rw".to_owned()], vec!["b 8:0 r".to_owned()]);
        assert_eq!(lines, Lines { allow, deny, deny_first: false });
        assert_eq!(Policy::listed("a *:* rwm\n"), None);
    }

    #[test]
    fn systemd_is_told_what_it_can_say() {
        let list = |json: &str| allowed(&rules(json)).unwrap();
        let told =
            list(r#"[{"allow":true,"type":"b","major":8,"minor":1,"access":"r"},{"allow":true,"type":"c","minor":7}]"#);
        let Allowed::Only(told) = told else { panic!("{told:?}") };
        let pair = |name: &str, access: &str| (name.to_owned(), access.to_owned());
        for entry in
            [pair("/dev/block/8:1", "r"), pair("char-*", "m"), pair("char-136", "rwm"), pair("/dev/char/1:3", "rwm")]
        {
            assert!(told.contains(&entry), "{entry:?} in {told:?}");
        }
        assert!(told.iter().all(|(name, _)| !name.contains(":7") || name == "/dev/char/1:7"));
        assert_eq!(list(r#"[{"allow":true}]"#), Allowed::All);
        assert_eq!(list(r#"[{"allow":true},{"allow":false,"type":"b"}]"#), Allowed::AllBut);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (json, reason) in [
            (r#"[{"allow":true,"type":"c"},{"allow":false,"type":"c","major":1}]"#, "takes a part out"),
            (r#"[{"allow":true,"type":"c","access":"rx"}]"#, "made of r, w and m"),
            (r#"[{"allow":true,"type":"p"}]"#, "block and character"),
            (r#"[{"allow":true,"type":"c","major":1048576}]"#, "device numbers"),
            (r#"[{"allow":true,"type":"c","major":-2}]"#, "device numbers"),
        ] {
            let error = replayed(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
        let many = vec![LinuxDeviceCgroup::default(); MAX_RULES + 1];
        assert!(Policy::replay(&many).unwrap_err().to_string().contains("4096"));
        Policy::replay(&many[1..]).unwrap();
    }

    #[test]
    fn the_program_decides_as_the_policy_says() {
        let lists = [
            "[]",
            r#"[{"allow":true,"type":"b","major":8,"access":"r"}]"#,
            r#"[{"allow":true},{"allow":false,"type":"b","major":8,"access":"w"},{"allow":false,"type":"c","major":10}]"#,
        ];
        for json in lists {
            let policy = Policy::replay(&rules(json)).unwrap();
            let program = policy.program();
            for kind in [Kind::Block, Kind::Char] {
                for (major, minor) in [(1, 3), (1, 4), (5, 0), (8, 0), (8, 1), (10, 229), (136, 77)] {
                    for access in 1..=7 {
                        let asked = Exception::of(kind, Some(major), Some(minor), Access(access));
                        let mut fitting = policy.exceptions.iter().filter(|known| known.covers(&asked));
                        let expected = match policy.allow {
                            false => fitting.any(|known| access & !known.access.0 == 0),
                            true => !fitting.any(|known| access & known.access.0 != 0),
                        };
                        assert_eq!(run(&program, kind, major, minor, access), expected, "{json} {asked:?}");
                    }
                }
            }
        }
    }
}
