//! SQL over memory and files.
