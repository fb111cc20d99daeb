//! `linux.timeOffsets`: the clocks of a container with a time namespace of its own (runtime-spec config-linux.md,
//! "Offset for Time Namespace").
//!
//! The supervisor makes the namespace around the clone of the init process ([`crate::sys::time`]).

use std::collections::HashMap;

use super::Error;
use crate::oci::runtime::LinuxTimeOffset;
use crate::sys;
use crate::sys::time::{Clock, ForChildren, Offset, shift_for_children};

/// The offsets of the container's clocks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TimeOffsets(Vec<Offset>);

impl TimeOffsets {
    /// Understands the specification. `new_namespace`: a time namespace is made for the container, none is joined.
    pub fn plan(offsets: Option<&HashMap<String, LinuxTimeOffset>>, new_namespace: bool) -> Result<Self, Error> {
        let wrong = |problem| Error::Unsupported { field: "linux.timeOffsets", problem };
        if offsets.is_some_and(|offsets| !offsets.is_empty()) && !new_namespace {
            return Err(wrong("needs a time namespace that is made for the container".to_owned()));
        }
        let mut all = Vec::new();
        for (clock, offset) in offsets.into_iter().flatten() {
            let clock = match clock.as_str() {
                "monotonic" => Clock::Monotonic,
                "boottime" => Clock::Boottime,
                _ => return Err(wrong(format!("there is no clock {clock:?}; there are monotonic and boottime"))),
            };
            let (seconds, nanos) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            if nanos > 999_999_999 {
                return Err(wrong(format!("{nanos} nanoseconds are more than a second")));
            }
            all.push(Offset { clock, seconds, nanos });
        }
        all.sort_by_key(|offset| offset.clock);
        Ok(Self(all))
    }

    /// Makes a time namespace for the children of this process until [`ForChildren::end`].
    pub fn apply(&self) -> sys::Result<ForChildren> {
        shift_for_children(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(offsets: &str, new_namespace: bool) -> Result<TimeOffsets, String> {
        let offsets: HashMap<String, LinuxTimeOffset> = serde_json::from_str(offsets).unwrap();
        TimeOffsets::plan(Some(&offsets), new_namespace).map_err(|error| error.to_string())
    }

    #[test]
    fn offsets_are_read_in_the_order_of_the_clocks() {
        let offset = |clock, seconds, nanos| Offset { clock, seconds, nanos };
        let wanted = vec![offset(Clock::Monotonic, -7, 0), offset(Clock::Boottime, 3, 999_999_999)];
        let got = plan(r#"{"boottime":{"secs":3,"nanosecs":999999999},"monotonic":{"secs":-7}}"#, true);
        assert_eq!(got.unwrap(), TimeOffsets(wanted));
        assert_eq!(plan("{}", false).unwrap(), TimeOffsets::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (offsets, new_namespace, wanted) in [
            (r#"{"monotonic":{"secs":1}}"#, false, "needs a time namespace"),
            (r#"{"realtime":{"secs":1}}"#, true, "there is no clock \"realtime\""),
            (r#"{"boottime":{"nanosecs":1000000000}}"#, true, "more than a second"),
        ] {
            let error = plan(offsets, new_namespace).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
