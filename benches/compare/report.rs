//! Turns outcomes into text: a table that can be pasted into Markdown, and JSON with every figure of every turn.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Failure;
use crate::measure::{Measure, Outcome};
use crate::options::Options;
use crate::rows::{self, Bar, Row};

type Results<'a> = [(&'a Row, Result<Outcome, Failure>)];

const HEADERS: [&str; 8] = ["row", "figure", "Terrace", "Redis", "ratio", "by turn", "bar", ""];

/// The names and bars of all rows.
pub fn list() -> String {
    let line = |row: &Row| format!("{:30} {}", row.name, bar_text(row.bar));
    rows::ALL.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The whole report: one line per figure, the judged one first with its bar, then the notes.
pub fn table(results: &Results, options: &Options, took: Duration) -> String {
    let mut lines = vec![HEADERS.map(str::to_owned)];
    for (row, result) in results {
        match result {
            Ok(outcome) => lines.extend(outcome_lines(row, outcome)),
            Err(_) => lines.push(
                [
                    row.name,
                    "-",
                    "-",
                    "-",
                    "-",
                    "-",
                    &bar_text(row.bar),
                    "**not measured**",
                ]
                .map(str::to_owned),
            ),
        }
    }
    let mut text = render(&lines);
    text.push_str("\nNotes\n\n");
    for (row, result) in results {
        let _ = match result {
            Ok(outcome) => writeln!(text, "* {}: {}", row.name, outcome.notes.join("\n  * ")),
            Err(failure) => writeln!(text, "* {}: not measured: {failure}", row.name),
        };
    }
    if options.noise {
        text.push_str("* both columns are redis-server: any ratio other than 1 is noise\n");
    }
    let _ = writeln!(
        text,
        "* medians of {} round(s); the whole run took {:.0} s",
        options.rounds,
        took.as_secs_f64()
    );
    text
}

fn outcome_lines(row: &Row, outcome: &Outcome) -> Vec<[String; 8]> {
    let mut lines = Vec::new();
    for (index, measure) in outcome.measures.iter().enumerate() {
        let [terrace, redis, ratio] = summary(measure);
        let judged = index == 0;
        let verdict = if judged { verdict(row.bar, measure) } else { "" };
        lines.push([
            if judged {
                row.name.to_owned()
            } else {
                String::new()
            },
            measure.label.to_owned(),
            number(terrace),
            number(redis),
            format!("{ratio:.2}"),
            spread(measure),
            if judged { bar_text(row.bar) } else { String::new() },
            verdict.to_owned(),
        ]);
    }
    lines
}

/// What the medians say, with a question mark where a quarter of the turns or more say otherwise.
fn verdict(bar: Bar, measure: &Measure) -> &'static str {
    let [terrace, _, ratio] = summary(measure);
    let met = bar.is_met(terrace, ratio);
    let turns = measure.terrace.iter().zip(&measure.redis);
    let otherwise = turns
        .filter(|(terrace, redis)| bar.is_met(**terrace, *terrace / *redis) != met)
        .count();
    match (met, otherwise * 4 < measure.terrace.len()) {
        (true, true) => "pass",
        (true, false) => "pass?",
        (false, true) => "**short**",
        (false, false) => "**short?**",
    }
}

/// Medians of Terrace and Redis, and of the ratios of their turns: what slows the machine for a while slows both of a
/// turn, and drops out of the ratio.
fn summary(measure: &Measure) -> [f64; 3] {
    let (terrace, redis) = (median(&measure.terrace), median(&measure.redis));
    let ratio = if measure.terrace.len() == measure.redis.len() {
        median(&ratios(measure))
    } else {
        terrace / redis
    };
    [terrace, redis, ratio]
}

/// The ratio of each turn.
fn ratios(measure: &Measure) -> Vec<f64> {
    let turns = measure.terrace.iter().zip(&measure.redis);
    turns.map(|(terrace, redis)| terrace / redis).collect()
}

/// The middle figure, or the mean of the middle two; NaN of nothing.
fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 1 => sorted[middle],
        (_, middle) => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Where the middle half of the turns' ratios lies: how much the ratio can be trusted.
fn spread(measure: &Measure) -> String {
    let mut ratios = ratios(measure);
    ratios.sort_by(f64::total_cmp);
    let outside = ratios.len() / 4;
    match ratios.get(outside..ratios.len() - outside) {
        Some([least, .., most]) => format!("{least:.2}–{most:.2}"),
        _ => String::new(),
    }
}

fn bar_text(bar: Bar) -> String {
    match bar {
        Bar::RatioAtLeast(least) => format!("≥ {least} ×"),
        Bar::RatioAtMost(most) => format!("≤ {most} ×"),
        Bar::AtLeast(least) => format!("≥ {}", number(least)),
        Bar::AtMost(most) => format!("≤ {}", number(most)),
    }
}

/// Three decimals for small figures, groups of three digits for large ones.
fn number(figure: f64) -> String {
    if figure.abs() < 100.0 {
        return format!("{figure:.3}");
    }
    if figure.abs() < 1000.0 {
        return format!("{figure:.1}");
    }
    let digits = format!("{figure:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A Markdown table with aligned columns; the first line is the header.
fn render(lines: &[[String; 8]]) -> String {
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            for width in widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// Every figure of every turn, for keeping and for drawing.
pub fn json(results: &Results, options: &Options) -> Value {
    let rows: Vec<Value> = results
        .iter()
        .map(|(row, result)| row_json(row, result))
        .collect();
    json!({ "rounds": options.rounds, "quick": options.quick, "noise": options.noise, "rows": rows })
}

fn row_json(row: &Row, result: &Result<Outcome, Failure>) -> Value {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(failure) => return json!({ "row": row.name, "error": failure.to_string() }),
    };
    let figures: Vec<Value> = outcome
        .measures
        .iter()
        .map(|measure| {
            let [terrace, redis, ratio] = summary(measure);
            json!({
                "figure": measure.label, "terrace": terrace, "redis": redis, "ratio": ratio,
                "terrace_turns": measure.terrace, "redis_turns": measure.redis,
            })
        })
        .collect();
    let judged = outcome.measures.first().map(summary);
    let pass = judged.is_some_and(|[terrace, _, ratio]| row.bar.is_met(terrace, ratio));
    json!({
        "row": row.name, "bar": bar_text(row.bar), "pass": pass, "figures": figures, "notes": outcome.notes,
    })
}
