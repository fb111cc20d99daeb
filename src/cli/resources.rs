//! The flags that limit what a container uses up, in Docker's words and with Docker's rules.

use super::options::Invalid;
use crate::container::HostConfig;
use crate::engine::wasm::grant::quantity;

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Resources {
    /// Memory limit: a number with b, k, m or g; a Wasm program's linear memory is part of it
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL")]
    cpus: Option<String>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// Tune container pids limit (set -1 for unlimited); a Wasm program has no processes to limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
}

/// The least memory with which a container can start, as Docker has it.
const LEAST_MEMORY: i64 = 6 << 20;

/// A hundredth of a processor is the least that the kernel gives out.
const LEAST_CPUS: i64 = 10_000_000;

impl Resources {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        let Self { memory, memory_swap, memory_reservation, cpus, cpu_shares, cpuset_cpus, pids_limit } = self;
        let texts = [memory, memory_swap, memory_reservation, cpus, cpuset_cpus];
        texts.iter().any(|text| text.is_some()) || cpu_shares.is_some() || pids_limit.is_some()
    }

    /// Writes the limits into what the host gives.
    pub fn apply(&self, to: &mut HostConfig) -> Result<(), Invalid> {
        to.memory = self.size("memory", &self.memory)?;
        to.memory_swap = self.size("memory-swap", &self.memory_swap)?;
        to.memory_reservation = self.size("memory-reservation", &self.memory_reservation)?;
        to.nano_cpus = self.cpus.as_deref().map_or(Ok(0), nano_cpus)?;
        to.cpu_shares = self.cpu_shares.unwrap_or_default();
        to.cpuset_cpus = self.cpuset_cpus.clone().unwrap_or_default();
        to.pids_limit = self.pids_limit.unwrap_or_default();
        check(to)
    }

    fn size(&self, flag: &'static str, text: &Option<String>) -> Result<i64, Invalid> {
        let Some(text) = text else { return Ok(0) };
        if text == "-1" && flag == "memory-swap" {
            return Ok(-1);
        }
        let size = quantity::bytes(text).and_then(|size| i64::try_from(size).map_err(|_| "it is too large".to_owned()));
        size.map_err(|problem| Invalid::Limit { flag, problem })
    }
}

fn nano_cpus(text: &str) -> Result<i64, Invalid> {
    let refuse = |problem: &str| Invalid::Limit { flag: "cpus", problem: problem.to_owned() };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(refuse("it is not a number of processors, such as 1.5"));
    }
    let nano = format!("{whole}{fraction:0<9}").parse().map_err(|_| refuse("it is too large"))?;
    if nano < LEAST_CPUS { Err(refuse("0.01 is the least")) } else { Ok(nano) }
}

fn check(limits: &HostConfig) -> Result<(), Invalid> {
    let refuse = |flag, problem: &str| Err(Invalid::Limit { flag, problem: problem.to_owned() });
    let HostConfig { memory, memory_swap, memory_reservation, pids_limit, .. } = *limits;
    if memory != 0 && memory < LEAST_MEMORY {
        return refuse("memory", "6m is the least");
    }
    if memory_swap > 0 && memory == 0 {
        return refuse("memory-swap", "it goes with --memory only");
    }
    if memory_swap > 0 && memory_swap < memory {
        return refuse("memory-swap", "it is memory and swap together, and less than --memory");
    }
    if memory_reservation != 0 && memory != 0 && memory_reservation > memory {
        return refuse("memory-reservation", "it is more than --memory");
    }
    if pids_limit < -1 {
        return refuse("pids-limit", "it is a number, or -1 for no limit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(args: &Resources) -> Result<HostConfig, String> {
        let mut limits = HostConfig::default();
        args.apply(&mut limits).map(|()| limits).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        let text = |text: &str| Some(text.to_owned());
        let given =
            Resources { memory: text("64m"), memory_swap: text("-1"), cpus: text("1.5"), ..Resources::default() };
        let limits = applied(&given).unwrap();
        assert_eq!((limits.memory, limits.memory_swap, limits.nano_cpus), (64 << 20, -1, 1_500_000_000));
        for (given, word) in [
            (Resources { memory: text("1m"), ..Resources::default() }, "6m"),
            (Resources { memory: text("x"), ..Resources::default() }, "memory"),
            (Resources { memory: text("64m"), memory_swap: text("32m"), ..Resources::default() }, "less"),
            (Resources { memory_swap: text("32m"), ..Resources::default() }, "--memory"),
            (Resources { cpus: text("0.001"), ..Resources::default() }, "0.01"),
            (Resources { cpus: text("-1"), ..Resources::default() }, "processors"),
            (Resources { pids_limit: Some(-2), ..Resources::default() }, "-1"),
        ] {
            let refused = applied(&given).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
        assert_eq!(applied(&Resources::default()).unwrap(), HostConfig::default());
    }
}
