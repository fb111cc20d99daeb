//! The flags that say what a container shares with the host and with others, and what it may do.

use std::path::Path;

use super::options::Invalid;
use crate::container::{DeviceMapping, HostConfig, Ulimit, is_access};

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Isolation")]
pub struct Isolation {
    /// Connect the container to a network: none, host or container:NAME
    /// [default: none; host if --allow-net or --allow-listen is used]
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// PID namespace to use: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// IPC mode to use: private, none or host
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// UTS namespace to use: host
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Cgroup namespace to use: private or host
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// User namespace to use: host
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Security options: no-new-privileges, seccomp=unconfined|FILE, apparmor=PROFILE, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Add a host device to the container
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "TYPE MAJOR:MINOR MODE")]
    device_cgroup_rule: Vec<String>,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "REQUEST")]
    gpus: Option<String>,
    /// Sysctl options
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 0)]
    oom_score_adj: i32,
    /// Disable OOM Killer
    #[arg(long)]
    oom_kill_disable: bool,
}

impl Isolation {
    /// Writes them into what the host gives.
    pub fn apply(&self, to: &mut HostConfig) -> Result<(), Invalid> {
        if self.gpus.is_some() {
            let problem =
                "could not select device driver \"\" with capabilities: [[gpu]]: give the devices by --device";
            return Err(Invalid::value("gpus", self.gpus.as_deref().unwrap_or_default(), problem));
        }
        self.modes(to)?;
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            return Err(Invalid::value("oom-score-adj", &self.oom_score_adj.to_string(), "range is [-1000, 1000]"));
        }
        (to.oom_score_adj, to.oom_kill_disable) = (self.oom_score_adj, self.oom_kill_disable);
        (to.privileged, to.group_add) = (self.privileged, self.group_add.clone());
        (to.cap_add, to.cap_drop) = (self.cap_add.clone(), self.cap_drop.clone());
        to.security_opt = self.security_opt.iter().map(|text| security_opt(text)).collect::<Result<_, _>>()?;
        to.devices = self.device.iter().map(|text| device(text)).collect::<Result<_, _>>()?;
        to.device_cgroup_rules.clone_from(&self.device_cgroup_rule);
        to.sysctls = self.sysctl.iter().map(|text| sysctl(text)).collect::<Result<_, _>>()?;
        to.ulimits = ulimits(&self.ulimit)?;
        Ok(())
    }

    fn modes(&self, to: &mut HostConfig) -> Result<(), Invalid> {
        for (flag, typed, words, joins, field) in [
            ("network", &self.network, &["none", "host"][..], true, &mut to.network_mode),
            ("pid", &self.pid, &["private", "host"], true, &mut to.pid_mode),
            ("ipc", &self.ipc, &["private", "none", "host"], false, &mut to.ipc_mode),
            ("uts", &self.uts, &["private", "host"], false, &mut to.uts_mode),
            ("cgroupns", &self.cgroupns, &["private", "host"], false, &mut to.cgroupns_mode),
            ("userns", &self.userns, &["host"], false, &mut to.userns_mode),
        ] {
            let Some(text) = typed else { continue };
            let other = joins && text.strip_prefix("container:").is_some_and(|name| !name.is_empty());
            if !words.iter().any(|word| word == text) && !other {
                return Err(Invalid::value(flag, text, mode_problem(flag, text)));
            }
            field.clone_from(text);
        }
        Ok(())
    }
}

/// What is wrong with a mode: it is none, or it is not offered.
fn mode_problem(flag: &str, text: &str) -> &'static str {
    match (flag, text) {
        ("ipc", text) if text == "shareable" || text.starts_with("container:") => {
            "sharing memory with another container is not offered by this version"
        }
        ("userns", "keep-id" | "auto" | "nomap") => "it is not offered by this version",
        ("network", "bridge" | "default") => "a bridge is not offered by this version: none, host or container:NAME",
        ("network", _) => "networks are not offered by this version: none, host or container:NAME",
        _ => "invalid mode",
    }
}

/// An option as it is stored: of a seccomp profile its text, as the file may change.
fn security_opt(text: &str) -> Result<String, Invalid> {
    match text.strip_prefix("seccomp=").or_else(|| text.strip_prefix("seccomp:")) {
        None | Some("unconfined" | "builtin" | "") => Ok(text.to_owned()),
        Some(path) => {
            let failed = |source| Invalid::File { what: "seccomp profile", path: path.into(), source };
            std::fs::read_to_string(path).map(|profile| format!("seccomp={profile}")).map_err(failed)
        }
    }
}

