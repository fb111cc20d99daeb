//! Running a foreign program to its end: with nothing of ours but its input, within a time, hearing its last words.
//!
//! The input is a file in memory: it needs nobody to feed it, cannot block, and a program that does not read it sends
//! no SIGPIPE. Both outputs share a pipe, of which the end is kept. The program gets a process group of its own, which
//! is ended as a whole when the time is up. Waiting is for a pidfd, not for a clock.
//!
//! Works in any process, also one that is the first of its pid namespace and has every signal at its default.

#![expect(unsafe_code, reason = "what a new process does before it executes the program is unsafe in std")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::process::{cloexec_from, default_signals};
use super::{Result, named};

/// A program to run.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its file; it is not looked for anywhere.
    pub path: &'a Path,
    /// Its arguments, its own name first; without one it is called by its path.
    pub args: &'a [String],
    /// Its whole environment.
    pub env: &'a [(String, String)],
    /// What it can read.
    pub input: &'a [u8],
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// How many bytes of its output's end are kept.
    pub keep: usize,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// Its time was up, and it was killed with all of its process group.
    TimeUp,
}

/// What is read at once.
const CHUNK: usize = 4096;

/// How many chunks are read of what was written last: all that a pipe holds, and no more, as the program can have
/// left others behind that go on writing (pipe(7), "Pipe capacity").
const MAX_LAST_CHUNKS: usize = 16;

/// Runs a program to its end; how it ended, and the end of what it wrote.
pub fn run(program: &Program<'_>) -> Result<(Ending, Vec<u8>)> {
    let (mut child, reader) = start(program)?;
    let mut output = Tail { bytes: Vec::new(), keep: program.keep };
    let watched = watch(&child, reader, program.timeout, &mut output);
    if !matches!(watched, Ok(true)) {
        // The group's number is taken for as long as its leader has not been waited for, so it cannot be another's.
        let killed = kill_process_group(pid(&child), Signal::KILL);
        named(killed, || format!("kill(-{}, SIGKILL)", child.id()))?;
    }
    let status = named(child.wait(), || format!("wait4({})", child.id()))?;
    Ok((if watched? { ending(status) } else { Ending::TimeUp }, output.bytes))
}

fn ending(status: ExitStatus) -> Ending {
    status.signal().map_or_else(|| Ending::Status(status.code().unwrap_or(255)), Ending::Signal)
}

fn start(program: &Program<'_>) -> Result<(Child, PipeReader)> {
    let (reader, writer) = named(io::pipe(), || "pipe2()".into())?;
    let nonblocking = rustix::io::ioctl_fionbio(&reader, true);
    named(nonblocking, || "ioctl(FIONBIO)".into())?;
    let mut command = Command::new(program.path);
    command.arg0(program.args.first().map_or(program.path.as_os_str(), |name| OsStr::new(name)));
    command.args(program.args.iter().skip(1));
    command.env_clear().envs(program.env.iter().map(|(name, value)| (name, value)));
    command.stdin(memory_file(program.input)?);
    command.stdout(named(writer.try_clone(), || "dup()".into())?).stderr(writer);
    command.process_group(0);
    let prepare = || {
        default_signals();
        cloexec_from(3).map_err(|error| error.source)
    };
    // SAFETY: signal(2), sigprocmask(2) and close_range(2) are all that is called between fork and exec; the last
    // marks descriptors to be closed and closes none. Nothing is allocated unless the kernel refuses.
    unsafe { command.pre_exec(prepare) };
    let child = named(command.spawn(), || format!("execve({:?})", program.path))?;
    Ok((child, reader))
}

fn memory_file(bytes: &[u8]) -> Result<File> {
    let flags = MemfdFlags::CLOEXEC;
    let made = match rustix::fs::memfd_create("input", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before 6.3 the kernel does not know that a file in memory can be no program.
        Err(Errno::INVAL) => rustix::fs::memfd_create("input", flags),
        made => made,
    };
    let mut file = File::from(named(made, || "memfd_create()".into())?);
    let written = file.write_all(bytes).and_then(|()| file.rewind());
    named(written, || format!("write({} bytes)", bytes.len()))?;
    Ok(file)
}

