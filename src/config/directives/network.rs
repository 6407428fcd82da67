//! Sockets, connections and their limits.

use super::{Directive, choice, int, kept, kinds, memory, text, yes_no};
use crate::config::values::{self, Permission, format_memory};

const MAX_INT: i64 = i32::MAX as i64;
const MAX_LONG: u64 = i64::MAX as u64;
const BIND_LEN_MAX: usize = 16;

pub(super) static ROWS: &[Directive] = &[
    Directive::new(
        "bind",
        |config| config.bind.join(" ").into_bytes(),
        |config, args| {
            if args.len() > BIND_LEN_MAX {
                return Err("Too many bind addresses specified.".into());
            }
            config.bind = args
                .iter()
                .map(|address| values::text(address))
                .collect::<Result<_, _>>()?;
            Ok(())
        },
        "Addresses to listen on. One with a leading `-` is left out if this machine lacks it; \
         `*` and `::` are all of IPv4 and IPv6.",
    )
    .list(),
    int!("port", port, 0, 65535, "TCP port; 0 listens on none."),
    text!(
        "unixsocket",
        unixsocket,
        "Path of a unix socket to listen on; empty is none."
    )
    .fixed(),
    Directive::new(
        "unixsocketperm",
        |config| format!("{:o}", config.unixsocketperm).into_bytes(),
        |config, args| {
            config.unixsocketperm = values::octal(super::one(args))?;
            Ok(())
        },
        "Permission bits of the unix socket, in octal; 0 leaves them as they are made.",
    )
    .fixed(),
    int!(
        "tcp-backlog",
        tcp_backlog,
        0,
        MAX_INT,
        "Connections that may wait to be accepted."
    )
    .fixed(),
    int!(
        "tcp-keepalive",
        tcp_keepalive,
        0,
        MAX_INT,
        "Seconds of silence before a peer is probed; 0 is never."
    ),
    int!(
        "timeout",
        timeout,
        0,
        MAX_INT,
        "Seconds after which an idle client is closed; 0 is never."
    ),
    int!(
        "maxclients",
        maxclients,
        1,
        u32::MAX as i64,
        "Connections at one time."
    ),
    Directive::new(
        "requirepass",
        |config| config.requirepass.clone(),
        |config, args| {
            config.requirepass = super::one(args).to_vec();
            Ok(())
        },
        "Password that `AUTH` must give before anything else; empty is none.",
    )
    .secret(),
    yes_no!(
        "protected-mode",
        protected_mode,
        "Without a password, refuse clients from other machines."
    ),
    int!(
        "io-threads",
        io_threads,
        0,
        128,
        "Worker threads; 0 is one per core."
    )
    .fixed(),
    memory!(
        "proto-max-bulk-len",
        proto_max_bulk_len,
        1 << 20,
        MAX_LONG,
        "Longest single argument of a command."
    ),
    memory!(
        "client-query-buffer-limit",
        client_query_buffer_limit,
        1 << 20,
        MAX_LONG,
        "Longest unfinished request; a client that sends more is closed."
    ),
    Directive::new(
        "client-output-buffer-limit",
        |config| config.client_output_buffer_limit.to_string().into_bytes(),
        |config, args| config.client_output_buffer_limit.merge(args),
        "Per class (`normal`, `replica`, `pubsub`): a hard limit, a soft limit and its \
         seconds. A client with more waiting to be sent is closed; 0 is no limit.",
    )
    .list()
    .on_lines(|config| {
        let line = |(class, limit): (&str, values::OutputBufferLimit)| {
            let class = if class == "slave" { "replica" } else { class };
            let sizes = [format_memory(limit.hard_bytes), format_memory(limit.soft_bytes)];
            let mut args = vec![class.into()];
            args.extend(sizes.map(String::into_bytes));
            args.push(limit.soft_seconds.to_string().into_bytes());
            args
        };
        config.client_output_buffer_limit.classes().map(line).into()
    }),
    choice!(
        "enable-debug-command",
        enable_debug_command,
        Permission,
        "Who may use `DEBUG`: `no`, `yes`, or `local` for clients on this machine."
    )
    .fixed(),
    choice!(
        "enable-protected-configs",
        enable_protected_configs,
        Permission,
        "Who may change protected directives with `CONFIG SET`."
    )
    .fixed(),
    choice!(
        "enable-module-command",
        enable_module_command,
        Permission,
        "There are no modules; kept."
    )
    .fixed()
    .without_effect(),
    kept!(
        "bind-source-addr",
        "",
        kinds::any,
        "Address that outgoing connections come from."
    )
    .without_effect(),
    kept!(
        "socket-mark-id",
        "0",
        |value| kinds::int(value, 0, u32::MAX.into()),
        "Mark on listening sockets."
    )
    .fixed()
    .without_effect(),
    kept!(
        "io-threads-do-reads",
        "no",
        kinds::yes_no,
        "Worker threads always read."
    )
    .fixed()
    .quiet(),
    Directive::new(
        "maxmemory-clients",
        |config| config.maxmemory_clients.to_string().into_bytes(),
        |config, args| {
            config.maxmemory_clients = values::BytesOrShare::read(super::one(args))?;
            Ok(())
        },
        "Memory of all clients together, in bytes or as a share of `maxmemory`; those that take most are closed; 0 is \
         no limit, and 128 KB the least.",
    ),
    int!(
        "pubsub-gather-usec",
        pubsub_gather_us,
        0,
        1_000_000,
        "Microseconds that messages to subscribers may wait for others when the server is busy; 0 sends each as it comes."
    ),
    super::int!(
        "tracking-table-max-keys",
        tracking_table_max_keys,
        0,
        i64::MAX,
        "Keys remembered for client-side caching, of all clients; 0 is no limit."
    ),
];
