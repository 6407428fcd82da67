//! The layer as a whole: directives against Redis 7.0, files, the command line, rewriting, the manual.

use std::fs;
use std::path::{Path, PathBuf};

use super::cli::{Command, Startup};
use super::directives::{Effect, GROUPS, lookup, names};
use super::rewrite::rewrite;
use super::*;

/// `CONFIG GET *` of a Redis 7.0 that was given nothing, without its port, folder, addresses and save points.
const REDIS_DEFAULTS: &str = include_str!("testdata/redis-7.0-defaults.txt");

/// The directives that a packaged redis.conf of 7.0 sets.
const REDIS_STOCK: &str = include_str!("testdata/redis-7.0-stock.conf");

fn args(words: &[&str]) -> Result<Startup, ConfigError> {
    match Command::parse(words)? {
        Command::Serve(startup) => Ok(*startup),
        other => panic!("{other:?}"),
    }
}

fn text_of(config: &Config, name: &str) -> String {
    String::from_utf8(config.get(name.as_bytes()).unwrap()).unwrap()
}

fn set(config: &Config, pairs: &[(&str, &str)]) -> Result<Config, String> {
    config.set_many(pairs).map_err(|error| error.to_string())
}

/// A folder with one configuration file, and the path of that file.
fn with_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.conf");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn load(text: &str) -> Result<Startup, ConfigError> {
    let (_folder, path) = with_file(text);
    args(&[path.to_str().unwrap()])
}

fn refusal(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

#[test]
fn every_name_of_redis_7_0_is_known_with_its_default() {
    // One worker per core rather than one in all.
    let ours = ["io-threads"];
    let config = Config::default();
    for line in REDIS_DEFAULTS.lines() {
        let (name, default) = line.split_once(' ').unwrap_or((line, ""));
        assert!(lookup(name.as_bytes()).is_some(), "{name} is not known");
        if !ours.contains(&name) {
            assert_eq!(text_of(&config, name), default, "{name}");
        }
    }
    assert_eq!(text_of(&config, "save"), "3600 1 300 100 60 10000");
    assert_eq!(text_of(&config, "bind"), "127.0.0.1 -::1");
}

#[test]
fn names_are_unique_lower_case_and_explained() {
    let mut seen = std::collections::HashSet::new();
    for (name, row) in names() {
        assert!(seen.insert(name), "{name} twice");
        assert_eq!(name, name.to_ascii_lowercase());
        assert!(row.about.ends_with('.'), "{name}: {}", row.about);
        assert!(
            !row.about.contains('|') || row.name == "range",
            "{name}: would break the table"
        );
    }
}

#[test]
fn what_get_answers_set_accepts_and_keeps() {
    let config = Config::default();
    for (name, row) in names() {
        let mut again = config.clone();
        row.set_from_one(&mut again, &row.get(&config))
            .unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(again, config, "{name}");
    }
}

#[test]
fn set_changes_a_copy_and_get_formats_as_redis_does() {
    let old = Config::default();
    let new = set(
        &old,
        &[
            ("MaxMemory", "100mb"),
            ("maxmemory-policy", "AllKeys-LRU"),
            ("slave-priority", "5"),
        ],
    )
    .unwrap();
    assert_eq!(old.maxmemory, 0);
    assert_eq!(text_of(&new, "maxmemory"), "104857600");
    assert_eq!(text_of(&new, "maxmemory-policy"), "allkeys-lru");
    assert_eq!(text_of(&new, "replica-priority"), "5");
    let cases = [
        (
            "client-output-buffer-limit",
            "replica 1kb 2 3",
            "normal 0 0 0 slave 1024 2 3 pubsub 33554432 8388608 60",
        ),
        ("save", "100 1 200 2", "100 1 200 2"),
        ("save", "", ""),
        ("hz", "0", "1"),
        ("hz", "1000", "500"),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("latency-tracking-info-percentiles", "50.0 99.999", "50 99.999"),
        ("shutdown-on-sigterm", "default save", "save"),
        ("maxmemory-clients", "5%", "5%"),
        ("appendonly", "YES", "yes"),
        ("oom-score-adj-values", "1 2 3", "1 2 3"),
    ];
    for (name, value, shown) in cases {
        assert_eq!(
            text_of(&set(&old, &[(name, value)]).unwrap(), name),
            shown,
            "{name} {value}"
        );
    }
}

#[test]
fn set_refuses_in_the_words_of_redis() {
    let refused = |name: &str, why: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
    };
    let policies = "argument(s) must be one of the following: volatile-lru, volatile-lfu, volatile-random, \
                    volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction";
    let cases = [
        ("maxmemory", "abc", "argument must be a memory value"),
        ("maxmemory-policy", "x", policies),
        (
            "maxmemory-eviction-tenacity",
            "101",
            "argument must be between 0 and 100 inclusive",
        ),
        (
            "maxclients",
            "-1",
            "argument must be between 1 and 4294967295 inclusive",
        ),
        (
            "proto-max-bulk-len",
            "1",
            "argument must be between 1048576 and 9223372036854775807 inclusive",
        ),
        (
            "slowlog-log-slower-than",
            "-2",
            "argument must be between -1 and 9223372036854775807 inclusive",
        ),
        (
            "list-max-listpack-size",
            "9999999999",
            "argument must be between -2147483648 and 2147483647 inclusive",
        ),
        ("hz", "1.5", "argument couldn't be parsed into an integer"),
        ("dynamic-hz", "maybe", "argument must be 'yes' or 'no'"),
        (
            "appendfsync",
            "often",
            "argument(s) must be one of the following: everysec, always, no",
        ),
        ("save", "100", "Invalid save parameters"),
        ("save", "0 1", "Invalid save parameters"),
        (
            "notify-keyspace-events",
            "Q",
            "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
        ),
        (
            "client-output-buffer-limit",
            "normal 1",
            "Wrong number of arguments in buffer limit configuration.",
        ),
        ("oom-score-adj-values", "1 2", "wrong number of arguments"),
        ("daemonize", "yes", "can't set immutable config"),
        ("databases", "1", "can't set immutable config"),
        ("dir", "/tmp", "can't set protected config"),
        ("dbfilename", "x", "can't set protected config"),
    ];
    for (name, value, why) in cases {
        assert_eq!(
            set(&Config::default(), &[(name, value)]).unwrap_err(),
            refused(name, why),
            "{name} {value}"
        );
    }
}

