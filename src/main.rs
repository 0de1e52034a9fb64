//! The program: arguments → configuration → command → exit code.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use kymo::cli::{self, Arguments, Command};
use kymo::{config, daemon, query};

/// jemalloc returns what flushes and results freed to the system, on a thread of its own; glibc's allocator keeps most of it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(run) => config::load(&run.sources()).map_err(anyhow::Error::from).and_then(daemon::run),
        Command::Record(record) => return cli::record::run(&record),
        Command::Check(check) => cli::check::run(&check),
        Command::Query(query) => cli::query::run(&query),
        Command::Compare(compare) => return cli::exit_of_comparison(cli::compare::run(&compare)),
        Command::Plot(plot) => cli::plot::run(&plot),
        Command::Tail(tail) => cli::tail::run(&tail),
        Command::Sql(sql) => cli::sql::run(&sql),
        Command::Top(top) => cli::top::run(&top),
        Command::Status(status) => cli::status::run(&status),
        Command::Tables(tables) => cli::tables::run(&tables),
        Command::Collector(collector) => cli::collector::run(&collector),
        Command::Alert(alert) => cli::alert::run(&alert),
        Command::Token(token) => cli::token::run(&token),
        Command::Flush(flush) => cli::flush::run(&flush),
        Command::Export(export) => cli::export::run(&export),
        Command::Report(report) => cli::report::run(&report),
        Command::Verify(verify) => cli::verify::run(&verify),
        Command::Completions(completions) => cli::completions::run(&completions, &Arguments::command()),
        Command::Man(man) => cli::man::run(&man, Arguments::command()),
        Command::QueryWorker => query::worker::run(),
    };
    cli::exit(outcome)
}