/// Waits for the end, and hears what is said until then; false when the time is up first.
fn watch(child: &Child, mut reader: PipeReader, timeout: Option<Duration>, output: &mut Tail) -> Result<bool> {
    // A time that no clock reaches is none.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let pidfd = named(pidfd_open(pid(child), PidfdFlags::empty()), || format!("pidfd_open({})", child.id()))?;
    let mut is_open = true;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut files = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&reader, PollFlags::IN)];
        let until = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut files[..if is_open { 2 } else { 1 }], until.as_ref()) {
            Err(Errno::INTR) => continue,
            other => named(other, || "poll()".into())?,
        };
        let [has_ended, has_said] = files.map(|file| !file.revents().is_empty());
        if has_ended {
            output.take_last(&mut reader)?;
            return Ok(true);
        }
        // Asked last, and not of poll(): a program that never stops talking is not to live for ever.
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        if has_said {
            is_open = output.take(&mut reader)?.is_some();
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The end of what a program wrote.
struct Tail {
    bytes: Vec<u8>,
    keep: usize,
}

impl Tail {
    /// Takes what there is now, if anything; `None` at the end.
    fn take(&mut self, reader: &mut PipeReader) -> Result<Option<usize>> {
        let mut chunk = [0; CHUNK];
        match reader.read(&mut chunk) {
            Ok(0) => Ok(None),
            Ok(count) => {
                self.bytes.extend(&chunk[..count]);
                self.bytes.drain(..self.bytes.len().saturating_sub(self.keep));
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
            Err(error) => named(Err(error), || "read(the output)".into()),
        }
    }

    fn take_last(&mut self, reader: &mut PipeReader) -> Result<()> {
        for _ in 0..MAX_LAST_CHUNKS {
            if self.take(reader)?.unwrap_or(0) == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ending::alone;

    /// Runs a script of the shell.
    fn shell(script: &str, input: &[u8], timeout: Option<Duration>) -> (Ending, String) {
        let args = ["called", "-c", script].map(str::to_owned);
        let env = [("GIVEN".to_owned(), "value".to_owned())];
        let path = Path::new("/bin/sh");
        let program = Program { path, args: &args, env: &env, input, timeout, keep: 100 };
        let (ending, output) = run(&program).unwrap();
        (ending, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_program_has_what_it_is_given_and_nothing_else() {
        let leak = File::open("/etc/passwd").unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let script = "echo \"$0 $GIVEN $HOME\"; /bin/cat; /bin/ls /proc/$$/fd";
        let (ending, output) = shell(script, b"input\n", None);
        assert_eq!(ending, Ending::Status(0));
        assert_eq!(output, "called value \ninput\n0\n1\n2\n");
    }

    #[test]
    fn input_that_nobody_reads_and_that_no_pipe_holds_is_fine() {
        let large = vec![b'x'; 1 << 20];
        assert_eq!(shell("exit 0", &large, None).0, Ending::Status(0));
        assert_eq!(shell("/usr/bin/wc -c < /dev/stdin", &large, None).1, "1048576\n");
    }

    #[test]
    fn the_ending_is_told_with_the_last_words() {
        assert_eq!(shell("echo why >&2; exit 200", b"", None), (Ending::Status(200), "why\n".into()));
        assert_eq!(shell("kill -TERM $$", b"", None).0, Ending::Signal(15));
        let (ending, output) = shell("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done", b"", None);
        assert_eq!((ending, output.len(), output.ends_with("line 2999\n")), (Ending::Status(0), 100, true));
    }

    #[test]
    fn when_the_time_is_up_all_of_the_group_is_killed() {
        let begun = Instant::now();
        let timeout = Duration::from_millis(300);
        let (ending, output) = shell("/bin/sleep 1000 & echo $!; while :; do :; done", b"", Some(timeout));
        assert_eq!(ending, Ending::TimeUp);
        assert!(begun.elapsed() >= timeout);
        // The sleep is no child of ours: it is gone, or about to be.
        let sleep = Pid::from_raw(output.trim().parse().unwrap()).unwrap();
        match pidfd_open(sleep, PidfdFlags::empty()) {
            Err(error) => assert_eq!(error, Errno::SRCH),
            Ok(pidfd) => {
                let soon = Timespec { tv_sec: 10, tv_nsec: 0 };
                assert_eq!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&soon)).unwrap(), 1);
            }
        }
    }

    #[test]
    fn a_program_that_never_stops_talking_has_no_more_time() {
        let (ending, _) = shell("while :; do echo x; done", b"", Some(Duration::from_millis(100)));
        assert_eq!(ending, Ending::TimeUp);
    }

    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for() {
        let begun = Instant::now();
        assert_eq!(shell("/bin/sleep 5 & exit 0", b"", None).0, Ending::Status(0));
        assert!(begun.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn a_program_that_is_not_there_names_the_call() {
        let (args, env) = ([], []);
        let path = Path::new("/no/such");
        let error = run(&Program { path, args: &args, env: &env, input: b"", timeout: None, keep: 9 }).unwrap_err();
        assert_eq!((error.errno(), error.call.as_str()), (Some(libc::ENOENT), "execve(\"/no/such\")"));
    }

    #[test]
    fn a_process_with_every_signal_at_its_default_can_run_programs() {
        assert!(alone(|| {
            default_signals();
            shell("exec 0<&-; exit 7", &[b'x'; 1 << 17], None).0 == Ending::Status(7)
        }));
    }
}
