//! Scripts in Lua: the language's side of them. What a script's commands do is the business of `command::scripting`.
//!
//! | file | what it does |
//! |---|---|
//! | `source`, `catalog` | a script's text; those that the server knows |
//! | `engine`, `sandbox`, `raw`, `stack` | a thread's Lua, what scripts find in it, what only Lua's C interface can do |
//! | `library`, `functions` | libraries of functions; a thread's Lua for them |
//! | `run`, `running` | the script of this thread; those that run for long |
//! | `raise`, `convert`, `number` | functions for scripts; values and replies; numbers as C writes them |
//! | `api`, `bits`, `json`, `msgpack`, `pack`, `random` | `redis`, `bit`, `cjson`, `cmsgpack`, `struct`, `math.random` |

pub mod api;
mod bits;
pub mod catalog;
pub mod convert;
pub mod engine;
pub mod functions;
mod json;
pub mod library;
mod msgpack;
mod number;
mod pack;
mod raise;
mod random;
mod raw;
pub mod run;
pub mod running;
mod sandbox;
pub mod source;
mod stack;
