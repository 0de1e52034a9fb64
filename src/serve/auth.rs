//! Who may do what: tokens over TCP, the user's id over the Unix socket.

pub(super) mod access;
pub(super) mod caller;
mod failures;
pub(super) mod gate;
pub mod role;
pub mod secret;
pub mod tokens;
