//! Following the journal: told by inotify(7) when there is more, not by looking again and again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify;

use super::Event;
use super::journal::{Journal, Tail};

/// A reader that goes on where it has come to.
#[derive(Debug)]
pub struct Follower {
    journal: Journal,
    watch: OwnedFd,
    tail: Option<Tail>,
}

impl Follower {
    /// A follower of `journal`, and what is known before it.
    pub fn new(journal: &Journal) -> io::Result<(Self, Vec<Event>)> {
        let run = journal.path().parent().unwrap_or(journal.path());
        std::fs::create_dir_all(run)?;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        // The directory, since the file is a new one from time to time, and may not be there yet.
        inotify::add_watch(&watch, run, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE)?;
        // Watched first and read then: nothing falls between.
        let (events, tail) = journal.read()?;
        Ok((Self { journal: journal.clone(), watch, tail }, events))
    }

    /// What has come since the last time; nothing, where the watch woke up for something else.
    pub fn more(&mut self) -> io::Result<Vec<Event>> {
        let mut notices = [0; 4096];
        while rustix::io::read(&self.watch, &mut notices[..]).is_ok_and(|count| count > 0) {}
        let mut events = Vec::new();
        loop {
            let current = self.tail.as_ref().is_some_and(|tail| tail.is_at(self.journal.path()));
            // Looked at before it is read: whatever was written before the turn is read to its end.
            if let Some(tail) = &mut self.tail {
                tail.read(&mut events)?;
            }
            if current {
                return Ok(events);
            }
            match Tail::open(self.journal.path())? {
                Some(next) => self.tail = Some(next),
                None => return Ok(events),
            }
        }
    }
}

/// Readable when there may be more.
impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::event::{Actor, Type};

    fn event(action: &str) -> Event {
        Event::now(Type::Container, action, Actor::default())
    }

    fn wakes(follower: &Follower) -> bool {
        let long = Timespec { tv_sec: 10, tv_nsec: 0 };
        poll(&mut [PollFd::new(follower, PollFlags::IN)], Some(&long)).unwrap() > 0
    }

    #[test]
    fn what_comes_is_told_also_over_a_turn_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        let (mut follower, before) = Follower::new(&journal).unwrap();
        assert_eq!(before, []);
        let mut seen = 0;
        let mut long = event("create");
        long.actor.attributes.insert("label".into(), "x".repeat(12_000));
        for _ in 0..100 {
            journal.note(&long).unwrap();
            journal.note(&event("start")).unwrap();
            assert!(wakes(&follower));
            seen += follower.more().unwrap().len();
        }
        assert_eq!(seen, 200);
        assert!(directory.path().join("events.1").exists(), "the file has been turned");
    }

    #[test]
    fn what_was_there_is_told_first_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        journal.note(&event("one")).unwrap();
        let (mut follower, before) = Follower::new(&journal).unwrap();
        assert_eq!(before.len(), 1);
        assert_eq!(follower.more().unwrap(), []);
        journal.note(&event("two")).unwrap();
        assert_eq!(follower.more().unwrap()[0].action, "two");
    }
}
