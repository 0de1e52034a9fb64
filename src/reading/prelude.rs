//! What nearly every family uses.

pub(crate) use std::time::Duration;

pub(crate) use super::context::Context;
pub(crate) use super::outcome::{Outcome, failed};
#[cfg(test)]
pub(crate) use super::probe::Probe;
pub(crate) use super::sample::{Rows, Sample};
pub(crate) use super::snapshot::{poll, with_proc};
pub(crate) use super::text::{cut, fields, lines, number, text, words};
pub(crate) use super::value::{count, scaled};
pub(crate) use crate::record;
pub(crate) use crate::record::label::{Label, LabelCache};
pub(crate) use crate::record::{ABSENT, Record};
pub(crate) use crate::sampler::{SampleError, Tick};
