//! What `process` and `linux` of the specification say about the sharing out of the machine: scheduler, I/O
//! priority, memory policy, personality, and the processors of a further process (runtime-spec config.md, "Linux
//! Process"; config-linux.md, "Memory policy" and "Personality").
//!
//! All of it belongs to the thread that is told, and to what that executes: it is applied by the init stage to
//! itself. It comes before the capabilities are given up, as real-time policies need CAP_SYS_NICE, and after the
//! cgroup is entered, whose `cpuset` confines it.

use super::Error;
use crate::oci::runtime::{
    ExecCPUAffinity, IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};
use crate::sys::{self, schedule as raw};

/// The highest number of a processor or memory node: `NR_CPUS` of arch/x86/Kconfig, the largest of all
/// processors', is at most 8192. What is beyond can only be a slip, and would cost a mask of its size.
pub const MAX_ID: usize = 8191;

/// What is to be applied to the process, understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    scheduler: Option<raw::Attributes>,
    io: Option<(u8, u8)>,
    personality: Option<u32>,
    memory: Option<(i32, Ids)>,
}

/// A set of processors or memory nodes, as the kernel's masks are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ids(Vec<u64>);

/// The processors that a process which joins a container may run on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    initial: Option<Ids>,
    settled: Option<Ids>,
}

impl Schedule {
    /// Understands the specification, and refuses what the kernel would pass over in silence.
    pub fn plan(process: &Process, linux: Option<&Linux>) -> Result<Self, Error> {
        let io = |io: &crate::oci::runtime::LinuxIOPriority| io_priority(io.class(), io.priority());
        Ok(Self {
            scheduler: process.scheduler().as_ref().map(attributes).transpose()?,
            io: process.io_priority().as_ref().map(io).transpose()?,
            personality: linux.and_then(|l| l.personality().as_ref()).map(personality).transpose()?,
            memory: linux.and_then(|l| l.memory_policy().as_ref()).map(memory_policy).transpose()?,
        })
    }

    /// Applies it to the calling thread.
    pub fn apply(&self) -> sys::Result<()> {
        if let Some(attributes) = self.scheduler {
            raw::set_attributes(attributes)?;
        }
        if let Some((class, level)) = self.io {
            raw::set_io_priority(class, level)?;
        }
        if let Some(domain) = self.personality {
            raw::set_personality(domain)?;
        }
        match &self.memory {
            Some((mode, Ids(nodes))) => raw::set_memory_policy(*mode, nodes),
            None => Ok(()),
        }
    }
}

impl Affinity {
    /// Understands `process.execCPUAffinity`. It is for processes that join a container, not for its init.
    pub fn plan(process: &Process) -> Result<Self, Error> {
        const FIELD: &str = "process.execCPUAffinity";
        let Some(affinity) = process.exec_cpu_affinity() else { return Ok(Self::default()) };
        let ids = |text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => Ids::parse(text, FIELD).map(Some),
        };
        Ok(Self {
            initial: ids(ExecCPUAffinity::initial(affinity))?,
            settled: ids(ExecCPUAffinity::cpu_affinity_final(affinity))?,
        })
    }

    /// Moves the calling thread, which has not entered the container's cgroup yet.
    pub fn apply_initial(&self) -> sys::Result<()> {
        self.initial.as_ref().map_or(Ok(()), |Ids(mask)| raw::set_affinity(mask))
    }

    /// Moves the calling thread, which is in the container's cgroup: entering it has undone what was before.
    pub fn apply_final(&self) -> sys::Result<()> {
        self.settled.as_ref().map_or(Ok(()), |Ids(mask)| raw::set_affinity(mask))
    }
}

impl Ids {
    /// Reads a list like `0-3,7` (cpuset(7), "List format").
    fn parse(text: &str, field: &'static str) -> Result<Self, Error> {
        let bad = || wrong(field, format!("{text:?} is no list of numbers and ranges like \"0-3,7\""));
        let number = |digits: &str| match digits.parse::<usize>() {
            // parse() takes a sign.
            Ok(id) if id <= MAX_ID && digits.starts_with(|c: char| c.is_ascii_digit()) => Ok(id),
            Ok(id) if id > MAX_ID => Err(wrong(field, format!("{id} is more than {MAX_ID}"))),
            _ => Err(bad()),
        };
        let mut mask = Vec::new();
        for range in text.split(',').map(str::trim) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(bad());
            }
            mask.resize(mask.len().max(last / 64 + 1), 0_u64);
            (first..=last).for_each(|id| mask[id / 64] |= 1 << (id % 64));
        }
        Ok(Self(mask))
    }
}

