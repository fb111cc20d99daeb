//! The runtime spec's `linux.seccomp` as a program for the kernel.
//!
//! Why not libseccomp: at load the kernel runs the program once for every syscall number, to learn which
//! ones need no look at their arguments. libseccomp's chain of a thousand comparisons makes that cost 1.1 ms
//! of a container's start. Here the numbers of an architecture that share a verdict become one range, and the
//! ranges a balanced tree of some 60 leaves: 0.1 ms, the same verdicts.
//!
//! ```text
//! LinuxSeccomp ── rules ──▶ per ABI: number → rules ── ranges ──▶ tree ── assemble ──▶ Filter
//!
//!   ld arch;  x86_64? ──▶ ld nr; ≥ 173? … ≥ 41? ──▶ ret ALLOW
//!                                             └──▶ ld arg0 … ──▶ ret ALLOW | next rule | ret default
//!             i386?   ──▶ ld nr; …
//!             neither ──▶ ret KILL_PROCESS
//! ```
//!
//! What a profile means, where the spec is silent, follows runc over libseccomp, so that a profile written
//! for those gives the same verdicts here:
//! - the machine's own architecture is always filtered, whether listed or not; others only when listed;
//! - a name that an architecture does not have is skipped there;
//! - conditions of one entry must all hold, unless two are on the same argument: then any one is enough;
//! - an entry without conditions beats those with; otherwise the first entry that matches counts;
//! - an entry whose action is the default's is as good as absent;
//! - a syscall newer than every one that the profile names fails with ENOSYS, not with the default's errno,
//!   so that a C library falls back instead of giving up;
//! - 32-bit ABIs compare the low halves of arguments.
//!
//! Deliberately stricter: an unknown architecture kills the process, not only the thread; an `ipc(2)` version
//! cannot be used to slip past a rule; and a rule with conditions on, say, `socket` reaches its arguments through
//! x86's `socketcall` only by pointer, so such a rule denies there what it may deny, and allows nothing.
//!
//! Not here: loading ([`crate::sys::seccomp`]), passing on the listener (the init), Docker's default profile
//! ([`crate::bundle`]).

mod abi;
mod assemble;
mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

pub use self::abi::Family;
use self::abi::{Abi, X32_BIT};
use self::assemble::{Assembler, Label, Test};
use crate::error::{Failure, Kind};
use crate::sys::seccomp::{Flags, Instruction};

/// `BPF_MAXINSNS`: the kernel takes no longer program.
const MAX_INSTRUCTIONS: usize = 4096;
/// The longest filter as bytes.
pub const MAX_BYTES: usize = 4 + 8 * MAX_INSTRUCTIONS;
/// A syscall has at most six arguments.
const MAX_ARGUMENTS: usize = 6;
/// The errno, or the tracer's message, has 16 bits of the verdict (`SECCOMP_RET_DATA`).
const MAX_ERRNO_RET: u32 = 0xffff;
/// What a refused call answers when the profile does not say: EPERM.
const DEFAULT_ERRNO: u32 = 1;

/// Where `struct seccomp_data` (linux/seccomp.h) has the syscall number, the architecture, the arguments.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// `SECCOMP_RET_*` of linux/seccomp.h.
mod verdict {
    pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
    pub(super) const KILL_THREAD: u32 = 0;
    pub(super) const TRAP: u32 = 0x0003_0000;
    pub(super) const ERRNO: u32 = 0x0005_0000;
    pub(super) const NOTIFY: u32 = 0x7fc0_0000;
    pub(super) const TRACE: u32 = 0x7ff0_0000;
    pub(super) const LOG: u32 = 0x7ffc_0000;
    pub(super) const ALLOW: u32 = 0x7fff_0000;
    /// ERRNO with ENOSYS: the number of both x86 and arm.
    pub(super) const ENOSYS: u32 = ERRNO | 38;
}

