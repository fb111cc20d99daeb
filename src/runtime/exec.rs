//! `exec`: one more process in a container.
//!
//! What it is comes from a file (`--process`), or from the specification as it was at create; options change either.

use std::os::fd::AsFd;
use std::path::Path;

use super::create::{CONSOLE, PID_FILE, PIDFD, PRESERVE};
use super::options::{Flag, Given, option, switch};
use super::sockets::{Handover, check_console};
use super::status::Status;
use super::{Command, Context, Error, Outcome, cgroup, foreground, id, launch};
use crate::bundle::{Bundle, MAX_CONFIG_BYTES};
use crate::engine::Engine;
use crate::engine::linux::console::Role;
use crate::engine::linux::{self, Options, Stdio};
use crate::oci::runtime::{Capability, Process, Spec, User};
use crate::sys::named;

static FLAGS: [Flag; 17] = [
    option("process", Some('p'), "FILE", "what to run, a process object as in config.json"),
    option("cwd", None, "DIR", "the working directory"),
    option("env", Some('e'), "NAME=VALUE", "add a variable to the environment; can be given more than once"),
    switch("tty", Some('t'), "give the process a terminal"),
    option("user", Some('u'), "UID[:GID]", "the user and the group, by number"),
    option("additional-gids", Some('g'), "GID", "add a group; can be given more than once"),
    switch("detach", Some('d'), "leave the process running in the background"),
    PID_FILE,
    option("process-label", None, "LABEL", "the SELinux label of the process"),
    option("apparmor", None, "PROFILE", "the AppArmor profile of the process"),
    switch("no-new-privs", None, "let setuid programs give it nothing"),
    option("cap", Some('c'), "CAPABILITY", "add a capability; can be given more than once"),
    PRESERVE,
    CONSOLE,
    PIDFD,
    option(
        "cgroup",
        None,
        "[CONTROLLER:]PATH",
        "run it in this group below the container's; can be given more than once",
    ),
    switch("ignore-paused", None, "also in a container that is paused"),
];

/// `exec`.
pub const COMMAND: Command = Command {
    words: "<container-id> <command> [arguments...] | --process FILE <container-id>",
    count: (1, usize::MAX),
    flags: &FLAGS,
    stops: true,
    sealed: true,
    failure: 255,
    ..Command::new("exec", "run a further process in a container", run)
};

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let id = id(given)?;
    exec(context, given).map_err(|error| Error::Cannot { verb: "exec in", id, source: Box::new(error) })
}

fn exec(context: &Context<'_>, given: &Given) -> Outcome {
    let entry = context.entry(given)?;
    match entry.status() {
        Status::Running | Status::Created => {}
        Status::Paused if given.has("ignore-paused") => {}
        status => return Err(Error::wrong_status("exec in", status)),
    }
    if entry.record.engine == Engine::Wasm {
        let hint = "there is no other program in it, and no system to run one on";
        return Err(Error::IsWasm { what: "executing another program", hint });
    }
    let init = entry.record.init().ok_or(Error::NotRunning)?;
    let (bundle, _) = Bundle::read_from(&entry.record.bundle, &entry.config())?;
    let process = process(given, bundle.spec())?;
    let detach = given.has("detach");
    let stdio = launch::stdio(Some(&process), detach)?;
    check_console(matches!(stdio, Stdio::Terminal(_)), detach, given)?;
    let console = Handover::to(given, "console-socket")?;
    let pidfd = Handover::to(given, "pidfd-socket")?;
    let group = cgroup::for_exec(&entry, init.pid, &given.all("cgroup")?)?;
    let signals = (!detach).then(foreground::signals).transpose()?;
    let mut running = linux::exec(linux::Exec {
        init,
        about: linux::About { id: &entry.record.id, bundle: bundle.directory(), spec: bundle.spec() },
        process: &process,
        stdio,
        cgroup: group.as_ref(),
        options: Options {
            keyring: false,
            pivot: true,
            preserve_fds: launch::preserved(given, 0)?,
            outlive: true,
            gate: None,
            sockets: Vec::new(),
        },
        made: &|child| {
            let pid = child.pid.as_raw_nonzero().get();
            entry.record.rdt.as_ref().map_or(Ok(()), |rdt| launch::enter_share(rdt, pid))
        },
    })?;
    if let (Some(master), Some(socket)) = (&running.console, console) {
        socket.send_master(master.as_fd())?;
        running.console = None;
    }
    if let Some(socket) = pidfd {
        socket.send_pidfd(running.child.pidfd.as_fd(), Role::Exec)?;
    }
    if let Some(path) = given.path("pid-file") {
        launch::write_pid(&path, running.child.pid.as_raw_nonzero().get())?;
    }
    match signals {
        Some(signals) => foreground::stay(running, signals, None),
        None => Ok(0),
    }
}

/// What is to run.
fn process(given: &Given, spec: &Spec) -> Result<Process, Error> {
    let command = &given.words[1..];
    let mut process = match given.path("process") {
        Some(_) if !command.is_empty() => {
            return Err(Error::refuse(
                "--process",
                "the file says what to run, and so do the words after the container",
            ));
        }
        Some(path) => read(&path)?,
        None => {
            let args: Option<Vec<String>> = command.iter().map(|word| word.to_str().map(str::to_owned)).collect();
            let args = args.ok_or_else(|| Error::Words("the command is not UTF-8".to_owned()))?;
            let mut process = spec.process().clone().unwrap_or_default();
            process.set_args(Some(args)).set_terminal(Some(false));
            process
        }
    };
    amend(&mut process, given)?;
    match process.args().as_ref().is_none_or(Vec::is_empty) {
        true => Err(Error::Words("args must not be empty: there is no command to exec".to_owned())),
        false if !process.cwd().is_absolute() => Err(Error::Words("Cwd must be an absolute path".to_owned())),
        false => Ok(process),
    }
}

