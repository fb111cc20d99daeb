//! `linux.resources.cpu`.

use oci_spec::runtime::LinuxCpu;

use super::{NEGATIVE, ONLY_V1, Plan, bad};
use crate::cgroup::{Error, Version};

/// v1's shares and what a v2 weight may be (sched/core.c, cgroup-v2.rst).
const SHARES: (u64, u64) = (2, 262_144);
const WEIGHTS: (u64, u64) = (1, 10_000);

/// The fields without those that say "not set" by 0.
struct Asked {
    shares: Option<u64>,
    quota: Option<i64>,
    period: Option<u64>,
    burst: Option<u64>,
    idle: Option<i64>,
    realtime_runtime: Option<i64>,
    realtime_period: Option<u64>,
}

impl Asked {
    fn of(cpu: &LinuxCpu) -> Self {
        let set = |value: Option<u64>| value.filter(|value| *value != 0);
        let signed = |value: Option<i64>| value.filter(|value| *value != 0);
        Self {
            // An idle group has no weight: the kernel refuses to set one.
            shares: set(cpu.shares()).filter(|_| cpu.idle() != Some(1)),
            quota: signed(cpu.quota()),
            period: set(cpu.period()),
            burst: cpu.burst(),
            idle: cpu.idle(),
            realtime_runtime: signed(cpu.realtime_runtime()),
            realtime_period: set(cpu.realtime_period()),
        }
    }

    fn nothing(&self) -> bool {
        self.shares.or(self.period).or(self.burst).or(self.realtime_period).is_none()
            && self.quota.or(self.idle).or(self.realtime_runtime).is_none()
    }
}

impl Plan<'_> {
    pub(super) fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        let asked = Asked::of(cpu);
        if asked.nothing() {
            return Ok(());
        }
        if let Some(quota) = asked.quota.filter(|quota| *quota < -1) {
            return Err(bad("cpu.quota", quota, NEGATIVE));
        }
        let version = self.version("cpu", "cpu")?;
        if let Some(idle) = asked.idle {
            self.add("cpu", "cpu.idle", "cpu.idle", idle);
        }
        match version {
            Version::V1 => self.cpu_v1(&asked),
            Version::V2 => self.cpu_v2(&asked),
        }
    }

    fn cpu_v1(&mut self, asked: &Asked) -> Result<(), Error> {
        // The kernel would silently take the nearest that it allows.
        if let Some(shares) = asked.shares.filter(|shares| !(SHARES.0..=SHARES.1).contains(shares)) {
            return Err(bad("cpu.shares", shares, "shares are 2 to 262144"));
        }
        let text = |value: Option<u64>| value.map(|value| value.to_string());
        let signed = |value: Option<i64>| value.map(|value| value.to_string());
        let values = [
            ("cpu.shares", "cpu.shares", text(asked.shares)),
            // A period that shrinks below the quota's share is refused, so it comes first, as the kernel's
            // defaults are wide.
            ("cpu.period", "cpu.cfs_period_us", text(asked.period)),
            ("cpu.quota", "cpu.cfs_quota_us", signed(asked.quota)),
            ("cpu.burst", "cpu.cfs_burst_us", text(asked.burst)),
            ("cpu.realtimePeriod", "cpu.rt_period_us", text(asked.realtime_period)),
            ("cpu.realtimeRuntime", "cpu.rt_runtime_us", signed(asked.realtime_runtime)),
        ];
        for (name, file, value) in values {
            if let Some(value) = value {
                self.add("cpu", name, file, value);
            }
        }
        Ok(())
    }

    fn cpu_v2(&mut self, asked: &Asked) -> Result<(), Error> {
        if let Some(runtime) = asked.realtime_runtime {
            return Err(bad("cpu.realtimeRuntime", runtime, ONLY_V1));
        }
        if let Some(period) = asked.realtime_period {
            return Err(bad("cpu.realtimePeriod", period, ONLY_V1));
        }
        if let Some(shares) = asked.shares {
            self.add("cpu", "cpu.shares", "cpu.weight", weight_of_shares(shares));
        }
        if let Some(value) = cpu_max(asked.quota, asked.period) {
            self.add("cpu", "cpu.quota", "cpu.max", value);
        }
        if let Some(burst) = asked.burst {
            self.add("cpu", "cpu.burst", "cpu.max.burst", burst);
        }
        Ok(())
    }

    pub(super) fn cpuset(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        let lists = [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())];
        for (name, file, list) in lists {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                self.version("cpuset", name)?;
                self.add("cpuset", name, file, list);
            }
        }
        Ok(())
    }
}

/// A v2 weight for v1's shares, so that the defaults (1024 and 100) and the ends of both scales meet: the quadratic
/// of runc and crun since 2025. A straight line would make the default 39.
pub(in crate::cgroup) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        shares if shares <= SHARES.0 => WEIGHTS.0,
        shares if shares >= SHARES.1 => WEIGHTS.1,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// `cpu.max`: a quota without a period leaves that as it is; a period without a quota has none.
fn cpu_max(quota: Option<i64>, period: Option<u64>) -> Option<String> {
    let quota_text = |quota: i64| if quota == -1 { "max".to_owned() } else { quota.to_string() };
    match (quota, period) {
        (None, None) => None,
        (Some(quota), None) => Some(quota_text(quota)),
        (quota, Some(period)) => Some(format!("{} {period}", quota_text(quota.unwrap_or(-1)))),
    }
}
