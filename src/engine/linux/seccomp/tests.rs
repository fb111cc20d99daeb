//! The compiled program against a plain reading of the profile, and against this kernel.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator as Operator, LinuxSyscall,
};
use proptest::prelude::*;

use super::*;
use crate::bundle::seccomp::default_profile;
use crate::sys::seccomp as kernel;

/// What a filter sees of a call: `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
struct Call {
    arch: u32,
    nr: u32,
    args: [u64; 6],
}

/// Runs a program as the kernel does, on the few instructions that filters have.
fn run(program: &[Instruction], call: &Call) -> u32 {
    let word = |offset: u32| match offset {
        0 => call.nr,
        4 => call.arch,
        16..64 if offset.is_multiple_of(4) => (call.args[(offset as usize - 16) / 8] >> (offset % 8 * 8)) as u32,
        _ => panic!("load from {offset}"),
    };
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let holds = match code {
            0x20 => {
                accumulator = word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return k,
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            _ => panic!("instruction {code:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

/// What a profile says about a call, read rule by rule.
fn judge(profile: &LinuxSeccomp, family: Family, call: &Call) -> u32 {
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let mut abis: Vec<Abi> = profile.architectures().iter().flatten().filter_map(|arch| family.abi(*arch)).collect();
    abis.push(family.native_abi());
    let in_x32 = call.arch == Abi::X32.audit() && call.nr >= X32_BIT;
    let Some(abi) = abis.iter().copied().find(|abi| abi.audit() == call.arch && (*abi == Abi::X32) == in_x32) else {
        return if family == Family::X86 && in_x32 && call.nr == u32::MAX { default } else { verdict::KILL_PROCESS };
    };
    let mut matching = None;
    for entry in profile.syscalls().iter().flatten() {
        let action = entry.action().as_u32(entry.errno_ret());
        let args = entry.args().as_deref().unwrap_or_default();
        let direct = entry.names().iter().any(|name| number(abi, name) == Some(call.nr));
        let behind = entry.names().iter().any(|name| multiplexed_call(abi, name, entry, action, default, call));
        if action == default || !(direct || behind) {
            continue;
        }
        if args.is_empty() && direct {
            return unconditional(profile, abi, default, call);
        }
        if behind || holds(abi, args, call) {
            matching = matching.or(Some(action));
        }
    }
    matching.unwrap_or_else(|| newer(profile, abi, default, call.nr))
}

fn number(abi: Abi, name: &str) -> Option<u32> {
    abi.number(abi::row(name)?)
}

/// Whether an entry's name means the call through a multiplexer of x86.
fn multiplexed_call(abi: Abi, name: &str, entry: &LinuxSyscall, action: u32, default: u32, call: &Call) -> bool {
    let lenient = action.cast_signed() > default.cast_signed() && action >> 16 != default >> 16;
    if abi != Abi::X86
        || ![102, 117].contains(&call.nr)
        || (lenient && entry.args().as_ref().is_some_and(|args| !args.is_empty()))
    {
        return false;
    }
    match abi::multiplexed(name) {
        Some(("ipc", sub)) => call.nr == 117 && call.args[0] & 0xffff == u64::from(sub),
        Some((_, sub)) => call.nr == 102 && call.args[0] as u32 == sub,
        None => false,
    }
}

/// The first entry that names the call and sets no condition decides alone.
fn unconditional(profile: &LinuxSeccomp, abi: Abi, default: u32, call: &Call) -> u32 {
    let mut entries = profile.syscalls().iter().flatten().filter(|entry| {
        entry.args().as_ref().is_none_or(Vec::is_empty)
            && entry.names().iter().any(|name| number(abi, name) == Some(call.nr))
            && entry.action().as_u32(entry.errno_ret()) != default
    });
    entries.next().map(|entry| entry.action().as_u32(entry.errno_ret())).unwrap()
}

fn holds(abi: Abi, args: &[LinuxSeccompArg], call: &Call) -> bool {
    let one = |arg: &LinuxSeccompArg| {
        let narrow = |value: u64| if abi.narrow() { value & 0xffff_ffff } else { value };
        let (given, value) = (narrow(call.args[arg.index()]), narrow(arg.value()));
        match arg.op() {
            Operator::ScmpCmpNe => given != value,
            Operator::ScmpCmpLt => given < value,
            Operator::ScmpCmpLe => given <= value,
            Operator::ScmpCmpEq => given == value,
            Operator::ScmpCmpGe => given >= value,
            Operator::ScmpCmpGt => given > value,
            Operator::ScmpCmpMaskedEq => given & value == narrow(arg.value_two().unwrap_or(0)) & value,
        }
    };
    let twice = args.iter().enumerate().any(|(i, a)| args[..i].iter().any(|b| a.index() == b.index()));
    if twice { args.iter().any(one) } else { args.iter().all(one) }
}

/// What a call gets that no rule is about.
fn newer(profile: &LinuxSeccomp, abi: Abi, default: u32, nr: u32) -> u32 {
    let private = |nr: u32| abi == Abi::Arm && nr >= 0xf_0000;
    let names = profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names);
    let newest = names.filter_map(|name| number(abi, name)).filter(|known| private(*known) == private(nr)).max();
    let lenient = matches!(profile.default_action(), Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace);
    match newest {
        Some(newest) if nr > newest && !lenient => verdict::ENOSYS,
        _ => default,
    }
}

fn arg(index: usize, op: Operator, value: u64, value_two: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default().index(index).op(op).value(value).value_two(value_two).build().unwrap()
}

fn entry(names: &[&str], action: Action, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut entry = LinuxSyscall::default();
    entry.set_names(names.iter().map(ToString::to_string).collect());
    entry.set_action(action);
    entry.set_args((!args.is_empty()).then_some(args));
    entry
}

fn profile(default: Action, architectures: &[Arch], syscalls: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(default);
    profile.set_architectures(Some(architectures.to_vec()));
    profile.set_syscalls(Some(syscalls));
    profile.set_listener_path(Some("/run/listener".into()));
    profile
}

const AUDITS: [u32; 5] = [0xc000_003e, 0x4000_0003, 0x4000_0028, 0xc000_00b7, 0xc000_00f3];

/// Values around `value` where a comparison of halves could go wrong.
fn corners(value: u64) -> [u64; 7] {
    let high = 1 << 32;
    [value, value.wrapping_sub(1), value.wrapping_add(1), value ^ high, value.wrapping_add(high), !value, value << 32]
}

#[test]
fn the_default_profile_says_the_same_compiled_and_read_for_every_number() {
    let numbers = || (0..600).chain(0xf_0000..0xf_0010).chain(X32_BIT..X32_BIT + 600).chain(u32::MAX - 2..=u32::MAX);
    let firsts = [38, 40, 42, 0x7e02_0000, 0x2_0008, 0xffff_ffff].into_iter().flat_map(corners).chain(0..70);
    let firsts: Vec<u64> = firsts.collect();
    for (family, native) in [(Family::X86, Arch::ScmpArchX86_64), (Family::Arm, Arch::ScmpArchAarch64)] {
        for capabilities in [Capabilities::new(), Capabilities::from([Capability::SysAdmin])] {
            let profile = default_profile(&capabilities, native);
            let filter = compile(&profile, family).unwrap();
            let with_conditions = ["socket", "clone", "personality", "socketcall", "ipc"];
            for arch in AUDITS {
                for nr in numbers() {
                    let here = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Arm, Abi::Aarch64];
                    let mut here = here.iter().filter(|abi| abi.audit() == arch);
                    let of_interest = here.any(|abi| with_conditions.iter().any(|name| number(*abi, name) == Some(nr)));
                    for first in if of_interest { &firsts[..] } else { &[0] } {
                        let call = Call { arch, nr, args: [*first, 0, 0, 0, 0, 0] };
                        assert_eq!(run(filter.program(), &call), judge(&profile, family, &call), "{call:x?}");
                    }
                }
            }
        }
    }
}

#[test]
fn no_way_leads_to_forbidden_sockets_but_x86s_multiplexer() {
    let filter = compile(&default_profile(&Capabilities::new(), Arch::ScmpArchX86_64), Family::X86).unwrap();
    let socket = |abi: Abi, family: u64| {
        let nr = number(abi, "socket").unwrap();
        run(filter.program(), &Call { arch: abi.audit(), nr, args: [family, 0, 0, 0, 0, 0] })
    };
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        for forbidden in [38, 40] {
            for high in [0, 1 << 32, 1 << 63, !0 << 32] {
                assert_eq!(socket(abi, high | forbidden), verdict::ERRNO | 1, "{abi:?} {high:x} {forbidden}");
            }
        }
        for allowed in (0..38).chain([39]).chain(41..64) {
            assert_eq!(socket(abi, allowed), verdict::ALLOW, "{abi:?} {allowed}");
        }
    }
}

#[test]
fn foreign_ways_into_the_kernel_are_death() {
    let only_native = profile(Action::ScmpActErrno, &[], vec![entry(&["read"], Action::ScmpActAllow, vec![])]);
    let filter = compile(&only_native, Family::X86).unwrap();
    let verdict_of = |arch, nr| run(filter.program(), &Call { arch, nr, args: [0; 6] });
    assert_eq!(verdict_of(Abi::X86_64.audit(), 0), verdict::ALLOW);
    assert_eq!(verdict_of(Abi::X86_64.audit(), X32_BIT), verdict::KILL_PROCESS);
    assert_eq!(verdict_of(Abi::X86_64.audit(), X32_BIT | 0x8000_0000), verdict::KILL_PROCESS);
    assert_eq!(verdict_of(Abi::X86_64.audit(), u32::MAX), verdict::ERRNO | 1);
    assert_eq!(verdict_of(Abi::X86.audit(), 3), verdict::KILL_PROCESS);
    assert_eq!(verdict_of(Abi::Aarch64.audit(), 63), verdict::KILL_PROCESS);
}

#[test]
fn rules_on_sockets_and_ipc_hold_behind_x86s_multiplexers() {
    let deny = profile(
        Action::ScmpActAllow,
        &[Arch::ScmpArchX86],
        vec![
            entry(&["socket"], Action::ScmpActErrno, vec![arg(0, Operator::ScmpCmpEq, 38, 0)]),
            entry(&["shmat"], Action::ScmpActErrno, vec![]),
        ],
    );
    let filter = compile(&deny, Family::X86).unwrap();
    let through = |nr, first| run(filter.program(), &Call { arch: Abi::X86.audit(), nr, args: [first, 0, 0, 0, 0, 0] });
    assert_eq!(through(102, 1), verdict::ERRNO | 1, "socketcall(SYS_SOCKET)");
    assert_eq!(through(102, 2), verdict::ALLOW, "socketcall(SYS_BIND)");
    assert_eq!(through(117, 21), verdict::ERRNO | 1, "ipc(SHMAT)");
    assert_eq!(through(117, 1 << 16 | 21), verdict::ERRNO | 1, "ipc(SHMAT) of version 1");
    assert_eq!(through(117, 22), verdict::ALLOW, "ipc(SHMDT)");
}

#[test]
fn the_filter_is_short_and_its_paths_are_shorter() {
    let filter = compile(&default_profile(&Capabilities::new(), Arch::ScmpArchX86_64), Family::X86).unwrap();
    assert!(filter.program().len() < 500, "{} instructions", filter.program().len());
}

#[test]
fn far_targets_are_reached_by_stepping_stones() {
    // Every second number has its own errno: no two ranges can be merged, no verdict be shared.
    let entries: Vec<LinuxSyscall> = table::SYSCALLS
        .iter()
        .enumerate()
        .map(|(i, (name, _))| {
            let mut entry = entry(&[name], Action::ScmpActErrno, vec![arg(0, Operator::ScmpCmpGt, 7 << 32, 0)]);
            entry.set_errno_ret(Some(100 + i as u32));
            entry
        })
        .collect();
    let profile = profile(Action::ScmpActAllow, &[], entries);
    let filter = compile(&profile, Family::X86).unwrap();
    assert!(filter.program().len() > 1000);
    for nr in 0..600 {
        for first in corners(7 << 32) {
            let call = Call { arch: Abi::X86_64.audit(), nr, args: [first, 0, 0, 0, 0, 0] };
            assert_eq!(run(filter.program(), &call), judge(&profile, Family::X86, &call), "{call:x?}");
        }
    }
}

#[test]
fn a_profile_too_long_for_the_kernel_is_refused() {
    let one = |i| entry(&["read"], Action::ScmpActErrno, vec![arg(1, Operator::ScmpCmpEq, i, 0)]);
    let profile = profile(Action::ScmpActAllow, &[], (0..2000).map(one).collect());
    let error = compile(&profile, Family::X86).unwrap_err();
    assert!(matches!(error, Error::TooLong { length } if length > MAX_INSTRUCTIONS), "{error}");
}

#[test]
fn what_cannot_be_meant_is_refused_by_field() {
    let with = |entry| profile(Action::ScmpActAllow, &[], vec![entry]);
    let errno = |action, errno| {
        let mut entry = entry(&["read"], action, vec![]);
        entry.set_errno_ret(Some(errno));
        with(entry)
    };
    let mut unheard = with(entry(&["read"], Action::ScmpActNotify, vec![]));
    unheard.set_listener_path(None);
    let cases = [
        (with(entry(&[], Action::ScmpActErrno, vec![])), "linux.seccomp.syscalls[0].names is empty"),
        (
            errno(Action::ScmpActKill, 5),
            "linux.seccomp.syscalls[0].errnoRet is set, but the action SCMP_ACT_KILL returns no errno",
        ),
        (errno(Action::ScmpActErrno, 65_536), "linux.seccomp.syscalls[0].errnoRet is 65536: more than 65535"),
        (
            with(entry(&["read"], Action::ScmpActErrno, vec![arg(6, Operator::ScmpCmpEq, 0, 0)])),
            "linux.seccomp.syscalls[0].args: index is 6, a syscall's arguments are 0 to 5",
        ),
        (profile(Action::ScmpActNotify, &[], vec![]), "linux.seccomp.defaultAction cannot be SCMP_ACT_NOTIFY"),
        (
            with(entry(&["write"], Action::ScmpActNotify, vec![])),
            "linux.seccomp.syscalls[0]: SCMP_ACT_NOTIFY cannot be used for write",
        ),
        (unheard, "linux.seccomp uses SCMP_ACT_NOTIFY, but has no listenerPath"),
    ];
    for (profile, message) in cases {
        assert_eq!(compile(&profile, Family::X86).unwrap_err().to_string(), message);
    }
}

#[test]
fn flags_follow_the_profile_and_a_listener_comes_with_notify() {
    let mut profile = profile(Action::ScmpActAllow, &[], vec![entry(&["mount"], Action::ScmpActNotify, vec![])]);
    profile.set_flags(Some(vec![
        LinuxSeccompFilterFlag::SeccompFilterFlagLog,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv,
    ]));
    let flags = compile(&profile, Family::X86).unwrap().flags();
    assert_eq!(flags, Flags::LOG.with(Flags::WAIT_KILLABLE_RECV).with(Flags::NEW_LISTENER));
}

/// A filter covers one thread when it is loaded without TSYNC, so the kernel can be asked in a thread.
fn in_filtered_thread<T: Send>(filter: &Filter, work: impl FnOnce(Option<std::os::fd::OwnedFd>) -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                kernel::set_no_new_privs().unwrap();
                work(kernel::load(filter.program(), filter.flags()).unwrap())
            })
            .join()
            .unwrap()
    })
}

