//! The rproxy binary, which parses the command line and runs a command.

mod allocator;

use std::ffi::OsString;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;

use rproxy::cli::{self, Command};
use rproxy::config::LogFilter;
use rproxy::preflight::Preflight;
use rproxy::{ApplicationError, Config, ErrorChain, RunError, StartSignals};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

fn main() -> ExitCode {
    let code = run();
    rproxy::logging::flush();
    code
}

fn run() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Before the configuration is loaded, which takes time in which a signal would end the process.
    let started = cli::may_run_proxy(&args).then(start_runtime);
    match cli::parse(args, std::env::vars_os().collect::<Vec<(OsString, OsString)>>()) {
        Ok(Command::Run(config)) => block_on(config, started, Config::run_with),
        Ok(Command::Demo(config)) => block_on(config, started, rproxy::demo),
        Ok(Command::Check(report)) => match try_build(report.config()) {
            Ok(()) => {
                let preflight = Preflight::run(report.config());
                let problems = preflight.problems();
                match report.is_quiet() {
                    true => problems.iter().for_each(print_error),
                    false => {
                        let text = report.render(&rproxy::layers(report.config()), problems.len());
                        print(&format!("{text}{preflight}"));
                    }
                }
                if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(cli::Error::EXIT_CODE) }
            }
            Err(error) => {
                print_error(report.config().spell(&ErrorChain(&error).to_string()));
                ExitCode::from(cli::Error::EXIT_CODE)
            }
        },
        Ok(
            Command::Explain(text)
            | Command::Help(text)
            | Command::Version(text)
            | Command::Reference(text)
            | Command::Completions(text)
            | Command::Manual(text),
        ) => print(&text),
        Ok(Command::Trust(trust)) => match trust.run() {
            Ok(text) => print(&text),
            Err(error) => {
                print_error(ErrorChain(&error));
                ExitCode::FAILURE
            }
        },
        Ok(Command::Switch(switch)) => match switch.run() {
            Ok(text) => print(&text),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        Ok(_) => ExitCode::FAILURE,
        Err(error) => exit_with_usage_error(&error),
    }
}

/// Builds the layers and logs warnings that a start would log, for example about certificate files.
fn try_build(config: &Config) -> Result<(), RunError> {
    rproxy::logging::init(&LogFilter::warnings());
    config.try_build()
}

fn exit_with_usage_error(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    print_error(ErrorChain(error));
    ExitCode::from(cli::Error::EXIT_CODE)
}

/// Creates the runtime of the main thread, and installs the first signal handlers in it.
fn start_runtime() -> io::Result<(Runtime, StartSignals)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = runtime.block_on(async { StartSignals::install() })?;
    Ok((runtime, signals))
}

/// Runs a proxy on the current thread; each worker has its own thread and runtime.
fn block_on<F>(
    config: Config,
    started: Option<io::Result<(Runtime, StartSignals)>>,
    run: impl FnOnce(Config, StartSignals) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), RunError>>,
{
    rproxy::logging::init(&config.observe.log_level);
    let (runtime, signals) = match started.unwrap_or_else(start_runtime) {
        Ok(started) => started,
        Err(error) => {
            tracing::error!("cannot start the async runtime with its signal handlers: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Messages name settings as the operator does.
    let spelling = config.clone();
    let run = async {
        let mut run = pin!(run(config, signals));
        // The first poll starts the proxy; memory that only the start needed is returned.
        match poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await {
            Poll::Ready(ended) => ended,
            Poll::Pending => {
                allocator::collect();
                run.await
            }
        }
    };
    match runtime.block_on(run) {
        Ok(()) => ExitCode::SUCCESS,
        // A line for each, so that a command can be copied from the log.
        Err(RunError::Requirements(unmet)) => {
            unmet.requirements().iter().for_each(|requirement| tracing::error!("{requirement}"));
            ExitCode::FAILURE
        }
        // Already logged, before the connections were drained.
        Err(RunError::Application(ApplicationError::Ended { exit, .. })) => ExitCode::from(exit.code()),
        Err(error) => {
            tracing::error!("{}", spelling.spell(&ErrorChain(&error).to_string()));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    // A closed pipe (`| head`) is not a failure.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    ExitCode::SUCCESS
}

/// Prints to standard error. `eprintln!` panics if that fails.
fn print_error(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
