//! Compiles the gRPC API under `proto/` without protoc, and keeps its descriptors for server reflection.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

/// The API, below `proto/`.
const FILES: [&str; 2] = ["kymo/v1/alert_service.proto", "kymo/v1/metrics_service.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    tonic_prost_build::configure().btree_map(".").compile_fds(compiler.file_descriptor_set())?;

    // Reflection needs no comments: without them the program is smaller.
    compiler.include_source_info(false);
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    fs::write(Path::new(&out).join("kymo.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}