fn wrong(field: &'static str, problem: impl Into<String>) -> Error {
    Error::Unsupported { field, problem: problem.into() }
}

fn attributes(scheduler: &Scheduler) -> Result<raw::Attributes, Error> {
    use LinuxSchedulerPolicy as P;
    const FIELD: &str = "process.scheduler";
    let (nice, priority) = (scheduler.nice().unwrap_or(0), scheduler.priority().unwrap_or(0));
    let [runtime, deadline, period] =
        [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|nanos| nanos.unwrap_or(0));
    let policy = *scheduler.policy();
    if !(-20..=19).contains(&nice) {
        return Err(wrong(FIELD, format!("nice is {nice}, which is not between -20 and 19")));
    }
    if priority != 0 && !matches!(policy, P::SchedFifo | P::SchedRr) {
        return Err(wrong(FIELD, format!("{policy} has no priority; SCHED_FIFO and SCHED_RR have")));
    }
    if [runtime, deadline, period] != [0; 3] && policy != P::SchedDeadline {
        return Err(wrong(FIELD, format!("{policy} has no runtime, deadline and period; SCHED_DEADLINE has")));
    }
    let priority = u32::try_from(priority).map_err(|_| wrong(FIELD, format!("priority is {priority}")))?;
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| flags | scheduler_flag(*flag));
    Ok(raw::Attributes { policy: scheduler_policy(policy), flags, nice, priority, runtime, deadline, period })
}

/// linux/sched.h
fn scheduler_policy(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

/// linux/sched.h
fn scheduler_flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// linux/ioprio.h
fn io_priority(class: IOPriorityClass, priority: i64) -> Result<(u8, u8), Error> {
    let class = match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u8::try_from(priority) {
        Ok(level) if level <= 7 => Ok((class, level)),
        _ => Err(wrong("process.ioPriority", format!("priority is {priority}, which is not between 0 and 7"))),
    }
}

/// linux/personality.h. No flags are defined by the specification; some of the kernel's weaken a process.
fn personality(personality: &LinuxPersonality) -> Result<u32, Error> {
    match personality.flags().iter().flatten().next() {
        Some(flag) => Err(wrong("linux.personality", format!("there is no flag {flag:?}"))),
        None => Ok(match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 0x8,
        }),
    }
}

