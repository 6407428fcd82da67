//! `compare`: Terrace and `redis-server` side by side, on the same machine, with the same work, in turns.
//!
//! It measures and judges; it never decides what is fast enough to ship: a row that falls short of its bar is
//! printed as `short` and the exit status stays 0. The status is 1 only when a row could not be measured.
//! It writes nothing outside its own folder under the temporary directory and the file given by `--json`,
//! listens on loopback only, and ends every server it started by that server's process number.
//!
//! The files: `options` reads the command line, `rows` is the list of what is measured and against which bar,
//! `measure` carries one row out, `servers` starts, watches and stops a server, `load`, `collections`, `paced`,
//! `sealed`, `subscribers` and `sustained` produce the work, `wire` is the few bytes of RESP they need, `report` prints.

mod collections;
mod load;
mod measure;
mod options;
mod paced;
mod report;
mod rows;
mod sealed;
mod servers;
mod subscribers;
mod sustained;
mod wire;

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

use options::{Invocation, Options};

/// Why a row, or the whole run, could not be measured.
#[derive(Debug)]
pub enum Failure {
    /// The system refused something: what was being done, and its answer.
    Io(String, io::Error),
    /// A server or a tool answered or behaved in a way that makes the figure worthless.
    Unusable(String),
}

impl Failure {
    /// For `map_err`: names what was being done when the system refused.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure::Io(doing.into(), error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Io(doing, error) => write!(f, "{doing}: {error}"),
            Failure::Unusable(what) => f.write_str(what),
        }
    }
}

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Invocation::Run(options)) => options,
        Ok(Invocation::Explain(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("compare: {message}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("compare: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Measures every chosen row. True when each of them could be measured.
fn run(options: &Options) -> Result<bool, Failure> {
    servers::pin_this_process()?;
    let started = Instant::now();
    let bench = measure::Bench::new(options)?;
    let chosen: Vec<_> = rows::ALL.iter().filter(|row| options.wants(row.name)).collect();
    let mut results = Vec::with_capacity(chosen.len());
    for (index, row) in chosen.iter().enumerate() {
        eprintln!("[{}/{}] {}", index + 1, chosen.len(), row.name);
        let result = bench.measure(row);
        if let Err(failure) = &result {
            eprintln!("    not measured: {failure}");
        }
        results.push((*row, result));
    }
    print!("{}", report::table(&results, options, started.elapsed()));
    if let Some(path) = &options.json {
        let text = report::json(&results, options).to_string();
        std::fs::write(path, text).map_err(Failure::io(format!("writing {}", path.display())))?;
    }
    Ok(results.iter().all(|(_, result)| result.is_ok()))
}
