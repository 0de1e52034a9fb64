//! `kymo token`: makes, lists and revokes the tokens that clients show.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};

use super::connect::UsageError;
use super::table;
use crate::config::{self, Sources};
use crate::serve::auth::role::Role;
use crate::serve::auth::tokens::{Token, Tokens};
use crate::words::parse_duration;

/// Manage the tokens of a daemon, in its file (server.tokens)
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The daemon notices a changed file within some seconds. Only the SHA-256 of a token is kept: it is
printed once, and cannot be had again.

Examples:
  kymo token create grafana --role read --file /etc/kymo/tokens.toml
  kymo token create ops --role admin --expires 90d
  kymo token revoke grafana")]
pub struct TokenCommand {
    #[command(subcommand)]
    action: Action,
    /// File of the tokens [default: server.tokens of the configuration]
    #[arg(long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
    /// Configuration that names the file
    #[arg(short, long, value_name = "FILE", env = "KYMO_CONFIG", hide_env_values = true, global = true)]
    config: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Make a token and print it
    Create {
        /// Whose it is, or what for: letters, digits, '_', '-' and '.'
        name: String,
        /// What its owner may do
        #[arg(long, value_enum)]
        role: Allowed,
        /// How long it is valid, such as 90d [default: until it is revoked]
        #[arg(long, value_name = "DURATION", value_parser = lifetime)]
        expires: Option<SignedDuration>,
    },
    /// List the tokens, without themselves
    List,
    /// Remove a token: the daemon refuses it from then on
    Revoke {
        /// Its name
        name: String,
    },
}

/// What a token's owner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Allowed {
    /// Query, and look at everything
    Read,
    /// The same, and change things: collectors, for example
    Admin,
}

impl From<Allowed> for Role {
    fn from(allowed: Allowed) -> Role {
        match allowed {
            Allowed::Read => Role::Read,
            Allowed::Admin => Role::Admin,
        }
    }
}

fn lifetime(text: &str) -> Result<SignedDuration, String> {
    let duration = parse_duration(text).and_then(|duration| SignedDuration::try_from(duration).ok());
    duration.filter(SignedDuration::is_positive).ok_or_else(|| "expected a duration, such as 90d or 12h".to_owned())
}

/// Changes or lists the tokens of a file.
///
/// # Errors
/// When no file is named, or it cannot be read or written.
pub fn run(command: &TokenCommand) -> anyhow::Result<()> {
    let path = command.path()?;
    let mut out = io::stdout().lock();
    match &command.action {
        Action::Create { name, role, expires } => {
            let created = Timestamp::now();
            let end = expires.map(|lifetime| created.checked_add(lifetime)).transpose();
            let end = end.context("add --expires to the time now")?;
            let secret = Tokens::create(&path, name, (*role).into(), created, end)?;
            eprintln!(
                "kymo: this is the token {name}; it is not shown again, and {} has only its SHA-256",
                path.display()
            );
            writeln!(out, "{}", secret.text())?;
        }
        Action::List => list(&Tokens::read(&path)?, Timestamp::now(), &mut out)?,
        Action::Revoke { name } => {
            Tokens::revoke(&path, name)?;
            writeln!(out, "revoked {name}; the daemon notices within some seconds")?;
        }
    }
    Ok(out.flush()?)
}

impl TokenCommand {
    fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.file {
            return Ok(path.clone());
        }
        let variables = std::env::vars_os().collect();
        let settings = config::load(&Sources { file: self.config.clone(), variables, ..Sources::default() })?;
        settings.serve.security.tokens.ok_or_else(|| {
            UsageError(
                "no file of tokens is named: give --file FILE, or -c FILE of a configuration that has server.tokens"
                    .to_owned(),
            )
            .into()
        })
    }
}

fn list(tokens: &Tokens, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let mut listed = table::with_headers(["token", "role", "created", "expires"]);
    for token in tokens.iter() {
        let created = format!("{:.0}", token.created);
        listed.add_row([&token.name, &token.role.to_string(), &created, &end(token, now)]);
    }
    table::write(&listed, out)
}

fn end(token: &Token, now: Timestamp) -> String {
    match token.expires {
        None => "never".to_owned(),
        Some(end) if token.has_expired(now) => format!("{end:.0} (expired)"),
        Some(end) => format!("{end:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_which_tokens_have_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let now: Timestamp = "2026-11-28T00:00:00Z".parse().unwrap();
        Tokens::create(&path, "grafana", Role::Read, now, None).unwrap();
        Tokens::create(&path, "old", Role::Admin, now, Some(now + lifetime("1d").unwrap())).unwrap();
        let mut out = Vec::new();
        list(&Tokens::read(&path).unwrap(), now + lifetime("2d").unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["grafana", "read", "2026-11-28T00:00:00Z", "never"], "{text}");
        assert_eq!(lines[3], ["old", "admin", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z", "(expired)"]);
    }

    #[test]
    fn a_lifetime_is_above_zero() {
        assert!(lifetime("90d").is_ok());
        for wrong in ["0s", "", "-1d", "soon"] {
            assert!(lifetime(wrong).unwrap_err().contains("90d"), "{wrong}");
        }
    }
}
