//! Mount options: what each name asks of the kernel, and what a list of them comes to.
//!
//! Three levels are told apart. *Flags* are those of mount(2): some are of the mount, some of the filesystem's
//! superblock, and the call that makes the mount sorts them. *Recursive attributes*, with an `r` in front, are of a
//! mount and all below it, and only mount_setattr(2) knows them. Everything else is the filesystem's own business.
//!
//! A bind mount with any flag gets exactly the flags that are asked for, not those in addition to what its source has;
//! without any it keeps what its source has. That is what mount(8) always did and every other runtime does. Where the
//! kernel or the container's user namespace holds a flag of the source fast, it stays, unless clearing it was asked for
//! by name, which is then refused ([`Options::exact`], [`Options::careful`]).

use libc::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME, MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME,
    MS_MANDLOCK, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_NOSYMFOLLOW, MS_PRIVATE, MS_RDONLY,
    MS_RELATIME, MS_SHARED, MS_SILENT, MS_SLAVE, MS_STRICTATIME, MS_SYNCHRONOUS, MS_UNBINDABLE,
};

/// `MOUNT_ATTR__ATIME` of linux/mount.h: the access times are one choice of several, not a bit each.
pub(super) const ATIME: u64 = 0x70;

/// The flags of mount(2): the name, its bit, whether the name clears it.
const FLAGS: [(&str, u64, bool); 29] = [
    ("async", MS_SYNCHRONOUS, true),
    ("atime", MS_NOATIME, true),
    ("dev", MS_NODEV, true),
    ("diratime", MS_NODIRATIME, true),
    ("dirsync", MS_DIRSYNC, false),
    ("exec", MS_NOEXEC, true),
    ("iversion", MS_I_VERSION, false),
    ("lazytime", MS_LAZYTIME, false),
    ("loud", MS_SILENT, true),
    ("mand", MS_MANDLOCK, false),
    ("noatime", MS_NOATIME, false),
    ("nodev", MS_NODEV, false),
    ("nodiratime", MS_NODIRATIME, false),
    ("noexec", MS_NOEXEC, false),
    ("noiversion", MS_I_VERSION, true),
    ("nolazytime", MS_LAZYTIME, true),
    ("nomand", MS_MANDLOCK, true),
    ("norelatime", MS_RELATIME, true),
    ("nostrictatime", MS_STRICTATIME, true),
    ("nosuid", MS_NOSUID, false),
    ("nosymfollow", MS_NOSYMFOLLOW, false),
    ("relatime", MS_RELATIME, false),
    ("ro", MS_RDONLY, false),
    ("rw", MS_RDONLY, true),
    ("silent", MS_SILENT, false),
    ("strictatime", MS_STRICTATIME, false),
    ("suid", MS_NOSUID, true),
    ("symfollow", MS_NOSYMFOLLOW, true),
    ("sync", MS_SYNCHRONOUS, false),
];

/// The recursive attributes: the name, what it sets, what it clears (`MOUNT_ATTR_RELATIME` is the absence of the
/// other two choices).
const RECURSIVE: [(&str, u64, u64); 18] = [
    ("ratime", 0, ATIME),
    ("rdev", 0, MOUNT_ATTR_NODEV),
    ("rdiratime", 0, MOUNT_ATTR_NODIRATIME),
    ("rexec", 0, MOUNT_ATTR_NOEXEC),
    ("rnoatime", MOUNT_ATTR_NOATIME, ATIME),
    ("rnodev", MOUNT_ATTR_NODEV, 0),
    ("rnodiratime", MOUNT_ATTR_NODIRATIME, 0),
    ("rnoexec", MOUNT_ATTR_NOEXEC, 0),
    ("rnorelatime", 0, ATIME),
    ("rnostrictatime", 0, ATIME),
    ("rnosuid", MOUNT_ATTR_NOSUID, 0),
    ("rnosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0),
    ("rrelatime", 0, ATIME),
    ("rro", MOUNT_ATTR_RDONLY, 0),
    ("rrw", 0, MOUNT_ATTR_RDONLY),
    ("rstrictatime", MOUNT_ATTR_STRICTATIME, ATIME),
    ("rsuid", 0, MOUNT_ATTR_NOSUID),
    ("rsymfollow", 0, MOUNT_ATTR_NOSYMFOLLOW),
];

/// How changes below a mount pass between its copies (mount_namespaces(7)): the name, and whether it is for the mounts
/// below as well.
const PROPAGATION: [(&str, u64, bool); 8] = [
    ("private", MS_PRIVATE, false),
    ("rprivate", MS_PRIVATE, true),
    ("rshared", MS_SHARED, true),
    ("rslave", MS_SLAVE, true),
    ("runbindable", MS_UNBINDABLE, true),
    ("shared", MS_SHARED, false),
    ("slave", MS_SLAVE, false),
    ("unbindable", MS_UNBINDABLE, false),
];

/// The names that are ours to act on.
const OTHER: [&str; 7] = ["bind", "defaults", "idmap", "rbind", "remount", "ridmap", "tmpcopyup"];

/// Every name that means the same for all filesystems, in order: the `mountOptions` of the features document.
pub fn option_names() -> Vec<&'static str> {
    let flags = FLAGS.iter().map(|(name, ..)| *name);
    let recursive = RECURSIVE.iter().map(|(name, ..)| *name);
    let propagation = PROPAGATION.iter().map(|(name, ..)| *name);
    let mut names: Vec<_> = flags.chain(recursive).chain(propagation).chain(OTHER).collect();
    names.sort_unstable();
    names
}