/// Why a profile cannot be made a filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An entry lists no syscalls.
    #[error("linux.seccomp.syscalls[{entry}].names is empty")]
    NoNames {
        /// The entry's place in the list.
        entry: usize,
    },
    /// An errno is given for an action that returns none.
    #[error("{field} is set, but the action {action} returns no errno")]
    ErrnoUnused {
        /// The field at fault.
        field: String,
        /// The action beside it.
        action: Action,
    },
    /// An errno does not fit into a verdict.
    #[error("{field} is {errno}: more than {MAX_ERRNO_RET}")]
    ErrnoTooLarge {
        /// The field at fault.
        field: String,
        /// Its value.
        errno: u32,
    },
    /// A condition names an argument that no syscall has.
    #[error("linux.seccomp.syscalls[{entry}].args: index is {index}, a syscall's arguments are 0 to 5")]
    NoSuchArgument {
        /// The entry's place in the list.
        entry: usize,
        /// The index given.
        index: usize,
    },
    /// Every call would wait for a listener: also those by which the listener is handed over.
    #[error("linux.seccomp.defaultAction cannot be SCMP_ACT_NOTIFY")]
    NotifyDefault,
    /// `write` would wait for a listener before anybody has it.
    #[error("linux.seccomp.syscalls[{entry}]: SCMP_ACT_NOTIFY cannot be used for write")]
    NotifyWrite {
        /// The entry's place in the list.
        entry: usize,
    },
    /// Nobody would get the listener.
    #[error("linux.seccomp uses SCMP_ACT_NOTIFY, but has no listenerPath")]
    NoListenerPath,
    /// The profile has too many rules for one filter.
    #[error("linux.seccomp needs a filter of {length} instructions; the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong {
        /// The length that the filter would have.
        length: usize,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// A filter, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: Flags,
}

impl Filter {
    /// The program.
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }

    /// The filter as bytes, for another process of ours: its flags, then its instructions.
    pub fn to_bytes(&self) -> Vec<u8> {
        let instruction = |i: &Instruction| {
            let [c0, c1] = i.code.to_ne_bytes();
            let [k0, k1, k2, k3] = i.k.to_ne_bytes();
            [c0, c1, i.jt, i.jf, k0, k1, k2, k3]
        };
        let flags = self.flags.bits().to_ne_bytes();
        flags.into_iter().chain(self.program.iter().flat_map(instruction)).collect()
    }

    /// The filter that [`Self::to_bytes`] has given; `None` for what is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flags, program) = bytes.split_first_chunk::<4>()?;
        let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        };
        let (program, rest) = program.as_chunks::<8>();
        let program = program.iter().map(instruction).collect();
        rest.is_empty().then_some(Self { program, flags: Flags::from_bits(u32::from_ne_bytes(*flags)) })
    }

    /// How it is to be loaded; with [`Flags::NEW_LISTENER`] if a rule asks a listener.
    pub fn flags(&self) -> Flags {
        self.flags
    }
}

/// Compiles a profile for the kernel family that will judge by it.
pub fn compile(profile: &LinuxSeccomp, family: Family) -> Result<Filter, Error> {
    let rules = Rules::read(profile)?;
    let flags = flags(profile, &rules)?;
    let program = emit(&lines(profile, &rules, family));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong { length: program.len() });
    }
    Ok(Filter { program, flags })
}

fn flags(profile: &LinuxSeccomp, rules: &Rules) -> Result<Flags, Error> {
    let given = profile.flags().as_deref().unwrap_or_default().iter().map(|flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => Flags::LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => Flags::TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => Flags::SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => Flags::WAIT_KILLABLE_RECV,
    });
    let given = given.fold(Flags::default(), Flags::with);
    match rules.notify {
        true if profile.listener_path().is_none() => Err(Error::NoListenerPath),
        true => Ok(given.with(Flags::NEW_LISTENER)),
        false => Ok(given),
    }
}

/// A condition on one argument, as a 64-bit ABI has it.
#[derive(Clone, Copy, Debug)]
struct Condition {
    index: u32,
    op: Operator,
    value: u64,
    mask: u64,
}

/// What happens when all conditions hold.
#[derive(Clone, Debug)]
struct Rule {
    action: u32,
    conditions: Vec<Condition>,
}

/// The rules of a profile, with the table rows that each is about.
struct Rules {
    default: u32,
    /// What a syscall gets that is newer than all that the profile names.
    newer: u32,
    entries: Vec<(Vec<usize>, Rule)>,
    /// Every row that the profile names, also in entries that change nothing.
    named: Vec<usize>,
    notify: bool,
}

impl Rules {
    fn read(profile: &LinuxSeccomp) -> Result<Self, Error> {
        let default = action(profile.default_action(), profile.default_errno_ret(), || {
            "linux.seccomp.defaultErrnoRet".to_owned()
        })?;
        let newer = match profile.default_action() {
            Action::ScmpActNotify => return Err(Error::NotifyDefault),
            // A tracer emulates, a log is there to learn: neither is to be surprised by ENOSYS.
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace => default,
            _ => verdict::ENOSYS,
        };
        let mut rules = Self { default, newer, entries: Vec::new(), named: Vec::new(), notify: false };
        for (place, entry) in profile.syscalls().as_deref().unwrap_or_default().iter().enumerate() {
            rules.add(place, entry)?;
        }
        Ok(rules)
    }