/// linux/mempolicy.h. Whether mode, flags and nodes go together is for the kernel to say.
fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<(i32, Ids), Error> {
    use MemoryPolicyModeType as M;
    let mode = match policy.mode() {
        M::MpolDefault => 0,
        M::MpolPreferred => 1,
        M::MpolBind => 2,
        M::MpolInterleave => 3,
        M::MpolLocal => 4,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &MemoryPolicyFlagType| match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
    };
    let mode = policy.flags().iter().flatten().fold(mode, |mode, f| mode | flag(f));
    match policy.nodes().as_deref() {
        None | Some("") => Ok((mode, Ids::default())),
        Some(nodes) => Ok((mode, Ids::parse(nodes, "linux.memoryPolicy")?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(process: &str, linux: &str) -> Result<Schedule, String> {
        Schedule::plan(&self::process(process), Some(&serde_json::from_str(linux).unwrap())).map_err(|e| e.to_string())
    }

    /// A process with one more field.
    fn process(field: &str) -> Process {
        let comma = if field.is_empty() { "" } else { "," };
        let json = format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["x"]{comma}{field}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn lists_become_masks() {
        for (text, mask) in [
            ("0", vec![1]),
            ("0-3,7", vec![0x8f]),
            ("7,0-3", vec![0x8f]),
            ("63-64", vec![1 << 63, 1]),
            ("128", vec![0, 0, 1]),
        ] {
            assert_eq!(Ids::parse(text, "f").unwrap(), Ids(mask), "{text}");
        }
        assert_eq!(Ids::parse(&MAX_ID.to_string(), "f").unwrap().0.len(), 128);
        for text in ["", "x", "1-", "-1", "3-1", "1,,2", "+1", "1-2-3", &(MAX_ID + 1).to_string()] {
            assert!(Ids::parse(text, "f").is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_asked_is_nothing_done() {
        assert_eq!(plan("", "{}").unwrap(), Schedule::default());
        assert_eq!(Affinity::plan(&process("")).unwrap(), Affinity::default());
    }

    #[test]
    fn the_words_of_the_specification_become_the_kernels_numbers() {
        let deadline = r#""scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RECLAIM"],
            "runtime":10000000,"deadline":20000000,"period":30000000}"#;
        let got = plan(deadline, "{}").unwrap().scheduler.unwrap();
        let (runtime, deadline, period) = (10_000_000, 20_000_000, 30_000_000);
        let wanted = raw::Attributes { policy: 6, flags: 2, nice: 0, priority: 0, runtime, deadline, period };
        assert_eq!(got, wanted);
        let got = plan(r#""scheduler":{"policy":"SCHED_RR","priority":5}"#, "{}").unwrap().scheduler.unwrap();
        assert_eq!((got.policy, got.priority), (2, 5));
        let got = plan(r#""ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":4}"#, "{}").unwrap();
        assert_eq!(got.io, Some((3, 4)));
        let linux = r#"{"personality":{"domain":"LINUX32"},"memoryPolicy":{"mode":"MPOL_INTERLEAVE","nodes":"2-3",
            "flags":["MPOL_F_STATIC_NODES"]}}"#;
        let got = plan("", linux).unwrap();
        assert_eq!((got.personality, got.memory), (Some(8), Some((3 | 1 << 15, Ids(vec![0b1100])))));
        let got = plan("", r#"{"memoryPolicy":{"mode":"MPOL_LOCAL","nodes":""}}"#).unwrap();
        assert_eq!(got.memory, Some((4, Ids::default())));
        let affinity = Affinity::plan(&process(r#""execCPUAffinity":{"initial":"7"}"#)).unwrap();
        assert_eq!(affinity, Affinity { initial: Some(Ids(vec![0x80])), settled: None });
    }

    #[test]
    fn what_would_be_passed_over_in_silence_is_refused_by_field() {
        for (process, linux, wanted) in [
            (r#""scheduler":{"policy":"SCHED_OTHER","nice":20}"#, "{}", "process.scheduler"),
            (r#""scheduler":{"policy":"SCHED_BATCH","priority":1}"#, "{}", "SCHED_BATCH has no priority"),
            (r#""scheduler":{"policy":"SCHED_RR","priority":-1}"#, "{}", "priority is -1"),
            (r#""scheduler":{"policy":"SCHED_FIFO","period":1}"#, "{}", "SCHED_FIFO has no runtime"),
            (r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}"#, "{}", "process.ioPriority"),
            ("", r#"{"personality":{"domain":"LINUX","flags":["ADDR_NO_RANDOMIZE"]}}"#, "ADDR_NO_RANDOMIZE"),
            ("", r#"{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"1-x"}}"#, "linux.memoryPolicy"),
        ] {
            let error = plan(process, linux).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }

    /// A thread's own attributes, read where the kernel shows them.
    fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    fn proc_of_thread(name: &str) -> String {
        std::fs::read_to_string(std::path::Path::new("/proc/thread-self").join(name)).unwrap()
    }

    #[test]
    fn a_program_has_the_schedule_that_was_applied() {
        let schedule = plan(
            r#""scheduler":{"policy":"SCHED_BATCH","nice":3},"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":1}"#,
            r#"{"personality":{"domain":"LINUX32"},"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0"}}"#,
        );
        apart(|| {
            schedule.unwrap().apply().unwrap();
            let stat = proc_of_thread("stat");
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            // proc_pid_stat(5): fields 19 and 41, counted from the third.
            assert_eq!((fields[16], fields[38]), ("3", "3"));
            assert_eq!(proc_of_thread("personality").trim(), "00000008");
            assert!(proc_of_thread("numa_maps").lines().all(|line| line.contains(" bind:0")));
        });
    }

    #[test]
    fn a_process_runs_where_the_affinity_says() {
        apart(|| {
            let plan = Affinity::plan(&process(r#""execCPUAffinity":{"initial":"0-1","final":"0"}"#)).unwrap();
            plan.apply_initial().unwrap();
            plan.apply_final().unwrap();
            assert!(proc_of_thread("status").contains("Cpus_allowed_list:\t0\n"));
        });
    }
}