#[test]
fn this_kernel_enforces_the_default_profile() {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};
    let native = crate::bundle::seccomp::native().unwrap();
    let filter = compile(&default_profile(&Capabilities::new(), native), Family::native().unwrap()).unwrap();
    in_filtered_thread(&filter, |_| {
        let open = |family| socket(AddressFamily::from_raw(family), SocketType::SEQPACKET, None).map(drop);
        assert_eq!(open(38), Err(Errno::PERM));
        assert_eq!(open(40), Err(Errno::PERM));
        assert_eq!(open(1), Ok(()));
        assert_eq!(rustix::process::chroot("/").unwrap_err(), Errno::PERM);
        assert_eq!(rustix::mount::unmount("/nowhere", rustix::mount::UnmountFlags::empty()), Err(Errno::PERM));
        assert!(std::fs::read("/proc/self/status").is_ok());
    });
}

#[test]
fn this_kernel_hands_out_a_listener() {
    let profile = profile(Action::ScmpActAllow, &[], vec![entry(&["acct"], Action::ScmpActNotify, vec![])]);
    let filter = compile(&profile, Family::native().unwrap()).unwrap();
    assert!(in_filtered_thread(&filter, |listener| listener.is_some()));
}

const NAMES: [&str; 16] = [
    "read",
    "write",
    "socket",
    "socketcall",
    "ipc",
    "shmat",
    "execve",
    "ptrace",
    "clone3",
    "set_tls",
    "mseal",
    "open",
    "personality",
    "accept4",
    "no_such_call",
    "chown32",
];
const VALUES: [u64; 8] = [0, 1, 38, 0xffff_ffff, 1 << 32, (5 << 32) | 7, u64::MAX, 1 << 63];

