//! Who a program runs as: `USER` in all its forms, by the image's own account files.
//!
//! The files are the image's and hostile: they are opened in the root filesystem by handle, must be
//! regular files (a FIFO would hang us, CVE-2024-9676), and are read up to a limit. Digits are a number
//! and never looked up as a name; a number has to fit (CVE-2024-40635: 4294967296 must not become root).

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use crate::bundle::User;
use crate::error::{Failure, Kind};
use crate::sys::user::Ids;

/// The largest account file that is read. Real ones have some kilobytes.
pub const MAX_ACCOUNT_FILE: u64 = 4 << 20;

/// The largest id: 4294967295 means "no change" to setuid(2), and Docker stops at 2³¹ − 1.
pub const MAX_ID: u32 = i32::MAX as u32;

/// A `USER` that means nobody.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum InvalidUser {
    #[error("unable to find user {name}: no matching entries in passwd file")]
    NoUser { name: String },
    #[error("unable to find group {name}: no matching entries in group file")]
    NoGroup { name: String },
    #[error("uids and gids must be in range 0-{MAX_ID}: {text}")]
    OutOfRange { text: String },
    #[error("cannot read {file} of the image: {problem}")]
    File { file: &'static str, problem: String },
    #[error("there is no {what} {id} without root: {count} ids are mapped")]
    NotMapped { what: &'static str, id: u32, count: u32, advice: String },
}

impl Failure for InvalidUser {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotMapped { advice, .. } => Some(advice.clone()),
            _ => None,
        }
    }
}

/// Whether an ordinary user's namespace has all the ids of a user.
pub fn check_mapped(user: &User, ids: &Ids) -> Result<(), InvalidUser> {
    let longer = || "longer ranges in /etc/subuid and /etc/subgid would have it".to_owned();
    let check = |what, id: u32, count: u32| match id < count {
        true => Ok(()),
        false => Err(InvalidUser::NotMapped { what, id, count, advice: ids.lack.clone().unwrap_or_else(longer) }),
    };
    check("user", user.uid, ids.users)?;
    [user.gid].iter().chain(&user.groups).try_for_each(|gid| check("group", *gid, ids.groups))
}

/// A user, and the home that its account names.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The user.
    pub user: User,
    /// The home directory.
    pub home: String,
}

/// Who `typed` (`user[:group]`, names or numbers, or nothing for root) is in the root filesystem `root`. Without one
/// there are no names.
pub fn resolve(root: Option<BorrowedFd<'_>>, typed: &str) -> Result<Resolved, InvalidUser> {
    let file = |name| root.map_or(Ok(String::new()), |root| read(root, name));
    let passwd = file("etc/passwd")?;
    let group = if typed.is_empty() { String::new() } else { file("etc/group")? };
    resolve_in(&passwd, &group, typed)
}

/// The groups that were named besides, by the group file of the root filesystem `root`.
pub fn groups(root: Option<BorrowedFd<'_>>, names: &[String]) -> Result<Vec<u32>, InvalidUser> {
    let known = match root {
        Some(root) if !names.is_empty() => read(root, "etc/group")?,
        _ => String::new(),
    };
    names.iter().map(|name| group_id(&known, name)).collect()
}

fn resolve_in(passwd: &str, group: &str, typed: &str) -> Result<Resolved, InvalidUser> {
    let (user, wanted_group) = match typed.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (typed, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = number(user)?;
    let account = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|fields| match number {
        Some(uid) => fields.get(2).and_then(|f| f.parse().ok()) == Some(uid),
        None => fields.first() == Some(&user) && fields.len() >= 4,
    });
    let field = |at: usize| account.as_ref().and_then(|fields| fields.get(at)).copied();
    let id = |at| field(at).and_then(|text| text.parse().ok()).filter(|id| *id <= MAX_ID);
    let uid = match number {
        Some(uid) => uid,
        None => id(2).ok_or_else(|| InvalidUser::NoUser { name: user.to_owned() })?,
    };
    let name = field(0);
    let home = field(5).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    let (gid, groups) = match wanted_group {
        Some(wanted) => (group_id(group, wanted)?, Vec::new()),
        None => (id(3).unwrap_or(0), name.map(|name| memberships(group, name)).unwrap_or_default()),
    };
    Ok(Resolved { user: User { uid, gid, groups }, home })
}

/// A number, if it is all digits; then it is one that fits, or nobody.
fn number(text: &str) -> Result<Option<u32>, InvalidUser> {
    let signed = text.strip_prefix(['-', '+']).unwrap_or(text);
    if signed.is_empty() || !signed.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let out_of_range = || InvalidUser::OutOfRange { text: text.to_owned() };
    if signed.len() != text.len() {
        return Err(out_of_range());
    }
    text.parse().ok().filter(|id| *id <= MAX_ID).map(Some).ok_or_else(out_of_range)
}

