//! `kymo sql`: statements typed at a prompt, or read from a pipe.

mod command;
mod complete;
mod history;
mod split;

use std::io::{self, BufRead, IsTerminal};
use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};
use rustyline::Editor;
use rustyline::config::{Builder, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use super::connect::{InterruptedError, UsageError};
use super::output::{Destination, Format};
use super::query::Source;
use super::show::{self, in_one_line};
use super::tables::{self, Tables};
use command::{Command, command};
use complete::Prompt;
use split::split;

const PROMPT: &str = "kymo> ";
const HELP: &str = "\
A statement ends with a semicolon and may have several lines. Ctrl-C ends one that runs.

  \\d           all tables
  \\d TABLE     the columns of a table, with units and meanings
  \\o FORMAT    how results are written: table, csv or json
  \\?           this help
  \\q           leave, as Ctrl-D does

Tab completes names. Arrow up, and Ctrl-R with a part of its text, bring back an earlier statement.";

/// `kymo sql`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo sql                           \\d lists the tables, \\? the commands
  kymo sql --data /var/lib/kymo
  kymo sql --format csv < report.sql

Statements that are piped in run one after the other, up to the first error.
The history of typed statements is in $XDG_STATE_HOME/kymo, by default
~/.local/state/kymo.")]
pub struct Sql {
    #[command(flatten)]
    source: Source,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Runs statements until the input ends.
///
/// # Errors
/// When a statement that was piped in fails, or the input cannot be read. A typed statement that fails is told, and others go on.
pub fn run(sql: &Sql) -> anyhow::Result<()> {
    if io::stdin().is_terminal() { typed(sql) } else { piped(sql, io::stdin().lock()) }
}

/// Runs each statement as soon as its semicolon was read.
fn piped(sql: &Sql, mut input: impl BufRead) -> anyhow::Result<()> {
    let destination = Destination::new(Some(sql.format), None)?;
    let mut number = 0;
    let mut run = |statement: &str| {
        number += 1;
        let outcome = sql.source.run(statement, &destination);
        outcome.map(drop).with_context(|| format!("statement {number}"))
    };
    let mut text = String::new();
    while input.read_line(&mut text).context("read statements from stdin")? > 0 {
        let (statements, rest) = split(&text);
        statements.into_iter().try_for_each(&mut run)?;
        text = rest.to_owned();
    }
    // The last one needs no semicolon.
    text.push_str("\n;");
    split(&text).0.into_iter().try_for_each(run)
}

/// Reads statements from a person.
fn typed(sql: &Sql) -> anyhow::Result<()> {
    let mut format = sql.format;
    // Where that would go is known only by its reader.
    Destination::new(Some(format), None)?;
    let config = Builder::new()
        .completion_type(CompletionType::List)
        .max_history_size(history::STATEMENTS_MAX)
        .and_then(|config| config.history_ignore_dups(true))
        .context("set up the prompt")?
        .build();
    let mut editor: Editor<Prompt, FileHistory> = Editor::with_config(config).context("set up the prompt")?;
    // What is wrong with the configuration is said by what needs its views.
    let views = sql.source.views().load().unwrap_or_default();
    editor.set_helper(Some(Prompt::new(views.iter().map(|view| view.name.clone()).collect())));
    let history = history::file();
    if let Some(file) = &history {
        // There is none before the first statement.
        let _ = editor.load_history(file);
    }
    eprintln!("SQL on {}. \\? shows help, \\q leaves.", sql.source);
    loop {
        let text = match editor.readline(PROMPT) {
            Ok(text) => text,
            // Ctrl-C leaves the text that was begun.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("read from the terminal"),
        };
        if text.trim().is_empty() {
            continue;
        }
        // Both fail only if the history cannot be kept, which the next start shows.
        let _ = editor.add_history_entry(text.trim_end());
        if let Some(file) = &history {
            let _ = editor.append_history(file);
        }
        match command(&text) {
            Some(Command::Leave) => break,
            Some(Command::Help) => println!("{HELP}"),
            Some(Command::Describe(table)) => tell(tables::run(&Tables::for_people(table, sql.source.views()))),
            Some(Command::Format(name)) => tell(chosen(&name).map(|chosen| format = chosen)),
            Some(Command::Unknown(name)) => eprintln!("kymo: there is no command {name}; \\? lists them"),
            None => split(&text).0.into_iter().for_each(|statement| one(sql, statement, format)),
        }
    }
    Ok(())
}

/// Runs a typed statement, and tells how long it took or why it failed.
fn one(sql: &Sql, statement: &str, format: Format) {
    let began = Instant::now();
    let outcome = Destination::new(Some(format), None)
        .map_err(anyhow::Error::from)
        .and_then(|destination| sql.source.run(statement, &destination));
    match outcome {
        Ok(rows) => {
            let took = began.elapsed().as_secs_f64() * 1e3;
            eprintln!("{} in {took:.1} ms", show::counted(rows, "row"));
        }
        Err(error) => tell(Err(error)),
    }
}

fn tell(outcome: anyhow::Result<()>) {
    match outcome {
        Err(error) if error.is::<InterruptedError>() => eprintln!("interrupted"),
        Err(error) => eprintln!("kymo: {}", in_one_line(&error)),
        Ok(()) => {}
    }
}

/// The format of this name, if a terminal can show it.
fn chosen(name: &str) -> anyhow::Result<Format> {
    let wanted = || UsageError(format!("unknown format `{name}`; there is table, csv, json"));
    let format = Format::from_str(name, true).map_err(|_| wanted())?;
    Destination::new(Some(format), None)?;
    Ok(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_one_that_a_terminal_can_show() {
        assert_eq!(chosen("CSV").unwrap(), Format::Csv);
        assert!(chosen("xml").unwrap_err().to_string().contains("there is table"));
    }
}
