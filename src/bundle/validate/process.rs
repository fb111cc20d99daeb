//! `process`: what is executed, as whom, with which rights and limits.

use std::collections::HashSet;

use super::{Check, Namespaces, absolute, mount, quoted, refuse, text, texts};
use crate::oci::capability_number;
use crate::oci::runtime::{
    Capabilities, ExecCPUAffinity, LinuxCapabilities, LinuxIOPriority, LinuxNamespaceType, LinuxSchedulerPolicy,
    PosixRlimit, Process, Scheduler, Spec, User,
};

/// `NGROUPS_MAX` of linux/limits.h.
const MAX_GROUPS: usize = 65_536;

/// A terminal's size has 16 bits a side (`struct winsize`).
const MAX_CONSOLE: u64 = 65_535;

/// The highest processor or node that a list may name: runc's limit. The kernel's own is lower.
const MAX_NUMBER: u32 = 65_536;

/// The shortest runtime of a deadline: `DL_SCALE` of kernel/sched.
const MIN_RUNTIME: u64 = 1024;

/// What means "no id" to every system call that takes one.
const NOBODY: u32 = u32::MAX;

/// To be called when the mappings are known to be sound, and few.
pub(super) fn check(process: &Process, spec: &Spec, namespaces: Namespaces<'_>) -> Check {
    command(process)?;
    if let Some(size) = process.console_size() {
        for (field, value) in [("height", size.height()), ("width", size.width())] {
            if value > MAX_CONSOLE {
                return refuse(format!("process.consoleSize.{field}"), format!("{value} is more than {MAX_CONSOLE}"));
            }
        }
    }
    user(process.user())?;
    mapped(process.user(), spec, namespaces)?;
    rlimits(process.rlimits().as_deref().unwrap_or_default())?;
    if let Some(capabilities) = process.capabilities() {
        self::capabilities(capabilities)?;
    }
    match process.oom_score_adj() {
        Some(score) if !(-1000..=1000).contains(&score) => {
            return refuse("process.oomScoreAdj", format!("{score} is not between -1000 and 1000"));
        }
        _ => {}
    }
    text(process.apparmor_profile().as_deref().unwrap_or_default(), || "process.apparmorProfile".into())?;
    text(process.selinux_label().as_deref().unwrap_or_default(), || "process.selinuxLabel".into())?;
    schedule(process)
}

fn command(process: &Process) -> Check {
    let args = process.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        return refuse("process.args", "is empty");
    }
    texts(Some(args), &|i| format!("process.args[{i}]"))?;
    absolute(process.cwd(), || "process.cwd".into())?;
    process.env().iter().flatten().enumerate().try_for_each(|(i, entry)| variable(entry, i))
}

/// The value is not repeated: it may be a secret.
fn variable(entry: &str, i: usize) -> Check {
    let field = || format!("process.env[{i}]");
    text(entry, field)?;
    match entry.find('=') {
        None => refuse(field(), "has no \"=\""),
        Some(0) => refuse(field(), "has no name"),
        Some(_) => Ok(()),
    }
}

fn user(user: &User) -> Check {
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    if groups.len() > MAX_GROUPS {
        let problem = format!("has {} groups; the kernel takes {MAX_GROUPS}", groups.len());
        return refuse("process.user.additionalGids", problem);
    }
    match user.umask() {
        Some(mask) if mask > 0o777 => {
            return refuse("process.user.umask", format!("{mask} is more than {}, which is 0777", 0o777));
        }
        _ => {}
    }
    each_id(user, |id, _, field| match id {
        NOBODY => refuse(field(), format!("{id} stands for no id")),
        _ => Ok(()),
    })
}

#[derive(Clone, Copy)]
enum Id {
    User,
    Group,
}

/// Runs `check` for every id of a user, with its field.
fn each_id(user: &User, check: impl Fn(u32, Id, &dyn Fn() -> String) -> Check) -> Check {
    check(user.uid(), Id::User, &|| "process.user.uid".into())?;
    check(user.gid(), Id::Group, &|| "process.user.gid".into())?;
    let mut groups = user.additional_gids().iter().flatten().enumerate();
    groups.try_for_each(|(i, &gid)| check(gid, Id::Group, &|| format!("process.user.additionalGids[{i}]")))
}

/// In a user namespace of its own a process can only be who is mapped; in a joined one the mappings are that one's.
fn mapped(user: &User, spec: &Spec, namespaces: Namespaces<'_>) -> Check {
    let Some(linux) = spec.linux() else { return Ok(()) };
    if !namespaces.makes(LinuxNamespaceType::User) {
        return Ok(());
    }
    each_id(user, |id, kind, field| {
        let (name, list) = match kind {
            Id::User => ("uidMappings", linux.uid_mappings()),
            Id::Group => ("gidMappings", linux.gid_mappings()),
        };
        match list {
            Some(list) if !mount::maps(list, id) => refuse(field(), format!("{id} is not in linux.{name}")),
            _ => Ok(()),
        }
    })
}

