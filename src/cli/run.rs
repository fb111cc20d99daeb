//! `wherry run`: create and start a container, and stay with it unless told otherwise; or run a file without one.

#[cfg(not(target_os = "linux"))]
pub use direct::{Args, run};
#[cfg(target_os = "linux")]
pub use isolated::{Args, run};

#[cfg(not(target_os = "linux"))]
mod direct;

#[cfg(target_os = "linux")]
mod isolated {
    use std::io::{IsTerminal, stdin};

    use crate::cli::options::{self, Options};
    use crate::cli::{Context, output, terminal_size};
    use crate::container::{self, Container, StartOptions};
    use crate::error::{Failure, Kind, tolerate};
    use crate::task::{self, Attachment, End, relay};

    /// Create and run a new container, or run a WebAssembly file
    ///
    /// A WebAssembly file of this machine (a path, or - for the standard input) that stays in the foreground runs
    /// without a container: behind the same walls and with the same flags for what it may do, but on the streams and
    /// the terminal of the caller, and with nothing left of it afterwards. With --detach, --name or --entrypoint it
    /// gets a container like an image.
    #[derive(Debug, clap::Args)]
    #[command(
        disable_help_flag = true,
        after_help = "Examples:
  wherry run --rm alpine echo hello
  wherry run --rm -it -v ./src:/src -w /src debian bash
  wherry run --rm -v ./data:/data:ro ./app.wasm --verbose
  wherry run -d --name web me/web:1"
    )]
    pub struct Args {
        /// Run container in background and print container ID
        #[arg(short, long)]
        detach: bool,
        #[command(flatten)]
        options: Options,
        /// The image ([REGISTRY/]NAME[:TAG][@DIGEST], an id, or the path of a .wasm file), and after it the
        /// command and its arguments, in place of the image's
        #[arg(value_name = "IMAGE [COMMAND] [ARG...]", required = true, num_args = 1.., trailing_var_arg = true,
              allow_hyphen_values = true)]
        image: Vec<String>,
    }

    /// A terminal was asked for where there is none.
    #[derive(Debug, thiserror::Error)]
    #[error("the input device is not a TTY")]
    struct NoTerminal;

    impl Failure for NoTerminal {
        fn kind(&self) -> Kind {
            Kind::InvalidArgument
        }
    }

    /// Runs the container; its exit status, or 125, 126, 127 where there was none.
    pub fn run(args: Args, context: &Context) -> Result<u8, (u8, Box<dyn Failure>)> {
        if args.options.tty && args.options.interactive && !args.detach && !stdin().is_terminal() {
            return Err((125, NoTerminal.into()));
        }
        let general = |failure| (125, failure);
        if !args.detach
            && let Some(program) = options::direct(&args.options, &args.image).map_err(general)?
        {
            let host = context.host().map_err(|e| (125, e.into()))?;
            return host.places().run(&program).map_err(|error| (125, error.into()));
        }
        let id = (!args.detach).then(container::new_id);
        // It gets going while the container is made.
        let supervisor = id.as_deref().map(task::prepare).transpose().map_err(|e| (125, e.into()))?;
        let made = options::create(&args.options, &args.image, context, id.as_deref()).map_err(general)?;
        let options = StartOptions { attached: !args.detach, size: terminal_size() };
        let containers = context.host().map_err(|e| (125, e.into()))?.containers().map_err(|e| (125, e.into()))?;
        let launched = match supervisor {
            Some(supervisor) => containers.start_by(supervisor, &made, options),
            None => containers.start(&made, options),
        };
        let mut launched = match launched {
            Ok(launched) => launched,
            Err(error) => return Err(refused(containers, &made, error)),
        };
        if args.detach {
            output::print(&format!("{}\n", made.record.id)).map_err(|e| (125, e.into()))?;
            return Ok(0);
        }
        let attachment = Attachment { stdin: args.options.interactive, terminal: args.options.tty };
        match relay(&mut launched, attachment).map_err(|e| (125, e.into()))? {
            End::Exited(status) => {
                if args.options.rm {
                    remove(containers, &made).map_err(|e| (125, e.into()))?;
                }
                Ok(status)
            }
            End::Detached => Ok(0),
            End::Impatient => Ok(130),
        }
    }

    fn remove(containers: &container::Store, made: &Container) -> Result<(), container::Error> {
        let container = containers.find(&made.record.id)?;
        containers.remove(&container, false)
    }

    /// The exit status for a container that did not start. One that was to be removed is removed.
    fn refused(containers: &container::Store, made: &Container, error: container::Error) -> (u8, Box<dyn Failure>) {
        let status = match &error {
            container::Error::Start { source: task::Error::Start(failure), .. } => failure.status,
            _ => 125,
        };
        let removed = if made.record.host_config.auto_remove { remove(containers, made) } else { Ok(()) };
        // The reason why it did not start matters more than that it could not be removed either.
        tolerate(removed);
        (status, error.into())
    }
}