/// `HOST[:CONTAINER[:rwm]]`; of two parts the second may be what is allowed.
fn device(text: &str) -> Result<DeviceMapping, Invalid> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, access) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, access] if is_access(access) => (host, host, access),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, access] => (host, inside, access),
        _ => return Err(Invalid::value("device", text, "it has more than three parts")),
    };
    if !host.starts_with('/') && host.contains('=') {
        return Err(Invalid::value("device", text, "devices of CDI are not offered by this version"));
    }
    if !Path::new(host).is_absolute() || !Path::new(inside).is_absolute() {
        return Err(Invalid::value("device", text, "a device is an absolute path"));
    }
    if !is_access(access) {
        return Err(Invalid::value("device", text, "bad mode: it is some of rwm"));
    }
    let (path_on_host, path_in_container) = (host.to_owned(), inside.to_owned());
    Ok(DeviceMapping { path_on_host, path_in_container, cgroup_permissions: access.to_owned() })
}

fn sysctl(text: &str) -> Result<(String, String), Invalid> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Invalid::value("sysctl", text, "it is NAME=VALUE")),
    }
}

/// The limits, of each name the last.
fn ulimits(typed: &[String]) -> Result<Vec<Ulimit>, Invalid> {
    let mut limits: Vec<Ulimit> = Vec::new();
    for text in typed {
        let limit = ulimit(text)?;
        limits.retain(|known| known.name != limit.name);
        limits.push(limit);
    }
    limits.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(limits)
}

/// Names of getrlimit(2), without `RLIMIT_` and in lower case.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn ulimit(text: &str) -> Result<Ulimit, Invalid> {
    let wrong = |problem| Invalid::value("ulimit", text, problem);
    let (name, limits) = text.split_once('=').ok_or(wrong("it is NAME=SOFT[:HARD]"))?;
    if !ULIMITS.contains(&name) {
        return Err(wrong("invalid ulimit type"));
    }
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= -1);
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = number(soft).zip(number(hard)).ok_or(wrong("a limit is a number, or -1 for none"))?;
    // As the kernel compares them: no limit is the highest.
    if soft.cast_unsigned() > hard.cast_unsigned() {
        return Err(wrong("ulimit soft limit must be less than or equal to hard limit"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_docker_reads_them() {
        let of = |text: &str| device(text).map(|d| (d.path_on_host, d.path_in_container, d.cgroup_permissions)).ok();
        let some = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(of("/dev/a"), some("/dev/a", "/dev/a", "rwm"));
        assert_eq!(of("/dev/a:/dev/b"), some("/dev/a", "/dev/b", "rwm"));
        assert_eq!(of("/dev/a:r"), some("/dev/a", "/dev/a", "r"));
        assert_eq!(of("/dev/a:/dev/b:rw"), some("/dev/a", "/dev/b", "rw"));
        for bad in ["", "a", "/dev/a:b", "/dev/a:/dev/b:x", "/dev/a:/dev/b:r:w", "vendor.com/gpu=0"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn ulimits_are_read_as_docker_reads_them() {
        let of = |text: &str| ulimit(text).map(|limit| (limit.soft, limit.hard)).ok();
        assert_eq!(of("nofile=1"), Some((1, 1)));
        assert_eq!(of("nofile=1:2"), Some((1, 2)));
        assert_eq!(of("core=-1"), Some((-1, -1)));
        for bad in ["nofile", "nofile=", "nofile=2:1", "nofile=-1:5", "nosuch=1", "nofile=x", "nofile=-2"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        let several = ulimits(&["core=1".into(), "core=2".into()]).unwrap();
        assert_eq!((several.len(), several[0].soft), (1, 2));
    }

    #[test]
    fn a_mode_is_one_that_there_is() {
        let applied = |isolation: Isolation| isolation.modes(&mut HostConfig::default()).is_ok();
        let mode = |text: &str| Some(text.to_owned());
        assert!(applied(Isolation { pid: mode("container:x"), ipc: mode("none"), ..Isolation::default() }));
        assert!(!applied(Isolation { pid: mode("container:"), ..Isolation::default() }));
        assert!(!applied(Isolation { uts: mode("container:x"), ..Isolation::default() }));
        assert!(!applied(Isolation { network: mode("bridge"), ..Isolation::default() }));
    }
}