#[test]
fn set_of_several_is_all_or_nothing_and_judges_names_first() {
    let config = Config::default();
    let unknown = "ERR Unknown option or number of arguments for CONFIG SET - 'noSuch'";
    assert_eq!(
        set(&config, &[("maxmemory", "abc"), ("noSuch", "1")]).unwrap_err(),
        unknown
    );
    assert!(
        set(&config, &[("hz", "abc"), ("daemonize", "yes")])
            .unwrap_err()
            .contains("immutable")
    );
    assert!(
        set(&config, &[("maxmemory", "1"), ("maxmemory", "2")])
            .unwrap_err()
            .ends_with("'maxmemory') - duplicate parameter")
    );
    assert!(set(&config, &[("maxmemory", "1gb"), ("hz", "abc")]).is_err());
}

#[test]
fn protected_directives_open_to_whom_they_are_opened() {
    let pairs = [("dbfilename", "x.rdb")];
    let with = |value| args(&["--enable-protected-configs", value]).unwrap().config;
    assert!(with("yes").set_many(&pairs).is_ok());
    assert!(with("local").set_many(&pairs).is_err());
    assert!(with("local").set_many_from(&pairs, true).is_ok());
    // The data folder is locked by the running server, whoever asks.
    let refused = with("yes").set_many(&[("dir", "/tmp")]).unwrap_err();
    assert!(refused.to_string().ends_with("can't set immutable config"));
}

#[test]
fn a_stock_redis_conf_starts_with_few_warnings() {
    let startup = load(REDIS_STOCK).unwrap();
    assert_eq!(startup.config.port, 6379);
    assert_eq!(startup.config.dir, Path::new("/var/lib/redis"));
    // Of all that it says only this asks for something that does not happen.
    assert_eq!(startup.warnings.len(), 1, "{:?}", startup.warnings);
    assert!(startup.warnings[0].ends_with("'daemonize' has no effect yet"));
}