fn any_profile() -> impl Strategy<Value = LinuxSeccomp> {
    use Operator::*;
    let action = || {
        prop::sample::select(vec![
            Action::ScmpActKillProcess,
            Action::ScmpActKill,
            Action::ScmpActTrap,
            Action::ScmpActErrno,
            Action::ScmpActTrace,
            Action::ScmpActLog,
            Action::ScmpActAllow,
        ])
    };
    let ops = vec![ScmpCmpNe, ScmpCmpLt, ScmpCmpLe, ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpMaskedEq];
    let value = || prop::sample::select(VALUES.to_vec());
    let condition = (0..6usize, prop::sample::select(ops), value(), value()).prop_map(|(i, o, v, w)| arg(i, o, v, w));
    let names = prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..4);
    let entries = (names, action(), prop::collection::vec(condition, 0..3)).prop_map(|(n, a, c)| entry(&n, a, c));
    let archs = vec![Arch::ScmpArchX86, Arch::ScmpArchX32, Arch::ScmpArchArm, Arch::ScmpArchNative];
    let archs = prop::sample::subsequence(archs, 0..=4);
    (action(), archs, prop::collection::vec(entries, 0..8)).prop_map(|(a, archs, e)| profile(a, &archs, e))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_profile_says_the_same_compiled_and_read(
        profile in any_profile(),
        args in prop::array::uniform6(prop::sample::select(VALUES.map(corners).concat())),
        small in 0u32..512,
    ) {
        for family in [Family::X86, Family::Arm] {
            let filter = compile(&profile, family).unwrap();
            let named = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Arm, Abi::Aarch64]
                .into_iter()
                .flat_map(|abi| NAMES.iter().filter_map(move |name| number(abi, name)))
                .flat_map(|nr| [nr, nr + 1, nr.wrapping_sub(1)]);
            for nr in named.chain([small, X32_BIT | small, 0x8000_0000, u32::MAX]) {
                for arch in AUDITS {
                    let call = Call { arch, nr, args };
                    prop_assert_eq!(run(filter.program(), &call), judge(&profile, family, &call), "{:x?}", call);
                }
            }
        }
    }
}

#[test]
fn a_filter_survives_being_handed_over() {
    let profile: LinuxSeccomp = serde_json::from_str(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","flags":["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"}]}"#,
    )
    .unwrap();
    let filter = compile(&profile, Family::native().unwrap()).unwrap();
    assert_eq!(Filter::from_bytes(&filter.to_bytes()), Some(filter.clone()));
    assert_eq!(Filter::from_bytes(&filter.to_bytes()[..5]), None);
    assert_eq!(Filter::from_bytes(&[]), None);
}
