//! What a token's owner may do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a token's owner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Query, and look at everything that kymo tells.
    Read,
    /// The same, and change things: collectors, for example.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Read => "read",
            Role::Admin => "admin",
        })
    }
}