#[test]
fn wrong_lines_are_refused_with_file_line_and_words() {
    let (_folder, path) = with_file("# first\n\nport 7000\n  maxmemory abc  \n");
    let error = args(&[path.to_str().unwrap()]).unwrap_err().to_string();
    let expected = format!(
        "*** FATAL CONFIG FILE ERROR (Terrace {}) ***\nReading the configuration file, at line 4 of {}\n>>> \
         'maxmemory abc'\nargument must be a memory value",
        env!("CARGO_PKG_VERSION"),
        path.display()
    );
    assert_eq!(error, expected);
    let cases = [
        ("hz", "wrong number of arguments"),
        ("port 1 2", "wrong number of arguments"),
        ("hz \"10", "Unbalanced quotes in configuration line"),
        (
            "databases 0",
            "argument must be between 1 and 2147483647 inclusive",
        ),
        ("io-threads 200", "argument must be between 0 and 128 inclusive"),
        (
            "unixsocketperm 999",
            "argument couldn't be parsed as an octal number",
        ),
        (
            "unixsocketperm 1000",
            "argument must be between 0 and 777 inclusive",
        ),
        ("appendfilename \"\"", "appendfilename can't be empty"),
        (
            "appendfilename a/b",
            "appendfilename can't be a path, just a filename",
        ),
        ("dbfilename a/b", "dbfilename can't be a path, just a filename"),
        (
            "supervised x",
            "argument(s) must be one of the following: upstart, systemd, auto, no",
        ),
        ("rename-command foo", "Bad directive or wrong number of arguments"),
        ("replicaof a", "wrong number of arguments"),
        ("replicaof a b", "Invalid master port"),
        ("include", "wrong number of arguments"),
        ("shards 1000", "argument must be a power of two"),
        ("range a x* disk", "the tier of a range must be memory or durable"),
        (
            "range a x* memory\nrange a y* memory",
            "range 'a' is there already",
        ),
        (
            "range a a..bm memory\nrange b b* memory",
            "the keys of range 'b' overlap those of range 'a'",
        ),
    ];
    for (line, why) in cases {
        let refusal = refusal(line);
        assert!(refusal.ends_with(&format!("\n{why}")), "{line}: {refusal}");
    }
}

#[test]
fn what_has_no_effect_is_warned_about_once_each() {
    let startup =
        load("frob 1\nFrob 2\nloadmodule A B\nactivedefrag yes\nactivedefrag yes\ntls-port 0\nsave 1 1\n")
            .unwrap();
    let warnings = startup.warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].ends_with("t.conf:1: 'frob' is not a directive of Terrace and is ignored"));
    assert!(warnings[1].ends_with("t.conf:3: 'loadmodule' has no effect yet"));
    assert!(warnings[2].ends_with("t.conf:5: 'activedefrag' has no effect yet"));
}

#[test]
fn more_databases_than_there_are_become_those_that_there_are() {
    let startup = load("port 0\ndatabases 32\n").unwrap();
    assert_eq!(startup.config.databases, DATABASES_MAX);
    let warnings = startup.warnings;
    assert!(
        warnings[0].ends_with("t.conf:2: 'databases' is 16, there are no more"),
        "{warnings:?}"
    );
    assert!(load("databases 16\n").unwrap().warnings.is_empty());
}

#[test]
fn includes_are_read_in_place_and_say_where_they_are_wrong() {
    let (folder, path) = with_file("");
    let part = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let at = folder.path().display();
    part("a.inc", "port 1\nhz 50\n");
    part("b.inc", "port 2\n");
    part(
        "t.conf",
        &format!("port 3\ninclude {at}/*.inc\ninclude {at}/none*\nhz 60\n"),
    );
    let config = args(&[path.to_str().unwrap()]).unwrap().config;
    assert_eq!((config.port, config.hz), (2, 60));

    part("b.inc", "\nport x\n");
    let error = args(&[path.to_str().unwrap()]).unwrap_err().to_string();
    assert!(error.contains(&format!("at line 2 of {at}/b.inc")), "{error}");
    part("b.inc", &format!("include {at}/t.conf"));
    let error = args(&[path.to_str().unwrap()]).unwrap_err().to_string();
    assert!(error.ends_with("Too many nested includes"), "{error}");
    part("t.conf", &format!("include {at}/missing"));
    let error = args(&[path.to_str().unwrap()]).unwrap_err().to_string();
    assert!(
        error.starts_with("Fatal error, can't open config file"),
        "{error}"
    );
}

#[test]
fn save_lines_of_a_file_add_up_and_replace_the_default() {
    assert_eq!(
        load("save 100 1\nsave 200 2\n").unwrap().config.save,
        [(100, 1), (200, 2)]
    );
    assert_eq!(load("save 100 1\nsave \"\"\n").unwrap().config.save, []);
    assert_eq!(load("").unwrap().config.save.len(), 3);
}

