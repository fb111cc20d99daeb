//! The flags that say which files a container sees besides its image's.

use std::path::Path;

use super::options::Invalid;
use crate::container::HostConfig;
use crate::engine::wasm::grant::quantity;

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Storage {
    /// Bind mount a directory or file: SOURCE:DESTINATION[:ro]; what a Wasm program may reach
    #[arg(short, long, value_name = "SOURCE:DESTINATION[:ro]")]
    volume: Vec<String>,
    /// Mount a tmpfs directory, with options as mount(8) has them
    #[arg(long, value_name = "DESTINATION[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
}

impl Storage {
    /// Writes them into what the host gives.
    pub fn apply(&self, to: &mut HostConfig) -> Result<(), Invalid> {
        to.binds = self.volume.iter().map(|v| bind(v)).collect::<Result<_, _>>()?;
        to.tmpfs = self.tmpfs.iter().map(|t| tmpfs(t)).collect::<Result<_, _>>()?;
        to.shm_size = match &self.shm_size {
            None => 0,
            Some(text) => match quantity::bytes(text) {
                Ok(size) if size > 0 => size,
                _ => return Err(Invalid::value("shm-size", text, "it is a size greater than 0, such as 64m")),
            },
        };
        Ok(())
    }
}

fn tmpfs(text: &str) -> Result<(String, String), Invalid> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    if !Path::new(destination).is_absolute() || destination == "/" {
        return Err(Invalid::value("tmpfs", text, "the destination must be an absolute path, and not the root"));
    }
    Ok((destination.to_owned(), options.to_owned()))
}

/// A volume in Docker's short form, its source made absolute and, as with Docker, made at all.
fn bind(text: &str) -> Result<String, Invalid> {
    let refuse = |problem| Invalid::Volume { text: text.to_owned(), problem };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, "rw"),
        [source, destination, options] => (source, destination, options),
        [_] => return Err(refuse("an anonymous volume is not offered by this version: give SOURCE:DESTINATION")),
        _ => return Err(refuse("it has more than three parts")),
    };
    if !Path::new(destination).is_absolute() || destination == "/" {
        return Err(refuse("the destination must be an absolute path, and not the root"));
    }
    if !source.starts_with(['/', '.', '~']) {
        return Err(refuse("a named volume is not offered by this version: give a path, such as ./data"));
    }
    if let Some(option) = options.split(',').find(|o| !matches!(*o, "ro" | "rw" | "rprivate" | "private")) {
        return Err(match option {
            "z" | "Z" => refuse("SELinux labels are not offered by this version"),
            _ => refuse("its options can be ro and rw"),
        });
    }
    let source = std::path::absolute(source).map_err(|_| refuse("the source is no path"))?;
    if !source.exists() {
        let made = std::fs::create_dir_all(&source);
        made.map_err(|error| Invalid::Source { path: source.clone(), source: error })?;
    }
    let mode = if options.split(',').any(|o| o == "ro") { "ro" } else { "rw" };
    Ok(format!("{}:{destination}:{mode}", source.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().display();
        assert_eq!(bind(&format!("{path}:/x")).unwrap(), format!("{path}:/x:rw"));
        assert_eq!(bind(&format!("{path}/new:/x:ro")).unwrap(), format!("{path}/new:/x:ro"));
        assert!(here.path().join("new").is_dir());
        for bad in ["/a", "name:/x", "/a:x", "/a:/", "/a:/b:rx", "/a:/b:ro:z", "/a:/b:z"] {
            assert!(bind(bad).is_err(), "{bad}");
        }
    }
}
