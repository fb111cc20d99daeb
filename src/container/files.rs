//! The three files that every Linux container gets from us: its host name, its hosts, its resolvers.

use std::path::Path;

use super::{Error, Record, io};
use crate::bundle::{Bind, Network};

pub(super) const NAMES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// Writes the files into the container's directory and says where they are to be seen.
pub(super) fn write(directory: &Path, record: &Record, network: Network) -> Result<Vec<Bind>, Error> {
    let hosts = match network {
        Network::None => LOOPBACK.to_owned(),
        Network::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_else(|_| LOOPBACK.to_owned()),
    };
    // On the host's network the host's resolvers are right. Without a network none is, and the file is
    // there for programs that insist on one.
    let resolvers = match network {
        Network::None => String::new(),
        Network::Host => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    let contents = [format!("{}\n", record.config.hostname), hosts, resolvers];
    NAMES.iter().zip(contents).map(|(name, content)| write_one(directory, name, &content)).collect()
}

fn write_one(directory: &Path, name: &str, content: &str) -> Result<Bind, Error> {
    use std::os::unix::fs::PermissionsExt;
    let source = directory.join(name);
    // What the container made of it in an earlier life stays.
    if !source.exists() {
        io("write", &source, std::fs::write(&source, content))?;
        io("write", &source, std::fs::set_permissions(&source, PermissionsExt::from_mode(0o644)))?;
    }
    Ok(Bind { source, destination: Path::new("/etc").join(name), readonly: false })
}