fn read(path: &Path) -> Result<Process, Error> {
    let call = || format!("read({path:?})");
    let read = || Error::sys("read the process to run");
    if named(std::fs::metadata(path), call).map_err(read())?.len() > MAX_CONFIG_BYTES {
        return Err(Error::refuse("--process", format!("the file is larger than {MAX_CONFIG_BYTES} bytes")));
    }
    let text = named(std::fs::read(path), call).map_err(read())?;
    let wrong = |source| Error::Json { what: "the process", path: path.to_owned(), source };
    let mut json: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
    if let Some(fields) = json.as_object_mut() {
        // Without one it is root, as for runc.
        fields.entry("user").or_insert_with(|| serde_json::json!({"uid": 0, "gid": 0}));
    }
    serde_json::from_value(json).map_err(wrong)
}

/// What the options change.
fn amend(process: &mut Process, given: &Given) -> Result<(), Error> {
    if let Some(cwd) = given.path("cwd") {
        process.set_cwd(cwd);
    }
    let more = given.all("env")?;
    if !more.is_empty() {
        let env = process.env().iter().flatten().cloned().chain(more.into_iter().map(str::to_owned)).collect();
        process.set_env(Some(env));
    }
    if given.has("tty") {
        process.set_terminal(Some(true));
    }
    if given.has("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(label) = given.text("process-label")? {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if let Some(profile) = given.text("apparmor")? {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    let user = user(process.user().clone(), given.text("user")?, &given.all("additional-gids")?)?;
    process.set_user(user);
    add_capabilities(process, &given.all("cap")?)
}

/// The user that the options make of this one.
fn user(mut user: User, text: Option<&str>, groups: &[&str]) -> Result<User, Error> {
    if let Some(text) = text {
        let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
        user.set_uid(number("--user", uid)?);
        if let Some(gid) = gid {
            user.set_gid(number("--user", gid)?);
        }
    }
    let more: Vec<u32> = groups.iter().map(|group| number("--additional-gids", group)).collect::<Result<_, _>>()?;
    if !more.is_empty() {
        user.set_additional_gids(Some(user.additional_gids().iter().flatten().copied().chain(more).collect()));
    }
    Ok(user)
}

/// An id: digits, and one that fits. Anything else must not become 0 (CVE-2026-30892), and 4294967295 would mean
/// "whoever I am" to setuid(2).
fn number(flag: &str, text: &str) -> Result<u32, Error> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = digits.then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| Error::refuse(flag, format!("{text:?} is no number of a user or group")))
}

/// Adds to the bounding, effective and permitted sets; to the ambient one if something is inheritable, without which
/// nothing can be ambient (capabilities(7)).
fn add_capabilities(process: &mut Process, names: &[&str]) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let more: Vec<Capability> = names.iter().map(|name| capability(name)).collect::<Result<_, _>>()?;
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<std::collections::HashSet<Capability>>| {
        Some(set.iter().flatten().copied().chain(more.iter().copied()).collect())
    };
    let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    let inheritable = sets.inheritable().as_ref().is_some_and(|set| !set.is_empty());
    let ambient = if inheritable { with(sets.ambient()) } else { sets.ambient().clone() };
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted).set_ambient(ambient);
    process.set_capabilities(Some(sets));
    Ok(())
}

fn capability(name: &str) -> Result<Capability, Error> {
    let unknown = |_| Error::refuse("--cap", format!("there is no capability {name:?}"));
    serde_json::from_value(serde_json::Value::from(name.to_ascii_uppercase())).map_err(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_and_nothing_else() {
        for (text, uid, gid) in
            [("1", 1, 0), ("1:1", 1, 1), ("0001", 1, 0), ("0:7", 0, 7), ("4294967294", u32::MAX - 1, 0)]
        {
            let user = user(User::default(), Some(text), &[]).unwrap();
            assert_eq!((user.uid(), user.gid()), (uid, gid), "{text}");
        }
        for bad in [
            "+1",
            "-1",
            "1.0",
            " 1",
            "1 ",
            "0x1",
            "1e0",
            "4294967295",
            "4294967296",
            "18446744073709551617",
            "name",
            "1:name",
            "name:1",
            ":1",
            "1:",
            ":",
            "1:-1",
            "1:1:1",
            "१",
        ] {
            assert!(user(User::default(), Some(bad), &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn groups_are_added() {
        let user = user(User::default(), None, &["5", "6"]).unwrap();
        assert_eq!(user.additional_gids().as_deref(), Some(&[5, 6][..]));
        assert!(super::user(User::default(), None, &["-5"]).is_err());
    }

    #[test]
    fn a_capability_is_added_where_it_has_an_effect() {
        let mut process = Process::default();
        process.set_capabilities(None);
        add_capabilities(&mut process, &["CAP_KILL"]).unwrap();
        let sets = process.capabilities().as_ref().unwrap();
        let has =
            |set: &Option<std::collections::HashSet<Capability>>| set.iter().flatten().any(|c| *c == Capability::Kill);
        assert!(has(sets.bounding()) && has(sets.effective()) && has(sets.permitted()));
        assert!(add_capabilities(&mut Process::default(), &["CAP_NOPE"]).is_err());
    }
}
