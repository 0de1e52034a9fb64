//! Who calls.

use std::fmt;
use std::sync::Arc;

use super::super::listener::Origin;
use super::role::Role;

/// Who calls, from where, and what it may do.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Caller {
    pub(super) who: Who,
    pub(super) role: Role,
    pub(super) origin: Origin,
}

/// A caller's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// No token is needed here.
    Anyone,
    /// The owner of the token of this name.
    Token(Arc<str>),
    /// A user of this host, on the Unix socket.
    User,
}

impl Caller {
    pub(in crate::serve) fn may_change(&self) -> bool {
        self.role == Role::Admin
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Anyone => write!(formatter, "anyone from {}", self.origin),
            Who::Token(name) => write!(formatter, "token {name} from {}", self.origin),
            Who::User => write!(formatter, "{}", self.origin),
        }
    }
}
