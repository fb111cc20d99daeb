//! What a running container uses, and which processes are in it.

use super::{Container, Error, Status, Store};
use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, Hierarchies, Stats};
use crate::engine::Engine;
use crate::engine::wasm::view::Numbers;
use crate::error::{Failure, Kind};

/// What a container uses.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// What its cgroup says; nothing where an ordinary user was delegated none.
    pub stats: Option<Stats>,
    /// What came in over its network devices and what went out, in bytes. A container on the host's network has none of
    /// its own.
    pub network: (u64, u64),
    /// What the Wasm engine shows.
    pub wasm: Option<Numbers>,
}

impl Store {
    /// What the container uses now; `None` when it does not run.
    pub fn usage(&self, container: &Container) -> Result<Option<Usage>, Error> {
        let Status::Running { process, .. } = &container.status else { return Ok(None) };
        let stats = match cgroup(container)? {
            // It may have ended meanwhile.
            Some(cgroup) => match cgroup.stats() {
                Err(error) if error.kind() == Kind::NotFound => return Ok(None),
                stats => Some(stats?),
            },
            None => None,
        };
        let own_network = container.record.host_config.network_mode != "host";
        let network = if own_network { network(process.pid) } else { (0, 0) };
        // One that ends in this moment has nothing more to show.
        let wasm = if container.record.engine == Engine::Wasm { self.look(container).ok().flatten() } else { None };
        Ok(Some(Usage { stats, network, wasm }))
    }

    /// The container's processes, as the host numbers them.
    pub fn processes(&self, container: &Container) -> Result<Vec<i32>, Error> {
        let Status::Running { process, .. } = &container.status else {
            return Err(Error::NotRunning { name: container.name.clone() });
        };
        let mut pids = cgroup(container)?.map(|cgroup| cgroup.procs()).transpose()?.unwrap_or_default();
        if pids.is_empty() {
            pids.push(process.pid);
        }
        pids.sort_unstable();
        Ok(pids)
    }
}

/// The container's cgroup, if it has one.
pub(super) fn cgroup(container: &Container) -> Result<Option<Cgroup>, Error> {
    let bundle = Bundle::read(&container.directory)?;
    let path = bundle.spec().linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let Some(path) = path else { return Ok(None) };
    let cgroup = Cgroup::open(Hierarchies::detect()?, &path)?;
    Ok(cgroup.exists().then_some(cgroup))
}

/// What a process' network namespace has received and sent, but for the loopback interface.
fn network(pid: i32) -> (u64, u64) {
    // A process that has just ended has used nothing that could be told any more.
    received_and_sent(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

/// The sums of /proc/net/dev (proc_pid_net(5)): the first and the ninth number of each line after the two of the head.
fn received_and_sent(text: &str) -> (u64, u64) {
    let device = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_whitespace().map(|number| number.parse::<u64>().ok());
        let (received, sent) = (numbers.next()??, numbers.nth(7)??);
        (name.trim() != "lo").then_some((received, sent))
    };
    text.lines().skip(2).filter_map(device).fold((0, 0), |sum, (received, sent)| (sum.0 + received, sum.1 + sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_does_not_count() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls\n    \
            lo: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n  eth0: 7 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(received_and_sent(text), (8, 11));
        assert_eq!(received_and_sent("no\nsuch\nfile: x\n"), (0, 0));
    }
}