fn group_id(groups: &str, wanted: &str) -> Result<u32, InvalidUser> {
    if let Some(gid) = number(wanted)? {
        return Ok(gid);
    }
    let found = groups.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == wanted);
    let gid = found.and_then(|fields| fields.get(2)?.parse().ok()).filter(|gid| *gid <= MAX_ID);
    gid.ok_or_else(|| InvalidUser::NoGroup { name: wanted.to_owned() })
}

/// The groups that list `name` among their members.
fn memberships(groups: &str, name: &str) -> Vec<u32> {
    let fields = groups.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 4);
    let of_user = fields.filter(|fields| fields[3].split(',').any(|member| member == name));
    of_user.filter_map(|fields| fields[2].parse().ok()).filter(|gid| *gid <= MAX_ID).collect()
}

/// An account file of the image; empty when there is none.
fn read(root: BorrowedFd<'_>, file: &'static str) -> Result<String, InvalidUser> {
    let failed = |problem: String| InvalidUser::File { file, problem };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened: OwnedFd = match rustix::fs::openat2(root, file, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        other => other.map_err(|e| failed(e.to_string()))?,
    };
    let stat = rustix::fs::fstat(&opened).map_err(|e| failed(e.to_string()))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(failed("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::from(opened).take(MAX_ACCOUNT_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > MAX_ACCOUNT_FILE {
        return Err(failed(format!("it has more than {MAX_ACCOUNT_FILE} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:\n2000:x:0:0::/:\nbroken\nhuge:x:4294967296:0::/:\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:other,app\napp:x:1001:\nwheel:x:10:app\n";

    fn who(typed: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let resolved = resolve_in(PASSWD, GROUP, typed).map_err(|e| e.to_string())?;
        Ok((resolved.user.uid, resolved.user.gid, resolved.user.groups, resolved.home))
    }

    #[test]
    fn every_form_of_user() {
        let app = |groups: &[u32]| Ok((1000, 1001, groups.to_vec(), "/home/app".to_owned()));
        for (typed, expected) in [
            ("", Ok((0, 0, vec![], "/root".to_owned()))),
            ("app", app(&[50, 10])),
            ("1000", app(&[50, 10])),
            ("0001000", app(&[50, 10])),
            ("app:staff", Ok((1000, 50, vec![], "/home/app".to_owned()))),
            ("77", Ok((77, 0, vec![], "/".to_owned()))),
            ("77:88", Ok((77, 88, vec![], "/".to_owned()))),
            (":staff", Ok((0, 50, vec![], "/root".to_owned()))),
            // The account whose *name* is digits is not that user, and above all not its uid 0.
            ("2000", Ok((2000, 0, vec![], "/".to_owned()))),
        ] {
            assert_eq!(who(typed), expected, "USER {typed:?}");
        }
    }

    #[test]
    fn nobody_becomes_root_by_accident() {
        for typed in
            ["4294967296", "4294967295", "2147483648", "-1", "+1", "nobody", "1.0", " 1", "huge", "app:nogroup", "1:-1"]
        {
            assert!(who(typed).is_err(), "USER {typed:?} gave {:?}", who(typed));
        }
    }

    #[test]
    fn a_user_has_to_be_mapped() {
        let user = |uid, gid, groups: &[u32]| User { uid, gid, groups: groups.to_vec() };
        let alone = Ids { users: 1, groups: 1, lack: Some("ask".into()) };
        let some = Ids { users: 1001, groups: 51, lack: None };
        check_mapped(&User::default(), &alone).unwrap();
        check_mapped(&user(1000, 50, &[10]), &some).unwrap();
        assert_eq!(check_mapped(&user(1, 0, &[]), &alone).unwrap_err().hint().as_deref(), Some("ask"));
        for (user, problem) in [
            (user(1001, 0, &[]), "no user 1001"),
            (user(0, 51, &[]), "no group 51"),
            (user(0, 0, &[1, 60]), "no group 60"),
        ] {
            let error = check_mapped(&user, &some).unwrap_err();
            assert!(error.to_string().contains(problem) && error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn account_files_are_hostile() {
        use std::os::fd::AsFd;
        let root = tempfile::tempdir().unwrap();
        let handle = std::fs::File::open(root.path()).unwrap();
        assert_eq!(resolve(Some(handle.as_fd()), "").unwrap().user, User::default(), "no file at all");
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = root.path().join("etc/passwd");
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        assert!(resolve(Some(handle.as_fd()), "").unwrap_err().to_string().contains("regular file"));
        std::fs::remove_file(&passwd).unwrap();
        std::fs::File::create(&passwd).unwrap().set_len(MAX_ACCOUNT_FILE + 1).unwrap();
        assert!(resolve(Some(handle.as_fd()), "").unwrap_err().to_string().contains("more than"));
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/etc/shadow-of-the-host", &passwd).unwrap();
        assert_eq!(resolve(Some(handle.as_fd()), "").unwrap().home, "/", "a link is followed inside of the root only");
    }
}
