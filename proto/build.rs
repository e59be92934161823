//! Compiles the `.proto` files without protoc and keeps the descriptor set for gRPC reflection.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["esta/v1/esta.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("esta.bin"), prost::Message::encode_to_vec(&descriptors))?;
    let rpc = env::var_os("CARGO_FEATURE_RPC").is_some();
    tonic_prost_build::configure().build_client(rpc).build_server(rpc).compile_fds(descriptors)?;
    Ok(())
}
