//! The messages, clients and servers of `proto/kymo/v1`, as generated. The `.proto` files are their documentation.

#![allow(missing_docs, unreachable_pub, rust_2018_idioms, clippy::all, clippy::pedantic, reason = "generated code")]

tonic::include_proto!("kymo.v1");

/// The descriptors of the API and of what it imports, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("kymo");