    fn add(&mut self, place: usize, entry: &LinuxSyscall) -> Result<(), Error> {
        if entry.names().is_empty() {
            return Err(Error::NoNames { entry: place });
        }
        let action = action(entry.action(), entry.errno_ret(), || format!("linux.seccomp.syscalls[{place}].errnoRet"))?;
        let notify = entry.action() == Action::ScmpActNotify;
        if notify && entry.names().iter().any(|name| name == "write") {
            return Err(Error::NotifyWrite { entry: place });
        }
        self.notify |= notify;
        let rows: Vec<usize> = entry.names().iter().filter_map(|name| abi::row(name)).collect();
        self.named.extend(&rows);
        let alternatives = alternatives(place, entry.args().as_deref().unwrap_or_default())?;
        if action != self.default {
            let rule = |conditions| (rows.clone(), Rule { action, conditions });
            self.entries.extend(alternatives.into_iter().map(rule));
        }
        Ok(())
    }
}

/// The verdict that the spec's action means.
fn action(action: Action, errno: Option<u32>, field: impl Fn() -> String) -> Result<u32, Error> {
    let (verdict, takes_errno) = match action {
        Action::ScmpActKill | Action::ScmpActKillThread => (verdict::KILL_THREAD, false),
        Action::ScmpActKillProcess => (verdict::KILL_PROCESS, false),
        Action::ScmpActTrap => (verdict::TRAP, false),
        Action::ScmpActErrno => (verdict::ERRNO, true),
        Action::ScmpActTrace => (verdict::TRACE, true),
        Action::ScmpActNotify => (verdict::NOTIFY, false),
        Action::ScmpActLog => (verdict::LOG, false),
        Action::ScmpActAllow => (verdict::ALLOW, false),
    };
    match errno {
        Some(_) if !takes_errno => Err(Error::ErrnoUnused { field: field(), action }),
        Some(errno) if errno > MAX_ERRNO_RET => Err(Error::ErrnoTooLarge { field: field(), errno }),
        None if takes_errno => Ok(verdict | DEFAULT_ERRNO),
        errno => Ok(verdict | errno.unwrap_or(0)),
    }
}

/// The sets of conditions any of which makes an entry match: one set of all, or one for each condition
/// where two are on the same argument.
fn alternatives(place: usize, args: &[LinuxSeccompArg]) -> Result<Vec<Vec<Condition>>, Error> {
    let mut seen = [false; MAX_ARGUMENTS];
    let mut twice = false;
    let mut conditions = Vec::with_capacity(args.len());
    for arg in args {
        let index = arg.index();
        let seen = seen.get_mut(index).ok_or(Error::NoSuchArgument { entry: place, index })?;
        twice |= std::mem::replace(seen, true);
        conditions.push(Condition::read(arg));
    }
    Ok(if twice { conditions.into_iter().map(|condition| vec![condition]).collect() } else { vec![conditions] })
}

impl Condition {
    fn read(arg: &LinuxSeccompArg) -> Self {
        let (value, mask) = match arg.op() {
            // The spec puts the mask where the other operators have their value.
            Operator::ScmpCmpMaskedEq => (arg.value_two().unwrap_or(0) & arg.value(), arg.value()),
            _ => (arg.value(), u64::MAX),
        };
        Self { index: arg.index() as u32, op: arg.op(), value, mask }
    }

    /// The first argument's low bits `mask` are `value`.
    fn selects(value: u32, mask: u32) -> Self {
        Self { index: 0, op: Operator::ScmpCmpMaskedEq, value: value.into(), mask: mask.into() }
    }
}

/// What a range of syscall numbers gets.
#[derive(Clone, Debug)]
enum Outcome<'a> {
    Always(u32),
    /// The first rule that matches, else the last action.
    FirstOf(Vec<(&'a Rule, Option<Condition>)>, u32),
}

/// From this number on, until the next range.
struct Range<'a> {
    start: u32,
    outcome: Outcome<'a>,
}

/// All numbers of one audit architecture.
struct Line<'a> {
    audit: u32,
    narrow_from: u32,
    ranges: Vec<Range<'a>>,
}

