//! Users and what they may do.

use super::{Directive, int, kinds, text};

pub(super) static ROWS: &[Directive] = &[
    int!(
        "auth-timeout",
        auth_timeout,
        0,
        i32::MAX as i64,
        "Seconds after which a client is closed that has not said who it is, where it has to; 0 is never."
    ),
    text!(
        "aclfile",
        aclfile,
        "File with users, one `user <name> <rule> …` a line; empty is none, and users then stand in this file."
    )
    .fixed(),
    int!(
        "acllog-max-len",
        acllog_max_len,
        0,
        i64::MAX,
        "Refusals that `ACL LOG` remembers."
    ),
    Directive::new(
        "acl-pubsub-default",
        |config| match config.acl_pubsub_allchannels {
            true => b"allchannels".to_vec(),
            false => b"resetchannels".to_vec(),
        },
        |config, args| {
            let known = ["allchannels", "resetchannels"];
            config.acl_pubsub_allchannels = kinds::one_of(super::one(args), &known)? == b"allchannels";
            Ok(())
        },
        "Channels of a new user: `allchannels`, or `resetchannels` for none.",
    ),
];
