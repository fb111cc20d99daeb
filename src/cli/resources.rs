//! The flags that limit what a container uses up, in Docker's words and with Docker's rules.

use super::options::Invalid;
use crate::container::{HostConfig, ThrottleDevice, WeightDevice};
use crate::engine::wasm::grant::quantity;

/// The flags.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
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
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// Limit CPU CFS (Completely Fair Scheduler) period, in microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota, in microseconds
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Tune container memory swappiness (0 to 100)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
}

/// The flags that limit what is done with single disks, which only a new container takes.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct OfDisks {
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_bps: Vec<String>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_iops: Vec<String>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_iops: Vec<String>,
}

/// The least memory with which a container can start, as Docker has it.
const LEAST_MEMORY: i64 = 6 << 20;

/// A hundredth of a processor is the least that the kernel gives out.
const LEAST_CPUS: i64 = 10_000_000;

impl Resources {
    /// Writes the limits that were given into what the host gives.
    pub fn apply(&self, to: &mut HostConfig) -> Result<(), Invalid> {
        let sizes = [
            ("memory", &self.memory, &mut to.memory),
            ("memory-swap", &self.memory_swap, &mut to.memory_swap),
            ("memory-reservation", &self.memory_reservation, &mut to.memory_reservation),
        ];
        for (flag, typed, field) in sizes {
            if let Some(text) = typed {
                *field = size(flag, text)?;
            }
        }
        if let Some(text) = &self.cpus {
            to.nano_cpus = nano_cpus(text)?;
        }
        to.memory_swappiness = self.memory_swappiness.or(to.memory_swappiness);
        to.cpu_shares = self.cpu_shares.unwrap_or(to.cpu_shares);
        to.cpu_period = self.cpu_period.unwrap_or(to.cpu_period);
        to.cpu_quota = self.cpu_quota.unwrap_or(to.cpu_quota);
        to.pids_limit = self.pids_limit.unwrap_or(to.pids_limit);
        to.blkio_weight = self.blkio_weight.unwrap_or(to.blkio_weight);
        for (typed, field) in [(&self.cpuset_cpus, &mut to.cpuset_cpus), (&self.cpuset_mems, &mut to.cpuset_mems)] {
            if let Some(text) = typed {
                field.clone_from(text);
            }
        }
        check(to)
    }
}

impl OfDisks {
    /// Writes the limits into what the host gives.
    pub fn apply(&self, to: &mut HostConfig) -> Result<(), Invalid> {
        let weight = |text| {
            let (path, weight) = of_device("blkio-weight-device", text)?;
            let weight = u16::try_from(weight).unwrap_or(u16::MAX);
            Ok(WeightDevice { path, weight })
        };
        to.blkio_weight_device = self.blkio_weight_device.iter().map(weight).collect::<Result<_, _>>()?;
        let limits = |flag, typed: &[String]| {
            let one = |text| of_device(flag, text).map(|(path, rate)| ThrottleDevice { path, rate });
            typed.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        to.blkio_device_read_bps = limits("device-read-bps", &self.device_read_bps)?;
        to.blkio_device_write_bps = limits("device-write-bps", &self.device_write_bps)?;
        to.blkio_device_read_iops = limits("device-read-iops", &self.device_read_iops)?;
        to.blkio_device_write_iops = limits("device-write-iops", &self.device_write_iops)?;
        check_weights(to.blkio_weight_device.iter().map(|device| device.weight))
    }
}

fn size(flag: &'static str, text: &str) -> Result<i64, Invalid> {
    if text == "-1" && flag == "memory-swap" {
        return Ok(-1);
    }
    let size = quantity::bytes(text).and_then(|size| i64::try_from(size).map_err(|_| "it is too large".to_owned()));
    size.map_err(|problem| Invalid::Limit { flag, problem })
}

/// `DEVICE:NUMBER`, of bytes also with a unit.
fn of_device(flag: &'static str, text: &String) -> Result<(String, u64), Invalid> {
    let refuse = |problem: &str| Invalid::Limit { flag, problem: format!("{text}: {problem}") };
    let (path, number) = text.rsplit_once(':').ok_or_else(|| refuse("it is DEVICE:NUMBER"))?;
    if !path.starts_with("/dev/") {
        return Err(refuse("a device begins with /dev/"));
    }
    let bytes = flag.ends_with("bps");
    let number = if bytes { quantity::bytes(number).ok() } else { number.parse().ok() };
    Ok((path.to_owned(), number.filter(|number| *number > 0).ok_or_else(|| refuse("it is a number greater than 0"))?))
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

fn check_weights(weights: impl IntoIterator<Item = u16>) -> Result<(), Invalid> {
    if weights.into_iter().all(|weight| weight == 0 || (10..=1000).contains(&weight)) {
        return Ok(());
    }
    Err(Invalid::Limit { flag: "blkio-weight", problem: "range of blkio weight is from 10 to 1000".to_owned() })
}

fn check(limits: &HostConfig) -> Result<(), Invalid> {
    let refuse = |flag, problem: &str| Err(Invalid::Limit { flag, problem: problem.to_owned() });
    let HostConfig { memory, memory_swap, memory_reservation, pids_limit, .. } = *limits;
    if memory != 0 && memory < LEAST_MEMORY {
        return refuse("memory", "Minimum memory limit allowed is 6MB");
    }
    if memory_swap > 0 && memory == 0 {
        return refuse("memory-swap", "You should always set the Memory limit when using Memoryswap limit");
    }
    if memory_swap > 0 && memory_swap < memory {
        return refuse("memory-swap", "Minimum memoryswap limit should be larger than memory limit");
    }
    if memory_reservation != 0 && memory != 0 && memory_reservation > memory {
        return refuse("memory-reservation", "Minimum memory limit can not be less than memory reservation limit");
    }
    if limits.nano_cpus != 0 && (limits.cpu_quota != 0 || limits.cpu_period != 0) {
        return refuse("cpus", "conflicting options: it is --cpu-quota and --cpu-period in one");
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if limits.nano_cpus > 1_000_000_000 * cpus as i64 {
        let problem = format!("range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available");
        return refuse("cpus", &problem);
    }
    if limits.cpu_period != 0 && !(1000..=1_000_000).contains(&limits.cpu_period) {
        return refuse(
            "cpu-period",
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if limits.cpu_quota > 0 && limits.cpu_quota < 1000 {
        return refuse("cpu-quota", "CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if limits.memory_swappiness.is_some_and(|value| !(-1..=100).contains(&value)) {
        return refuse("memory-swappiness", "valid memory swappiness range is 0-100");
    }
    check_weights([limits.blkio_weight])?;
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
            (Resources { memory: text("1m"), ..Resources::default() }, "6MB"),
            (Resources { memory: text("x"), ..Resources::default() }, "memory"),
            (Resources { memory: text("64m"), memory_swap: text("32m"), ..Resources::default() }, "larger"),
            (Resources { memory_swap: text("32m"), ..Resources::default() }, "always set"),
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
