//! `linux.resources.blockIO`.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};

use super::{Missing, ONLY_V1, Plan, Spelling, bad, field};
use crate::cgroup::{Error, Version};

/// v1's block I/O weights (blk-cgroup, bfq), and v2's.
const IO_WEIGHTS: (u64, u64) = (10, 1000);
const WEIGHTS: (u64, u64) = (1, 10_000);

impl Plan<'_> {
    pub(super) fn io(&mut self, io: &LinuxBlockIo) -> Result<(), Error> {
        let version = [("blkio", Version::V1), ("io", Version::V2)]
            .into_iter()
            .find(|(controller, version)| self.hierarchies.version(controller) == Some(*version));
        match version {
            Some((_, Version::V1)) => self.io_v1(io),
            Some((_, Version::V2)) => self.io_v2(io),
            None if *io == LinuxBlockIo::default() => Ok(()),
            None => Err(Error::NoController { field: field("blockIO"), controller: "io".into() }),
        }
    }

    fn io_v1(&mut self, io: &LinuxBlockIo) -> Result<(), Error> {
        if let Some(weight) = io_weight("blockIO.weight", io.weight())? {
            self.add_any("blkio", "blockIO.weight", either("blkio.weight", "blkio.bfq.weight", &weight), Missing::Fail);
        }
        if let Some(weight) = io_weight("blockIO.leafWeight", io.leaf_weight())? {
            self.add("blkio", "blockIO.leafWeight", "blkio.leaf_weight", weight);
        }
        for device in io.weight_device().iter().flatten() {
            const NAME: &str = "blockIO.weightDevice";
            if let Some(weight) = io_weight(NAME, device.weight())? {
                let line = format!("{} {weight}", number(device));
                let files = either("blkio.weight_device", "blkio.bfq.weight_device", &line);
                self.add_any("blkio", NAME, files, Missing::Fail);
            }
            if let Some(weight) = io_weight(NAME, device.leaf_weight())? {
                self.add("blkio", NAME, "blkio.leaf_weight_device", format!("{} {weight}", number(device)));
            }
        }
        for (name, _, file, devices) in throttles(io) {
            for device in devices {
                self.add("blkio", name, file, format!("{}:{} {}", device.major(), device.minor(), device.rate()));
            }
        }
        Ok(())
    }

    fn io_v2(&mut self, io: &LinuxBlockIo) -> Result<(), Error> {
        if let Some(weight) = io.leaf_weight().filter(|weight| *weight != 0) {
            return Err(bad("blockIO.leafWeight", weight, ONLY_V1));
        }
        if let Some(weight) = io_weight("blockIO.weight", io.weight())? {
            self.weight_v2("blockIO.weight", "default", weight);
        }
        for device in io.weight_device().iter().flatten() {
            const NAME: &str = "blockIO.weightDevice";
            if let Some(weight) = device.leaf_weight().filter(|weight| *weight != 0) {
                return Err(bad("blockIO.weightDevice.leafWeight", weight, ONLY_V1));
            }
            if let Some(weight) = io_weight(NAME, device.weight())? {
                self.weight_v2(NAME, &number(device), weight);
            }
        }
        for (name, key, _, devices) in throttles(io) {
            for device in devices {
                // v1 takes 0 for no limit, v2 wants the word.
                let rate = if device.rate() == 0 { "max".into() } else { device.rate().to_string() };
                self.add("io", name, "io.max", format!("{}:{} {key}={rate}", device.major(), device.minor()));
            }
        }
        Ok(())
    }

    /// bfq keeps v1's scale; io.weight, of blk-iocost, has one of its own.
    fn weight_v2(&mut self, name: &str, of: &str, weight: u64) {
        let bfq = if of == "default" { weight.to_string() } else { format!("{of} {weight}") };
        let spellings =
            vec![("io.bfq.weight".into(), bfq), ("io.weight".into(), format!("{of} {}", weight_of_io(weight)))];
        self.add_any("io", name, spellings, Missing::Fail);
    }
}

fn io_weight(name: &str, weight: Option<u16>) -> Result<Option<u64>, Error> {
    match weight.map(u64::from).filter(|weight| *weight != 0) {
        Some(weight) if !(IO_WEIGHTS.0..=IO_WEIGHTS.1).contains(&weight) => {
            Err(bad(name, weight, "weights are 10 to 1000"))
        }
        weight => Ok(weight),
    }
}

/// 10 to 1000 spread over 1 to 10000.
pub(super) fn weight_of_io(weight: u64) -> u64 {
    let span = |(low, high): (u64, u64)| high - low;
    WEIGHTS.0 + (weight - IO_WEIGHTS.0) * span(WEIGHTS) / span(IO_WEIGHTS)
}

fn number(device: &LinuxWeightDevice) -> String {
    format!("{}:{}", device.major(), device.minor())
}

fn either(first: &'static str, second: &'static str, value: &impl ToString) -> Vec<Spelling> {
    vec![(first.into(), value.to_string()), (second.into(), value.to_string())]
}

type Throttle<'a> = (&'static str, &'static str, &'static str, &'a [LinuxThrottleDevice]);

/// Each throttle's field, its key in io.max, its file on v1.
fn throttles(io: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    [
        (
            "blockIO.throttleReadBpsDevice",
            "rbps",
            "blkio.throttle.read_bps_device",
            io.throttle_read_bps_device().as_deref().unwrap_or_default(),
        ),
        (
            "blockIO.throttleWriteBpsDevice",
            "wbps",
            "blkio.throttle.write_bps_device",
            io.throttle_write_bps_device().as_deref().unwrap_or_default(),
        ),
        (
            "blockIO.throttleReadIOPSDevice",
            "riops",
            "blkio.throttle.read_iops_device",
            io.throttle_read_iops_device().as_deref().unwrap_or_default(),
        ),
        (
            "blockIO.throttleWriteIOPSDevice",
            "wiops",
            "blkio.throttle.write_iops_device",
            io.throttle_write_iops_device().as_deref().unwrap_or_default(),
        ),
    ]
}