fn rlimits(limits: &[PosixRlimit]) -> Check {
    let mut seen = HashSet::new();
    for (i, limit) in limits.iter().enumerate() {
        let name = limit.typ().to_string();
        let problem = format!("{name} is there twice");
        if !seen.insert(name) {
            return refuse(format!("process.rlimits[{i}].type"), problem);
        }
        let (soft, hard) = (limit.soft(), limit.hard());
        if soft > hard {
            return refuse(format!("process.rlimits[{i}].soft"), format!("{soft} is more than the hard limit, {hard}"));
        }
    }
    Ok(())
}

/// capset(2) refuses effective capabilities that are not permitted. Ambient ones that are not, and what is not in the
/// bounding set, "MUST be logged as a warning" only (config.md).
fn capabilities(sets: &LinuxCapabilities) -> Check {
    let permitted = |c| sets.permitted().as_ref().is_some_and(|set: &Capabilities| set.contains(c));
    let excess = sets.effective().iter().flatten().filter(|c| !permitted(c)).min_by_key(|c| capability_number(**c));
    match excess {
        Some(one) => refuse("process.capabilities.effective", format!("CAP_{one} is not permitted")),
        None => Ok(()),
    }
}

fn schedule(process: &Process) -> Check {
    if let Some(scheduler) = process.scheduler() {
        self::scheduler(scheduler)?;
    }
    if let Some(priority) = process.io_priority() {
        io_priority(priority)?;
    }
    if let Some(affinity) = process.exec_cpu_affinity() {
        for (field, list) in [("initial", ExecCPUAffinity::initial(affinity)), ("final", affinity.cpu_affinity_final())]
        {
            numbers(list.as_deref().unwrap_or_default(), &format!("process.execCPUAffinity.{field}"))?;
        }
    }
    Ok(())
}

/// sched_setattr(2).
fn scheduler(scheduler: &Scheduler) -> Check {
    use LinuxSchedulerPolicy as P;
    let field = |name: &str| format!("process.scheduler.{name}");
    let policy = *scheduler.policy();
    let (nice, priority) = (scheduler.nice().unwrap_or(0), scheduler.priority().unwrap_or(0));
    if !(-20..=19).contains(&nice) {
        return refuse(field("nice"), format!("{nice} is not between -20 and 19"));
    }
    match policy {
        P::SchedFifo | P::SchedRr if !(1..=99).contains(&priority) => {
            return refuse(field("priority"), format!("{priority} is not between 1 and 99, as {policy} needs"));
        }
        P::SchedFifo | P::SchedRr => {}
        _ if priority != 0 => return refuse(field("priority"), format!("{policy} has none")),
        _ => {}
    }
    let times = [
        ("runtime", scheduler.runtime().unwrap_or(0)),
        ("deadline", scheduler.deadline().unwrap_or(0)),
        ("period", scheduler.period().unwrap_or(0)),
    ];
    match times.iter().find(|(_, nanoseconds)| *nanoseconds != 0) {
        Some((name, _)) if policy != P::SchedDeadline => refuse(field(name), format!("{policy} has none")),
        _ if policy == P::SchedDeadline => deadline(times, field),
        _ => Ok(()),
    }
}

/// A period of 0 is the deadline.
fn deadline(times: [(&str, u64); 3], field: impl Fn(&str) -> String) -> Check {
    let [(_, runtime), (_, deadline), (_, period)] = times;
    if runtime < MIN_RUNTIME {
        return refuse(field("runtime"), format!("{runtime} is less than {MIN_RUNTIME} nanoseconds"));
    }
    if let Some((name, value)) = times.iter().find(|(_, value)| i64::try_from(*value).is_err()) {
        return refuse(field(name), format!("{value} is more than {}", i64::MAX));
    }
    if runtime > deadline {
        return refuse(field("runtime"), format!("{runtime} is more than the deadline, {deadline}"));
    }
    if period != 0 && deadline > period {
        return refuse(field("deadline"), format!("{deadline} is more than the period, {period}"));
    }
    Ok(())
}

fn io_priority(priority: &LinuxIOPriority) -> Check {
    match priority.priority() {
        0..=7 => Ok(()),
        other => refuse("process.ioPriority.priority", format!("{other} is not between 0 and 7")),
    }
}

/// Counts the elements of a list such as `0-3,7` (cpuset(7), "List format"), without making any.
pub(super) fn numbers(list: &str, field: &str) -> Result<u64, super::Invalid> {
    let bad = || super::Invalid { field: field.into(), problem: format!("{} is no list such as 0-3,7", quoted(list)) };
    let number = |digits: &str| match digits.parse::<u32>() {
        // parse() takes a sign.
        Ok(number) if number <= MAX_NUMBER && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        _ => Err(bad()),
    };
    let mut count = 0;
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        count += u64::from(last.checked_sub(first).ok_or_else(bad)?) + 1;
    }
    Ok(count)
}