/// Lays the rules out on the number lines of the profile's architectures, the machine's own first.
fn lines<'a>(profile: &LinuxSeccomp, rules: &'a Rules, family: Family) -> Vec<Line<'a>> {
    let listed = profile.architectures().as_deref().unwrap_or_default().iter().filter_map(|arch| family.abi(*arch));
    let mut abis = vec![family.native_abi()];
    for abi in listed {
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    let x32 = abis.contains(&Abi::X32);
    abis.iter().filter(|abi| **abi != Abi::X32).map(|abi| line(*abi, x32, rules)).collect()
}

fn line(abi: Abi, x32: bool, rules: &Rules) -> Line<'_> {
    /// Where arm has its few private syscalls (`__ARM_NR_BASE`), far above the common ones.
    const ARM_PRIVATE: u32 = 0x000f_0000;
    let mut ranges = Vec::new();
    let narrow_from = if abi.narrow() { 0 } else { X32_BIT };
    match abi {
        Abi::X86_64 => {
            stretch(&mut ranges, abi, 0..X32_BIT, rules);
            if x32 {
                stretch(&mut ranges, Abi::X32, X32_BIT..u32::MAX, rules);
            } else {
                push(&mut ranges, X32_BIT, Outcome::Always(verdict::KILL_PROCESS));
                // A tracer's way to skip a call is to make its number -1 (seccomp(2)): no foreign ABI.
                push(&mut ranges, u32::MAX, Outcome::Always(rules.default));
            }
        }
        Abi::Arm => {
            stretch(&mut ranges, abi, 0..ARM_PRIVATE, rules);
            stretch(&mut ranges, abi, ARM_PRIVATE..u32::MAX, rules);
        }
        _ => stretch(&mut ranges, abi, 0..u32::MAX, rules),
    }
    Line { audit: abi.audit(), narrow_from, ranges }
}

/// Appends one ABI's ranges for the numbers `within`.
fn stretch<'a>(ranges: &mut Vec<Range<'a>>, abi: Abi, within: std::ops::Range<u32>, rules: &'a Rules) {
    push(ranges, within.start, Outcome::Always(rules.default));
    let mut next = within.start;
    for (number, outcome) in outcomes(abi, rules).range(within.clone()) {
        if *number > next {
            push(ranges, next, Outcome::Always(rules.default));
        }
        push(ranges, *number, outcome.clone());
        next = number + 1;
    }
    let named = rules.named.iter().filter_map(|row| abi.number(*row)).filter(|number| within.contains(number));
    if let Some(newest) = named.max() {
        if newest >= next {
            push(ranges, next, Outcome::Always(rules.default));
        }
        push(ranges, newest + 1, Outcome::Always(rules.newer));
    }
}

/// Appends a range, or lets the last one go on where both always do the same.
fn push<'a>(ranges: &mut Vec<Range<'a>>, start: u32, outcome: Outcome<'a>) {
    // A range that begins where the last one began leaves nothing of that one.
    if ranges.last().is_some_and(|last| last.start == start) {
        ranges.pop();
    }
    match (ranges.last().map(|last| &last.outcome), &outcome) {
        (Some(Outcome::Always(before)), Outcome::Always(now)) if before == now => {}
        _ => ranges.push(Range { start, outcome }),
    }
}

/// What each number that has rules of its own gets.
fn outcomes(abi: Abi, rules: &Rules) -> BTreeMap<u32, Outcome<'_>> {
    let mut outcomes: BTreeMap<u32, Outcome<'_>> = BTreeMap::new();
    for (rows, rule) in &rules.entries {
        for row in rows {
            for (number, selector) in ways(abi, *row, rule, rules.default) {
                let fresh = || Outcome::FirstOf(Vec::new(), rules.default);
                add(outcomes.entry(number).or_insert_with(fresh), rule, selector);
            }
        }
    }
    outcomes
}

/// Adds a rule to those of a number; one without any condition makes the others idle.
fn add<'a>(outcome: &mut Outcome<'a>, rule: &'a Rule, selector: Option<Condition>) {
    if let Outcome::FirstOf(list, _) = outcome {
        if rule.conditions.is_empty() && selector.is_none() {
            *outcome = Outcome::Always(rule.action);
        } else {
            list.push((rule, selector));
        }
    }
}

/// The numbers by which a rule's syscall is reached, each with the condition that selects it there.
fn ways(abi: Abi, row: usize, rule: &Rule, default: u32) -> impl Iterator<Item = (u32, Option<Condition>)> {
    let direct = abi.number(row).map(|number| (number, None));
    // The arguments behind a multiplexer cannot be seen. A conditional rule that would let a call pass where
    // the default does not is left out there; one that refuses, refuses the whole call.
    let lenient = !rule.conditions.is_empty() && leniency(rule.action) > leniency(default);
    let other = (abi == Abi::X86 && !lenient).then(|| multiplexed(abi, row)).flatten();
    direct.into_iter().chain(other)
}