#[test]
fn ranges_of_a_file_add_up_and_keys_can_be_quoted() {
    let config = load("range default * memory\nrange odd \"a\\x00 b*\" durable appendfsync always\n")
        .unwrap()
        .config;
    assert_eq!(config.default_range().tier, Tier::Memory);
    assert_eq!(config.ranges[1].bounds, Bounds::Prefix(b"a\0 b".to_vec()));
    assert_eq!(config.ranges[1].options.appendfsync, Some(FsyncPolicy::Always));
    assert_eq!(Config::default().default_range().tier, Tier::Durable);
}

#[test]
fn options_follow_the_file_and_win() {
    let (_folder, path) = with_file("port 1\nsave 100 1\nrange default * durable\nrange x x* memory\n");
    let path = path.to_str().unwrap();
    let startup = args(&[
        path, "--port", "7000", "--range", "default", "*", "memory", "--save", "", "--dir", "data",
    ])
    .unwrap();
    let config = startup.config;
    assert_eq!(
        (config.port, config.save.len(), config.ranges.len()),
        (7000, 0, 2)
    );
    assert_eq!(config.default_range().tier, Tier::Memory);
    assert_eq!(config.dir, std::path::absolute("data").unwrap());
    assert_eq!(startup.file.as_deref(), Some(Path::new(path)));
}

#[test]
fn options_are_cut_as_redis_server_cuts_them() {
    let config = |words: &[&str]| args(words).unwrap().config;
    assert_eq!(config(&[]), {
        let mut default = Config::default();
        default.settle();
        default
    });
    assert_eq!(config(&["--port 7001"]).port, 7001);
    assert_eq!(
        config(&["--requirepass", "--x", "--port", "7002"]).requirepass,
        b"--x"
    );
    assert_eq!(config(&["--save", "--port", "7003"]).save, []);
    assert_eq!(config(&["--port", "7003", "--save"]).save, []);
    assert_eq!(config(&["--save", "60 1", "--hz", "20"]).save, [(60, 1)]);
    assert_eq!(config(&["--save", "60", "1"]).save, [(60, 1)]);
    assert_eq!(config(&["--bind", "127.0.0.1", "::1"]).bind, ["127.0.0.1", "::1"]);
    let twice = args(&["--range", "a", "a*", "memory", "--range", "a", "b*", "memory"]).unwrap_err();
    assert!(twice.to_string().ends_with("range 'a' is there already"));
    let wrong = args(&["--hz", "abc"]).unwrap_err().to_string();
    assert!(
        wrong.contains("Reading the command line\n>>> 'hz abc'\nargument couldn't be parsed"),
        "{wrong}"
    );
    assert!(
        args(&["--hz"])
            .unwrap_err()
            .to_string()
            .ends_with("wrong number of arguments")
    );
    assert!(matches!(args(&["-x"]).unwrap_err(), ConfigError::Usage(_)));
    assert_eq!(args(&["--frob", "1"]).unwrap().warnings.len(), 1);
}

#[test]
fn subcommands_are_recognised() {
    let parse = |words: &[&str]| Command::parse(words);
    assert!(matches!(parse(&["-v"]), Ok(Command::Version(text)) if text.starts_with("Terrace ")));
    assert!(matches!(parse(&["--help"]), Ok(Command::Help(text)) if text.contains("terrace check")));
    let check = |words: &[&str], folder: &str, wanted: bool| match parse(words).unwrap() {
        Command::Check { dir, repair } => assert_eq!((dir, repair), (PathBuf::from(folder), wanted)),
        other => panic!("{other:?}"),
    };
    check(&["check"], ".", false);
    check(&["check", "--repair", "--dir", "data"], "data", true);
    check(&["check", "data", "--repair"], "data", true);
    for words in [
        ["check", "--dir"].as_slice(),
        &["check", "--frob"],
        &["check", "a", "b"],
    ] {
        assert!(matches!(parse(words), Err(ConfigError::Usage(_))), "{words:?}");
    }
}

#[test]
fn rewrite_of_an_unchanged_configuration_changes_no_byte() {
    assert!(load("maxmemory 100mb # no comment here\n").is_err());
    let text = "# mine\n\n  port   7000\nmaxmemory 100mb\nsave 60 1\nsave 30 1\nfrob x\n\
                range a a* memory\nclient-output-buffer-limit slave 1mb 1mb 1\n";
    let config = load(text).unwrap().config;
    assert_eq!(
        String::from_utf8(rewrite(text.as_bytes(), &config)).unwrap(),
        text
    );
    assert_eq!(
        rewrite(REDIS_STOCK.as_bytes(), &load(REDIS_STOCK).unwrap().config),
        REDIS_STOCK.as_bytes()
    );
}

