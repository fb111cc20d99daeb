//! The labels of the kernel's security modules that a program is to run under: `process.apparmorProfile` and
//! `process.selinuxLabel`.
//!
//! A thread asks for its own label, and gets it when it executes the program. Where that is asked for is a file of
//! procfs, which therefore has to be the real one ([`crate::sys::procfs`]). A label that is asked for on a machine
//! without the module is an error, as is a module that does not take it: nothing runs less confined than it should.

use std::path::Path;

use super::Error;
use crate::oci::runtime::Process;
use crate::sys::procfs::{Procfs, Whose};
use crate::sys::{self, named};

/// The longest name that is passed on: the kernel takes at most a page (fs/proc/base.c, `proc_pid_attr_write`).
pub const MAX_LABEL: usize = 4000;

/// The labels to run under.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Labels {
    apparmor: Option<String>,
    selinux: Option<String>,
}

/// Which modules this machine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux has a policy.
    pub selinux: bool,
}

impl Modules {
    /// Looks at the machine, for the modules that `process` needs only.
    pub fn look(process: &Process) -> Self {
        Self {
            apparmor: asked(process.apparmor_profile()).is_some() && apparmor_is_on(),
            selinux: asked(process.selinux_label()).is_some() && selinux_is_on(),
        }
    }
}

impl Labels {
    /// Understands the specification.
    pub fn plan(process: &Process, modules: Modules) -> Result<Self, Error> {
        let label = |label: &Option<String>, field, module, is_on| match asked(label) {
            None => Ok(None),
            Some(label) => check(label, field, module, is_on).map(|()| Some(label.to_owned())),
        };
        Ok(Self {
            apparmor: label(process.apparmor_profile(), "process.apparmorProfile", "AppArmor", modules.apparmor)?,
            selinux: label(process.selinux_label(), "process.selinuxLabel", "SELinux", modules.selinux)?,
        })
    }

    /// Whether there is anything to apply, for which a procfs is needed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Has the calling thread take the labels on when it executes its program.
    pub fn apply(&self, proc: &Procfs) -> sys::Result<()> {
        if let Some(profile) = &self.apparmor {
            // The module's own directory, since kernel 4.20, is there also where another module has the first say.
            let own = Whose::Own("attr/apparmor/exec");
            let file = if proc.has(own)? { own } else { Whose::Own("attr/exec") };
            ask(proc, file, &format!("exec {profile}"))?;
        }
        match &self.selinux {
            Some(label) => ask(proc, Whose::Own("attr/exec"), label),
            None => Ok(()),
        }
    }

    /// Makes a keyring by `make` that carries the label, so that the container may use it.
    pub fn with_keyring(&self, proc: &Procfs, make: impl FnOnce() -> sys::Result<()>) -> sys::Result<()> {
        const FILE: Whose<'static> = Whose::Own("attr/keycreate");
        let Some(label) = &self.selinux else { return make() };
        proc.write(FILE, label.as_bytes())?;
        make()?;
        // A single zero byte, as an empty write does not reach the module (libselinux, procattr.c).
        proc.write(FILE, &[0])
    }
}

/// Writes and reads back: an attribute that nothing is waiting in was not taken.
fn ask(proc: &Procfs, file: Whose<'_>, text: &str) -> sys::Result<()> {
    proc.write(file, text.as_bytes())?;
    if proc.read(file)?.is_empty() {
        return named(Err(rustix::io::Errno::OPNOTSUPP), || format!("read({file:?}), after writing {text:?}"));
    }
    Ok(())
}

fn asked(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

fn check(label: &str, field: &'static str, module: &str, is_on: bool) -> Result<(), Error> {
    let problem = if !is_on {
        format!("{label:?} is asked for, but {module} is not enabled on this machine")
    } else if label.len() > MAX_LABEL {
        format!("is {} bytes long; the limit is {MAX_LABEL}", label.len())
    } else if label.contains(['\0', '\n']) {
        format!("{label:?} holds a NUL byte or the end of a line")
    } else {
        return Ok(());
    };
    Err(Error::Unsupported { field, problem })
}

fn apparmor_is_on() -> bool {
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|text| text.first() == Some(&b'Y')) && Path::new("/sys/kernel/security/apparmor").exists()
}

/// SELinux can be built in and have no policy: then every process is `kernel`, or has no label at all.
pub(super) fn selinux_is_on() -> bool {
    // linux/magic.h, SELINUX_MAGIC
    const MAGIC: u32 = 0xf97c_ff8c;
    let mounted = rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|fs| fs.f_type as u32 == MAGIC);
    let labelled = || std::fs::read("/proc/thread-self/attr/current").is_ok_and(|l| !l.starts_with(b"kernel\0"));
    mounted && labelled()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::runtime::ProcessBuilder;

    const ON: Modules = Modules { apparmor: true, selinux: true };

    fn process(apparmor: &str, selinux: &str) -> Process {
        ProcessBuilder::default().apparmor_profile(apparmor).selinux_label(selinux).build().unwrap()
    }

    #[test]
    fn no_label_needs_no_module() {
        assert!(Labels::plan(&process("", ""), Modules::default()).unwrap().is_empty());
        assert!(Labels::plan(&Process::default(), Modules::default()).unwrap().is_empty());
    }

    #[test]
    fn a_label_without_its_module_is_refused() {
        for (apparmor, selinux, wanted) in [
            ("docker-default", "", "process.apparmorProfile of the runtime specification: \"docker-default\""),
            ("", "system_u:system_r:container_t:s0", "SELinux is not enabled on this machine"),
        ] {
            let error = Labels::plan(&process(apparmor, selinux), Modules::default()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_label_is_one_line_of_bounded_length() {
        assert!(Labels::plan(&process(&"x".repeat(MAX_LABEL), ""), ON).is_ok());
        for bad in ["x".repeat(MAX_LABEL + 1), "a\nb".into(), "a\0b".into()] {
            assert!(Labels::plan(&process(&bad, ""), ON).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_kernel_that_does_not_take_a_label_is_an_error() {
        let labels = Labels::plan(&process("", "no_u:such_r:label_t"), ON).unwrap();
        let modules = Modules::look(&process("x", "y"));
        if modules != Modules::default() {
            // Where a module runs, whether the label is taken is up to its policy.
            return;
        }
        std::thread::scope(|scope| {
            let refused = scope.spawn(|| labels.apply(&Procfs::ours().unwrap()).unwrap_err()).join().unwrap();
            assert!(refused.call.contains("attr/exec"), "{refused}");
        });
    }
}
