//! `wherry login`: a user and a password for a registry, tried and kept.

use std::io::{BufRead, IsTerminal, Read, Write};

use super::pull::asynchronous;
use super::{Context, Outcome, output};
use crate::error::{Failure, Kind, tolerate};
use crate::registry::Kept;

/// The longest password that is read.
const MAX_PASSWORD: u64 = 64 << 10;

/// Authenticate to a registry
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The login is kept where docker keeps it, in ~/.docker/config.json or by the credential helper that is named there.

Examples:
  wherry login ghcr.io
  cat token | wherry login -u me --password-stdin registry.example.org"
)]
pub struct Args {
    /// Username
    #[arg(short, long)]
    username: Option<String>,
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// The registry; Docker Hub, if none is named
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// What cannot be meant.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("Must provide --username with --password-stdin")]
    NoUser,
    #[error("Cannot perform an interactive login from a non TTY device")]
    NoTerminal,
    #[error("username is empty")]
    Empty,
    #[error("password is empty")]
    NoPassword,
    #[error("cannot read the password from standard input")]
    Read { source: std::io::Error },
    #[error("{server:?} is no registry: give its host, such as ghcr.io or localhost:5000")]
    Server { server: String },
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { source } => Kind::of_io(source),
            _ => Kind::InvalidArgument,
        }
    }
}

/// Tries the login, keeps it, and says so in Docker's words.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let registry = registry(args.server.as_deref())?;
    let (username, password) = who(&args, &registry, ctx)?;
    let client = ctx.host()?.registry();
    asynchronous()?.block_on(client.login(&registry, &username, &password))?;
    if let Kept::File(path) = ctx.host()?.credentials().keep(&registry, &username, &password)? {
        note(&format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.\n",
            path.display()
        ));
    }
    output::print("Login Succeeded\n")?;
    Ok(0)
}

/// The registry that was named: a scheme and a path are left out, as old scripts write them.
pub fn registry(server: Option<&str>) -> Result<String, Box<dyn Failure>> {
    let Some(server) = server.filter(|server| !server.is_empty()) else { return Ok("docker.io".to_owned()) };
    let host = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let host = host.split('/').next().unwrap_or(host);
    // A name in it is parsed as that of an image, so that all rules are those of references.
    let reference = format!("{host}/x").parse::<crate::reference::Reference>();
    match (host, reference) {
        ("docker.io" | "index.docker.io" | "registry-1.docker.io" | "hub.docker.com", _) => Ok("docker.io".to_owned()),
        (host, Ok(reference)) if reference.registry() == host => Ok(host.to_owned()),
        _ => Err(Invalid::Server { server: server.to_owned() }.into()),
    }
}

fn who(args: &Args, registry: &str, ctx: &Context) -> Result<(String, String), Box<dyn Failure>> {
    if args.password.is_some() {
        note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
    }
    let password = match (&args.password, args.password_stdin) {
        (Some(password), _) => Some(password.clone()),
        (None, true) if args.username.is_none() => return Err(Invalid::NoUser.into()),
        (None, true) => {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut text);
            read.map_err(|source| Invalid::Read { source })?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        (None, false) => None,
    };
    let interactive = std::io::stdin().is_terminal();
    let username = match &args.username {
        Some(username) => username.clone(),
        None if !interactive => return Err(Invalid::NoTerminal.into()),
        None => asked(&ctx.host()?.registry().user_of(registry)?)?,
    };
    let password = match password {
        Some(password) => password,
        None if !interactive => return Err(Invalid::NoTerminal.into()),
        None => hidden()?,
    };
    match (username.is_empty(), password.is_empty()) {
        (true, _) => Err(Invalid::Empty.into()),
        (_, true) => Err(Invalid::NoPassword.into()),
        _ => Ok((username, password)),
    }
}

/// Asks for a name; none that is typed means the one that is known.
fn asked(known: &Option<String>) -> Result<String, Box<dyn Failure>> {
    let shown = known.as_ref().map_or_else(String::new, |known| format!(" ({known})"));
    output::print(&format!("Username{shown}: "))?;
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line);
    read.map_err(|source| Invalid::Read { source })?;
    let line = line.trim();
    Ok(if line.is_empty() { known.clone().unwrap_or_default() } else { line.to_owned() })
}

#[cfg(unix)]
fn hidden() -> Result<String, Box<dyn Failure>> {
    output::print("Password: ")?;
    let password = crate::sys::hidden::read_line()?;
    output::print("\n")?;
    Ok(password)
}

/// Where what is typed cannot be hidden, it is not asked for.
#[cfg(not(unix))]
fn hidden() -> Result<String, Box<dyn Failure>> {
    Err(Invalid::NoTerminal.into())
}

fn note(text: &str) {
    // Without a standard error there is nobody to warn.
    tolerate(std::io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::registry;

    #[test]
    fn what_a_server_means() {
        for (typed, meant) in [
            ("ghcr.io", "ghcr.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("http://localhost:5000/", "localhost:5000"),
            ("", "docker.io"),
        ] {
            assert_eq!(registry(Some(typed)).ok().as_deref(), Some(meant), "{typed}");
        }
        for bad in ["no", "user@ghcr.io", "a b", "x:y", "https://"] {
            assert!(registry(Some(bad)).is_err(), "{bad}");
        }
    }
}
