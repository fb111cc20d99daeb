//! A `config.json` of any bytes: reading and judging it neither panics nor loops, and says what is wrong in one line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wherry::bundle::{Facts, read_spec, validate};
use wherry::oci::runtime::LinuxNamespaceType;

const CALLERS: [Facts<'_>; 2] = [
    Facts { rootless: false, systemd_cgroup: false, own_namespaces: &[] },
    Facts { rootless: true, systemd_cgroup: true, own_namespaces: &[LinuxNamespaceType::Network] },
];

fuzz_target!(|bytes: &[u8]| {
    let said = match read_spec(bytes) {
        Ok((spec, ignored)) => {
            let refused = CALLERS.iter().filter_map(|facts| validate(&spec, facts).err());
            ignored.into_iter().chain(refused.map(|invalid| invalid.to_string())).collect()
        }
        Err(error) => vec![error.to_string()],
    };
    for line in said {
        assert!(line.len() < 4096 && !line.contains(char::is_control), "{line:?}");
    }
});
