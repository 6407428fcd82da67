//! The command line of `compare`. Touches the environment, nothing else.

use std::path::PathBuf;

use crate::rows;

const USAGE: &str = "\
compare: Terrace beside redis-server, the same work in turns

  cargo bench --bench compare -- [options]      (or: make compare)

  --only TEXT         only the row of that name, or all whose names contain TEXT (may be repeated)
  --list              print the names of the rows and their bars
  --rounds N          turns per server and row (default 3)
  --requests N        requests per turn, instead of each row's own number
  --quick             one round, a quarter of the work: about ten minutes, for a first look
  --noise             redis-server against itself: how far ratios stray from 1 on this machine
  --terrace-bin PATH  the Terrace binary (default: the one Cargo built, or $TERRACE_BIN)
  --redis-bin PATH    the Redis binary (default: redis-server)
  --server-args TEXT  further arguments for Terrace, separated by blanks
  --json FILE         also write every figure of every round to FILE";

/// What one run measures, and with which binaries.
#[derive(Debug)]
pub struct Options {
    /// Lower-case parts of row names; empty means every row.
    only: Vec<String>,
    pub rounds: usize,
    /// Requests per turn, overriding each row's own number.
    pub requests: Option<u64>,
    pub quick: bool,
    pub noise: bool,
    pub terrace: PathBuf,
    pub redis: PathBuf,
    pub server_args: Vec<String>,
    pub json: Option<PathBuf>,
}

/// What the command line asked for.
pub enum Invocation {
    Run(Options),
    /// Text to print instead of running.
    Explain(String),
}

impl Options {
    pub fn wants(&self, row_name: &str) -> bool {
        let row_name = row_name.to_lowercase();
        let is_whole_name = |part: &str| rows::ALL.iter().any(|row| row.name.to_lowercase() == part);
        let asks_for_it =
            |part: &String| row_name == *part || (row_name.contains(part) && !is_whole_name(part));
        self.only.is_empty() || self.only.iter().any(asks_for_it)
    }

    /// An amount of work, cut to a quarter by `--quick`.
    pub fn scaled(&self, amount: u64) -> u64 {
        if self.quick { amount / 4 } else { amount }
    }
}

/// Reads the arguments, without the program's name.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Invocation, String> {
    let mut arguments = arguments.peekable();
    if arguments.peek().is_none() {
        // `cargo test --all-targets` runs this binary bare; half an hour of load is not what it wants.
        // `cargo bench` always passes `--bench`.
        return Ok(Invocation::Explain(USAGE.to_owned()));
    }
    let mut rounds = None;
    let mut terrace = None;
    let mut options = Options {
        only: Vec::new(),
        rounds: 3,
        requests: None,
        quick: false,
        noise: false,
        terrace: PathBuf::new(),
        redis: PathBuf::from("redis-server"),
        server_args: Vec::new(),
        json: None,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {}
            "--help" | "-h" => return Ok(Invocation::Explain(USAGE.to_owned())),
            "--list" => return Ok(Invocation::Explain(crate::report::list())),
            "--quick" => options.quick = true,
            "--noise" => options.noise = true,
            "--only" => options.only.push(value()?.to_lowercase()),
            "--rounds" => rounds = Some(positive(&value()?)? as usize),
            "--requests" => options.requests = Some(positive(&value()?)?),
            "--terrace-bin" => terrace = Some(PathBuf::from(value()?)),
            "--redis-bin" => options.redis = PathBuf::from(value()?),
            "--server-args" => options
                .server_args
                .extend(value()?.split_whitespace().map(str::to_owned)),
            "--json" => options.json = Some(PathBuf::from(value()?)),
            unknown => return Err(format!("unknown option {unknown}\n\n{USAGE}")),
        }
    }
    options.rounds = rounds.unwrap_or(if options.quick { 1 } else { 3 });
    options.terrace = if options.noise {
        options.redis.clone()
    } else {
        terrace
            .or_else(built_binary)
            .ok_or("no Terrace binary: give --terrace-bin PATH")?
    };
    Ok(Invocation::Run(options))
}

/// `$TERRACE_BIN`, or the binary that Cargo built together with this bench.
fn built_binary() -> Option<PathBuf> {
    std::env::var_os("TERRACE_BIN")
        .map(PathBuf::from)
        .or_else(|| option_env!("CARGO_BIN_EXE_terrace").map(PathBuf::from))
}

fn positive(text: &str) -> Result<u64, String> {
    match text.replace('_', "").parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text} is not a positive whole number")),
    }
}
