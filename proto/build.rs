//! Compiles the wire with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 4] = [
        "megalith/v1/cluster.proto",
        "megalith/v1/metadata.proto",
        "megalith/v1/raft.proto",
        "megalith/v1/shard.proto",
    ];
    println!("cargo:rerun-if-changed=megalith");
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
