//! The command `kymo`.

fn main() {}
