//! `math.random` and `math.randomseed`: the sequence of `lrand48`, one for all scripts of the process. It begins in the
//! same place at every start. What a script does with it is journaled by its effects, so nothing depends on it.

use super::raise::{Raise, define, none, one};
use mlua::{Lua, Table};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
const RANDOM_MAX: u64 = i32::MAX as u64;

/// Where the sequence begins that was not seeded.
const BEGINNING: u64 = 0x1234_ABCD_330E;

static STATE: AtomicU64 = AtomicU64::new(BEGINNING);

/// The state that a seed begins with.
fn seeded(seed: i32) -> u64 {
    u64::from(seed as u32) << 16 | 0x330E
}

fn follow(state: u64) -> u64 {
    state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & MASK
}

/// The number that a state stands for, from 0 to below 1.
fn number(state: u64) -> f64 {
    ((state >> 17) % RANDOM_MAX) as f64 / RANDOM_MAX as f64
}

fn next() -> f64 {
    // proof: the closure always has a next state.
    let before = STATE.fetch_update(Relaxed, Relaxed, |state| Some(follow(state)));
    number(follow(before.unwrap_or_default()))
}

/// Puts both functions into `math`.
pub fn install(lua: &Lua, math: &Table) -> mlua::Result<()> {
    let random = define(lua, |lua, call| {
        let number = next();
        let empty = |at| Err(Raise::Arg(at, "interval is empty".into()));
        match call.len() {
            0 => one(lua, number),
            1 => {
                let upper = call.integer(1)? as i32;
                if upper < 1 {
                    return empty(1);
                }
                one(lua, (number * f64::from(upper)).floor() + 1.0)
            }
            2 => {
                let (lower, upper) = (call.integer(1)? as i32, call.integer(2)? as i32);
                if lower > upper {
                    return empty(2);
                }
                let width = f64::from(upper.wrapping_sub(lower).wrapping_add(1));
                one(lua, (number * width).floor() + f64::from(lower))
            }
            _ => Err(Raise::text("wrong number of arguments")),
        }
    })?;
    let randomseed = define(lua, |_, call| {
        STATE.store(seeded(call.integer(1)? as i32), Relaxed);
        none()
    })?;
    math.raw_set("random", random)?;
    math.raw_set("randomseed", randomseed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_lrand48() {
        let first = follow(BEGINNING);
        let numbers = [number(first), number(follow(first))];
        assert!((numbers[0] - 0.396_464_773_638_39).abs() < 1e-13, "{numbers:?}");
        assert!((numbers[1] - 0.840_485_369_712_34).abs() < 1e-13, "{numbers:?}");
        let of_five = number(follow(seeded(5)));
        assert!((of_five - 0.524_839_579_372_13).abs() < 1e-13, "{of_five}");
    }
}