/// The attributes of a mount that are given and cleared (`MOUNT_ATTR_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub set: u64,
    pub clear: u64,
}

impl Attributes {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What `self` and then `later` come to.
    pub fn then(self, later: Self) -> Self {
        Self { set: self.set & !later.clear | later.set, clear: self.clear & !later.set | later.clear }
    }
}

/// How a mount is connected to its copies: `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Propagation {
    pub kind: u64,
    pub recursive: bool,
}

/// What a list of options comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `MS_*` that were set.
    pub flags: u64,
    /// `MS_*` that were cleared by name.
    pub cleared: u64,
    /// Attributes for the mount and all below it.
    pub recursive: Attributes,
    /// In the order that they were given.
    pub propagation: Vec<Propagation>,
    /// A bind mount, and whether of the mounts below it too.
    pub bind: Option<bool>,
    /// What is there is changed.
    pub remount: bool,
    /// What the filesystem covers is copied into it.
    pub copy_up: bool,
    /// Owners are shown through a map, and whether by the mounts below it too.
    pub id_map: Option<bool>,
    /// What the filesystem is to understand.
    pub data: Vec<String>,
}

impl Options {
    pub fn parse<'a>(names: impl Iterator<Item = &'a String>) -> Self {
        let mut options = Self::default();
        names.for_each(|name| options.add(name));
        options
    }

    fn add(&mut self, name: &str) {
        if let Some((_, flag, clears)) = FLAGS.iter().find(|(known, ..)| *known == name) {
            let (from, to) =
                if *clears { (&mut self.flags, &mut self.cleared) } else { (&mut self.cleared, &mut self.flags) };
            *from &= !flag;
            *to |= flag;
            return;
        }
        if let Some(&(_, set, clear)) = RECURSIVE.iter().find(|(known, ..)| *known == name) {
            self.recursive = self.recursive.then(Attributes { set, clear: clear & !set });
            // mount_setattr(2) wants the whole choice cleared, also when it sets one of it.
            self.recursive.clear |= clear;
            return;
        }
        if let Some(&(_, kind, recursive)) = PROPAGATION.iter().find(|(known, ..)| *known == name) {
            return self.propagation.push(Propagation { kind, recursive });
        }
        match name {
            "defaults" | "" => {}
            "bind" => self.bind = self.bind.or(Some(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.id_map = self.id_map.or(Some(false)),
            "ridmap" => self.id_map = Some(true),
            data => self.data.push(data.to_owned()),
        }
    }

    /// Has a mount that is to be read-only be it with all below it, unless that was ruled out by name.
    pub fn readonly_is_recursive(&mut self) {
        if self.flags & MS_RDONLY != 0 && self.recursive.clear & MOUNT_ATTR_RDONLY == 0 {
            self.recursive.set |= MOUNT_ATTR_RDONLY;
        }
    }

    /// The attributes of the mount itself, as the flags have them.
    pub fn attributes(&self) -> u64 {
        attributes_of(self.flags)
    }

    /// Exactly what was asked for, for a mount that had other attributes; `None` if nothing was.
    pub fn exact(&self) -> Option<Attributes> {
        let each =
            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
        self.over(each)
    }

    /// The same where the attributes that the mount had must not be lost by silence: cleared is only what was cleared by
    /// name, and what no kernel holds fast.
    pub fn careful(&self) -> Option<Attributes> {
        self.over(self.cleared_by_name() | MOUNT_ATTR_NOSYMFOLLOW)
    }

    /// What was cleared by name, of the attributes that can be held fast.
    pub fn cleared_by_name(&self) -> u64 {
        attributes_of(self.cleared & !MS_STRICTATIME) & !MOUNT_ATTR_NOSYMFOLLOW
    }

    fn over(&self, clear: u64) -> Option<Attributes> {
        if self.flags == 0 && self.cleared == 0 {
            return None;
        }
        let set = self.attributes();
        // Times that were not spoken of stay as they were (mount(2), MS_REMOUNT | MS_BIND).
        let times = self.flags & (MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME) != 0;
        let clear = if times { clear | ATIME | MOUNT_ATTR_NODIRATIME } else { clear };
        let choice = if clear & ATIME != 0 { ATIME } else { 0 };
        Some(Attributes { set, clear: clear & !set | choice })
    }
}

/// The attributes of a mount among the flags of mount(2).
fn attributes_of(flags: u64) -> u64 {
    let one = |flag: u64, attribute: u64| if flags & flag != 0 { attribute } else { 0 };
    // The order of mount(2): strictatime wins over noatime, and relatime is what is left.
    let time = match flags {
        strict if strict & MS_STRICTATIME != 0 => MOUNT_ATTR_STRICTATIME,
        none if none & MS_NOATIME != 0 => MOUNT_ATTR_NOATIME,
        _ => 0,
    };
    time | one(MS_RDONLY, MOUNT_ATTR_RDONLY)
        | one(MS_NOSUID, MOUNT_ATTR_NOSUID)
        | one(MS_NODEV, MOUNT_ATTR_NODEV)
        | one(MS_NOEXEC, MOUNT_ATTR_NOEXEC)
        | one(MS_NODIRATIME, MOUNT_ATTR_NODIRATIME)
        | one(MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(names: &str) -> Options {
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        Options::parse(names.iter())
    }

    #[test]
    fn every_name_of_the_specification_is_known() {
        let table = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
            rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid \
            rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw \
            shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap rnodev";
        let known = option_names();
        for name in table.split_whitespace() {
            assert!(known.contains(&name), "{name}");
            assert!(parse(name).data.is_empty(), "{name} would be passed to the filesystem");
        }
        assert_eq!(known.len(), 62);
    }

    #[test]
    fn the_last_of_two_opposite_options_wins() {
        for (names, set, clear) in [
            (
                "ro",
                MOUNT_ATTR_RDONLY,
                MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW,
            ),
            ("ro,rw", 0, 0x20_000f),
            ("rw,ro,nosuid,nodev,noexec", 0xf, MOUNT_ATTR_NOSYMFOLLOW),
            ("nosuid,suid", 0, 0x20_000f),
            // Asked for or not, a choice of access times is cleared as a whole when one of it is set.
            ("noatime", MOUNT_ATTR_NOATIME, 0x20_000f | ATIME | MOUNT_ATTR_NODIRATIME),
            ("strictatime,noatime", MOUNT_ATTR_STRICTATIME, 0x20_000f | ATIME | MOUNT_ATTR_NODIRATIME),
            ("relatime", 0, 0x20_000f | ATIME | MOUNT_ATTR_NODIRATIME),
            ("nodiratime", MOUNT_ATTR_NODIRATIME, 0x20_000f | ATIME),
            ("atime", 0, 0x20_000f),
        ] {
            assert_eq!(parse(names).exact(), Some(Attributes { set, clear }), "{names}");
        }
        assert_eq!(parse("bind,rprivate").exact(), None, "nothing was asked for, so nothing is changed");
    }

    #[test]
    fn what_is_held_fast_is_cleared_by_name_only() {
        let careful = |names| parse(names).careful().unwrap();
        assert_eq!(careful("ro"), Attributes { set: MOUNT_ATTR_RDONLY, clear: MOUNT_ATTR_NOSYMFOLLOW });
        assert_eq!(
            careful("rw,nosuid"),
            Attributes { set: MOUNT_ATTR_NOSUID, clear: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSYMFOLLOW }
        );
        assert_eq!(parse("dev,atime,symfollow").cleared_by_name(), MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME);
        assert_eq!(careful("atime").clear, ATIME | MOUNT_ATTR_NOSYMFOLLOW);
    }

    #[test]
    fn recursive_attributes_are_their_own() {
        for (names, set, clear) in [
            ("rro,rnosuid", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0),
            ("rro,rrw", 0, MOUNT_ATTR_RDONLY),
            ("rnoatime", MOUNT_ATTR_NOATIME, ATIME),
            ("rnoatime,rstrictatime", MOUNT_ATTR_STRICTATIME, ATIME),
            ("rstrictatime,rrelatime", 0, ATIME),
            ("rnosymfollow,rsymfollow", 0, MOUNT_ATTR_NOSYMFOLLOW),
        ] {
            let options = parse(names);
            assert_eq!(options.recursive, Attributes { set, clear }, "{names}");
            assert_eq!(options.exact(), None, "{names}");
        }
    }

    #[test]
    fn what_is_not_known_is_the_filesystems() {
        let options = parse("size=64k,acl,noacl,mode=755,nosuid,x-y");
        assert_eq!(options.data, ["size=64k", "acl", "noacl", "mode=755", "x-y"]);
        assert_eq!(options.flags, MS_NOSUID);
    }
}
