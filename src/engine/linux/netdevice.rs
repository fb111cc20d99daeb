//! `linux.netDevices`: interfaces of the host that become the container's (runtime-spec config-linux.md, "Network
//! Devices").
//!
//! The supervisor moves them, before the container's program runs. The kernel takes an interface's addresses away
//! when it moves; those that were set to stay and are of global scope are given to it again, and it is set up.
//! Nothing brings it back: with its namespace, the kernel returns what is physical and removes what is virtual.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::Error;
use crate::oci::runtime::LinuxNetDevice;
use crate::sys::netlink::{Link, MAX_NAME, Route};
use crate::sys::{self, named};

/// The interfaces to move: names here and there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NetDevices(Vec<(String, String)>);

impl NetDevices {
    /// Understands the specification. `own_namespace`: the container has a network namespace that is not the host's.
    pub fn plan(devices: Option<&HashMap<String, LinuxNetDevice>>, own_namespace: bool) -> Result<Self, Error> {
        let mut moves = Vec::new();
        for (from, device) in devices.into_iter().flatten() {
            let to = device.name().as_ref().filter(|name| !name.is_empty()).unwrap_or(from);
            if !is_name(from) || from.contains('%') {
                return Err(wrong(format!("{from:?} is no name of a network device")));
            }
            if !is_name(to) || !is_template(to) {
                return Err(wrong(format!(
                    "{to:?}, the name that {from:?} is to have, is no name of a network device"
                )));
            }
            moves.push((from.clone(), to.clone()));
        }
        if !moves.is_empty() && !own_namespace {
            return Err(wrong("needs a network namespace of the container's own".into()));
        }
        // A map has no order; the same specification is to do the same each time.
        moves.sort();
        Ok(Self(moves))
    }

    /// Whether there is nothing to move.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves them from the network namespace of the calling thread to `netns`, which nobody else changes yet.
    pub fn apply(&self, netns: BorrowedFd<'_>) -> sys::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let (here, there) = (Route::open()?, Route::open_in(netns)?);
        self.0.iter().try_for_each(|(from, to)| move_one(&here, &there, netns, from, to))
    }
}

fn move_one(here: &Route, there: &Route, netns: BorrowedFd<'_>, from: &str, to: &str) -> sys::Result<()> {
    let link = here.links()?.into_iter().find(|link| link.name == from);
    let link = named(link.ok_or(Errno::NODEV), || format!("find the network device {from:?}"))?;
    // Before the move, as after it the kernel would leave the device there under its old name.
    let before = there.links()?;
    if before.iter().any(|link| link.name == to) {
        return named(Err(Errno::EXIST), || format!("name the network device {from:?} {to:?}"));
    }
    // While it is up: going down loses the addresses of IPv6.
    let addresses = here.addresses(&link)?;
    here.move_link(&link, to, netns)?;
    let new = |link: &Link| !before.iter().any(|old| old.index == link.index);
    let moved = there.links()?.into_iter().find(new);
    let moved = named(moved.ok_or(Errno::NODEV), || format!("find the network device {from:?} where it was moved"))?;
    for address in addresses.iter().filter(|address| address.is_permanent_and_global()) {
        there.add_address(&moved, address)?;
    }
    there.set_up(&moved)
}

/// dev_valid_name() of net/core/dev.c.
fn is_name(name: &str) -> bool {
    let wrong = |c: char| c == '/' || c == ':' || c == '\0' || c.is_ascii_whitespace() || c == '\u{b}';
    !name.is_empty() && name.len() <= MAX_NAME && name != "." && name != ".." && !name.contains(wrong)
}

/// A name with a place for at most one number, `%d` (__dev_alloc_name() of net/core/dev.c).
fn is_template(name: &str) -> bool {
    !name.replacen("%d", "", 1).contains('%')
}

