//! Tries what its arguments say, one after the other, through the functions of preview 1 themselves: a line for each,
//! "ok", the number of an error, or "absent" for what preview 1 has no function for.
//!
//! An attempt is words with bars between: `read|/rw|../secret`. The first path is a directory that was given, the
//! second is passed on as it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn fd_prestat_get(fd: i32, prestat: *mut [u32; 2]) -> i32;
    fn fd_prestat_dir_name(fd: i32, path: *mut u8, length: usize) -> i32;
    fn fd_close(fd: i32) -> i32;
    fn fd_read(fd: i32, vectors: *const [usize; 2], count: usize, read: *mut usize) -> i32;
    fn fd_write(fd: i32, vectors: *const [usize; 2], count: usize, written: *mut usize) -> i32;
    fn fd_readdir(fd: i32, buffer: *mut u8, length: usize, cookie: i64, used: *mut usize) -> i32;
    fn fd_filestat_set_size(fd: i32, size: i64) -> i32;
    fn path_open(
        fd: i32,
        follow: i32,
        path: *const u8,
        length: usize,
        how: i32,
        rights: i64,
        inheriting: i64,
        flags: i32,
        opened: *mut i32,
    ) -> i32;
    fn path_create_directory(fd: i32, path: *const u8, length: usize) -> i32;
    fn path_remove_directory(fd: i32, path: *const u8, length: usize) -> i32;
    fn path_unlink_file(fd: i32, path: *const u8, length: usize) -> i32;
    fn path_rename(fd: i32, from: *const u8, length: usize, to: i32, path: *const u8, length: usize) -> i32;
    fn path_link(fd: i32, follow: i32, from: *const u8, length: usize, to: i32, path: *const u8, length: usize) -> i32;
    fn path_symlink(target: *const u8, length: usize, fd: i32, path: *const u8, length: usize) -> i32;
    fn path_readlink(fd: i32, path: *const u8, length: usize, to: *mut u8, size: usize, used: *mut usize) -> i32;
    fn path_filestat_get(fd: i32, follow: i32, path: *const u8, length: usize, stat: *mut [u64; 8]) -> i32;
    fn path_filestat_set_times(
        fd: i32,
        follow: i32,
        path: *const u8,
        length: usize,
        accessed: i64,
        modified: i64,
        which: i32,
    ) -> i32;
    fn sock_accept(fd: i32, flags: i32, accepted: *mut i32) -> i32;
    fn sock_shutdown(fd: i32, how: i32) -> i32;
}

const CREATE: i32 = 1;
const DIRECTORY: i32 = 2;
const EXCLUSIVE: i32 = 4;
const TRUNCATE: i32 = 8;
const READ: i64 = 1 << 1;
const WRITE: i64 = 1 << 6;
const READ_DIRECTORY: i64 = 1 << 14;
const SET_SIZE: i64 = 1 << 22;
const NO_SUCH_FILE: i32 = 44;

fn main() {
    for attempt in std::env::args().skip(1) {
        let words: Vec<&str> = attempt.split('|').collect();
        match words[..] {
            ["time"] => {
                let (now, start) = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap(), Instant::now());
                std::thread::sleep(std::time::Duration::from_millis(20));
                println!("{} {}", now.as_nanos(), start.elapsed().as_nanos());
            }
            ["random"] => {
                let map = std::hash::RandomState::new();
                println!("{}", std::hash::BuildHasher::hash_one(&map, 1));
            }
            _ => match perform(&words) {
                Some(0) => println!("ok"),
                Some(error) => println!("{error}"),
                None => println!("absent"),
            },
        }
    }
}

