//! MODULE: there are no modules, and none can be loaded. Tools that ask which there are get an answer.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::help;
use super::spec::{Handler, Outcome, Spec, flag::*};

const LOADS: u32 = ADMIN | NOSCRIPT | NO_ASYNC_LOADING;

pub static COMMANDS: &[Spec] = &[Spec::new("module", -2, 0, 0, Handler::Container)
    .group("server", "4.0.0")
    .doc(
        "",
        "Depends on subcommand.",
        "Commands about modules, of which there are none.",
    )
    .subcommands(&[
        Spec::new("list", 2, ADMIN | NOSCRIPT, 0, Handler::Admin(list))
            .group("server", "4.0.0")
            .doc("", "O(1)", "Returns nothing, as no module is loaded.")
            .tips(&["nondeterministic_output_order"]),
        Spec::new("load", -3, LOADS, 0, Handler::Admin(refuse))
            .group("server", "4.0.0")
            .doc("path [arg [arg ...]]", "O(1)", "Is refused."),
        Spec::new("loadex", -3, LOADS, 0, Handler::Admin(refuse))
            .group("server", "7.0.0")
            .doc(
                "path [CONFIG name value [CONFIG name value ...]] [ARGS arg [arg ...]]",
                "O(1)",
                "Is refused.",
            ),
        Spec::new("unload", 3, LOADS, 0, Handler::Admin(refuse))
            .group("server", "4.0.0")
            .doc("name", "O(1)", "Is refused."),
        Spec::new("help", 2, LOADING | STALE, 0, Handler::Admin(show_help))
            .group("server", "5.0.0")
            .doc("", "O(1)", "Lists the subcommands."),
    ])];

fn list(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    context.reply.array(0);
    Ok(())
}

/// In the words in which Redis refuses it where `enable-module-command` is not set.
fn refuse(_: &Args<'_>, _: &mut Context<'_>) -> Outcome {
    Err(Error::new(
        "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you can run it from a \
         local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
    ))
}

fn show_help(_: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    help::reply(
        context.reply,
        "MODULE",
        &[
            ("LIST", &["The modules, of which there are none."]),
            ("LOAD <path> [<arg> ...]", &["Is refused."]),
            (
                "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
                &["Is refused."],
            ),
            ("UNLOAD <name>", &["Is refused."]),
        ],
    );
    Ok(())
}
