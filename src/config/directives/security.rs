//! Users and what they may do.

use super::{Directive, int, kinds, text};

pub(super) static ROWS: &[Directive] = &[
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