fn perform(words: &[&str]) -> Option<i32> {
    Some(match *words {
        ["read", at, path] => with(at, path, 0, READ, |fd| buffers(fd, fd_read as Transfer)),
        ["write", at, path] => with(at, path, 0, WRITE, |fd| buffers(fd, write_to)),
        ["writer", at, path] => with(at, path, 0, READ, |fd| buffers(fd, write_to)),
        ["create", at, path] => with(at, path, CREATE | EXCLUSIVE, READ | WRITE, |_| 0),
        ["truncate", at, path] => with(at, path, TRUNCATE, READ, |_| 0),
        ["size", at, path] => with(at, path, 0, READ | SET_SIZE, |fd| unsafe { fd_filestat_set_size(fd, 0) }),
        ["list", at, path] => with(at, path, DIRECTORY, READ_DIRECTORY | READ, |fd| {
            let (mut buffer, mut used) = ([0; 512], 0);
            unsafe { fd_readdir(fd, buffer.as_mut_ptr(), buffer.len(), 0, &mut used) }
        }),
        ["mkdir", at, path] => unsafe { path_create_directory(given(at), path.as_ptr(), path.len()) },
        ["rmdir", at, path] => unsafe { path_remove_directory(given(at), path.as_ptr(), path.len()) },
        ["unlink", at, path] => unsafe { path_unlink_file(given(at), path.as_ptr(), path.len()) },
        ["rename", at, path, to, new] => unsafe {
            path_rename(given(at), path.as_ptr(), path.len(), given(to), new.as_ptr(), new.len())
        },
        ["link", at, path, to, new] => unsafe {
            path_link(given(at), 0, path.as_ptr(), path.len(), given(to), new.as_ptr(), new.len())
        },
        ["symlink", target, at, path] => unsafe {
            path_symlink(target.as_ptr(), target.len(), given(at), path.as_ptr(), path.len())
        },
        ["readlink", at, path] => unsafe {
            let (mut target, mut used) = ([0; 256], 0);
            path_readlink(given(at), path.as_ptr(), path.len(), target.as_mut_ptr(), target.len(), &mut used)
        },
        ["stat", at, path] => unsafe {
            path_filestat_get(given(at), 1, path.as_ptr(), path.len(), &mut [0; 8])
        },
        // Both times, to what is said.
        ["times", at, path] => unsafe {
            path_filestat_set_times(given(at), 1, path.as_ptr(), path.len(), 1, 1, 1 | 4)
        },
        ["env", name] => i32::from(std::env::var_os(name).is_none()),
        ["descriptor", fd] => buffers(fd.parse().unwrap(), fd_read as Transfer),
        ["accept", fd] => unsafe { sock_accept(fd.parse().unwrap(), 0, &mut 0) },
        ["shutdown", fd] => unsafe { sock_shutdown(fd.parse().unwrap(), 3) },
        _ => return None,
    })
}

/// The descriptor of a directory that was given by this name; one that is none if it was not.
fn given(name: &str) -> i32 {
    let mut fd = 3;
    let mut prestat = [0; 2];
    while unsafe { fd_prestat_get(fd, &mut prestat) } == 0 {
        let mut known = vec![0; prestat[1] as usize];
        unsafe { fd_prestat_dir_name(fd, known.as_mut_ptr(), known.len()) };
        if known == name.as_bytes() {
            return fd;
        }
        fd += 1;
    }
    -1
}

fn with(at: &str, path: &str, how: i32, rights: i64, use_it: impl FnOnce(i32) -> i32) -> i32 {
    let (at, mut fd) = (given(at), -1);
    if at < 0 {
        return NO_SUCH_FILE;
    }
    match unsafe { path_open(at, 1, path.as_ptr(), path.len(), how, rights, rights, 0, &mut fd) } {
        0 => {
            let result = use_it(fd);
            unsafe { fd_close(fd) };
            result
        }
        error => error,
    }
}

type Transfer = unsafe extern "C" fn(i32, *const [usize; 2], usize, *mut usize) -> i32;

unsafe extern "C" fn write_to(fd: i32, vectors: *const [usize; 2], count: usize, written: *mut usize) -> i32 {
    unsafe { fd_write(fd, vectors, count, written) }
}

fn buffers(fd: i32, transfer: Transfer) -> i32 {
    let mut bytes = *b"from the guest";
    let vector = [bytes.as_mut_ptr() as usize, bytes.len()];
    unsafe { transfer(fd, &vector, 1, &mut 0) }
}