/// Orders verdicts as the kernel does among several filters: KILL_PROCESS is the most negative.
fn leniency(verdict: u32) -> i32 {
    (verdict & 0xffff_0000).cast_signed()
}

fn multiplexed(abi: Abi, row: usize) -> Option<(u32, Option<Condition>)> {
    /// The high half of ipc's first argument is an interface version that the kernel mostly ignores.
    const IPC_CALL: u32 = 0xffff;
    let (multiplexer, call) = abi::multiplexed(table::SYSCALLS[row].0)?;
    let number = abi.number(abi::row(multiplexer)?)?;
    let mask = if multiplexer == "ipc" { IPC_CALL } else { u32::MAX };
    Some((number, Some(Condition::selects(call, mask))))
}

/// Writes the program, from its end.
fn emit(lines: &[Line<'_>]) -> Vec<Instruction> {
    let mut asm = Assembler::default();
    let mut next = asm.ret(verdict::KILL_PROCESS);
    for line in lines.iter().rev() {
        let mut body = tree(&mut asm, &line.ranges, line.narrow_from);
        if line.ranges.len() > 1 {
            body = asm.load(OFFSET_NR);
        }
        next = asm.branch(Test::Equal, line.audit, body, next);
    }
    asm.load(OFFSET_ARCH);
    asm.finish()
}

/// A balanced search for the range that holds the number in the accumulator.
fn tree(asm: &mut Assembler, ranges: &[Range<'_>], narrow_from: u32) -> Label {
    if let [range] = ranges {
        return leaf(asm, &range.outcome, range.start >= narrow_from);
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let yes = tree(asm, upper, narrow_from);
    let no = tree(asm, lower, narrow_from);
    asm.branch(Test::AtLeast, upper[0].start, yes, no)
}

fn leaf(asm: &mut Assembler, outcome: &Outcome<'_>, narrow: bool) -> Label {
    match outcome {
        Outcome::Always(action) => asm.ret(*action),
        Outcome::FirstOf(rules, default) => {
            let default = asm.ret(*default);
            rules.iter().rev().fold(default, |no, (rule, selector)| {
                // Behind a multiplexer the rule's own conditions would look at the wrong arguments.
                let conditions = match selector {
                    Some(selector) => std::slice::from_ref(selector),
                    None => &rule.conditions,
                };
                let yes = asm.ret(rule.action);
                conditions.iter().rev().fold(yes, |yes, condition| compare(asm, condition, narrow, yes, no))
            })
        }
    }
}

/// A comparison of one argument: in its low half, or in both halves, the high one first.
fn compare(asm: &mut Assembler, condition: &Condition, narrow: bool, yes: Label, no: Label) -> Label {
    let (test, yes, no) = match condition.op {
        Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => (Test::Equal, yes, no),
        Operator::ScmpCmpNe => (Test::Equal, no, yes),
        Operator::ScmpCmpGt => (Test::Greater, yes, no),
        Operator::ScmpCmpLe => (Test::Greater, no, yes),
        Operator::ScmpCmpGe => (Test::AtLeast, yes, no),
        Operator::ScmpCmpLt => (Test::AtLeast, no, yes),
    };
    let offset = OFFSET_ARGS + 8 * condition.index;
    let (low, high) = (condition.value as u32, (condition.value >> 32) as u32);
    let (low_mask, high_mask) = (condition.mask as u32, (condition.mask >> 32) as u32);
    let low_half = word(asm, offset, low_mask, |asm| asm.branch(test, low, yes, no));
    if narrow || high_mask == 0 {
        return low_half;
    }
    word(asm, offset + 4, high_mask, |asm| match test {
        Test::Equal => asm.branch(Test::Equal, high, low_half, no),
        _ => {
            let same = asm.branch(Test::Equal, high, low_half, no);
            asm.branch(Test::Greater, high, yes, same)
        }
    })
}

/// Loads and masks a word in front of what `decide` writes.
fn word(asm: &mut Assembler, offset: u32, mask: u32, decide: impl FnOnce(&mut Assembler) -> Label) -> Label {
    decide(asm);
    if mask != u32::MAX {
        asm.and(mask);
    }
    asm.load(offset)
}