fn wrong(problem: String) -> Error {
    Error::Unsupported { field: "linux.netDevices", problem }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::netlink::testing::{add_veth, address, given, namespace};

    fn plan(devices: &str) -> Result<NetDevices, String> {
        let devices: HashMap<String, LinuxNetDevice> = serde_json::from_str(devices).unwrap();
        NetDevices::plan(Some(&devices), true).map_err(|error| error.to_string())
    }

    /// In a thread with a network namespace of its own, which stands for the host's.
    fn apart<T: Send>(run: impl FnOnce(Route) -> T + Send) -> T {
        let in_thread = || {
            sys::process::unshare(libc::CLONE_NEWNET).unwrap();
            run(Route::open().unwrap())
        };
        std::thread::scope(|scope| scope.spawn(in_thread).join().unwrap())
    }

    fn link(route: &Route, name: &str) -> Option<Link> {
        route.links().unwrap().into_iter().find(|link| link.name == name)
    }

    #[test]
    fn names_that_no_device_can_have_are_refused() {
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", ".", "..", "a/b", "a:b", "a b", "a\\tb", "a%d", &long] {
            assert!(plan(&format!(r#"{{"{name}":{{}}}}"#)).unwrap_err().contains("is no name"), "{name}");
        }
        for name in ["..", "a%x", "%d%d", "a%", &long] {
            assert!(plan(&format!(r#"{{"eth0":{{"name":"{name}"}}}}"#)).unwrap_err().contains("eth0"), "{name}");
        }
        let moves = plan(r#"{"b":{"name":"eth%d"},"a":{}}"#).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(moves, NetDevices(vec![pair("a", "a"), pair("b", "eth%d")]));
    }

    #[test]
    fn the_hosts_namespace_is_no_place_to_move_to() {
        let devices = HashMap::from([("eth0".to_owned(), LinuxNetDevice::default())]);
        assert!(NetDevices::plan(Some(&devices), false).is_err());
        assert!(NetDevices::plan(None, false).unwrap().is_empty());
    }

    #[test]
    fn a_device_is_moved_renamed_and_up_with_its_lasting_addresses() {
        let netns = namespace();
        apart(|here| {
            let veth = add_veth(&here, "wherry0");
            let v6: IpAddr = "fd00::7".parse().unwrap();
            here.add_address(&veth, &address([10, 9, 8, 7].into(), 24, 0)).unwrap();
            here.add_address(&veth, &address([10, 9, 9, 7].into(), 24, 253)).unwrap(); // scope link
            let has_v6 = here.add_address(&veth, &address(v6, 64, 0)).is_ok();
            plan(r#"{"wherry0":{"name":"inside"}}"#).unwrap().apply(netns.as_fd()).unwrap();
            assert_eq!(link(&here, "wherry0"), None);
            let there = Route::open_in(netns.as_fd()).unwrap();
            let moved = link(&there, "inside").unwrap();
            assert_ne!(moved.flags & libc::IFF_UP as u32, 0);
            let mut wanted = vec!["10.9.8.7/24"];
            wanted.extend(has_v6.then_some("fd00::7/64"));
            assert_eq!(given(&there, &moved), wanted);
        });
    }

    #[test]
    fn a_taken_name_is_an_error_and_a_template_is_not() {
        let netns = namespace();
        apart(|here| {
            let there = Route::open_in(netns.as_fd()).unwrap();
            add_veth(&there, "eth0");
            add_veth(&here, "wherry0");
            let error = plan(r#"{"wherry0":{"name":"eth0"}}"#).unwrap().apply(netns.as_fd()).unwrap_err();
            assert_eq!((error.errno(), error.call.contains("wherry0")), (Some(libc::EEXIST), true), "{error}");
            assert!(link(&here, "wherry0").is_some(), "it is still here");
            plan(r#"{"wherry0":{"name":"eth%d"}}"#).unwrap().apply(netns.as_fd()).unwrap();
            assert_ne!(link(&there, "eth1").unwrap().flags & libc::IFF_UP as u32, 0);
        });
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let netns = namespace();
        let error = apart(|_| plan(r#"{"wherry9":{}}"#).unwrap().apply(netns.as_fd()).unwrap_err());
        assert_eq!(error.errno(), Some(libc::ENODEV));
        assert_eq!(error.call, "find the network device \"wherry9\"");
    }
}