#[test]
fn rewrite_puts_values_in_place_and_adds_the_rest_at_the_end() {
    let text = "# memory\nMaxMemory 100mb\n\n# the end\nslave-priority 7\nsave 60 1\nsave 30 1\nhz 10\nhz 20";
    let config = load(text).unwrap().config;
    let pairs = [
        ("maxmemory", "2gb"),
        ("requirepass", "a b"),
        ("save", ""),
        ("hz", "10"),
        ("slave-priority", "9"),
    ];
    let rewritten = rewrite(text.as_bytes(), &set(&config, &pairs).unwrap());
    let expected = "# memory\nmaxmemory 2gb\n\n# the end\nreplica-priority 9\nsave \"\"\nhz 10\n\
                    # Added by CONFIG REWRITE\nrequirepass \"a b\"\n";
    assert_eq!(String::from_utf8(rewritten.clone()).unwrap(), expected);
    let again = load(expected).unwrap().config;
    assert_eq!(rewrite(&rewritten, &again), rewritten);
}

#[test]
fn a_rewritten_file_reads_back_as_the_same_configuration() {
    let words = [
        "--bind",
        "::1",
        "--client-output-buffer-limit",
        "normal",
        "1mb",
        "2",
        "3",
        "--range",
        "a",
        "a b*",
        "memory",
        "--range",
        "default",
        "*",
        "memory",
        "--tls-port",
        "7",
        "--notify-keyspace-events",
        "KEA",
        "--unixsocketperm",
        "700",
        "--shutdown-on-sigterm",
        "save",
        "now",
        "--replicaof",
        "h",
        "1",
        "--requirepass",
        "\u{e4}\"'",
    ];
    let config = args(&words).unwrap().config;
    let (_folder, path) = with_file("client-output-buffer-limit pubsub 0 0 0\n# kept\n");
    config.rewrite_file(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let mut read = load(&text).unwrap().config;
    // The command line's are in the file now.
    read.places = config.places.clone();
    assert_eq!(read, config, "{text}");
    assert!(text.contains("# kept"));
    assert_eq!(
        fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1,
        "no temporary file stays"
    );
}

#[test]
fn the_default_file_starts_without_a_warning() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/terrace.conf");
    let startup = args(&[path.to_str().unwrap()]).unwrap();
    assert_eq!(startup.warnings, [""; 0]);
    let mut default = Config {
        ranges: startup.config.ranges.clone(),
        places: startup.config.places.clone(),
        dir: "data".into(),
        ..Config::default()
    };
    default.settle();
    assert_eq!(
        startup.config, default,
        "the file says what holds without it, but for the folder and ranges"
    );
}

/// A directive's row in the manual.
fn manual_row(row: &Directive) -> String {
    let cell = |text: &str| {
        if text.is_empty() {
            String::new()
        } else {
            format!("`{}`", text.replace('|', "\\|"))
        }
    };
    let alias = row.alias.map(|alias| format!(" (`{alias}`)")).unwrap_or_default();
    let change = match row.change {
        Change::Live => "yes",
        Change::Protected => "protected",
        Change::Fixed | Change::Locked => "no",
    };
    let default = String::from_utf8(row.default_value()).unwrap();
    let idle = if row.effect == Effect::None {
        " *No effect yet.*"
    } else {
        ""
    };
    let about = row.about.replace('|', "\\|") + idle;
    format!(
        "| `{}`{alias} | {} | {change} | {about} |",
        row.name,
        cell(&default)
    )
}

#[test]
fn the_manual_has_every_directive_as_the_table_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let manual = fs::read_to_string(&path).unwrap();
    let mut missing = Vec::new();
    for group in GROUPS {
        if !manual.contains(&format!("### {}\n", group.title)) {
            missing.push(format!("### {}", group.title));
        }
        missing.extend(
            group
                .rows
                .iter()
                .map(manual_row)
                .filter(|row| !manual.contains(row.as_str())),
        );
    }
    assert!(
        missing.is_empty(),
        "{} lacks:\n{}",
        path.display(),
        missing.join("\n")
    );
    assert!(
        GROUPS
            .iter()
            .flat_map(|group| group.rows)
            .any(|row| row.effect == Effect::Full)
    );
}
