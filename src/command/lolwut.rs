//! LOLWUT: a hillside of terraces, each time another one.

use super::args::Args;
use super::context::Context;
use super::error::Error;
use super::spec::Outcome;
use crate::resp::number::parse_i64;
use crate::server::VERSION;

const WIDTH: usize = 64;
const TERRACES: usize = 6;

pub fn lolwut(args: &Args<'_>, context: &mut Context<'_>) -> Outcome {
    if args.len() >= 3 && args.is(1, "VERSION") {
        // There is one picture for all versions.
        parse_i64(&args[2]).ok_or(Error::NotInteger)?;
    }
    let picture = draw(|most| fastrand::usize(..most));
    let text = format!("{picture}\nTerrace {VERSION}: each key on the level that suits it.\n");
    context.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// From the sky down: steps that widen, each with its crop. `random` returns a number below its argument.
fn draw(random: impl Fn(usize) -> usize) -> String {
    const CROPS: [char; 6] = ['"', '\'', ',', ';', '^', ' '];
    let mut lines: Vec<String> = Vec::new();
    let sun = 4 + random(WIDTH - 8);
    lines.push(format!("{}\\|/", " ".repeat(sun - 1)));
    lines.push(format!("{}-o-", " ".repeat(sun - 1)));
    let mut start = WIDTH - 10 - random(6);
    for terrace in 0..TERRACES {
        let crop = CROPS[random(CROPS.len())];
        let field: String = (start..WIDTH)
            .map(|_| if random(4) == 0 { ' ' } else { crop })
            .collect();
        lines.push(format!("{}{}", " ".repeat(start), field));
        lines.push(format!("{}|{}", " ".repeat(start - 1), "_".repeat(WIDTH - start)));
        let step = 4 + random(6);
        start = if terrace + 1 == TERRACES {
            start
        } else {
            start.saturating_sub(step).max(1)
        };
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_fit_into_their_width_whatever_chance_says() {
        for number in [0, 1, usize::MAX] {
            let picture = draw(|most| number.min(most - 1));
            assert_eq!(picture.lines().count(), 2 + 2 * TERRACES);
            assert!(picture.lines().all(|line| line.chars().count() <= WIDTH + 1));
        }
    }
}
